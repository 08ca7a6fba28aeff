"""What is known of every operation: one row each, from which everything else follows.

A new operation is one row of `OPS`. Where its function is a numpy or scipy ufunc of float64 and its names are
the same everywhere, a row is a name, the function and the derivative.

Derivatives, and spellings by other operations, are formulas over symbols that have Python's operators. They
are symbols of whoever asks: of a graph under construction, see `llmsr.expression.graph.Symbol`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

Formula = Callable[..., Any]
Derivative = Formula | tuple[Formula | None, ...]
"""`rule(d, y, *args)` is the derivative of the result by one argument times `d`, where `y` is the operation's
value; one rule per argument, None where the derivative is zero."""


REALS = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)
UNIT = (-1.0, 1.0)

TRAITS = {
    "odd": "f(-x) = -f(x)",
    "even": "f(-x) = f(x)",
    "nonnegative": "the result is at least 0",
    "commutative": "f(x, y) = f(y, x)",
    "lattice": "associative, and f(x, x) = x",
    "boolean": "the result is 0 or 1",
}
SELECTION = "commutative lattice"

# Branches of the compiled interpreter, for what numpy has no loop over float64 for, or a slower one: those
# from COPY on are the loops of one operand in `engine.interpreter`, those from ADD on its loops of two.
CALL, TRIG, WHERE, POWER, COPY, NEG, EXP, LOG, TANH, ADD, SUB, MUL, DIV, LT, LE, EQ, NE, AND, OR = range(19)


@dataclass(frozen=True)
class Operation:
    """One operation on float64 arrays; conditions are the numbers 0.0 and 1.0.

    `function` is what numpy or scipy computes it with. `domain` is the interval of finite arguments inside
    which the result is finite (overflow apart); None where no interval says it.
    """

    name: str
    function: Callable[..., Any]
    derivative: Derivative | None = None
    traits: str = ""
    """Words of `TRAITS`."""
    domain: tuple[float, float] | None = REALS
    opcode: int = CALL
    """The branch of the compiled interpreter; `CALL` calls the function's own loop over float64."""
    lowered: Formula | None = None
    """The same by other operations that are cheaper, or that the engines know; None for such arguments that
    are better left alone."""
    torch: str = ""
    """The name in torch, or a text with {0} for the argument; where empty it is numpy's name."""
    sympy: str | Formula | None = ""
    """The name in sympy, or a formula of (sympy, *args); empty: our own name; None: an undefined function."""
    word: str = ""
    """What a person writes in front of the arguments; where empty, our own name."""
    notation: str = ""
    """How a person writes it where that is not a function: see `llmsr.expression.printing.typeset`."""

    @cached_property
    def arity(self) -> int:
        return self.function.nin if isinstance(self.function, np.ufunc) else 3

    @cached_property
    def boolean(self) -> bool:
        return "boolean" in self.traits

    @cached_property
    def kernel(self) -> Callable[..., Any]:
        """What computes it on numbers and arrays of float64."""
        function = self.function
        return (lambda *args: function(*args).astype(np.float64)) if self.boolean else function

    @cached_property
    def total(self) -> bool:
        """Whether the result is finite for all finite arguments (overflow apart)."""
        return self.domain == REALS

    @cached_property
    def numpy(self) -> str:
        """The name in numpy's source: `np.tanh`, `special.erf`."""
        for module, prefix in ((np, "np"), (special, "special")):
            if getattr(module, self.name, None) is self.function:
                return f"{prefix}.{self.name}"
        return f"np.{self.function.__name__}"

    def partial(self, slot: int) -> Formula | None:
        """The derivative's rule for an argument; None where the derivative is zero."""
        return self.derivative[slot] if isinstance(self.derivative, tuple) else self.derivative


def _symbolic(op: str) -> Formula:
    """The operation as a function of symbols and numbers, one of them at least a symbol."""
    return lambda *args: next(a for a in args if hasattr(a, "apply")).apply(op, *args)


cos, sin, cosh, sinh, exp, log, sqrt, hypot, sign, absolute, digamma, expit, floor, trunc, copysign = map(
    _symbolic,
    ("cos", "sin", "cosh", "sinh", "exp", "log", "sqrt", "hypot", "sign", "abs", "digamma", "expit", "floor",
     "trunc", "copysign"),
)  # fmt: skip
where, less, less_equal, greater, greater_equal, equal, unequal, negation, either, isnan = map(
    _symbolic, ("where", "lt", "le", "gt", "ge", "eq", "ne", "not", "or", "isnan")
)


def _unknown(d: Any, y: Any, x: Any) -> Any:
    raise NotImplementedError("no derivative of digamma")


