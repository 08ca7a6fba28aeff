"""numpy's functions that reduce arrays, multiply matrices and choose between values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from llmsr.expression.reader import reductions
from llmsr.expression.reader.arrays import Arrays, mixes_rows
from llmsr.expression.reader.indexing import read, whole, write
from llmsr.expression.reader.names import CONTEXT
from llmsr.expression.reader.numpy_making import asarray, cast, into, kind_of, lifted, plain, zeros_like
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.pointwise import UFUNCS
from llmsr.expression.reader.reductions import Combine, expand, matmul, norm, reduce, total, transpose
from llmsr.expression.reader.values import Array, Module, Native, Refused, Table


def reduction(name: str, combine: Combine) -> Any:
    def function(on: Operators, a: Any, axis: Any = None, keepdims: Any = False) -> Array:
        if isinstance(axis, Array):
            axis = whole(on.arrays, axis)
        return reduce(on.arrays, on.array(a), axis, keepdims is True, name, combine)

    return function


def not_of_tensors(name: str, method: Any) -> Any:
    """A method of arrays that is another number for torch's tensors."""

    def function(on: Operators, a: Any, *args: Any, **kwargs: Any) -> Array:
        if on.dialect == "torch":
            raise Refused(f"the method {name} of a tensor, which divides by one less than numpy's")
        return method(on, a, *args, **kwargs)

    return function


def average(on: Operators, a: Any, axis: Any = None) -> Array:
    return reduce(on.arrays, on.array(a), axis, False, "np.average", reductions.mean)


REDUCERS: dict[str, Combine] = {
    "np.add": reductions.total,
    "np.multiply": reductions.product,
    "np.maximum": reductions.greatest,
    "np.minimum": reductions.smallest,
    "np.logical_and": reductions.every,
    "np.logical_or": reductions.some,
}


def ufunc_reduce(on: Operators, ufunc: Native, array: Any, axis: Any = 0) -> Array:
    """`np.add.reduce` and the like."""
    if ufunc.name not in REDUCERS:
        raise Refused(f"{ufunc.name}.reduce is not supported")
    return reduce(on.arrays, on.array(array), axis, False, f"{ufunc.name}.reduce", REDUCERS[ufunc.name])


def ufunc_outer(on: Operators, ufunc: Native, a: Any, b: Any) -> Array:
    """`np.multiply.outer` and the like."""
    name = ufunc.name.removeprefix("np.")
    if name not in UFUNCS or UFUNCS[name][0] != 2:
        raise Refused(f"{ufunc.name}.outer is not supported")
    left, right = on.array(a), on.array(b)
    for _ in range(right.ndim):
        left = expand(left, left.ndim)
    return UFUNCS[name][1](on.arrays, left, right)


def linalg_norm(on: Operators, x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Array:
    if ord not in (None, 2) or (axis is None and on.array(x).ndim > 1 and ord == 2):
        raise Refused("np.linalg.norm of another order than 2")
    if axis is not None and not isinstance(axis, int):
        raise Refused("np.linalg.norm over several axes")
    return reduce(on.arrays, on.array(x), axis, keepdims is True, "np.linalg.norm", norm)


def logsumexp(on: Operators, a: Any, axis: Any = None, keepdims: Any = False) -> Array:
    return reduce(on.arrays, on.array(a), axis, keepdims is True, "logsumexp", reductions.log_sum_exp)


def softmax(on: Operators, x: Any, axis: Any = None) -> Array:
    calc, a = on.arrays, on.array(x)
    top = reduce(calc, a, axis, True, "softmax", reductions.greatest)
    powers = calc.float_function("exp", calc.arithmetic("-", a, top))
    return calc.arithmetic("/", powers, reduce(calc, powers, axis, True, "softmax", total))


def dot(on: Operators, a: Any, b: Any) -> Array:
    a, b = on.array(a), on.array(b)
    if a.ndim == 0 or b.ndim == 0:
        return on.arrays.arithmetic("*", a, b)
    return matmul(on.arrays, a, b)


def matmul_(on: Operators, x1: Any, x2: Any) -> Array:
    return matmul(on.arrays, on.array(x1), on.array(x2))


def inner(on: Operators, a: Any, b: Any) -> Array:
    return matmul(on.arrays, on.array(a), transpose(on.array(b)))


def tensordot(on: Operators, a: Any, b: Any, axes: Any = 2) -> Array:
    """Products summed over one axis of each."""
    a, b = on.array(a), on.array(b)
    if isinstance(axes, (list, tuple)) and len(axes) == 2:
        first, second = (x[0] if isinstance(x, (list, tuple)) and len(x) == 1 else x for x in axes)
    else:
        first, second = (-1, 0) if axes == 1 else (None, None)
    if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2) or first is None or second is None:
        raise Refused("np.tensordot of anything but one axis of vectors or matrices")
    if on.arrays.axis(first, a.ndim) != a.ndim - 1:
        a = transpose(a)
    if on.arrays.axis(second, b.ndim) != 0:
        b = transpose(b)
    return matmul(on.arrays, a, b)


