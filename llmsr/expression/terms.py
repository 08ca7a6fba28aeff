"""A table of interned terms: sums with coefficients, products of powers, functions, each stored once."""

from __future__ import annotations

import math
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


class Term(NamedTuple):
    """One interned term.

    kind "num": data is the number; "col", "par": the index; "fn": (op, args);
    "sum": (constant, ((term, coefficient), ...)); "prod": ((base, Power), ...).
    `total`: finite for all finite inputs (overflow apart).
    """

    kind: str
    data: Any
    total: bool
    nonnegative: bool
    has_params: bool
    children: tuple[int, ...]


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
        if abs(value) < 1000 and value == int(value):
            return value
        size = abs(value)
        return math.copysign(self._numbers.setdefault(number_text(size), snap(size)), value)

    def intern(self, kind: str, data: object) -> int:
        known = (kind, repr(data)) if kind == "num" else (kind, data)
        index = self._known.get(known)
        if index is None:
            index = self._known[known] = len(self.terms)
            self.terms.append(self._describe(kind, data))
        return index

    def _describe(self, kind: str, data: Any) -> Term:
        terms = self.terms
        if kind == "num":
            finite = math.isfinite(data)
            return Term(kind, data, finite, finite and data >= 0, False, ())
        if kind in ("par", "col"):
            return Term(kind, data, True, False, kind == "par", ())
        if kind == "sum":
            constant, pairs = data
            children = tuple(t for t, _ in pairs)
            total = all(terms[t].total for t in children)
            positive = constant >= 0 and all(c >= 0 and terms[t].nonnegative for t, c in pairs)
        elif kind == "prod":
            children = tuple(t for t, _ in data)
            total = all(
                terms[t].total
                and p.below == 0
                and ((is_whole(p.above) and not p.guard_above) or terms[t].nonnegative)
                for t, p in data
            )
            positive = all(
                terms[t].nonnegative
                or ((p.guard_above or p.above % 2 == 0) and (p.guard_below or p.below % 2 == 0))
                for t, p in data
            )
        else:
            op, children = data
            values = children[1:] if op == "where" else children
            row = OPS[op]
            total = row.boolean or (row.total and all(terms[t].total for t in values))
            positive = row.boolean or op in NONNEGATIVE
            if op in ("where", "minimum", "maximum"):
                positive = all(terms[t].nonnegative for t in values)
        return Term(kind, data, total, positive, any(terms[t].has_params for t in children), children)

    def key(self, t: int) -> tuple[Any, ...]:
        """What terms are ordered by, parameters alike: (rank, size, name, digest of structure)."""
        terms, keys = self.terms, self._keys
        stack = [t]
        while stack:
            u = stack[-1]
            kind, data, *_, children = terms[u]
            missing = [c for c in children if c not in keys]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if kind == "num":
                keys[u] = (0, 1, "", f"n{number_text(data)}")
            elif kind == "par":
                keys[u] = (1, 1, "", "")
            elif kind == "col":
                keys[u] = (2, 1, f"{data:06d}", "")
            else:
                below = [keys[c] for c in children]
                name = {"sum": "add", "prod": "mul"}.get(kind) or data[0]
                keys[u] = (3, min(10**6, 1 + sum(k[1] for k in below)), name, self.mark(kind, data, below))
        return keys[t]

    @staticmethod
    def mark(kind: str, data: Any, keys: list[tuple[Any, ...]]) -> str:
        """A digest of a term with children: equal for equal structure over children of equal keys."""
        names = [key[3] or f"{key[0]}:{key[2]}" for key in keys]
        if kind == "sum":
            constant, pairs = data
            parts = sorted(f"{number_text(c)}*{n}" for (_, c), n in zip(pairs, names, strict=True))
            return digest("sum", number_text(constant), *parts)
        if kind == "prod":
            powers = [f"{number_text(p[0])}{p[1]}{number_text(p[2])}{p[3]}" for _, p in data]
            return digest("prod", *sorted(f"{n}^{p}" for n, p in zip(names, powers, strict=True)))
        if data[0] in COMMUTATIVE:
            names.sort()
        return digest(data[0], *names)

    def num(self, value: float) -> int:
        return self.intern("num", math.nan if math.isnan(value) else self.number(value))

    def is_num(self, t: int) -> bool:
        return self.terms[t].kind == "num" and math.isfinite(self.terms[t].data)
