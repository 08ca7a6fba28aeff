"""Functions of every cell, and those that `prelude` writes in terms of others."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from llmsr.expression.reader import indexing, making
from llmsr.expression.reader.indexing import reduce
from llmsr.expression.reader.operators import NUMBERS, Operators
from llmsr.expression.reader.python_functions import number
from llmsr.expression.reader.syntax import names_of_arguments, names_set_in
from llmsr.expression.reader.values import (
    Array,
    Closure,
    Frame,
    Native,
    Refused,
    checked,
    words,
)

# ---- functions written in the subset itself

PRELUDE = Frame(frozenset(), None)
"""The functions of `prelude`, as a body's own functions are kept."""

for _node in ast.parse(files(__package__).joinpath("prelude.py").read_text(encoding="utf-8")).body:
    if isinstance(_node, ast.FunctionDef):
        _names = names_set_in(_node.body) | names_of_arguments(_node.args)
        _defaults = [ast.literal_eval(default) for default in _node.args.defaults]
        _keyword_defaults = [d and ast.literal_eval(d) for d in _node.args.kw_defaults]
        PRELUDE.names[_node.name] = Closure(
            _node.name,
            _node.args,
            _node.body,
            _names,
            tuple(_defaults),
            tuple(_keyword_defaults),
            PRELUDE,
            True,
        )


def prelude(name: str, arrays: bool = True) -> Native:
    """A function of the prelude; `arrays`: numbers and lists given as its first arguments become arrays."""
    closure = PRELUDE.names[name]
    given = [a.arg for a in (*closure.arguments.posonlyargs, *closure.arguments.args)]

    def lifted(on: Operators, argument: str, value: Any) -> Any:
        known = isinstance(value, (list, tuple, bool, int, float)) and argument in ARRAYS
        return on.array(value) if known else value

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if arrays:
            args = [lifted(on, *pair) for pair in zip(given, args, strict=False)] + args[len(given) :]
            kwargs = {name: lifted(on, name, value) for name, value in kwargs.items()}
        return on.apply(closure, args, kwargs)

    return Native(name, call)


ARRAYS = frozenset(words("x y a b c p input end weight tensor1 tensor2 coef c_or_r"))
"""What arguments are called that are arrays."""


# ---- functions of every cell

Cellwise = Callable[..., Array]
T = TypeVar("T")


def no_booleans(*arrays: Array) -> None:
    if all(a.kind == "b" or a.truth for a in arrays):
        raise Refused("a function of booleans only, which numpy computes in half precision")


def rounding(op: str, on: Operators, x: Array) -> Array:
    return on.arrays.copy(x) if x.kind == "i" else on.arrays.float_function(op, x)


def reciprocal(on: Operators, x: Array) -> Array:
    if x.kind != "f":
        raise Refused("the reciprocal of integers")
    return on.arrays.arithmetic("/", on.arrays.number(1.0), x)


def positive(on: Operators, x: Array) -> Array:
    no_booleans(x)
    return on.arrays.copy(x)


def fmod(on: Operators, x: Array, y: Array) -> Array:
    if "f" not in (x.kind, y.kind):
        raise Refused("fmod of integers")
    return on.arrays.elementwise("fmod", "f", x, y)


def by(method: str, *first: str) -> Cellwise:
    """The method of `Arrays` of that name, called with `first` before the arrays."""
    return lambda on, *arrays: getattr(on.arrays, method)(*first, *arrays)


def composed(name: str) -> Cellwise:
    """A function of the prelude, which numpy would compute in half precision for booleans alone."""
    function = prelude(name)

    def call(on: Operators, *arrays: Array) -> Array:
        no_booleans(*arrays)
        return on.array(function.call(on, list(arrays), {}))

    return call


def named(text: str) -> dict[str, str]:
    """What words `name` or `name=its name here` say."""
    pairs = (word.partition("=") for word in text.split())
    return {name: there or name for name, _, there in pairs}


def aliases(table: dict[str, T], text: str) -> dict[str, T]:
    """Rows of another table under the names that `text` gives them."""
    return {name: table[there] for name, there in named(text).items()}


def each(arity: int, make: Callable[[str], Cellwise], text: str) -> dict[str, tuple[int, Cellwise]]:
    """Rows of a table of functions, made of the operations that `text` names."""
    return {name: (arity, make(operation)) for name, operation in named(text).items()}


