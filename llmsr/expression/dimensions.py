"""Whether an equation's units agree: dimensional analysis on the graph, solved as linear equations.

The dimension of a node is a vector of exponents of the base units, such as (1, -2) of (m, s). What is not
known (units of free constants and of columns without one, powers of free exponents) are unknowns of linear
equations over the rational numbers. An equation is consistent where these have a solution; nothing is
searched for. In doubt (a power of what has unknown units) nothing is refused, and factors between units, such
as 60 s in a minute, are left to the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from llmsr.expression.graph import Expression, pruned
from llmsr.expression.printing import to_text

SAME = frozenset({"add", "sub", "minimum", "maximum", "fmin", "fmax", "hypot", "mod", "fmod"})
COMPARED = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "arctan2", "floordiv"})  # a number, of equal units
KEPT = frozenset({"neg", "abs", "copysign"})  # the first argument's units
ROOTS = {"sqrt": Fraction(1, 2), "cbrt": Fraction(1, 3)}
ANY = frozenset({"sign", "isnan", "isinf", "isfinite", "not", "and", "or", "xor"})  # a number, of any units
_SHOWN = 40

Vector = tuple[Fraction, ...]
Form = dict[int, Fraction]
"""An affine form: the coefficients of unknowns by their number, and at -1 what is added."""


@dataclass(frozen=True)
class Dimensions:
    """The dimensions of a problem's columns and its target over `base` units; None where nothing is known."""

    base: tuple[str, ...]
    columns: tuple[Vector | None, ...]
    target: Vector | None

    def fault(self, expression: Expression) -> str:
        """Why an expression's units do not agree, in one sentence; empty where they do.

        Parameters may have any units; numbers have none, and 0 has all.
        """
        return _Analysis(self, expression).fault()


class _System:
    """Linear equations over unknowns, each solved for its last unknown as it comes."""

    def __init__(self) -> None:
        self.solved: dict[int, Form] = {}
        self.unknowns = 0

    def unknown(self) -> Form:
        self.unknowns += 1
        return {self.unknowns: Fraction(1)}

    def reduced(self, form: Form) -> Form:
        """The form in unknowns that no equation is solved for."""
        form = dict(form)
        while known := form.keys() & self.solved.keys():
            # an unknown is solved by earlier ones alone, so that this ends
            last = max(known)
            form = combined(form, self.solved[last], form.pop(last))
        return form

    def vanishes(self, form: Form) -> bool:
        """Adds the equation form = 0; False where it contradicts the others."""
        form = self.reduced(form)
        last = max(form, default=-1)
        if last == -1:
            return not form
        factor = -1 / form.pop(last)
        self.solved[last] = {key: value * factor for key, value in form.items()}
        return True


def combined(a: Form, b: Form, factor: Fraction) -> Form:
    """a + factor * b, without zeros."""
    total = {key: a.get(key, Fraction(0)) + factor * b.get(key, Fraction(0)) for key in a.keys() | b.keys()}
    return {key: value for key, value in total.items() if value}


class _Analysis:
    def __init__(self, given: Dimensions, expression: Expression) -> None:
        self.given, self.expression = given, expression
        self.system = _System()
        self.free: dict[tuple[str, int], list[Form]] = {}
        self.forms: list[list[Form]] = []

    def fault(self) -> str:
        for node in self.expression.nodes:
            form = self._dimension(node.op, node.args, node.value)
            if isinstance(form, str):
                return f"units: {form}"
            self.forms.append(form)
        target = self.given.target
        if target is not None and not self._equal(self.forms[-1], _known(target)):
            result, wanted = self._named(self.forms[-1]), unit_name(self.given.base, target)
            return f"units: the result is in {result}, the target in {wanted}"
        return ""

    def _dimension(self, op: str, args: Sequence[int], value: float | int | None) -> list[Form] | str:
        """The dimension of a node, or why it has none."""
        size = range(len(self.given.base))
        none: list[Form] = [{} for _ in size]
        forms = [self.forms[a] for a in args]
        if op == "const":
            # 0 m is 0 s, and no bound is one of all units
            return self._unknown() if not value or not abs(value) < float("inf") else none
        if op in ("column", "param"):
            known = self.given.columns[int(value or 0)] if op == "column" else None
            return (
                _known(known)
                if known is not None
                else self.free.setdefault((op, int(value or 0)), self._unknown())
            )
        if op in ("mul", "div"):
            sign = Fraction(1 if op == "mul" else -1)
            return [combined(a, b, sign) for a, b in zip(*forms, strict=True)]
        if op == "pow":
            return self._power(args)
        if op in ROOTS:
            return [combined({}, form, ROOTS[op]) for form in forms[0]]
        if op in KEPT:
            return forms[0]
        if op in ANY:
            return none
        if op == "heaviside":
            return forms[1]
        if op in SAME or op in COMPARED or op == "where":
            a, b = args[-2:]
            if not self._equal(self.forms[a], self.forms[b]):
                return f"{op} of {self._shown(a)} and {self._shown(b)}"
            return none if op in COMPARED else self.forms[a]
        for a in args:
            if not self._equal(self.forms[a], none):
                return f"{op} takes a number without a unit, {self._shown(a)}"
        return none

    def _power(self, args: Sequence[int]) -> list[Form] | str:
        base, exponent = self.forms[args[0]], self.expression.nodes[args[1]]
        none: list[Form] = [{} for _ in base]
        if exponent.op == "const":
            factor = (
                Fraction(exponent.value or 0).limit_denominator(1000)
                if abs(exponent.value or 0) < 1e6
                else None
            )
            return [combined({}, form, factor) for form in base] if factor is not None else none
        if not self._equal(self.forms[args[1]], none):
            return f"an exponent is a number without a unit, {self._shown(args[1])}"
        base = [self.system.reduced(form) for form in base]
        if not any(base):
            return none
        varies = any(node.op == "column" for node in pruned(self.expression.nodes, [args[1]])[0])
        if varies:
            equal = self._equal(base, none)
            return none if equal else f"what has a unit has one power for all rows, {self._shown(args[0])}"
        if any(key != -1 for form in base for key in form):
            return self._unknown()
        # one unknown exponent of a known unit
        power = self.system.unknown()
        return [combined({}, power, form.get(-1, Fraction(0))) for form in base]

    def _unknown(self) -> list[Form]:
        return [self.system.unknown() for _ in self.given.base]

    def _equal(self, a: list[Form], b: list[Form]) -> bool:
        return all(self.system.vanishes(combined(x, y, Fraction(-1))) for x, y in zip(a, b, strict=True))

    def _shown(self, index: int) -> str:
        """A node as text, and its units."""
        nodes, _ = pruned(self.expression.nodes, [index])
        text = to_text(Expression(nodes, self.expression.columns))
        return (
            f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'} is in {self._named(self.forms[index])}"
        )

    def _named(self, form: list[Form]) -> str:
        parts = [self.system.reduced(one) for one in form]
        if any(key != -1 for part in parts for key in part):
            return "units of a constant"
        return unit_name(self.given.base, tuple(part.get(-1, Fraction(0)) for part in parts))


def unit_name(base: Sequence[str], exponents: Vector) -> str:
    """The unit as text, such as m*s**-2; 1 where it is none."""
    powers = [name if e == 1 else f"{name}**{e}" for name, e in zip(base, exponents, strict=True) if e]
    return "*".join(powers) or "1"


def _known(vector: Vector) -> list[Form]:
    return [{-1: value} if value else {} for value in vector]
