"""Functions that work on every cell alone: tables of name, number of arguments and graph operations."""

from __future__ import annotations

import math
from collections.abc import Callable

from llmsr.expression.reader.arrays import Arrays
from llmsr.expression.reader.values import Array, Refused

Pointwise = Callable[..., Array]


def unary(op: str) -> Pointwise:
    return lambda on, x: on.float_function(op, x)


def binary(op: str) -> Pointwise:
    return lambda on, x, y: on.float_function(op, x, y)


def square(on: Arrays, x: Array) -> Array:
    if x.kind == "b":
        raise Refused("the square of booleans")
    return on.arithmetic("*", x, x)


def reciprocal(on: Arrays, x: Array) -> Array:
    if x.kind != "f":
        raise Refused("the reciprocal of integers")
    return on.arithmetic("/", on.number(1.0), x)


def times(factor: float) -> Pointwise:
    def pointwise(on: Arrays, x: Array) -> Array:
        no_booleans(x)
        return on.arithmetic("*", x, on.number(factor))

    return pointwise


def no_booleans(*arrays: Array) -> None:
    if all(a.kind == "b" or a.truth for a in arrays):
        raise Refused("a function of booleans only, which numpy computes in half precision")


def positive(on: Arrays, x: Array) -> Array:
    no_booleans(x)
    return on.copy(x)


def rounding(op: str) -> Pointwise:
    return lambda on, x: on.copy(x) if x.kind == "i" else on.float_function(op, x)


def sinc(on: Arrays, x: Array) -> Array:
    y = on.arithmetic("*", x, on.number(math.pi))
    wave = on.arithmetic("/", on.float_function("sin", y), y)
    return on.where(on.compare("==", y, on.number(0.0)), on.number(1.0), wave)


def logaddexp2(on: Arrays, x: Array, y: Array) -> Array:
    no_booleans(x, y)
    ln2 = on.number(math.log(2.0))
    both = on.float_function("logaddexp", on.arithmetic("*", x, ln2), on.arithmetic("*", y, ln2))
    return on.arithmetic("/", both, ln2)


def fmod(on: Arrays, x: Array, y: Array) -> Array:
    if "f" not in (x.kind, y.kind):
        raise Refused("fmod of integers")
    return on.elementwise("fmod", "f", x, y)


def softplus(on: Arrays, x: Array) -> Array:
    return on.float_function("logaddexp", x, on.number(0.0))


def relu(on: Arrays, x: Array) -> Array:
    return on.extremum("maximum", x, on.number(0))


def logit(on: Arrays, x: Array) -> Array:
    return on.float_function("log", on.arithmetic("/", x, on.arithmetic("-", on.number(1.0), x)))


def log_expit(on: Arrays, x: Array) -> Array:
    return on.negative(softplus(on, on.negative(x)))


def silu(on: Arrays, x: Array) -> Array:
    return on.arithmetic("*", x, on.float_function("expit", x))


def softsign(on: Arrays, x: Array) -> Array:
    return on.arithmetic("/", x, on.arithmetic("+", on.number(1.0), on.keep_kind("abs", x)))


def rsqrt(on: Arrays, x: Array) -> Array:
    return on.arithmetic("/", on.number(1.0), on.float_function("sqrt", x))


def frac(on: Arrays, x: Array) -> Array:
    return on.arithmetic("-", x, on.float_function("trunc", x))


def times_log(op: str) -> Pointwise:
    """scipy's xlogy and xlog1py: 0 where x is 0."""

    def pointwise(on: Arrays, x: Array, y: Array) -> Array:
        product = on.arithmetic("*", x, on.float_function(op, y))
        zero = on.logical(
            "and", on.compare("==", x, on.number(0.0)), on.logical("not", on.logical("isnan", y))
        )
        return on.where(zero, on.number(0.0), product)

    return pointwise


def exp10(on: Arrays, x: Array) -> Array:
    return on.arithmetic("**", on.number(10.0), x)


UFUNCS: dict[str, tuple[int, Pointwise]] = {
    **{
        name: (1, unary(op))
        for name, op in {
            "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "arcsin", "arccos": "arccos", "arctan":
            "arctan", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "sinh": "sinh", "cosh": "cosh",
            "tanh": "tanh", "arcsinh": "arcsinh", "arccosh": "arccosh", "arctanh": "arctanh", "asinh":
            "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "exp": "exp", "exp2": "exp2", "expm1":
            "expm1", "log": "log", "log2": "log2", "log10": "log10", "log1p": "log1p", "sqrt": "sqrt",
            "cbrt": "cbrt", "rint": "rint", "fabs": "abs",
        }.items()
    },
    "abs": (1, lambda on, x: on.keep_kind("abs", x)),
    "absolute": (1, lambda on, x: on.keep_kind("abs", x)),
    "sign": (1, lambda on, x: on.keep_kind("sign", x)),
    "negative": (1, lambda on, x: on.negative(x)),
    "positive": (1, positive),
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
    "fmod": (2, fmod),
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

COMMON = {"expit": "expit", "erf": "erf", "erfc": "erfc"}
SPECIAL: dict[str, tuple[int, Pointwise]] = {
    **{name: (1, unary(op)) for name, op in COMMON.items()},
    **{name: UFUNCS[name] for name in ("exp2", "expm1", "log1p", "cbrt")},
    "gamma": (1, unary("gamma")),
    "gammaln": (1, unary("gammaln")),
    "sinc": (1, sinc),
    "exp10": (1, exp10),
    "logit": (1, logit),
    "log_expit": (1, log_expit),
    "softplus": (1, softplus),
    "xlogy": (2, times_log("log")),
    "xlog1py": (2, times_log("log1p")),
}
TORCH: dict[str, tuple[int, Pointwise]] = {
    "sigmoid": (1, unary("expit")),
    "expit": (1, unary("expit")),
    "erf": (1, unary("erf")),
    "erfc": (1, unary("erfc")),
    "lgamma": (1, unary("gammaln")),
    "gammaln": (1, unary("gammaln")),
    "relu": (1, relu),
    "rsqrt": (1, rsqrt),
    "frac": (1, frac),
    "fix": (1, rounding("trunc")),
    "sinc": (1, sinc),
    "neg": (1, UFUNCS["negative"][1]),
    "sgn": (1, UFUNCS["sign"][1]),
    "logit": (1, logit),
    "xlogy": (2, times_log("log")),
    "mul": UFUNCS["multiply"],
    "sub": UFUNCS["subtract"],
    "div": UFUNCS["divide"],
    "lt": UFUNCS["less"],
    "le": UFUNCS["less_equal"],
    "gt": UFUNCS["greater"],
    "ge": UFUNCS["greater_equal"],
    "eq": UFUNCS["equal"],
    "ne": UFUNCS["not_equal"],
}
ACTIVATIONS: dict[str, tuple[int, Pointwise]] = {
    "relu": (1, relu),
    "sigmoid": (1, unary("expit")),
    "tanh": (1, unary("tanh")),
    "silu": (1, silu),
    "softsign": (1, softsign),
    "logsigmoid": (1, log_expit),
    "tanhshrink": (1, lambda on, x: on.arithmetic("-", x, on.float_function("tanh", x))),
}
"""torch.nn.functional's functions of one argument."""
