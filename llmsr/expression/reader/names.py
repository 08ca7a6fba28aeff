"""Every name that a body can use beside its own: tables from a name to what it does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from llmsr.expression.reader import known, numpy_functions
from llmsr.expression.reader.arrays import expand
from llmsr.expression.reader.indexing import COMBINE, matmul
from llmsr.expression.reader.known import (
    Rows,
    aliases,
    cellwise,
    from_math,
    named,
    natives,
    ours,
    prelude,
    preludes,
    refused,
    renamed,
    ufunc_outer,
    ufunc_reduce,
    ufuncs,
)
from llmsr.expression.reader.numpy_functions import cast, kind_of, lifted, plain, reduction
from llmsr.expression.reader.values import (
    END,
    Array,
    Closure,
    DType,
    Library,
    List,
    Module,
    Native,
    Table,
    checked,
)

CELLWISE = cellwise("""
    1 float_function sin cos tan arcsin arccos arctan asin=arcsin acos=arccos atan=arctan sinh cosh tanh
    1 float_function arcsinh arccosh arctanh asinh=arcsinh acosh=arccosh atanh=arctanh exp exp2 expm1 log log2
    1 float_function log10 log1p sqrt cbrt rint fabs=abs
    1 keep_kind abs absolute=abs sign
    1 logical isnan isinf isfinite logical_not=not
    1 itself negative invert bitwise_not=invert positive
    1 rounding floor ceil trunc fix=trunc
    1 prelude square sinc radians degrees deg2rad=radians rad2deg=degrees reciprocal
    2 float_function arctan2 atan2=arctan2 hypot logaddexp copysign heaviside float_power=pow
    2 arithmetic add=+ subtract=- multiply=* divide=/ true_divide=/ power=** pow=** mod=% remainder=%
    2 arithmetic floor_divide=// bitwise_and=& bitwise_or=| bitwise_xor=^
    2 extremum minimum maximum fmin fmax
    2 compare less=< less_equal=<= greater=> greater_equal=>= equal=== not_equal=!=
    2 logical logical_and=and logical_or=or logical_xor=xor
    2 itself fmod
    2 prelude logaddexp2
""")
"""numpy's; a line gives the number of arguments, the method of `Arrays`, and names with their operations."""

SPECIAL: Rows = {
    **cellwise("1 float_function expit erf erfc gamma gammaln"),
    **cellwise("1 prelude logit softplus"),
    **cellwise("2 prelude xlogy"),
    **aliases(CELLWISE, "exp2 expm1 log1p cbrt sinc"),
}
TORCH_CELLWISE: Rows = {
    **CELLWISE,
    **aliases(SPECIAL, "sigmoid=expit expit erf erfc lgamma=gammaln gammaln logit xlogy"),
    **cellwise("1 prelude relu"),
    **aliases(CELLWISE, "neg=negative sgn=sign mul=multiply sub=subtract div=divide lt=less le=less_equal"),
    **aliases(CELLWISE, "gt=greater ge=greater_equal eq=equal ne=not_equal"),
}
ACTIVATIONS: Rows = {
    **aliases(TORCH_CELLWISE, "sigmoid tanh relu"),
    **cellwise("1 prelude silu"),
}
MATH_CELLWISE: Rows = {**CELLWISE, **SPECIAL, "lgamma": SPECIAL["gammaln"]}

# ---- numpy

MIXING = named(
    "gradient diff ediff1d cumsum cumprod nancumsum cumulative_sum sort argsort partition "
    "argpartition lexsort roll rot90 flip flipud fliplr convolve correlate median nanmedian "
    "percentile quantile nanpercentile histogram bincount unique nanmean nansum nanstd nanmax nanmin "
    "ptp corrcoef cov argmax argmin argwhere nonzero flatnonzero trapz trapezoid polyfit cross delete "
    "insert append resize count_nonzero meshgrid compress extract place put putmask copyto "
    "apply_along_axis"
)
"""Functions of numpy that mix, move or pick rows, or change an array behind its name."""

