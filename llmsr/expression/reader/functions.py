"""Every name that a body can use beside its own: modules, built-in functions and methods of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from llmsr.expression.reader import indexing, making, numpy_functions, python_functions
from llmsr.expression.reader.cellwise import (
    ACTIVATIONS,
    CELLWISE,
    SPECIAL_CELLWISE,
    TORCH_CELLWISE,
    Cellwise,
    aliases,
    from_math,
    math_log,
    named,
    prelude,
    ufunc,
    ufunc_outer,
    ufunc_reduce,
)
from llmsr.expression.reader.numpy_functions import reduction
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.values import (
    Array,
    DType,
    Module,
    Native,
    Refused,
    native,
    refused,
    words,
)

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
        "full_like zeros_like ones_like empty_like arange linspace fromiter vectorize shape ndim size "
        "isscalar round=round_ around=round_ real errstate finfo seterr float64=scalar_float "
        "double=scalar_float",
    ),
    **members(
        "np",
        numpy_functions,
        "stack concatenate concat=concatenate column_stack vstack row_stack=vstack hstack atleast_1d "
        "atleast_2d copy ravel reshape squeeze expand_dims broadcast_to broadcast_arrays split "
        "transpose=transposed permute_dims=transposed dot matmul=matmul_ tensordot "
        "einsum where select clip take digitize searchsorted choose",
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
        smallest_or_greatest: Array = REDUCTIONS[name](on, input)
        return smallest_or_greatest

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
    **members("torch", numpy_functions, "flatten"),
    **members("torch", making, "no_grad=errstate"),
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
MATH["log"] = native("math.log", math_log(MATH["log"]))
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
    "numpy.random": members("np.random", making, "seed"),
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
        "warnings", making, "filterwarnings=nothing simplefilter=nothing catch_warnings=nothing"
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
        **members("array", numpy_functions, "clone=copy view=reshape"),
        **members("array", making, "astype fill"),
        **members("array", python_functions, "item=array_item tolist=array_list"),
        **natives("array", dict.fromkeys(("detach", "double", "contiguous"), same)),
    },
    Native: natives("np", {"reduce": ufunc_reduce, "outer": ufunc_outer}),
}