def outer(on: Operators, a: Any, b: Any) -> Array:
    a, b = on.array(a), on.array(b)
    if a.ndim != 1 or b.ndim != 1:
        raise Refused("np.outer of arrays with other than one axis")
    return on.arrays.arithmetic("*", expand(a, 1), b)


def einsum(on: Operators, subscripts: Any, *operands: Any) -> Array:
    """Products summed over letters, none of which may be the rows."""
    if not isinstance(subscripts, str) or not 1 <= len(operands) <= 3:
        raise Refused("np.einsum of this form")
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    if not arrow:
        output = "".join(sorted(x for x in set(inputs) if x != "," and inputs.count(x) == 1))
    terms = inputs.split(",")
    arrays = [on.array(o) for o in operands]
    letters = list(dict.fromkeys(inputs.replace(",", "")))
    bad = len(terms) != len(arrays) or not set(output) <= set(letters) or len(set(output)) != len(output)
    if bad or any(
        len(t) != a.ndim or len(set(t)) != len(t) or not t.isalpha()
        for t, a in zip(terms, arrays, strict=False)
    ):
        raise Refused("np.einsum of this form")
    rows = {t[a.row_axis] for t, a in zip(terms, arrays, strict=True) if a.row_axis is not None}
    sizes: dict[str, set[int]] = {}
    for t, a in zip(terms, arrays, strict=True):
        for i, letter in enumerate(t):
            sizes.setdefault(letter, set()).add(-1 if i == a.row_axis else a.cells.shape[i])
    if not rows <= set(output):
        raise mixes_rows("np.einsum over the rows")
    if any(len(s) != 1 for s in sizes.values()):
        raise Refused("np.einsum of shapes that do not fit")
    order = [x for x in letters if x not in output] + list(output)
    product: Array | None = None
    for t, a in zip(terms, arrays, strict=True):
        a = aligned(a, t, order)
        product = a if product is None else on.arrays.arithmetic("*", product, a)
    assert product is not None
    for _ in range(len(order) - len(output)):
        product = reduce(on.arrays, product, 0, False, "np.einsum", total)
    return product


def aligned(a: Array, letters: str, order: list[str]) -> Array:
    """The axes of `a` put into the given order, missing ones with length 1."""
    present = [x for x in order if x in letters]
    cells = a.cells.transpose([letters.index(x) for x in present])
    rows = None if a.row_axis is None else present.index(letters[a.row_axis]) - len(present)
    a = a.view(cells, rows)
    for i, x in enumerate(order):
        if x not in letters:
            a = expand(a, i)
    return a


# -- choosing


def where(on: Operators, condition: Any, x: Any = None, y: Any = None) -> Array:
    if x is None or y is None:
        raise mixes_rows("np.where without values")
    return on.arrays.where(on.array(condition), on.array(x), on.array(y))


def select(on: Operators, condlist: Any, choicelist: Any, default: Any = 0) -> Array:
    conditions, choices = lifted(on, condlist), lifted(on, choicelist)
    if len(conditions) != len(choices) or not conditions or any(c.kind != "b" for c in conditions):
        raise Refused("np.select needs as many boolean conditions as choices")
    result = on.array(default)
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = on.arrays.where(condition, choice, result)
    return result


def piecewise(on: Operators, x: Any, condlist: Any, funclist: Any, *args: Any) -> Array:
    a = on.array(x)
    if isinstance(condlist, Array) and condlist.ndim == 1 and condlist.rows is not None:
        condlist = [condlist]
    conditions, functions = lifted(on, condlist), on.items(funclist)
    if a.ndim != 1 or a.rows is None or any(c.kind != "b" for c in conditions):
        raise Refused("np.piecewise of anything but a column and boolean conditions")
    if len(functions) == len(conditions) + 1:
        others = conditions[0]
        for condition in conditions[1:]:
            others = on.arrays.logical("or", others, condition)
        conditions.append(on.arrays.invert(others))
    if len(functions) != len(conditions):
        raise Refused("np.piecewise needs a function for every condition")
    out = zeros_like(on, a)
    for condition, function in zip(conditions, functions, strict=True):
        if isinstance(function, (bool, int, float, Array)):
            value = on.array(function)
        else:
            value = on.array(on.apply(function, [read(on.arrays, a, condition), *args], {}))
        write(on.arrays, out, condition, value)
    return out


