"""The math module: Python's own on numbers known now, the function of every cell on arrays."""

from __future__ import annotations

import math
from typing import Any

from llmsr.expression.reader.indexing import whole
from llmsr.expression.reader.names import native, words
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.pointwise import SPECIAL, UFUNCS, Pointwise
from llmsr.expression.reader.python_functions import NUMBERS, number, sum_
from llmsr.expression.reader.scalars import checked
from llmsr.expression.reader.values import (
    Native,
    Refused,
)


def from_math(name: str, arity: int, pointwise: Pointwise) -> Native:
    """math's function on numbers, the function of every cell on arrays."""
    plainly = getattr(math, name)

    def call(on: Operators, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if len(args) != arity or kwargs:
            raise Refused(f"math.{name} takes {arity} argument{'s' * (arity > 1)}")
        if all(isinstance(a, NUMBERS) for a in args):
            try:
                return checked(plainly(*args), on.limits)
            except (ArithmeticError, ValueError) as error:
                raise Refused(f"math.{name} of a constant fails: {error}") from None
        on.kindly(f"math.{name} of data")
        arrays = [number(on, a, f"math.{name}") for a in args]
        if name in ("floor", "ceil", "trunc") and arrays[0].ndim == 0:
            raise Refused(f"math.{name} of a parameter gives a Python integer (use np.{name})")
        return pointwise(on.arrays, *(on.arrays.copy(a, "f") if a.kind != "f" else a for a in arrays))

    return Native(f"math.{name}", call)


def log(on: Operators, x: Any, base: Any = None, /) -> Any:
    top = LOG.call(on, [x], {})
    return top if base is None else on.binary("/", top, LOG.call(on, [base], {}))


def product(on: Operators, iterable: Any, /, *, start: Any = 1) -> Any:
    result = start
    for item in on.iterate(iterable):
        on.step(None)
        result = on.binary("*", result, item)
    return result


def fsum(on: Operators, seq: Any, /) -> Any:
    return sum_(on, seq, 0.0)


def factorial(on: Operators, x: Any, exact: Any = False, /) -> Any:
    n = whole(on.arrays, x)
    if not 0 <= n <= 18:
        raise Refused("a factorial of a number that is not between 0 and 18")
    return math.factorial(n)


def comb(on: Operators, n: Any, k: Any, /) -> int:
    top, bottom = whole(on.arrays, n), whole(on.arrays, k)
    if not 0 <= top <= 50 or bottom < 0:
        raise Refused("a binomial coefficient of large or negative numbers")
    return math.comb(top, bottom)


MATH_NAMES = words(
    "sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh exp exp2 expm1 log2 "
    "log10 log1p sqrt cbrt pow fabs floor ceil trunc hypot copysign fmod degrees radians "
    "isnan isinf isfinite"
)
LOG = from_math("log", *UFUNCS["log"])
MATH: dict[str, Any] = {
    **{name: from_math(name, *UFUNCS[name]) for name in MATH_NAMES},
    **{name: from_math(name, *SPECIAL[name]) for name in ("erf", "erfc", "gamma")},
    "lgamma": from_math("lgamma", *SPECIAL["gammaln"]),
    "log": native("math.log", log),
    "prod": native("math.prod", product),
    "fsum": native("math.fsum", fsum),
    "factorial": native("math.factorial", factorial),
    "comb": native("math.comb", comb),
    "pi": math.pi,
    "e": math.e,
    "tau": math.tau,
    "inf": math.inf,
    "nan": math.nan,
}
