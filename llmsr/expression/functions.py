"""The functions and constants that a body may use: tables of numpy, math, torch and scipy.special names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmsr.expression.arrays import Arrays
from llmsr.expression.values import Array, DType, Native, Refused

if TYPE_CHECKING:
    from llmsr.expression.interpret import Interpreter

Pointwise = Callable[..., Array]


def unary(op: str) -> Pointwise:
    return lambda on, x: on.float_function(op, x)


def binary(op: str) -> Pointwise:
    return lambda on, x, y: on.float_function(op, x, y)


def square(on: Arrays, x: Array) -> Array:
    return on.arithmetic("*", x, x)


def reciprocal(on: Arrays, x: Array) -> Array:
    if x.kind != "f":
        raise Refused("the reciprocal of integers")
    return on.arithmetic("/", on.number(1.0), x)


def times(factor: float) -> Pointwise:
    return lambda on, x: on.arithmetic("*", on.lift(x), on.number(factor))


def rounding(op: str) -> Pointwise:
    return lambda on, x: on.copy(x) if x.kind == "i" else on.float_function(op, x)


def sinc(on: Arrays, x: Array) -> Array:
    y = on.arithmetic("*", x, on.number(math.pi))
    wave = on.arithmetic("/", on.float_function("sin", y), y)
    return on.where(on.compare("==", y, on.number(0.0)), on.number(1.0), wave)


def logaddexp2(on: Arrays, x: Array, y: Array) -> Array:
    ln2 = on.number(math.log(2.0))
    both = on.float_function("logaddexp", on.arithmetic("*", x, ln2), on.arithmetic("*", y, ln2))
    return on.arithmetic("/", both, ln2)


def softplus(on: Arrays, x: Array) -> Array:
    return on.float_function("logaddexp", x, on.number(0.0))


def relu(on: Arrays, x: Array) -> Array:
    return on.extremum("maximum", x, on.number(0))


UFUNCS: dict[str, tuple[int, Pointwise]] = {
    **{
        name: (1, unary(op))
        for name, op in {
            "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "arcsin", "arccos": "arccos", "arctan": "arctan",
            "asin": "arcsin", "acos": "arccos", "atan": "arctan", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
            "arcsinh": "arcsinh", "arccosh": "arccosh", "arctanh": "arctanh", "asinh": "arcsinh",
            "acosh": "arccosh", "atanh": "arctanh", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log",
            "log2": "log2", "log10": "log10", "log1p": "log1p", "sqrt": "sqrt", "cbrt": "cbrt", "rint": "rint",
            "fabs": "abs",
        }.items()
    },
    "abs": (1, lambda on, x: on.keep_kind("abs", x)),
    "absolute": (1, lambda on, x: on.keep_kind("abs", x)),
    "sign": (1, lambda on, x: on.keep_kind("sign", x)),
    "negative": (1, lambda on, x: on.negative(x)),
    "positive": (1, lambda on, x: on.copy(x)),
    "floor": (1, rounding("floor")),
    "ceil": (1, rounding("ceil")),
    "trunc": (1, rounding("trunc")),
    "square": (1, square),
    "reciprocal": (1, reciprocal),
    "deg2rad": (1, times(math.pi / 180)),
    "radians": (1, times(math.pi / 180)),
    "rad2deg": (1, times(180 / math.pi)),
    "degrees": (1, times(180 / math.pi)),
    "isnan": (1, lambda on, x: on.logical("isnan", x)),
    "isinf": (1, lambda on, x: on.logical("isinf", x)),
    "isfinite": (1, lambda on, x: on.logical("isfinite", x)),
    "logical_not": (1, lambda on, x: on.logical("not", x)),
    "invert": (1, lambda on, x: on.invert(x)),
    "bitwise_not": (1, lambda on, x: on.invert(x)),
    **{
        name: (2, binary(op))
        for name, op in {
            "arctan2": "arctan2", "atan2": "arctan2", "hypot": "hypot", "logaddexp": "logaddexp",
            "copysign": "copysign", "heaviside": "heaviside", "float_power": "pow",
        }.items()
    },
    "logaddexp2": (2, logaddexp2),
    "fmod": (2, lambda on, x, y: on.elementwise("fmod", "f", x, y)),
    **{
        name: (2, (lambda s: lambda on, x, y: on.arithmetic(s, x, y))(symbol))
        for name, symbol in {
            "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "power": "**",
            "pow": "**", "mod": "%", "remainder": "%", "floor_divide": "//", "bitwise_and": "&",
            "bitwise_or": "|", "bitwise_xor": "^",
        }.items()
    },
    **{
        name: (2, (lambda o: lambda on, x, y: on.extremum(o, x, y))(op))
        for name, op in {"minimum": "minimum", "maximum": "maximum", "fmin": "fmin", "fmax": "fmax"}.items()
    },
    **{
        name: (2, (lambda s: lambda on, x, y: on.compare(s, x, y))(symbol))
        for name, symbol in {
            "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==",
            "not_equal": "!=",
        }.items()
    },
    **{
        name: (2, (lambda o: lambda on, x, y: on.logical(o, x, y))(op))
        for name, op in {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}.items()
    },
}  # fmt: skip


def ufunc(name: str, arity: int, pointwise: Pointwise) -> Native:
    """A Native that lifts its arguments and applies `pointwise` to every cell."""

    def call(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Array:
        dtype = kwargs.pop("dtype", None)
        if kwargs or (dtype is not None and dtype != DType("f")):
            raise Refused(f"{name} with the keyword {next(iter(kwargs), 'dtype')}")
        if len(args) != arity:
            raise Refused(f"{name} takes {arity} argument{'s' * (arity > 1)}, not {len(args)}")
        return pointwise(on.arrays, *(on.arrays.lift(a) for a in args))

    return Native(name, call)


def where(on: Interpreter, args: list[Any], kwargs: dict[str, Any]) -> Array:
    if len(args) != 3 or kwargs:
        raise Refused("where without both values gives positions of rows, which mixes rows")
    return on.arrays.where(*(on.arrays.lift(a) for a in args))


NUMPY: dict[str, Any] = {
    **{name: ufunc(f"np.{name}", arity, f) for name, (arity, f) in UFUNCS.items()},
    "where": Native("np.where", where),
    "pi": math.pi,
    "e": math.e,
}
MATH: dict[str, Any] = {
    **{name: ufunc(f"math.{name}", arity, f) for name, (arity, f) in UFUNCS.items()},
    "pi": math.pi,
    "e": math.e,
}
MODULES: dict[str, dict[str, Any]] = {"numpy": NUMPY, "math": MATH, "torch": NUMPY}
