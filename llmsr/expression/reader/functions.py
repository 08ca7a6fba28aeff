"""Every name that a body can use beside its own: modules, built-in functions and methods of arrays."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

import numpy as np

from llmsr.expression.reader import indexing, making, numpy_functions, python_functions
from llmsr.expression.reader.indexing import reduce
from llmsr.expression.reader.numpy_functions import reduction
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.python_functions import from_math
from llmsr.expression.reader.syntax import names_of_arguments, names_set_in
from llmsr.expression.reader.values import (
    Array,
    Closure,
    DType,
    Frame,
    Module,
    Native,
    Refused,
    native,
    refused,
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
            _node.name, _node.args, _node.body, _names, tuple(_defaults), tuple(_keyword_defaults), PRELUDE
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
        on.frozen_line += 1  # what is refused inside is the fault of the line that calls
        value = on.apply(closure, args, kwargs)
        on.frozen_line -= 1
        return value

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


# ---- modules


def ufuncs(module: str, table: dict[str, tuple[int, Cellwise]]) -> dict[str, Any]:
    return {name: ufunc(f"{module}.{name}", *entry) for name, entry in table.items()}


def natives(module: str, table: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    return {name: native(f"{module}.{name}", function) for name, function in table.items()}


def preludes(text: str, arrays: bool = True) -> dict[str, Native]:
    """Functions of the prelude under the names that `text` gives them."""
    return {name: prelude(there, arrays) for name, there in named(text).items()}


def members(label: str, module: Any, text: str) -> dict[str, Native]:
    """Functions of one of our modules under the names that `text` gives them."""
    return natives(label, {name: getattr(module, there) for name, there in named(text).items()})


MIXING = words(
    "gradient diff ediff1d cumsum cumprod nancumsum cumulative_sum sort argsort partition "
    "argpartition lexsort roll rot90 flip flipud fliplr convolve correlate median "
    "nanmedian percentile quantile nanpercentile histogram bincount unique "
    "nanmean nansum nanstd nanmax nanmin ptp corrcoef cov argmax argmin "
    "argwhere nonzero flatnonzero trapz trapezoid polyfit cross delete insert append resize "
    "count_nonzero meshgrid compress extract place put putmask copyto"
)
"""Functions of numpy that mix, move or pick rows, or change an array behind its name."""

CONSTANTS: dict[str, Any] = {
    "pi": math.pi,
    "e": math.e,
    "inf": math.inf,
    "nan": math.nan,
    "euler_gamma": 0.5772156649015329,
    "newaxis": None,
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    name: reduction(f"np.{name}", combine)
    for name, combine in {
        "sum": indexing.total, "prod": indexing.product, "mean": indexing.mean, "max": indexing.greatest,
        "amax": indexing.greatest, "min": indexing.smallest, "amin": indexing.smallest, "all": indexing.every,
        "any": indexing.some,
    }.items()
}  # fmt: skip
UNNEEDED = "is not needed: numbers go with rows as they are"
NUMPY: dict[str, Any] = {
    **{name: refused(f"np.{name}", "mixes, picks or overwrites rows") for name in MIXING},
    **{name: refused(f"np.{name}", UNNEEDED) for name in ("tile", "repeat")},
    **{name: refused(f"np.{name}", "cannot be called") for name in ("c_", "r_", "ndarray")},
    "apply_along_axis": refused("np.apply_along_axis", "goes through the rows one by one"),
    **ufuncs("np", CELLWISE),
    **natives("np", REDUCTIONS),
    **members(
        "np",
        making,
        "array asarray asanyarray=asarray ascontiguousarray=asarray asfarray=asarray full zeros ones empty "
        "full_like zeros_like ones_like empty_like arange linspace fromiter vectorize",
    ),
    **members(
        "np",
        numpy_functions,
        "stack concatenate concat=concatenate column_stack vstack row_stack=vstack hstack atleast_1d "
        "atleast_2d copy ravel reshape squeeze expand_dims broadcast_to broadcast_arrays split "
        "transpose=transposed permute_dims=transposed shape ndim size isscalar dot matmul=matmul_ tensordot "
        "einsum where select clip take digitize searchsorted choose round=round_ around=round_ real errstate "
        "finfo seterr float64=scalar_float double=scalar_float",
    ),
    **preludes("isclose nan_to_num modf average var std inner outer vander polyval interp poly1d"),
    **preludes("piecewise", arrays=False),
    **CONSTANTS,
    **{name: Module(f"numpy.{name}") for name in ("linalg", "polynomial", "random")},
    **{name: DType(name[0]) for name in ("int64", "int_", "bool_", "bool")},
}


def renamed(known: Native) -> Native:
    """numpy's function with the names that torch gives to its arguments."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        names = {"dim": "axis", "keepdim": "keepdims", "input": None, "tensors": None}
        args = [value for name, value in kwargs.items() if names.get(name, name) is None] + args
        kwargs = {names.get(n) or n: v for n, v in kwargs.items() if names.get(n, n)}
        kwargs = {n: v for n, v in kwargs.items() if n not in ("device", "requires_grad")}
        return known.call(on, args, kwargs)

    return Native(known.name.replace("np.", "torch."), call)