def _power_by_base(d: Any, y: Any, a: Any, b: Any) -> Any:
    if b.number is not None:
        return d * (b * a ** (b.number - 1.0))
    return d * (b * where(a, y / a, 0.0))


def _power_by_exponent(d: Any, y: Any, a: Any, b: Any) -> Any:
    # 0 ** b is constant in b on either side of b = 0; a negative base has no power near b
    return d * (y * where(greater(a, 0.0), log(a), 0.0))


def _power_lowered(a: Any, b: Any) -> Any:
    """Products and roots cost a tenth of a power."""
    if b.number == 0.5:
        return sqrt(a)
    if b.number in (2.0, 3.0, 4.0):
        square = a**2
        return {2.0: lambda: square, 3.0: lambda: square * a, 4.0: lambda: square**2}[b.number]()
    return None


def _selection(first: Formula) -> Derivative:
    """The derivative goes to the one argument that is taken."""
    return (lambda d, y, a, b: d * first(a, b), lambda d, y, a, b: d * negation(first(a, b)))


# sympy compares the arguments of an evaluated Min or Max in every pair, which takes minutes for nested ones
def _least(sp: Any, a: Any, b: Any) -> Any:
    return sp.Min(a, b, evaluate=False)


def _largest(sp: Any, a: Any, b: Any) -> Any:
    return sp.Max(a, b, evaluate=False)


def _half_to_even(sp: Any, a: Any) -> Any:
    """The nearest whole number, of two equally near ones the even one."""
    half = sp.Rational(1, 2)
    return sp.floor(a + half) - sp.Piecewise((1, sp.Eq(sp.Mod(a, 2, evaluate=False), half)), (0, True))


_LN2, _LN10, _BELL = math.log(2.0), math.log(10.0), 2.0 / math.sqrt(math.pi)