CELLWISE: dict[str, tuple[int, Cellwise]] = {
    **each(
        1,
        partial(by, "float_function"),
        "sin cos tan arcsin arccos arctan asin=arcsin acos=arccos atan=arctan sinh cosh tanh arcsinh "
        "arccosh arctanh asinh=arcsinh acosh=arccosh atanh=arctanh exp exp2 expm1 log log2 log10 log1p "
        "sqrt cbrt rint fabs=abs",
    ),
    **each(1, partial(by, "keep_kind"), "abs absolute=abs sign"),
    **each(1, partial(by, "logical"), "isnan isinf isfinite logical_not=not"),
    **each(1, by, "negative invert bitwise_not=invert"),
    **each(1, lambda op: partial(rounding, op), "floor ceil trunc fix=trunc"),
    **each(1, composed, "square sinc radians degrees deg2rad=radians rad2deg=degrees"),
    "positive": (1, positive),
    "reciprocal": (1, reciprocal),
    "fmod": (2, fmod),
    **each(
        2,
        partial(by, "float_function"),
        "arctan2 atan2=arctan2 hypot logaddexp copysign heaviside float_power=pow",
    ),
    **each(
        2,
        partial(by, "arithmetic"),
        "add=+ subtract=- multiply=* divide=/ true_divide=/ power=** pow=** mod=% remainder=% "
        "floor_divide=// bitwise_and=& bitwise_or=| bitwise_xor=^",
    ),
    **each(2, partial(by, "extremum"), "minimum maximum fmin fmax"),
    **each(
        2,
        partial(by, "compare"),
        "less=< less_equal=<= greater=> greater_equal=>= equal=== not_equal=!=",
    ),
    **each(2, partial(by, "logical"), "logical_and=and logical_or=or logical_xor=xor"),
    **each(2, composed, "logaddexp2"),
}
"""numpy's functions of every cell: number of arguments, and what makes an array of arrays."""

SPECIAL_CELLWISE: dict[str, tuple[int, Cellwise]] = {
    **each(1, partial(by, "float_function"), "expit erf erfc gamma gammaln"),
    **{name: CELLWISE[name] for name in words("exp2 expm1 log1p cbrt sinc")},
    **each(1, composed, "exp10 logit log_expit softplus"),
    **each(2, composed, "xlogy xlog1py"),
}
TORCH_CELLWISE: dict[str, tuple[int, Cellwise]] = {
    **CELLWISE,
    **each(1, partial(by, "float_function"), "sigmoid=expit expit erf erfc lgamma=gammaln gammaln"),
    **each(1, composed, "relu rsqrt frac logit"),
    **each(2, composed, "xlogy"),
    **aliases(
        CELLWISE,
        "neg=negative sgn=sign mul=multiply sub=subtract div=divide lt=less le=less_equal gt=greater "
        "ge=greater_equal eq=equal ne=not_equal",
    ),
}
ACTIVATIONS: dict[str, tuple[int, Cellwise]] = {
    **each(1, partial(by, "float_function"), "sigmoid=expit tanh"),
    **each(1, composed, "relu silu softsign logsigmoid=log_expit tanhshrink"),
}
"""torch.nn.functional's functions of one argument."""


def ufunc(name: str, arity: int, function: Cellwise) -> Native:
    """A function of `arity` arrays that works on every cell, with `out=`, `where=` and `dtype=float`."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Array:
        kwargs = dict(kwargs)
        dtype, out, where = kwargs.pop("dtype", None), kwargs.pop("out", None), kwargs.pop("where", True)
        if len(args) == arity + 1 and isinstance(args[-1], Array) and out is None:
            *args, out = args
        if kwargs or (dtype is not None and making.kind_of(on, dtype, "f") != "f"):
            raise Refused(f"{name} with the keyword {next(iter(kwargs), 'dtype')}")
        if len(args) != arity:
            raise Refused(f"{name} takes {arity} argument{'s' * (arity > 1)}, not {len(args)}")
        result = function(on, *(on.array(a) for a in args))
        return result if out is None and where is True else making.into(on, name, result, out, where)

    return Native(name, call)


REDUCERS = {
    "np.add": indexing.total,
    "np.multiply": indexing.product,
    "np.maximum": indexing.greatest,
    "np.minimum": indexing.smallest,
    "np.logical_and": indexing.every,
    "np.logical_or": indexing.some,
}


def ufunc_reduce(on: Operators, ufunc: Native, array: Any, axis: Any = 0) -> Array:
    """`np.add.reduce` and the like."""
    if ufunc.name not in REDUCERS:
        raise Refused(f"{ufunc.name}.reduce is not supported")
    return reduce(on.arrays, on.array(array), axis, False, f"{ufunc.name}.reduce", REDUCERS[ufunc.name])


def ufunc_outer(on: Operators, ufunc: Native, a: Any, b: Any) -> Array:
    """`np.multiply.outer` and the like."""
    name = ufunc.name.removeprefix("np.")
    if name not in CELLWISE or CELLWISE[name][0] != 2:
        raise Refused(f"{ufunc.name}.outer is not supported")
    left, right = on.array(a), on.array(b)
    for _ in range(right.ndim):
        left = indexing.expand(left, left.ndim)
    return CELLWISE[name][1](on, left, right)


# ---- the math module


def from_math(name: str, arity: int, cellwise: Native) -> Native:
    """math's function: Python's own on numbers known now, the function of every cell on arrays."""
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
        return cellwise.call(on, [on.arrays.copy(a, "f") if a.kind != "f" else a for a in arrays], {})

    return Native(f"math.{name}", call)


def math_log(natural: Native) -> Callable[..., Any]:
    def log(on: Operators, x: Any, base: Any = None, /) -> Any:
        top = natural.call(on, [x], {})
        return top if base is None else on.binary("/", top, natural.call(on, [base], {}))

    return log