def sized(make: Callable[..., Array]) -> Callable[..., Array]:
    """torch.zeros(3, 4) beside torch.zeros((3, 4))."""

    def function(on: Operators, *size: Any, dtype: Any = None, device: Any = None) -> Array:
        shape = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        return make(on, shape, dtype)

    return function


def torch_extreme(name: str, op: str) -> Callable[..., Array]:
    """torch.max and torch.min: of two tensors, or of all values of one."""

    def function(on: Operators, input: Any, other: Any = None) -> Array:
        if isinstance(other, Array):
            return on.arrays.extremum(op, on.array(input), other)
        if other is not None:
            raise Refused(f"torch.{name} along a dimension, which gives values and positions")
        return REDUCTIONS[name](on, input)

    return function


def same(on: Operators, a: Any, *args: Any, **kwargs: Any) -> Array:
    """detach, double, contiguous: the tensor itself."""
    array = making.asarray(on, a)
    return array if array.kind == "f" else making.cast(on, array, "f")


TORCH_OF_NUMPY = (
    "full full_like zeros_like ones_like empty_like arange linspace matmul mv=matmul mm=matmul dot outer "
    "einsum reshape squeeze ravel round nan_to_num isclose column_stack vstack hstack sum prod mean all any "
    "amax amin stack cat=concatenate concat=concatenate unsqueeze=expand_dims transpose t=transpose where "
    "clamp=clip clip tensor=array as_tensor=array"
)
TORCH: dict[str, Any] = {
    **{name: refused(f"torch.{name}", "mixes, picks or overwrites rows") for name in MIXING},
    **ufuncs("torch", TORCH_CELLWISE),
    **{name: renamed(known) for name, known in aliases(NUMPY, TORCH_OF_NUMPY).items()},
    **natives("torch", {"max": torch_extreme("max", "maximum"), "min": torch_extreme("min", "minimum")}),
    **natives("torch", {name: sized(getattr(making, name)) for name in ("zeros", "ones", "empty")}),
    **members("torch", numpy_functions, "flatten no_grad=errstate"),
    **{name: renamed(prelude(name)) for name in ("softmax", "logsumexp", "lerp", "addcmul")},
    **CONSTANTS,
    **{
        name: DType(kind) for name, kind in (("float64", "f"), ("double", "f"), ("int64", "i"), ("bool", "b"))
    },
    "special": Module("torch.special"),
    "nn": Module("torch.nn"),
    "Tensor": refused("torch.Tensor", "cannot be called"),
}
MATH_CELLWISE = {**CELLWISE, **SPECIAL_CELLWISE, "lgamma": SPECIAL_CELLWISE["gammaln"]}
MATH: dict[str, Any] = {
    **{
        name: from_math(name, MATH_CELLWISE[name][0], ufunc(f"math.{name}", *MATH_CELLWISE[name]))
        for name in words(
            "sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh exp exp2 expm1 log log2 log10 "
            "log1p sqrt cbrt pow fabs floor ceil trunc hypot copysign fmod degrees radians isnan isinf "
            "isfinite erf erfc gamma lgamma"
        )
    },
    **members("math", python_functions, "factorial comb"),
    **preludes("prod fsum", arrays=False),
    **{name: getattr(math, name) for name in ("pi", "e", "tau", "inf", "nan")},
}
MATH["log"] = native("math.log", python_functions.math_log(MATH["log"]))
SERIES = {
    "polynomial": "polyval=polynomial_polyval",
    "chebyshev": "chebval",
    "legendre": "legval",
    "hermite": "hermval",
    "hermite_e": "hermeval",
}
MODULES: dict[str, dict[str, Any]] = {
    "numpy": NUMPY,
    "numpy.linalg": preludes("norm"),
    "numpy.polynomial": {
        **preludes("Polynomial=polynomial"),
        **{name: Module(f"numpy.polynomial.{name}") for name in SERIES},
    },
    **{f"numpy.polynomial.{name}": preludes(function) for name, function in SERIES.items()},
    "numpy.finfo": {name: float(getattr(np.finfo(np.float64), name)) for name in words("eps tiny max min")},
    "numpy.random": members("np.random", numpy_functions, "seed"),
    "math": MATH,
    "scipy": {"special": Module("scipy.special")},
    "scipy.special": {
        **ufuncs("special", SPECIAL_CELLWISE),
        **members("special", python_functions, "factorial"),
        **preludes("softmax logsumexp"),
    },
    "torch": TORCH,
    "torch.special": ufuncs("torch.special", {**TORCH_CELLWISE, **SPECIAL_CELLWISE}),
    "torch.nn": {"functional": Module("torch.nn.functional")},
    "torch.nn.functional": {
        **ufuncs("F", ACTIVATIONS),
        **preludes("softplus=torch_softplus leaky_relu elu gelu hardtanh"),
        "softmax": TORCH["softmax"],
    },
    "functools": {
        **preludes("reduce", arrays=False),
        **members("functools", python_functions, "partial"),
    },
    "itertools": natives("itertools", python_functions.ITERTOOLS),
    "operator": natives("operator", python_functions.OPERATORS),
    "warnings": members(
        "warnings", numpy_functions, "filterwarnings=nothing simplefilter=nothing catch_warnings=nothing"
    ),
    **{name: {} for name in ("typing", "collections.abc", "numpy.typing")},
}
ROOTS: dict[str, Any] = {
    "np": Module("numpy"),
    "numpy": Module("numpy"),
    "math": Module("math"),
    "torch": Module("torch"),
    "F": Module("torch.nn.functional"),
    "scipy": Module("scipy"),
}
"""Modules that a body may name without importing them."""

