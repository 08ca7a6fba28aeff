"""Equations in normal form: sums with collected coefficients, products with collected powers, functions.

Every rewrite keeps the value of its term on every row, up to rounding, and keeps the rows on which the term
is not finite, with one exception: rows on which an intermediate result is infinite or overflows. So `x - x`
is 0 but `log(x) - log(x)` is kept as `0*log(x)`; `x*x*x` is `x**3` but `x*x/x` and `sqrt(x)**2` are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from llmsr.expression.graph import Expression
from llmsr.expression.operations import COMMUTATIVE, EVEN, LATTICE, ODD, OPS
from llmsr.expression.terms import ONE, Power, Terms, is_whole, number_text, snap

_MAX_EXPONENT = 1e9
_E = number_text(math.e)


class Algebra(Terms):
    """A table of terms with arithmetic on them.

    `flatten` bounds the terms of a sum and the factors of a product, so that time and memory stay bounded;
    beyond it nested sums and products stay nested. `free` names parameters that may swallow numbers: a
    coefficient beside one of them, or an addend, is dropped (equal as a family of functions only).
    """

    def __init__(self, flatten: int = 200, free: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.flatten = flatten
        self.free = free

    # sums ------------------------------------------------------------------------------------------------

    def linear(self, t: int) -> tuple[float, dict[int, float]]:
        """The term as constant plus coefficients per term."""
        term = self.terms[t]
        if term.kind == "sum":
            return term.value, dict(term.parts())
        return (term.value, {}) if self.is_num(t) else (0.0, {t: 1.0})

    def _make_sum(self, constant: float, coefficients: dict[int, float]) -> int:
        pairs = []
        for t, c in coefficients.items():
            if self.terms[t].kind == "num" and c:  # inf or nan: only a sign on inf says anything
                c = 1.0 if math.isnan(self.terms[t].value) else math.copysign(1.0, c)
            if self.free and c not in (0.0, 1.0) and self._swallows(t, c):
                c = 1.0
            # what is not finite somewhere stays, with 0 in front of it
            if c != 0.0 or not self.terms[t].total:
                pairs.append((t, self.number(c + 0.0)))  # never -0.0
        if any(self.terms[t].kind == "par" and self.terms[t].value in self.free for t, _ in pairs):
            constant = 0.0
        if not pairs:
            return self.num(constant + 0.0)
        if len(pairs) == 1 and constant == 0.0 and pairs[0][1] == 1.0:
            return pairs[0][0]
        children, weights = zip(*sorted(pairs), strict=True)
        return self.intern("sum", self.number(constant) if constant else 0.0, children, weights)

    def _swallows(self, t: int, factor: float) -> bool:
        """Whether a free parameter takes up the factor: p, p*u, u/p; a sign also through odd functions."""
        term = self.terms[t]
        if term.kind == "par":
            return term.value in self.free
        if term.kind in ODD:
            inner = term.children[0]
            within = self.terms[inner].kind in ("par", "prod")
            return factor == -1.0 and within and self._swallows(inner, 2.0)
        return term.kind == "prod" and any(
            power in (ONE, Power(0.0, False, 1.0, False))
            and self.terms[base].kind != "prod"
            and self._swallows(base, factor)
            for base, power in term.parts()
        )

    def add(self, a: int, b: int, sign: float = 1.0) -> int:
        (constant, left), (other, right) = self.linear(a), self.linear(b)
        if len(left) + len(right) > self.flatten:
            constant, left, other, right = 0.0, {a: 1.0}, 0.0, {b: 1.0}
        result = dict(left)
        for t, c in right.items():
            result[t] = result.get(t, 0.0) + sign * c
        constant += sign * other
        if not all(map(math.isfinite, (constant, *result.values()))):
            return self.intern("add" if sign == 1.0 else "sub", children=(a, b))
        return self._make_sum(constant, result)

    def scale(self, factor: float, t: int) -> int:
        """`factor * t` for a finite factor, multiplied into the coefficients of a sum."""
        if factor == 1.0:
            return t
        constant, coefficients = self.linear(t)
        result = {u: factor * c for u, c in coefficients.items()}
        lost = factor != 0.0 and 0.0 in result.values() and 0.0 not in coefficients.values()
        if lost or not all(map(math.isfinite, (factor * constant, *result.values()))):
            return self.intern("mul", children=(self.num(factor), t))
        return self._make_sum(factor * constant, result)

    def sign(self, t: int) -> float:
        """-1 where the term is better written as minus another one, else 1; parameters are not told apart."""
        constant, coefficients = self.linear(t)
        if len(coefficients) == 1:
            return math.copysign(1.0, next(iter(coefficients.values())))
        groups: dict[tuple[Any, ...], list[float]] = {}
        for u, c in coefficients.items():
            groups.setdefault(self.key(u), []).append(c)
        for key in sorted(groups):
            here, there = sorted(groups[key]), sorted(-c for c in groups[key])
            if here != there:
                return 1.0 if here > there else -1.0
        return -1.0 if constant < 0 else 1.0

    # products, powers ------------------------------------------------------------------------------------

    def monomial(self, t: int) -> tuple[float, dict[int, Power]]:
        """The term as coefficient times factors; a sum gives up its smallest coefficient and its sign."""
        term = self.terms[t]
        if self.is_num(t):
            return term.value, {}
        if term.kind == "prod":
            return 1.0, dict(term.parts())
        if term.kind == "sum":
            if term.value == 0.0 and len(term.children) == 1:
                base, inner = term.children[0], self.terms[term.children[0]]
                return term.weights[0], dict(inner.parts()) if inner.kind == "prod" else {base: ONE}
            sizes = [abs(v) for v in (term.value, *term.weights) if v]
            content = self.sign(t) * min(sizes, default=1.0)
            if content != 1.0 and math.isfinite(1.0 / content) and max(sizes) / min(sizes) < 1e100:
                primitive = self._make_sum(term.value / content, {u: c / content for u, c in term.parts()})
                if self.terms[primitive].kind == "sum":
                    return content, {primitive: ONE}
        return 1.0, {t: ONE}

    def _make_prod(self, coefficient: float, factors: dict[int, Power]) -> int:
        result: dict[int, Power] = {}
        exponent: int | None = None  # all exponentials of a product are one
        for base, power in factors.items():
            term = self.terms[base]
            if term.kind == "exp":
                part = self.scale(power.above - power.below, term.children[0])
                exponent = part if exponent is None else self.add(exponent, part)
            elif term.kind == "abs" and not power.guarded:
                # |u|**n is u**n for even n
                above, below = (n // 2 * 2 if is_whole(n) else 0.0 for n in (power.above, power.below))
                if above or below:
                    _merge(result, term.children[0], Power(above, False, below, False))
                rest = Power(power.above - above, False, power.below - below, False)
                if rest.above or rest.below:
                    _merge(result, base, rest)
            else:
                _merge(result, base, power)
        if exponent is not None:
            part = self.function("exp", exponent)
            if self.is_num(part):
                coefficient *= self.terms[part].value
            else:
                _merge(result, part, ONE)
        if not result:
            return self.num(coefficient)
        children, powers = zip(*sorted(result.items()), strict=True)
        product = children[0] if powers == (ONE,) else self.intern("prod", 0.0, children, powers)
        return self.scale(coefficient, product)

    def mul(self, a: int, b: int) -> int:
        (c, left), (d, right) = self.monomial(a), self.monomial(b)
        coefficient = c * d
        if not math.isfinite(coefficient) or (coefficient == 0.0 and c and d):
            return self.intern("mul", children=tuple(sorted((a, b))))
        if len(left) + len(right) > self.flatten:
            left = {self._make_prod(1.0, left): ONE}
            right = {self._make_prod(1.0, right): ONE}
        result = dict(left)
        for base, power in right.items():
            _merge(result, base, power)
        if any(max(p.above, p.below) > _MAX_EXPONENT for p in result.values()):
            return self.intern("mul", children=tuple(sorted((a, b))))
        return self._make_prod(coefficient, result)

    def power(self, t: int, k: float) -> int:
        """`t ** k` for a finite number k."""
        k = snap(k)
        if k in (0.0, 1.0):
            return t if k else self.num(1.0)
        if self.terms[t].kind == "num":
            return self.num(_raised(self.terms[t].value, k))
        c, factors = self.monomial(t)
        coefficient = _raised(c if is_whole(k) else abs(c), k)
        largest = max((max(p.above, p.below) for p in factors.values()), default=0.0) * abs(k)
        if not math.isfinite(coefficient) or coefficient == 0.0 or largest > _MAX_EXPONENT:
            return self.intern("pow", children=(t, self.num(k)))
        if is_whole(k):
            return self._make_prod(coefficient, {b: p.raised(k, False) for b, p in factors.items()})
        if c > 0 and len(factors) == 1:
            ((base, power),) = factors.items()
            exponent, guard = power[:2] if power.below == 0 else power[2:]
            if power.above == 0 or power.below == 0:
                if guard or self.terms[base].nonnegative:
                    return self._make_prod(coefficient, {base: power.raised(k, guard)})
                if exponent % 2 == 1:
                    return self._make_prod(coefficient, {base: power.raised(k, True)})
                if exponent % 2 == 0:
                    return self._make_prod(coefficient, {self._abs(base): power.raised(k, False)})
        body = self._make_prod(math.copysign(1.0, c), factors)
        return self._make_prod(coefficient, {body: ONE.raised(k, not self.terms[body].nonnegative)})

    def pow(self, a: int, b: int) -> int:
        """`a ** b` for any two terms."""
        if self.is_num(b):
            return self.power(a, self.terms[b].value)
        if self.is_num(a) and self.terms[a].value == 1.0:
            return a
        if self.is_num(a) and number_text(self.terms[a].value) == _E:
            return self.function("exp", b)
        if self.sign(b) < 0:
            return self.power(self.pow(a, self.scale(-1.0, b)), -1.0)
        return self.function("pow", a, b)

    # functions -------------------------------------------------------------------------------------------

    def function(self, op: str, *args: int) -> int:
        """An operation other than the arithmetic ones, with its own identities."""
        terms = self.terms
        if all(terms[a].kind == "num" for a in args):
            with np.errstate(all="ignore"):
                return self.num(float(OPS[op].kernel(*(np.float64(terms[a].value) for a in args))))
        if op in ODD and self.sign(args[0]) < 0:
            return self.scale(-1.0, self.function(op, self.scale(-1.0, args[0])))
        if op in EVEN and self.sign(args[0]) < 0:
            args = (self.scale(-1.0, args[0]),)
        if op == "abs":
            return self._abs(args[0])
        if op in ("gt", "ge"):
            op, args = {"gt": "lt", "ge": "le"}[op], args[::-1]
        inner = terms[args[0]]
        if op == "where":
            if inner.kind == "num":
                return args[1] if inner.value != 0 else args[2]
            if args[1] == args[2]:
                return args[1]
            if inner.kind == "not":
                return self.function("where", inner.children[0], args[2], args[1])
        if op == "not" and inner.kind == "not" and self.is_boolean(inner.children[0]):
            return inner.children[0]
        if op == "not" and inner.kind in ("eq", "ne"):
            return self.intern("ne" if inner.kind == "eq" else "eq", children=inner.children)
        if op in LATTICE:
            return self._lattice(op, args)
        return self.intern(op, children=tuple(sorted(args)) if op in COMMUTATIVE else args)

    def _abs(self, t: int) -> int:
        """The absolute value, taken factor by factor."""
        c, factors = self.monomial(t)
        result: dict[int, Power] = {}
        for base, p in factors.items():
            # a guarded base is at least 0 wherever the product is finite
            if not (self.terms[base].nonnegative or p.guarded) and (p.above % 2 or p.below % 2):
                base = self.intern("abs", children=(base,))
            _merge(result, base, p)
        return self._make_prod(abs(c), result)

    def _lattice(self, op: str, args: tuple[int, ...]) -> int:
        """minimum, maximum, and, or: flat, sorted, without repetition."""
        members: set[int] = set()
        for a in args:
            nested = self.terms[a].kind == op and len(members) < self.flatten
            members.update(self.terms[a].children if nested else (a,))
        if len(members) > self.flatten:
            members = set(args)
        truth = op in ("and", "or")
        numbers = [m for m in members if self.is_num(m)]
        if not truth and len(numbers) > 1:
            best = (min if "min" in op else max)(numbers, key=lambda m: self.terms[m].value)
            members = members.difference(numbers) | {best}
        if len(members) > 1:
            return self.intern(op, children=tuple(sorted(members)))
        (only,) = members
        return self.function("ne", only, self.num(0.0)) if truth and not self.is_boolean(only) else only


def _merge(factors: dict[int, Power], base: int, power: Power) -> None:
    """Multiply one power into the factors."""
    factors[base] = factors[base].times(power) if base in factors else power


def _raised(value: float, k: float) -> float:
    """`value ** k` as numpy computes it."""
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(value), k))


def normal_form(expression: Expression, free: frozenset[int] = frozenset()) -> tuple[Algebra, int]:
    """The table of terms of an expression and the position of its root, in time linear in the graph's nodes.

    `free`: parameters that may swallow numbers, see `Algebra`.
    """
    table = Algebra(max(2, min(200, 20_000 // len(expression.nodes))), free)
    rules: dict[str, Callable[..., int]] = {
        "add": table.add,
        "sub": lambda a, b: table.add(a, b, -1.0),
        "neg": lambda a: table.scale(-1.0, a),
        "mul": table.mul,
        "div": lambda a, b: table.mul(a, table.power(b, -1.0)),
        "sqrt": lambda a: table.power(a, 0.5),
        "pow": table.pow,
    }
    made: list[int] = []
    for op, args, value in expression.nodes:
        if op == "const":
            made.append(table.num(float(value)))  # type: ignore[arg-type]
        elif op in ("column", "param"):
            made.append(table.intern(op[:3], int(value)))  # type: ignore[arg-type]
        else:
            operands = [made[i] for i in args]
            made.append(rules[op](*operands) if op in rules else table.function(op, *operands))
    return table, made[-1]
