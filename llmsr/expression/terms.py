"""A table of interned terms: sums with coefficients, products of powers, functions, each stored once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from llmsr.expression.operations import COMMUTATIVE, NONNEGATIVE, OPS

DIGITS = 13
"""Numbers that agree to so many significant digits are the same number."""


class Power(NamedTuple):
    """The powers of one factor of a product: `base**above / base**below`, both at least 0.

    A guard says that a power that is not whole was taken of a base that may be negative: the product is
    finite for bases >= 0 only, also where the exponents add up to a whole number, as in sqrt(x)*sqrt(x).
    """

    above: float = 1.0
    guard_above: bool = False
    below: float = 0.0
    guard_below: bool = False

    @property
    def guarded(self) -> bool:
        return self.guard_above or self.guard_below

    def times(self, other: Power) -> Power:
        """The product of two powers of one base; exponents of the same side add up."""
        return Power(
            snap(self.above + other.above),
            self.guard_above or other.guard_above,
            snap(self.below + other.below),
            self.guard_below or other.guard_below,
        )

    def raised(self, k: float, guard: bool) -> Power:
        """The power raised to k; exponents change sides where k is negative."""
        above, below = snap(self.above * abs(k)), snap(self.below * abs(k))
        first = above, self.guard_above or (guard and above > 0)
        second = below, self.guard_below or (guard and below > 0)
        return Power(*first, *second) if k > 0 else Power(*second, *first)


class Term(NamedTuple):
    """One interned term.

    `kind` is "num", "col", "par", "sum", "prod" or the name of an operation. `value` is the number, the index
    of a column or parameter, or the constant of a sum; `weights` go with the children: the coefficients of a
    sum, the `Power`s of a product, none of an operation. `total`: finite for all finite inputs (overflow
    apart).
    """

    kind: str
    value: float
    children: tuple[int, ...]
    weights: tuple[Any, ...]
    total: bool
    nonnegative: bool
    has_params: bool

    def parts(self) -> Iterator[tuple[int, Any]]:
        """The children, each with its weight, 0 in an operation."""
        return zip(self.children, self.weights or (0.0,) * len(self.children), strict=True)


ONE = Power()


def digest(*parts: str) -> str:
    """Sixteen hexadecimal digits of the parts; the same in every process and on every platform."""
    return blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


def number_text(value: float) -> str:
    """The number to `DIGITS` significant digits, as it enters keys and texts."""
    if value and abs(value) < 1e9 and value == int(value):
        return str(int(value))
    return f"{value:.{DIGITS}g}"


def snap(value: float) -> float:
    """The number itself, or the short decimal that it equals to rounding: 0.1 + 0.2 becomes 0.3."""
    text = number_text(value)
    return float(text) if len(text) <= 10 else value


def is_whole(value: float) -> bool:
    return value == math.floor(value)


class Terms:
    """Interned terms; every method takes and gives positions in the table, children before parents."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self._known: dict[object, int] = {}
        self._keys: dict[int, tuple[Any, ...]] = {}
        self._numbers: dict[str, float] = {}

    def number(self, value: float) -> float:
        """The first number seen that agrees with `value` to rounding, so that equal numbers are shared."""
        # exact, and by far the most frequent numbers
        if abs(value) < 1000 and value == int(value):
            return value
        size = abs(value)
        return math.copysign(self._numbers.setdefault(number_text(size), snap(size)), value)

    def num(self, value: float) -> int:
        return self.intern("num", math.nan if math.isnan(value) else self.number(value))

    def is_num(self, t: int) -> bool:
        return self.terms[t].kind == "num" and math.isfinite(self.terms[t].value)

    def is_boolean(self, t: int) -> bool:
        row = OPS.get(self.terms[t].kind)
        return row is not None and row.boolean

    def intern(
        self, kind: str, value: float = 0.0, children: tuple[int, ...] = (), weights: tuple[Any, ...] = ()
    ) -> int:
        # nan equals nothing, itself neither, but its text does
        known = (kind, repr(value)) if kind == "num" else (kind, value, children, weights)
        index = self._known.get(known)
        if index is None:
            index = self._known[known] = len(self.terms)
            inner = [self.terms[t] for t in children]
            total, nonnegative = self._described(kind, value, inner, weights)
            has_params = kind == "par" or any(term.has_params for term in inner)
            self.terms.append(Term(kind, value, children, weights, total, nonnegative, has_params))
        return index

    @staticmethod
    def _described(kind: str, value: float, inner: list[Term], weights: tuple[Any, ...]) -> tuple[bool, bool]:
        """Whether a term is total, and whether it is never negative."""
        if kind == "num":
            finite = math.isfinite(value)
            return finite, finite and value >= 0
        if kind in ("par", "col"):
            return True, False
        parts = list(zip(inner, weights or (0.0,) * len(inner), strict=True))
        total = all(u.total for u in inner)
        if kind == "sum":
            return total, value >= 0 and all(c >= 0 and u.nonnegative for u, c in parts)
        if kind == "prod":
            plain = all(
                p.below == 0 and ((is_whole(p.above) and not p.guard_above) or u.nonnegative)
                for u, p in parts
            )
            return total and plain, all(
                u.nonnegative or ((p.guard_above or p.above % 2 == 0) and (p.guard_below or p.below % 2 == 0))
                for u, p in parts
            )
        row, values = OPS[kind], inner[1:] if kind == "where" else inner
        total = row.boolean or (row.total and all(u.total for u in values))
        if kind in ("where", "minimum", "maximum"):
            return total, all(u.nonnegative for u in values)
        return total, row.boolean or kind in NONNEGATIVE

    def key(self, t: int) -> tuple[Any, ...]:
        """What terms are ordered by, parameters alike: (rank, size, name, digest of structure)."""
        terms, keys = self.terms, self._keys
        # without recursion, since equations nest deeper than Python's stack
        stack = [t]
        while stack:
            term = terms[stack[-1]]
            missing = [c for c in term.children if c not in keys]
            if missing:
                stack.extend(missing)
                continue
            keys[stack.pop()] = self._key(term, [keys[c] for c in term.children])
        return keys[t]

    def _key(self, term: Term, below: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        if term.kind == "num":
            return 0, 1, "", f"n{number_text(term.value)}"
        if term.kind == "par":
            return 1, 1, "", ""
        if term.kind == "col":
            return 2, 1, f"{term.value:06d}", ""
        name = {"sum": "add", "prod": "mul"}.get(term.kind, term.kind)
        return 3, min(10**6, 1 + sum(k[1] for k in below)), name, self.mark(term, below)

    @staticmethod
    def mark(term: Term, keys: list[tuple[Any, ...]]) -> str:
        """A digest of a term with children: equal for equal structure over children of equal keys."""
        # sorted below, since it is the keys that decide on the order of operands
        names = [key[3] or f"{key[0]}:{key[2]}" for key in keys]
        if term.kind == "sum":
            parts = sorted(f"{number_text(c)}*{n}" for c, n in zip(term.weights, names, strict=True))
            return digest("sum", number_text(term.value), *parts)
        if term.kind == "prod":
            powers = [f"{number_text(p[0])}{p[1]}{number_text(p[2])}{p[3]}" for p in term.weights]
            return digest("prod", *sorted(f"{n}^{p}" for n, p in zip(names, powers, strict=True)))
        return digest(term.kind, *(sorted(names) if term.kind in COMMUTATIVE else names))