MIXES = "mixes, picks or overwrites rows"
CONSTANTS: dict[str, Any] = {
    **{name: getattr(math, name) for name in ("pi", "e", "inf", "nan")},
    "newaxis": None,
}
NUMPY: dict[str, Any] = {
    **refused("np.", MIXING, MIXES),
    **refused("np.", ("tile", "repeat"), "is not needed: numbers go with rows as they are"),
    **refused("np.", ("ndarray",), "cannot be called"),
    **ufuncs("np.", CELLWISE),
    **natives("np.", {name: reduction(combine, f"np.{name}") for name, combine in COMBINE.items()}),
    **ours(
        "np.",
        numpy_functions,
        "array asarray copy=array real=asarray full empty broadcast_to arange linspace reshape squeeze "
        "transpose=transposed einsum choose vectorize finfo errstate=nothing seterr",
    ),
    **natives(
        "np.",
        {
            "float64": lambda on, x=0.0: cast(on, on.array(x), "f"),
            "shape": lambda on, a: on.shape(on.array(a)),
            "ndim": lambda on, a: on.array(a).ndim,
            "size": lambda on, a: on.size(on.array(a)),
            "expand_dims": lambda on, a, axis: expand(on.array(a), on.axis(axis, on.array(a).ndim + 1)),
            "stack": lambda on, arrays, axis=0: on.stack(lifted(on, arrays), axis),
            "concatenate": lambda on, arrays, axis=0: on.concatenate(lifted(on, arrays), axis),
            "matmul": lambda on, x1, x2: matmul(on, on.array(x1), on.array(x2)),
            "isscalar": known.isscalar,
            "where": lambda on, condition, x, y: on.where(*map(on.array, (condition, x, y))),
        },
    ),
    **preludes(
        "zeros ones full_like zeros_like ones_like empty_like fromiter column_stack vstack "
        "hstack atleast_1d broadcast_arrays split ravel dot tensordot "
        "inner outer select clip take digitize searchsorted isclose nan_to_num modf average var std "
        "polyval interp poly1d piecewise round=rounded"
    ),
    **CONSTANTS,
    **{name: Module(f"numpy.{name}") for name in ("linalg", "polynomial", "random")},
    **{name: DType(name[0]) for name in ("int64", "int_", "bool_", "bool")},
}
# after the table, since what a name stands for may be any of its rows
NUMPY |= aliases(
    NUMPY,
    "amax=max amin=min concat=concatenate double=float64 asanyarray=asarray ascontiguousarray=asarray "
    "asfarray=asarray around=round permute_dims=transpose",
)


def indexed(there: str) -> Native:
    """np.c_ and np.r_, which are only good for an index: the function of the prelude gets its parts."""
    join = prelude(there).call
    call = refused("np.", (there,), "is called like a function")[there].call
    return Native(
        there, call, index=lambda on, key: join(on, [key if isinstance(key, tuple) else (key,)], {})
    )


NUMPY |= {"r_": indexed("r_"), "c_": indexed("column_stack")}

# ---- torch, math, scipy, Python