BUILTINS: dict[str, Any] = {
    **{name: native(name, function) for name, function in python_functions.FUNCTIONS.items()},
    **preludes("sum divmod", arrays=False),
}
HINTS = frozenset({"__future__", "typing", "collections.abc", "numpy.typing"})
"""Modules whose names only serve type hints."""

UNUSED = frozenset(
    words("abc collections copy dataclasses decimal enum fractions logging numbers statistics sympy pandas")
)
"""Modules that answers import out of habit: what is imported from them is refused once it is used."""

# ---- methods


def of_arrays_alone(known: Native) -> Native:
    """A method that is another number for torch's tensors."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if on.dialect == "torch":
            raise Refused(f"the method {known.name} of a tensor, which divides by one less than numpy's")
        return known.call(on, args, kwargs)

    return Native(known.name, call)


METHODS: dict[type, dict[str, Native]] = {
    **python_functions.METHODS,
    Array: {
        **ufuncs("torch", TORCH_CELLWISE),
        **aliases(
            NUMPY,
            "clip dot matmul ravel reshape squeeze transpose copy round take sum prod mean max min all any",
        ),
        **{name: of_arrays_alone(NUMPY[name]) for name in ("var", "std")},
        **aliases(TORCH, "unsqueeze clamp t flatten"),
        **members("array", numpy_functions, "astype fill clone=copy view=reshape"),
        **members("array", python_functions, "item=array_item tolist=array_list"),
        **natives("array", dict.fromkeys(("detach", "double", "contiguous"), same)),
    },
    Native: natives("np", {"reduce": ufunc_reduce, "outer": ufunc_outer}),
}