_ROWS = (
    Operation("neg", np.negative, lambda d, y, x: -d, domain=None, opcode=NEG, sympy=lambda sp, a: -a),
    Operation(
        "abs", np.abs, lambda d, y, x: d * sign(x), "nonnegative", sympy="Abs", notation="fence | |"
    ),
    Operation(
        "sign", np.sign, None, "odd", word="sgn",
        # torch's own gives 0 for nan
        torch="torch.where(torch.isnan({0}), {0}, torch.sign({0}))",
    ),
    Operation("sqrt", np.sqrt, lambda d, y, x: d * 0.5 / y, domain=POSITIVE, notation="root 2"),
    Operation(
        "cbrt", np.cbrt, lambda d, y, x: d * (1.0 / 3.0) / y**2, "odd", notation="root 3",
        torch="torch.copysign(torch.abs({0}) ** (1.0 / 3.0), {0})",
        sympy=lambda sp, a: sp.sign(a) * sp.Abs(a) ** sp.Rational(1, 3),
    ),
    Operation(
        "exp", np.exp, lambda d, y, x: d * y, "nonnegative", opcode=EXP, notation="exponential e"
    ),
    Operation(
        "exp2", np.exp2, lambda d, y, x: d * (_LN2 * y), "nonnegative",
        sympy=lambda sp, a: 2**a, notation="exponential 2",
    ),
    Operation("expm1", np.expm1, lambda d, y, x: d * exp(x), sympy=lambda sp, a: sp.exp(a) - 1),
    Operation("log", np.log, lambda d, y, x: d / x, domain=POSITIVE, opcode=LOG),
    Operation(
        "log2", np.log2, lambda d, y, x: d * (1.0 / _LN2) / x, domain=POSITIVE, word="log_2",
        sympy=lambda sp, a: sp.log(a) / sp.log(2),
    ),
    Operation(
        "log10", np.log10, lambda d, y, x: d * (1.0 / _LN10) / x, domain=POSITIVE, word="log_10",
        sympy=lambda sp, a: sp.log(a) / sp.log(10),
    ),
    Operation(
        "log1p", np.log1p, lambda d, y, x: d / (1.0 + x), domain=(-1.0, math.inf),
        sympy=lambda sp, a: sp.log(a + 1),
    ),
    Operation("sin", np.sin, lambda d, y, x: d * cos(x), "odd", opcode=TRIG),
    Operation("cos", np.cos, lambda d, y, x: -(d * sin(x)), "even", opcode=TRIG),
    Operation("tan", np.tan, lambda d, y, x: d * (1.0 + y**2), "odd"),
    Operation("arcsin", np.arcsin, lambda d, y, x: d / sqrt(1.0 - x**2), "odd", UNIT, sympy="asin"),
    Operation("arccos", np.arccos, lambda d, y, x: -(d / sqrt(1.0 - x**2)), "", UNIT, sympy="acos"),
    Operation("arctan", np.arctan, lambda d, y, x: d / (1.0 + x**2), "odd", sympy="atan"),
    Operation("sinh", np.sinh, lambda d, y, x: d * cosh(x), "odd"),
    Operation("cosh", np.cosh, lambda d, y, x: d * sinh(x), "even nonnegative"),
    Operation("tanh", np.tanh, lambda d, y, x: d * (1.0 - y**2), "odd", opcode=TANH),
    Operation("arcsinh", np.arcsinh, lambda d, y, x: d / hypot(1.0, x), "odd", sympy="asinh"),
    Operation(
        "arccosh", np.arccosh, lambda d, y, x: d / sqrt(x**2 - 1.0), "", (1.0, math.inf), sympy="acosh"
    ),
    Operation("arctanh", np.arctanh, lambda d, y, x: d / (1.0 - x**2), "odd", UNIT, sympy="atanh"),
    Operation("floor", np.floor, notation="fence ⌊ ⌋"),
    Operation("ceil", np.ceil, sympy="ceiling", notation="fence ⌈ ⌉"),
    Operation("rint", np.rint, None, "odd", torch="round", sympy=_half_to_even),
    Operation("trunc", np.trunc, None, "odd", sympy=lambda sp, a: sp.sign(a) * sp.floor(sp.Abs(a))),
    Operation(
        "expit", special.expit, lambda d, y, x: d * (y * (1.0 - y)), "nonnegative",
        torch="sigmoid", sympy=lambda sp, a: 1 / (1 + sp.exp(-a)),
    ),
    Operation("erf", special.erf, lambda d, y, x: d * (_BELL * exp(-(x**2))), "odd"),
    Operation("erfc", special.erfc, lambda d, y, x: -(d * (_BELL * exp(-(x**2)))), "nonnegative"),
    Operation(
        "gamma", special.gamma, lambda d, y, x: d * (y * digamma(x)), domain=POSITIVE, word="Γ",
        # torch has the logarithm of its size alone: the sign alternates between the poles below 0
        torch="torch.where(({0} < 0) & (torch.floor({0}) == {0}), torch.nan, torch.exp(torch.lgamma({0})) * "
        "(1.0 - 2.0 * (({0} < 0) & (torch.floor({0}) % 2 != 0)).double()))",
    ),
    Operation(
        "gammaln", special.gammaln, lambda d, y, x: d * digamma(x), domain=POSITIVE, word="log Γ",
        torch="lgamma", sympy="loggamma",
    ),
    Operation("digamma", special.digamma, _unknown, domain=POSITIVE, word="ψ"),
    Operation(
        "not", np.logical_not, None, "boolean", lowered=lambda a: equal(a, 0.0), sympy="Not",
        notation="prefix ¬",
    ),
    Operation("isnan", np.isnan, None, "boolean", lowered=lambda a: unequal(a, a), sympy=None),
    Operation("isinf", np.isinf, None, "boolean", lowered=lambda a: equal(absolute(a), math.inf), sympy=None),
    Operation(
        "isfinite", np.isfinite, None, "boolean", lowered=lambda a: less(absolute(a), math.inf), sympy=None
    ),
    # sums and products of numbers that overflow are all that the normal form keeps of these as functions
    Operation(
        "add", np.add, (lambda d, y, a, b: d, lambda d, y, a, b: d), domain=None, opcode=ADD,
        sympy=lambda sp, a, b: a + b,
    ),
    Operation(
        "sub", np.subtract, (lambda d, y, a, b: d, lambda d, y, a, b: -d), domain=None, opcode=SUB,
        sympy=lambda sp, a, b: a - b,
    ),
    Operation(
        "mul", np.multiply, (lambda d, y, a, b: d * b, lambda d, y, a, b: d * a), domain=None, opcode=MUL,
        sympy=lambda sp, a, b: a * b,
    ),
    Operation(
        "div", np.divide, (lambda d, y, a, b: d / b, lambda d, y, a, b: -(d * (y / b))), domain=None,
        opcode=DIV, sympy=lambda sp, a, b: a / b,
    ),
    Operation(
        "pow", np.power, (_power_by_base, _power_by_exponent), domain=None, opcode=POWER,
        lowered=_power_lowered, sympy=lambda sp, a, b: a**b,
    ),
    Operation(
        "mod", np.mod, (lambda d, y, a, b: d, lambda d, y, a, b: -(d * floor(a / b))), domain=None,
        torch="remainder", notation="modulo", sympy=lambda sp, a, b: sp.Mod(a, b, evaluate=False),
    ),
    Operation(
        "fmod", np.fmod, (lambda d, y, a, b: d, lambda d, y, a, b: -(d * trunc(a / b))), domain=None,
        sympy=lambda sp, a, b: sp.sign(a) * sp.Mod(sp.Abs(a), sp.Abs(b), evaluate=False),
    ),
    Operation(
        "floordiv", np.floor_divide, domain=None, notation="floored quotient",
        sympy=lambda sp, a, b: sp.floor(a / b),
    ),
    Operation(
        "arctan2", np.arctan2,
        (lambda d, y, a, b: d / (a**2 + b**2) * b, lambda d, y, a, b: -(d / (a**2 + b**2) * a)),
        sympy="atan2", word="atan2",
    ),
    Operation(
        "hypot", np.hypot, (lambda d, y, a, b: d * (a / y), lambda d, y, a, b: d * (b / y)),
        "commutative nonnegative", sympy=lambda sp, a, b: sp.sqrt(a**2 + b**2),
    ),
    Operation("minimum", np.minimum, _selection(less_equal), SELECTION, sympy=_least, word="min"),
    Operation("maximum", np.maximum, _selection(greater_equal), SELECTION, sympy=_largest, word="max"),
    # the other argument where one is nan
    Operation(
        "fmin", np.fmin, _selection(lambda a, b: either(less_equal(a, b), isnan(b))), SELECTION,
        sympy=_least,
    ),
    Operation(
        "fmax", np.fmax, _selection(lambda a, b: either(greater_equal(a, b), isnan(b))), SELECTION,
        sympy=_largest,
    ),
    Operation(
        "logaddexp", np.logaddexp,
        (lambda d, y, a, b: d * expit(a - b), lambda d, y, a, b: d * expit(b - a)), "commutative",
        # the logarithm of the sum itself would overflow
        sympy=lambda sp, a, b: _largest(sp, a, b) + sp.log(1 + sp.exp(-sp.Abs(a - b))),
    ),
    Operation(
        "copysign", np.copysign,
        (lambda d, y, a, b: d * (copysign(1.0, a) * copysign(1.0, b)), None),
        sympy=lambda sp, a, b: sp.Piecewise((sp.Abs(a), sp.Ge(b, 0)), (-sp.Abs(a), True)),
    ),
    Operation(
        "heaviside", np.heaviside, (None, lambda d, y, a, b: where(equal(a, 0.0), d, 0.0)),
        sympy="Heaviside",
        # torch's own takes nan for a number
        torch="torch.where(torch.isnan({0}), {0}, torch.heaviside({0}, {1}))",
    ),
    Operation("lt", np.less, None, "boolean", opcode=LT, sympy="Lt", notation="relation <"),
    Operation("le", np.less_equal, None, "boolean", opcode=LE, sympy="Le", notation="relation ≤"),
    Operation(
        "gt", np.greater, None, "boolean", lowered=lambda a, b: less(b, a), sympy="Gt", notation="relation >"
    ),
    Operation(
        "ge", np.greater_equal, None, "boolean", lowered=lambda a, b: less_equal(b, a),
        sympy="Ge", notation="relation ≥",
    ),
    Operation("eq", np.equal, None, "boolean commutative", opcode=EQ, sympy="Eq", notation="relation ="),
    Operation("ne", np.not_equal, None, "boolean commutative", opcode=NE, sympy="Ne", notation="relation ≠"),
    Operation(
        "and", np.logical_and, None, "boolean " + SELECTION, opcode=AND, sympy="And", notation="infix ∧"
    ),
    Operation(
        "or", np.logical_or, None, "boolean " + SELECTION, opcode=OR, sympy="Or", notation="infix ∨"
    ),
    Operation(
        "xor", np.logical_xor, None, "boolean commutative", notation="infix ⊕",
        sympy=lambda sp, a, b: sp.Or(sp.And(a, sp.Not(b)), sp.And(b, sp.Not(a))),
        lowered=lambda a, b: unequal(equal(a, 0.0), equal(b, 0.0)),
    ),
    # condition, value where it is not zero, value where it is zero
    Operation(
        "where", np.where,
        (None, lambda d, y, c, a, b: where(c, d, 0.0), lambda d, y, c, a, b: where(c, 0.0, d)),
        opcode=WHERE, notation="cases",
        sympy=lambda sp, c, a, b: sp.Piecewise((a, c), (b, True)),
    ),
)  # fmt: skip

OPS: dict[str, Operation] = {row.name: row for row in _ROWS}


def having(trait: str) -> frozenset[str]:
    """The names of the operations with a trait."""
    return frozenset(name for name, row in OPS.items() if trait in row.traits.split())


ODD, EVEN, NONNEGATIVE = having("odd"), having("even"), having("nonnegative")
COMMUTATIVE, LATTICE = having("commutative"), having("lattice")
