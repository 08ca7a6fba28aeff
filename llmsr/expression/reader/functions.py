"""Every name that a body can use beside its own: modules, built-in functions and methods of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from llmsr.expression.reader import (
    numpy_curves,
    numpy_functions,
    numpy_making,
    numpy_picking,
    numpy_shaping,
    pointwise,
    reductions,
    torch_functions,
)
from llmsr.expression.reader.iterating import ITERTOOLS, OPERATORS, partial_, reduce_, vectorize
from llmsr.expression.reader.math_functions import MATH, factorial
from llmsr.expression.reader.names import CONTEXT, native, refused, words
from llmsr.expression.reader.numpy_functions import reduction
from llmsr.expression.reader.numpy_making import into, kind_of
from llmsr.expression.reader.pointwise import Pointwise
from llmsr.expression.reader.python_functions import BUILTINS, NUMBERS
from llmsr.expression.reader.python_methods import (
    LIST_METHODS,
    TABLE_METHODS,
    TEXT_METHODS,
    array_item,
    array_list,
)
from llmsr.expression.reader.values import Array, DType, Items, Module, Native, Refused, Table


def ufunc(name: str, arity: int, function: Pointwise) -> Native:
    """A function of `arity` arrays that works on every cell, with `out=`, `where=` and `dtype=float`."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Array:
        kwargs = dict(kwargs)
        dtype, out, where = kwargs.pop("dtype", None), kwargs.pop("out", None), kwargs.pop("where", True)
        if len(args) == arity + 1 and isinstance(args[-1], Array) and out is None:
            *args, out = args
        if kwargs or (dtype is not None and kind_of(on, dtype, "f") != "f"):
            raise Refused(f"{name} with the keyword {next(iter(kwargs), 'dtype')}")
        if len(args) != arity:
            raise Refused(f"{name} takes {arity} argument{'s' * (arity > 1)}, not {len(args)}")
        result = function(on.arrays, *(on.array(a) for a in args))
        return result if out is None and where is True else into(on, name, result, out, where)

    return Native(name, call)


def ufuncs(module: str, table: dict[str, tuple[int, Pointwise]]) -> dict[str, Any]:
    return {name: ufunc(f"{module}.{name}", *entry) for name, entry in table.items()}


def members(module: ModuleType, names: list[str]) -> dict[str, Callable[..., Any]]:
    """Functions of one of our modules by numpy's names, which may lack a trailing underscore."""
    return {name.rstrip("_"): getattr(module, name) for name in names}


