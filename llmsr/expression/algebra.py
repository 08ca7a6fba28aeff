"""Equations in normal form: sums with collected coefficients, products with collected powers, functions.

Every rewrite keeps the value of its term on every row, up to rounding, and keeps the rows on which the term
is not finite, with one exception: rows on which an intermediate result is infinite or overflows. So `x - x`
is 0 but `log(x) - log(x)` is kept as `0*log(x)`; `x*x*x` is `x**3` but `x*x/x` and `sqrt(x)**2` are kept.
"""

from __future__ import annotations

import math
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
        if self.is_num(t):
            return term.data, {}
        if term.kind == "sum":
            constant, pairs = term.data
            return constant, dict(pairs)
        return 0.0, {t: 1.0}

    def _make_sum(self, constant: float, coefficients: dict[int, float]) -> int:
        pairs = []
        for t, c in coefficients.items():
            if self.terms[t].kind == "num" and c:  # inf or nan: only a sign on inf says anything
                c = 1.0 if math.isnan(self.terms[t].data) else math.copysign(1.0, c)
            if self.free and c != 1.0 and c != 0.0 and self._swallows(t, c):
                c = 1.0
            if c != 0.0 or not self.terms[t].total:
                pairs.append((t, self.number(c + 0.0)))  # never -0.0
        if constant and any(
            self.terms[t].kind == "par" and self.terms[t].data in self.free for t, _ in pairs
        ):
            constant = 0.0
        if not pairs:
            return self.num(constant + 0.0)
        if len(pairs) == 1 and constant == 0.0 and pairs[0][1] == 1.0:
            return pairs[0][0]
        return self.intern("sum", (self.number(constant) if constant else 0.0, tuple(sorted(pairs))))

    def _swallows(self, t: int, factor: float) -> bool:
        """Whether a free parameter takes up the factor: p, p*u, u/p; a sign also through odd functions."""
        term = self.terms[t]
        if term.kind == "par":
            return term.data in self.free
        if term.kind == "fn":
            op, args = term.data
            inner = self.terms[args[0]]
            return (
                factor == -1.0
                and op in ODD
                and inner.kind in ("par", "prod")
                and self._swallows(args[0], 2.0)
            )
        if term.kind == "prod":
            return any(
                power in (ONE, Power(0.0, False, 1.0, False))
                and self.terms[base].kind in ("par", "fn")
                and self._swallows(base, factor)
                for base, power in term.data
            )
        return False

    def add(self, a: int, b: int, sign: float = 1.0) -> int:
        (constant, left), (other, right) = self.linear(a), self.linear(b)
        if len(left) + len(right) > self.flatten:
            constant, left, other, right = 0.0, {a: 1.0}, 0.0, {b: 1.0}
        result = dict(left)
        for t, c in right.items():
            result[t] = result.get(t, 0.0) + sign * c
        constant += sign * other
        if not math.isfinite(constant) or not all(map(math.isfinite, result.values())):
            return self.intern("fn", ("add" if sign == 1.0 else "sub", (a, b)))
        return self._make_sum(constant, result)

    def scale(self, factor: float, t: int) -> int:
        """`factor * t` for a finite factor, multiplied into the coefficients of a sum."""
        if factor == 1.0:
            return t
        constant, coefficients = self.linear(t)
        result = {u: factor * c for u, c in coefficients.items()}
        values = [factor * constant, *result.values()]
        lost = factor != 0.0 and any(v == 0.0 for v in values[1:]) and 0.0 not in coefficients.values()
        if lost or not all(map(math.isfinite, values)):
            return self.intern("fn", ("mul", (self.num(factor), t)))
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
            return term.data, {}
        if term.kind == "prod":
            return 1.0, dict(term.data)
        if term.kind == "sum":
            constant, pairs = term.data
            if constant == 0.0 and len(pairs) == 1:
                base, c = pairs[0]
                inner = self.terms[base]
                return c, (dict(inner.data) if inner.kind == "prod" else {base: ONE})
            sizes = [abs(v) for v in (constant, *(c for _, c in pairs)) if v]
            content = self.sign(t) * min(sizes, default=1.0)
            if content != 1.0 and math.isfinite(1.0 / content) and max(sizes) / min(sizes) < 1e100:
                primitive = self._make_sum(constant / content, {u: c / content for u, c in pairs})
                if self.terms[primitive].kind == "sum":
                    return content, {primitive: ONE}
        return 1.0, {t: ONE}

    def _make_prod(self, coefficient: float, factors: dict[int, Power]) -> int:
        result: dict[int, Power] = {}
        exponent: int | None = None  # all exponentials of a product are one
        for base, power in factors.items():
            term = self.terms[base]
            if term.kind == "fn" and term.data[0] == "exp":
                k = power.above - power.below
                part = self.scale(k, term.data[1][0])
                exponent = part if exponent is None else self.add(exponent, part)
            elif (
                term.kind == "fn"
                and term.data[0] == "abs"
                and not power.guard_above
                and not power.guard_below
            ):
                # |u|**n is u**n for even n
                inner = term.data[1][0]
                above = power.above // 2 * 2 if is_whole(power.above) else 0.0
                below = power.below // 2 * 2 if is_whole(power.below) else 0.0
                if above or below:
                    _merge(result, inner, Power(above, False, below, False))
                rest = Power(power.above - above, False, power.below - below, False)
                if rest.above or rest.below:
                    _merge(result, base, rest)
            else:
                _merge(result, base, power)
        if exponent is not None:
            part = self.function("exp", exponent)
            if self.is_num(part):
                coefficient *= self.terms[part].data
            else:
                _merge(result, part, ONE)
        if not result:
            return self.num(coefficient)
        if len(result) == 1:
            ((base, power),) = result.items()
            product = base if power == ONE else self.intern("prod", ((base, power),))
        else:
            product = self.intern("prod", tuple(sorted(result.items())))
        return self.scale(coefficient, product)

    def mul(self, a: int, b: int) -> int:
        (c, left), (d, right) = self.monomial(a), self.monomial(b)
        coefficient = c * d
        if not math.isfinite(coefficient) or (coefficient == 0.0 and c and d):
            return self.intern("fn", ("mul", tuple(sorted((a, b)))))
        if len(left) + len(right) > self.flatten:
            left = {self._make_prod(1.0, left): ONE}
            right = {self._make_prod(1.0, right): ONE}
        result = dict(left)
        for base, power in right.items():
            _merge(result, base, power)
        if any(max(p.above, p.below) > _MAX_EXPONENT for p in result.values()):
            return self.intern("fn", ("mul", tuple(sorted((a, b)))))
        return self._make_prod(coefficient, result)

    def power(self, t: int, k: float) -> int:
        """`t ** k` for a finite number k."""
        k = snap(k)
        if k == 0.0:
            return self.num(1.0)
        if k == 1.0:
            return t
        c, factors = self.monomial(t)
        with np.errstate(all="ignore"):
            coefficient = float(np.power(np.float64(c if is_whole(k) else abs(c)), k))
        largest = max((max(p.above, p.below) for p in factors.values()), default=0.0) * abs(k)
        if self.terms[t].kind == "num":
            with np.errstate(all="ignore"):
                return self.num(float(np.power(np.float64(self.terms[t].data), k)))
        if not math.isfinite(coefficient) or coefficient == 0.0 or largest > _MAX_EXPONENT:
            return self.intern("fn", ("pow", (t, self.num(k))))
        if is_whole(k):
            return self._make_prod(coefficient, {b: _raise(p, k, False) for b, p in factors.items()})
        if c > 0 and len(factors) == 1:
            ((base, power),) = factors.items()
            exponent, guard = (
                (power.above, power.guard_above) if power.below == 0 else (power.below, power.guard_below)
            )
            if power.above == 0 or power.below == 0:
                if guard or self.terms[base].nonnegative:
                    return self._make_prod(coefficient, {base: _raise(power, k, guard)})
                if exponent % 2 == 1:
                    return self._make_prod(coefficient, {base: _raise(power, k, True)})
                if exponent % 2 == 0:
                    return self._make_prod(coefficient, {self._abs(base): _raise(power, k, False)})
        body = self._make_prod(math.copysign(1.0, c), factors)
        guard = not self.terms[body].nonnegative
        return self._make_prod(coefficient, {body: _raise(ONE, k, guard)})

    # functions -------------------------------------------------------------------------------------------

    def function(self, op: str, *args: int) -> int:
        """An operation other than the arithmetic ones, with its own identities."""
        terms = self.terms
        if all(terms[a].kind == "num" for a in args):
            with np.errstate(all="ignore"):
                return self.num(float(OPS[op].kernel(*(np.float64(terms[a].data) for a in args))))
        if op in ODD and self.sign(args[0]) < 0:
            return self.scale(-1.0, self.function(op, self.scale(-1.0, args[0])))
        if op in EVEN and self.sign(args[0]) < 0:
            args = (self.scale(-1.0, args[0]),)
        if op == "abs":
            return self._abs(args[0])
        if op in ("gt", "ge"):
            op, args = {"gt": "lt", "ge": "le"}[op], args[::-1]
        if op in ("where", "not"):
            inner = terms[args[0]]
            if inner.kind == "num" and op == "where":
                return args[1] if inner.data != 0 else args[2]
            if inner.kind == "fn" and inner.data[0] == "not":
                within: int = inner.data[1][0]
                if op == "where":
                    return self.function("where", within, args[2], args[1])
                if terms[within].kind == "fn" and OPS[terms[within].data[0]].boolean:
                    return within
            if op == "not" and inner.kind == "fn" and inner.data[0] in ("eq", "ne"):
                return self.intern("fn", ("ne" if inner.data[0] == "eq" else "eq", inner.data[1]))
            if op == "where" and args[1] == args[2]:
                return args[1]
        if op in LATTICE:
            return self._lattice(op, args)
        if op in COMMUTATIVE:
            args = tuple(sorted(args))
        return self.intern("fn", (op, args))

    def _abs(self, t: int) -> int:
        """The absolute value, taken factor by factor."""
        c, factors = self.monomial(t)
        result: dict[int, Power] = {}
        for base, p in factors.items():
            # a guarded base is at least 0 wherever the product is finite
            guarded = self.terms[base].nonnegative or p.guard_above or p.guard_below
            if not guarded and (p.above % 2 or p.below % 2):
                base = self.intern("fn", ("abs", (base,)))
            _merge(result, base, p)
        return self._make_prod(abs(c), result)

    def _lattice(self, op: str, args: tuple[int, ...]) -> int:
        """minimum, maximum, and, or: flat, sorted, without repetition."""
        members: set[int] = set()
        for a in args:
            term = self.terms[a]
            nested = term.kind == "fn" and term.data[0] == op
            members.update(term.data[1] if nested and len(members) < self.flatten else (a,))
        if len(members) > self.flatten:
            members = set(args)
        numbers = [m for m in members if self.is_num(m)]
        if op not in ("and", "or") and len(numbers) > 1:
            best = (min if "min" in op else max)(numbers, key=lambda m: self.terms[m].data)
            members = members.difference(numbers) | {best}
        if len(members) == 1:
            (only,) = members
            if op not in ("and", "or"):
                return only
            boolean = self.terms[only].kind == "fn" and OPS[self.terms[only].data[0]].boolean
            return only if boolean else self.function("ne", only, self.num(0.0))
        return self.intern("fn", (op, tuple(sorted(members))))

    def pow(self, a: int, b: int) -> int:
        if self.is_num(b):
            return self.power(a, self.terms[b].data)
        if self.is_num(a) and self.terms[a].data == 1.0:
            return a
        if self.is_num(a) and number_text(self.terms[a].data) == _E:
            return self.function("exp", b)
        if self.sign(b) < 0:
            return self.power(self.pow(a, self.scale(-1.0, b)), -1.0)
        return self.function("pow", a, b)