TORCH: dict[str, Any] = {
    **refused("torch.", MIXING, MIXES),
    **refused("torch.", ("Tensor",), "cannot be called"),
    **ufuncs("torch.", TORCH_CELLWISE),
    **aliases(
        {name: renamed(known) for name, known in NUMPY.items() if isinstance(known, Native)},
        "full full_like zeros_like ones_like empty_like arange linspace matmul mv=matmul mm=matmul "
        "dot outer einsum reshape squeeze ravel round nan_to_num isclose column_stack vstack hstack "
        "sum prod mean all any amax amin stack cat=concatenate concat unsqueeze=expand_dims transpose "
        "t=transpose where clamp=clip clip tensor=array as_tensor=array",
    ),
    **{name: renamed(prelude(name)) for name in ("softmax", "logsumexp")},
    **preludes("max=torch_max min=torch_min zeros=torch_zeros ones=torch_ones flatten"),
    "no_grad": NUMPY["errstate"],
    **CONSTANTS,
    **{name: DType(k) for name, k in (("float64", "f"), ("double", "f"), ("int64", "i"), ("bool", "b"))},
    "special": Module("torch.special"),
    "nn": Module("torch.nn"),
}
MATH: dict[str, Any] = {
    **{
        name: from_math(name, *MATH_CELLWISE[name])
        for name in named(
            "sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh exp exp2 expm1 log "
            "log2 log10 log1p sqrt cbrt pow fabs floor ceil trunc hypot copysign fmod degrees radians "
            "isnan isinf isfinite erf erfc gamma lgamma"
        )
    },
    **preludes("prod=math_prod"),
    **{name: getattr(math, name) for name in ("pi", "e", "tau", "inf", "nan")},
}
# a module each in numpy, with the function that sums the series
SERIES = named(
    "polynomial=polynomial_polyval chebyshev=chebval legendre=legval hermite=hermval hermite_e=hermeval"
)
OPERATORS = named(
    "add=+ sub=- mul=* truediv=/ floordiv=// mod=% pow=** matmul=@ lt=< le=<= gt=> ge=>= eq=== ne=!="
)
MODULES: dict[str, dict[str, Any]] = {
    "numpy": NUMPY,
    "numpy.linalg": preludes("norm"),
    "numpy.polynomial": {
        **preludes("Polynomial=polynomial"),
        **{name: Module(f"numpy.polynomial.{name}") for name in SERIES},
    },
    **{f"numpy.polynomial.{name}": {f.split("_")[-1]: prelude(f)} for name, f in SERIES.items()},
    "numpy.finfo": {
        name: float(getattr(np.finfo(np.float64), name)) for name in ("eps", "tiny", "max", "min")
    },
    "numpy.random": ours("np.random.", numpy_functions, "seed"),
    "math": MATH,
    "scipy": {"special": Module("scipy.special")},
    "scipy.special": {**ufuncs("special.", SPECIAL), **preludes("softmax logsumexp")},
    "torch": TORCH,
    "torch.special": ufuncs("torch.special.", {**TORCH_CELLWISE, **SPECIAL}),
    "torch.nn": {"functional": Module("torch.nn.functional")},
    "torch.nn.functional": {
        **ufuncs("F.", ACTIVATIONS),
        **preludes("softplus=torch_softplus leaky_relu elu gelu"),
        "softmax": TORCH["softmax"],
    },
    "functools": preludes("reduce partial"),
    "itertools": preludes(
        "product chain permutations combinations combinations_with_replacement=repeated_combinations"
    ),
    "operator": natives(
        "operator.",
        {
            **{
                name: (lambda on, a, b, s=symbol, /: on.binary(s, a, b)) for name, symbol in OPERATORS.items()
            },
            "neg": lambda on, a, /: on.binary("*", -1, a),
        },
    ),
    "warnings": aliases(NUMPY, "filterwarnings=errstate simplefilter=errstate catch_warnings=errstate"),
    **{name: {} for name in ("__future__", "typing", "collections.abc", "numpy.typing")},
}
BUILTINS: dict[str, Any] = {
    **preludes(
        "list=list_ tuple=tuple_ dict=dict_ pow=power print=print_ iter=iter_ map=map_ "
        "enumerate=enumerate_ reversed=reversed_ max=max_ min=min_ sum divmod=divmod_"
    ),
    **ours(
        "", known, "abs=abs_ round=round_ float=float_ bool=bool_ len=len_ range=range_ zip=zip_ next=next_"
    ),
    **ours("", known, "sorted=sorted_ isinstance=isinstance_ hasattr=hasattr_"),
    **natives(
        "",
        {
            "int": lambda on, x=0, /: checked(int(plain(on, x, "int")), on.limits),
            "all": known.all_or_any("and"),
            "any": known.all_or_any("or"),
            "slice": lambda on, a, b=END, c=None, /: slice(a) if b is END else slice(a, b, c),
            "callable": lambda on, obj, /: isinstance(obj, (Native, Closure)),
        },
    ),
}
METHODS: dict[type, dict[str, Native]] = {
    List: preludes("append extend sort copy=copy_list"),
    Table: preludes("get update setdefault keys values items=items_of copy=copy_dict"),
    str: ours("", known, "split"),
    Array: {
        **ufuncs("torch.", TORCH_CELLWISE),
        **aliases(
            NUMPY,
            "clip dot ravel reshape squeeze transpose copy round take sum prod mean max min all any "
            "var std matmul view=reshape clone=copy",
        ),
        **aliases(TORCH, "unsqueeze clamp t flatten"),
        **natives(
            "array.",
            {
                "astype": lambda on, a, dtype, copy=True: cast(on, on.array(a), kind_of(dtype, "f")),
                "fill": lambda on, a, value: on.set_part(a, Ellipsis, value),
            },
        ),
        **preludes("detach double=detach contiguous=detach item tolist"),
    },
    Native: natives("np.", {"reduce": ufunc_reduce, "outer": ufunc_outer}),
}
# what is in no table does not exist for a body: there is no way from a name to a module of Python
LIBRARY = Library(
    roots={
        **BUILTINS,
        **{name: Module(name) for name in ("numpy", "math", "torch", "scipy")},
        "np": Module("numpy"),
        "F": Module("torch.nn.functional"),
    },
    modules=MODULES,
    methods=METHODS,
    unused=frozenset(
        named(
            "abc collections copy dataclasses decimal enum fractions logging numbers statistics sympy pandas"
        )
    ),
)