def natives(module: str, table: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    return {name: native(f"{module}.{name}", function) for name, function in table.items()}


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": reduction("np.sum", reductions.total),
    "prod": reduction("np.prod", reductions.product),
    "mean": reduction("np.mean", reductions.mean),
    "var": reduction("np.var", reductions.variance),
    "std": reduction("np.std", reductions.deviation),
    "max": reduction("np.max", reductions.greatest),
    "amax": reduction("np.amax", reductions.greatest),
    "min": reduction("np.min", reductions.smallest),
    "amin": reduction("np.amin", reductions.smallest),
    "all": reduction("np.all", reductions.every),
    "any": reduction("np.any", reductions.some),
}
NUMPY_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **REDUCTIONS,
    **members(
        numpy_making,
        words(
            "array asarray full zeros ones empty full_like zeros_like ones_like empty_like arange linspace "
            "fromiter"
        ),
    ),
    **members(
        numpy_shaping,
        words(
            "stack concatenate column_stack vstack hstack atleast_1d atleast_2d copy ravel "
            "reshape squeeze expand_dims broadcast_to broadcast_arrays split repeat tile shape ndim size "
            "isscalar"
        ),
    ),
    **members(
        numpy_functions,
        words(
            "dot matmul_ inner outer tensordot average einsum where select piecewise clip round_ nan_to_num "
            "isclose errstate finfo real modf"
        ),
    ),
    **members(numpy_picking, words("take digitize searchsorted choose")),
    **members(numpy_curves, words("polyval poly1d vander interp")),
    "vectorize": vectorize,
    "around": numpy_functions.round_,
    "asanyarray": numpy_making.asarray,
    "ascontiguousarray": numpy_making.asarray,
    "asfarray": numpy_making.asarray,
    "row_stack": numpy_shaping.vstack,
    "transpose": numpy_shaping.transposed,
    "permute_dims": numpy_shaping.transposed,
    "concat": numpy_shaping.concatenate,
    "seterr": numpy_functions.seterr,
}
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
NUMPY: dict[str, Any] = {
    **{name: refused(f"np.{name}", "mixes, picks or overwrites rows") for name in MIXING},
    **ufuncs("np", pointwise.UFUNCS),
    "sinc": ufunc("np.sinc", 1, pointwise.sinc),
    "fix": ufunc("np.fix", 1, pointwise.rounding("trunc")),
    **natives("np", NUMPY_FUNCTIONS),
    **CONSTANTS,
    "linalg": Module("numpy.linalg"),
    "polynomial": Module("numpy.polynomial"),
    "random": Module("numpy.random"),
    "c_": refused("np.c_", "cannot be called"),
    "r_": refused("np.r_", "cannot be called"),
    "ndarray": refused("np.ndarray", "cannot be called"),
    "float64": native("np.float64", numpy_functions.scalar_float),
    "double": native("np.double", numpy_functions.scalar_float),
    "int64": DType("i"),
    "int_": DType("i"),
    "bool_": DType("b"),
    "bool": DType("b"),
    "apply_along_axis": refused("np.apply_along_axis", "goes through the rows one by one"),
}
SPECIAL: dict[str, Any] = {
    **ufuncs("special", pointwise.SPECIAL),
    "factorial": native("special.factorial", factorial),
    "softmax": native("special.softmax", numpy_functions.softmax),
    "logsumexp": native("special.logsumexp", numpy_functions.logsumexp),
}
TORCH: dict[str, Any] = {
    **{name: refused(f"torch.{name}", "mixes, picks or overwrites rows") for name in MIXING},
    **ufuncs("torch", pointwise.UFUNCS),
    **ufuncs("torch", pointwise.TORCH),
    **natives(
        "torch",
        {
            name: NUMPY_FUNCTIONS[name]
            for name in words(
                "full full_like zeros_like ones_like empty_like arange linspace matmul dot outer einsum "
                "reshape squeeze ravel round nan_to_num isclose column_stack vstack hstack"
            )
        },
    ),
    **natives("torch", torch_functions.FUNCTIONS),
    **CONSTANTS,
    "float64": DType("f"),
    "double": DType("f"),
    "int64": DType("i"),
    "bool": DType("b"),
    "special": Module("torch.special"),
    "nn": Module("torch.nn"),
    "no_grad": native("torch.no_grad", numpy_functions.errstate),
    "Tensor": refused("torch.Tensor", "cannot be called"),
}
ACTIVATIONS: dict[str, Any] = {
    **ufuncs("F", pointwise.ACTIVATIONS),
    **natives("F", torch_functions.ACTIVATIONS),
}
MODULES: dict[str, dict[str, Any]] = {
    "numpy": NUMPY,
    "numpy.linalg": {"norm": native("np.linalg.norm", numpy_functions.linalg_norm)},
    "numpy.polynomial": {
        "Polynomial": native("Polynomial", numpy_curves.polynomial),
        **{
            name: Module(f"numpy.polynomial.{name}")
            for name in words("polynomial chebyshev legendre hermite hermite_e")
        },
    },
    "numpy.polynomial.polynomial": {"polyval": native("polyval", numpy_curves.polynomial_polyval)},
    "numpy.polynomial.chebyshev": {"chebval": native("chebval", numpy_curves.chebval)},
    "numpy.polynomial.legendre": {"legval": native("legval", numpy_curves.legval)},
    "numpy.polynomial.hermite": {"hermval": native("hermval", numpy_curves.hermval)},
    "numpy.polynomial.hermite_e": {"hermeval": native("hermeval", numpy_curves.hermeval)},
    "numpy.finfo": {name: float(getattr(np.finfo(np.float64), name)) for name in words("eps tiny max min")},
    "numpy.random": {"seed": native("np.random.seed", numpy_functions.seed)},
    "numpy.typing": {},
    "math": MATH,
    "scipy": {"special": Module("scipy.special")},
    "scipy.special": SPECIAL,
    "torch": TORCH,
    "torch.special": ufuncs("torch.special", {**pointwise.SPECIAL, **pointwise.TORCH}),
    "torch.nn": {"functional": Module("torch.nn.functional")},
    "torch.nn.functional": ACTIVATIONS,
    "functools": natives("functools", {"reduce": reduce_, "partial": partial_}),
    "itertools": natives("itertools", ITERTOOLS),
    "operator": natives("operator", OPERATORS),
    "typing": {},
    "collections.abc": {},
    "warnings": {
        name: native(name, numpy_functions.nothing)
        for name in ("filterwarnings", "simplefilter", "catch_warnings")
    },
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

HINTS = frozenset({"__future__", "typing", "collections.abc", "numpy.typing"})
"""Modules whose names only serve type hints."""

UNUSED = frozenset(
    words("abc collections copy dataclasses decimal enum fractions logging numbers statistics sympy pandas")
)
"""Modules that answers import out of habit: what is imported from them is refused once it is used."""

ARRAY_METHODS: dict[str, Native] = {
    **ufuncs("torch", pointwise.UFUNCS),
    **ufuncs("torch", pointwise.TORCH),
    **natives(
        "array",
        {
            **REDUCTIONS,
            **{name: numpy_functions.not_of_tensors(name, REDUCTIONS[name]) for name in ("var", "std")},
            **{
                name: NUMPY_FUNCTIONS[name]
                for name in words("clip dot matmul ravel reshape squeeze transpose copy round repeat take")
            },
            "flatten": numpy_shaping.flatten,
            "astype": numpy_shaping.astype,
            "fill": numpy_functions.fill,
            "item": array_item,
            "tolist": array_list,
            "clone": numpy_shaping.copy,
            "view": numpy_shaping.reshape,
            **torch_functions.METHODS,
        },
    ),
}
METHODS: dict[type, dict[str, Native]] = {
    Array: ARRAY_METHODS,
    str: TEXT_METHODS,
    Items: LIST_METHODS,
    Table: TABLE_METHODS,
    Native: {
        "reduce": native("reduce", numpy_functions.ufunc_reduce),
        "outer": native("outer", numpy_functions.ufunc_outer),
    },
}

__all__ = ["BUILTINS", "CONTEXT", "HINTS", "METHODS", "MODULES", "NUMBERS", "ROOTS", "UNUSED"]