def _raise(power: Power, k: float, guard: bool) -> Power:
    """The power raised to k; exponents change sides where k is negative."""
    above, below = snap(power.above * abs(k)), snap(power.below * abs(k))
    first = Power(
        above, power.guard_above or (guard and above > 0), below, power.guard_below or (guard and below > 0)
    )
    return first if k > 0 else Power(first.below, first.guard_below, first.above, first.guard_above)


def _merge(factors: dict[int, Power], base: int, power: Power) -> None:
    """Multiply one power into the factors; exponents of the same side add up."""
    old = factors.get(base)
    if old is not None:
        power = Power(
            snap(old.above + power.above),
            old.guard_above or power.guard_above,
            snap(old.below + power.below),
            old.guard_below or power.guard_below,
        )
    factors[base] = power


def normal_form(expression: Expression, free: frozenset[int] = frozenset()) -> tuple[Algebra, int]:
    """The table of terms of an expression and the position of its root, in time linear in the graph's nodes.

    `free`: parameters that may swallow numbers, see `Algebra`.
    """
    table = Algebra(max(2, min(200, 20_000 // len(expression.nodes))), free)
    made: list[int] = []
    for op, args, value in expression.nodes:
        a = [made[i] for i in args]
        if op == "const":
            t = table.num(float(value))  # type: ignore[arg-type]
        elif op == "column":
            t = table.intern("col", int(value))  # type: ignore[arg-type]
        elif op == "param":
            t = table.intern("par", int(value))  # type: ignore[arg-type]
        elif op == "add":
            t = table.add(a[0], a[1])
        elif op == "sub":
            t = table.add(a[0], a[1], -1.0)
        elif op == "neg":
            t = table.scale(-1.0, a[0])
        elif op == "mul":
            t = table.mul(a[0], a[1])
        elif op == "div":
            t = table.mul(a[0], table.power(a[1], -1.0))
        elif op == "sqrt":
            t = table.power(a[0], 0.5)
        elif op == "pow":
            t = table.pow(a[0], a[1])
        else:
            t = table.function(op, *a)
        made.append(t)
    return table, made[-1]