def clip(
    on: Operators,
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Array:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result = on.array(a)
    if low is not None:
        result = on.arrays.extremum("maximum", result, on.array(low))
    if high is not None:
        result = on.arrays.extremum("minimum", result, on.array(high))
    if out is not None:
        return into(on, "np.clip", result, out)
    return result if result is not a else on.arrays.copy(result)


def real(on: Operators, val: Any) -> Array:
    """The real part: the array itself, since there are no other numbers."""
    return asarray(on, val)


def modf(on: Operators, x: Any) -> tuple[Array, Array]:
    """The fractional and the whole part, both with the number's sign."""
    calc, a = on.arrays, on.array(x)
    whole_part = calc.float_function("trunc", a)
    rest = calc.where(calc.logical("isinf", a), calc.number(0.0), calc.arithmetic("-", a, whole_part))
    return calc.float_function("copysign", rest, a), whole_part


def round_(on: Operators, a: Any, decimals: Any = 0) -> Array:
    x, n = on.array(a), whole(on.arrays, decimals)
    if x.kind != "f" or abs(n) > 20:
        raise Refused("rounding of integers or to this many decimals")
    if n == 0:
        return on.arrays.float_function("rint", x)
    symbols = "*/" if n > 0 else "/*"
    scale = on.arrays.number(10.0 ** abs(n))
    return on.arrays.arithmetic(
        symbols[1], on.arrays.float_function("rint", on.arrays.arithmetic(symbols[0], x, scale)), scale
    )


def nan_to_num(
    on: Operators, x: Any, copy: Any = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Array:
    a = on.array(x)
    if a.kind != "f" or copy is not True:
        raise Refused("np.nan_to_num of integers or in place")
    largest = float(np.finfo(np.float64).max)
    infinities = ((math.inf, posinf, largest), (-math.inf, neginf, -largest))
    out = on.arrays.where(on.arrays.logical("isnan", a), on.array(float_of(on, nan)), a)
    for infinite, given, default in infinities:
        is_it = on.arrays.compare("==", a, on.arrays.number(infinite))
        out = on.arrays.where(is_it, on.array(default if given is None else float_of(on, given)), out)
    return out


def float_of(on: Operators, value: Any) -> Any:
    return value if isinstance(value, Array) else float(plain(on, value, "np.nan_to_num"))


def isclose(on: Operators, a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8) -> Array:
    x, y = on.array(a), on.array(b)
    calc: Arrays = on.arrays
    if "f" not in (x.kind, y.kind):
        raise Refused("np.isclose of integers")
    margin = calc.arithmetic(
        "+", on.array(atol), calc.arithmetic("*", on.array(rtol), calc.keep_kind("abs", y))
    )
    near = calc.compare("<=", calc.keep_kind("abs", calc.arithmetic("-", x, y)), margin)
    return calc.logical(
        "or", calc.logical("and", near, calc.logical("isfinite", y)), calc.compare("==", x, y)
    )


def fill(on: Operators, a: Array, value: Any) -> None:
    on.set_part(a, Ellipsis, on.array(value))


def errstate(on: Operators, **kwargs: Any) -> Any:
    if any(v not in ("ignore", "warn", None) for v in kwargs.values()):
        raise Refused("np.errstate that raises")
    return CONTEXT


def nothing(on: Operators, *args: Any, **kwargs: Any) -> Any:
    """Calls without effect on an equation: warnings."""
    if any(v in ("error", "raise", "call") for v in (*args, *kwargs.values()) if isinstance(v, str)):
        raise Refused("warnings turned into errors")
    return CONTEXT


def seed(on: Operators, seed: Any = None) -> None:
    """Nothing, since nothing is drawn."""
    if seed is not None and not 0 <= whole(on.arrays, seed) < 2**32:
        raise Refused("a seed that is not between 0 and 2**32")


def seterr(on: Operators, **kwargs: Any) -> Table:
    """np.seterr, whose result is only good for another call of it."""
    nothing(on, **kwargs)
    return Table((name, "warn") for name in ("divide", "over", "under", "invalid"))


def scalar_float(on: Operators, x: Any = 0.0) -> Array:
    """np.float64: a number, or a copy of an array."""
    return cast(on, on.array(x), "f")


def finfo(on: Operators, dtype: Any) -> Module:
    if kind_of(on, dtype, "f") != "f":
        raise Refused("np.finfo of a type other than float64")
    return Module("numpy.finfo")
