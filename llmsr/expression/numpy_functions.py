"""numpy's functions that make, join, shape, reduce and choose between arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsr.expression.arrays import EXACT, KINDS, Arrays, mixes_rows
from llmsr.expression.indexing import read, whole, write
from llmsr.expression.names import CONTEXT
from llmsr.expression.reductions import Combine, expand, matmul, norm, reduce, total, transpose
from llmsr.expression.values import UNSET, Array, DType, Native, Refused, RowCount, Store, describe

if TYPE_CHECKING:
    from llmsr.expression.interpret import Interpreter

KIND_NAMES = {
    "float": "f", "float64": "f", "double": "f", "f8": "f", "d": "f", "int": "i", "int64": "i", "bool": "b",
    "bool_": "b",
}  # fmt: skip

# -- arguments


def kind_of(on: Interpreter, dtype: Any, default: str) -> str:
    """The kind that a dtype argument asks for."""
    if dtype is None:
        return default
    if isinstance(dtype, DType):
        return dtype.kind
    name = dtype.name.removeprefix("np.") if isinstance(dtype, Native) else dtype
    if isinstance(name, str) and name in KIND_NAMES:
        return KIND_NAMES[name]
    raise Refused("a dtype other than float64, int64 and bool")


def cast(on: Interpreter, a: Array, kind: str) -> Array:
    """A copy of another type, where no rounding or overflow is at stake."""
    if kind == a.kind:
        return on.arrays.copy(a)
    if kind == "b":
        return on.arrays.compare("!=", a, on.arrays.number(0))
    if kind == "i" and a.kind == "f":
        values = on.arrays.constants(a)
        if values is None or any(not math.isfinite(v) or abs(v) > EXACT for v in values):
            raise Refused("a cast of data to integers (use np.floor, np.trunc or np.rint)")
        out = on.arrays.elementwise("trunc", "i", a, bound=max(map(abs, values), default=0.0))
        return out
    out = on.arrays.copy(a, kind)
    return out


def shape_of(on: Interpreter, shape: Any) -> list[int | RowCount]:
    """A shape argument: a size or a tuple of sizes."""
    sizes = shape if isinstance(shape, (list, tuple)) else [shape]
    out = [n if isinstance(n, RowCount) else whole(on.arrays, n) for n in sizes]
    if any(not isinstance(n, RowCount) and n < 0 for n in out):
        raise Refused("a negative size")
    return out


def lifted(on: Interpreter, items: Any) -> list[Array]:
    """The members of a list of arrays."""
    return [on.array(item) for item in on.items(items)]


# -- making


def array(on: Interpreter, object: Any, dtype: Any = None, copy: Any = True, ndmin: Any = 0) -> Array:
    if isinstance(object, (dict, str)) or object is None:
        raise Refused(f"an array made of {describe(object)}")
    a = on.array(object if not isinstance(object, range) else on.items(object))
    out = cast(on, a, kind_of(on, dtype, a.kind))
    out.scalar = False
    out.store.owner = out
    while out.ndim < whole(on.arrays, ndmin):
        out = expand(out, 0)
    return out


def asarray(on: Interpreter, a: Any, dtype: Any = None) -> Array:
    if isinstance(a, Array) and not a.scalar and kind_of(on, dtype, a.kind) == a.kind:
        return a
    return array(on, a, dtype)


def full(on: Interpreter, shape: Any, fill_value: Any, dtype: Any = None) -> Array:
    value = on.array(fill_value)
    return on.arrays.full(shape_of(on, shape), cast(on, value, kind_of(on, dtype, value.kind)))


def zeros(on: Interpreter, shape: Any, dtype: Any = None) -> Array:
    return full(on, shape, 0.0, DType(kind_of(on, dtype, "f")))


def ones(on: Interpreter, shape: Any, dtype: Any = None) -> Array:
    return full(on, shape, 1.0, DType(kind_of(on, dtype, "f")))


def empty(on: Interpreter, shape: Any, dtype: Any = None) -> Array:
    out = zeros(on, shape, dtype)
    out.cells[...] = UNSET
    return out


def full_like(on: Interpreter, a: Any, fill_value: Any, dtype: Any = None) -> Array:
    a, value = on.array(a), on.array(fill_value)
    kind = kind_of(on, dtype, a.kind)
    if KINDS.index(value.kind) > KINDS.index(kind):
        raise Refused("a fill value of a wider type than the array")
    return on.arrays.full(on.shape(a), cast(on, value, kind))


def zeros_like(on: Interpreter, a: Any, dtype: Any = None) -> Array:
    a = on.array(a)
    return zeros(on, on.shape(a), DType(kind_of(on, dtype, a.kind)))


def ones_like(on: Interpreter, a: Any, dtype: Any = None) -> Array:
    a = on.array(a)
    return ones(on, on.shape(a), DType(kind_of(on, dtype, a.kind)))


def empty_like(on: Interpreter, a: Any, dtype: Any = None) -> Array:
    a = on.array(a)
    return empty(on, on.shape(a), DType(kind_of(on, dtype, a.kind)))


def constants(on: Interpreter, values: np.ndarray) -> Array:
    """A one-dimensional array of known numbers."""
    kind = "f" if values.dtype.kind == "f" else "i"
    on.arrays.check_shape(values.shape)
    on.arrays.spend(values.size)
    numbers = [float(v) for v in values]
    cells = np.array([on.arrays.graph.const(v) for v in numbers], dtype=np.int64)
    bound = max(map(abs, numbers), default=0.0) if kind == "i" else 0.0
    return Array(cells, kind, store=Store(bound))


def plain(on: Interpreter, value: Any, what: str) -> Any:
    """A Python number, where a number known now is needed."""
    if isinstance(value, RowCount):
        raise mixes_rows(f"{what} over the number of rows")
    if isinstance(value, Array):
        value = on.arrays.constant(value)
    if not isinstance(value, (int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise Refused(f"{what} of values that are not constants")
    return value


def arange(on: Interpreter, *bounds: Any, dtype: Any = None) -> Array:
    numbers = [plain(on, b, "np.arange") for b in bounds]
    if not 1 <= len(numbers) <= 3:
        raise Refused("np.arange takes one to three arguments")
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    if step == 0 or abs((stop - start) / step) > on.limits.items or max(map(abs, numbers)) > EXACT:
        raise Refused(f"np.arange of more than {on.limits.items} values", "too_large")
    return cast(on, constants(on, np.arange(start, stop, step)), kind_of(on, dtype, "f" if any(
        isinstance(n, float) for n in numbers) else "i"))  # fmt: skip


def linspace(on: Interpreter, start: Any, stop: Any, num: Any = 50, endpoint: Any = True) -> Array:
    n = whole(on.arrays, num)
    if not 0 <= n <= on.limits.items:
        raise Refused(f"np.linspace of more than {on.limits.items} values", "too_large")
    a, b = (float(plain(on, v, "np.linspace")) for v in (start, stop))
    return constants(on, np.linspace(a, b, n, endpoint=endpoint is True))


# -- joining


def stack(on: Interpreter, arrays: Any, axis: Any = 0) -> Array:
    return on.arrays.stack(lifted(on, arrays), axis)


def concatenate(on: Interpreter, arrays: Any, axis: Any = 0) -> Array:
    return on.arrays.concatenate(lifted(on, arrays), whole(on.arrays, axis))


def column_stack(on: Interpreter, tup: Any) -> Array:
    items = []
    for a in lifted(on, tup):
        if a.ndim == 0:
            raise Refused("np.column_stack with a single number")
        items.append(expand(a, 1) if a.ndim == 1 else a)
    return on.arrays.concatenate(items, 1)


def vstack(on: Interpreter, tup: Any) -> Array:
    return on.arrays.concatenate([at_least(a, 2) for a in lifted(on, tup)], 0)


def hstack(on: Interpreter, tup: Any) -> Array:
    items = [at_least(a, 1) for a in lifted(on, tup)]
    return on.arrays.concatenate(items, 0 if items and items[0].ndim == 1 else 1)


def at_least(a: Array, ndim: int) -> Array:
    while a.ndim < ndim:
        a = expand(a, 0)
    return a


# -- shaping


def atleast_1d(on: Interpreter, a: Any) -> Array:
    a = asarray(on, a)
    return a if a.ndim else on.arrays.copy(expand(a, 0))


def atleast_2d(on: Interpreter, a: Any) -> Array:
    return at_least(asarray(on, a), 2)


def copy(on: Interpreter, a: Any) -> Array:
    return array(on, a)


def ravel(on: Interpreter, a: Any) -> Array:
    return reshape(on, a, -1)


def flatten(on: Interpreter, a: Any) -> Array:
    return on.arrays.copy(reshape(on, a, -1))


def reshape(on: Interpreter, a: Any, *shape: Any) -> Array:
    """Any new shape without the row axis; with it only axes of length 1 can come and go."""
    a = asarray(on, a)
    sizes = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else list(shape)
    sizes = [n if isinstance(n, RowCount) else whole(on.arrays, n) for n in sizes]
    if a.rows is None:
        if any(isinstance(n, RowCount) for n in sizes):
            raise mixes_rows("a reshape to the number of rows")
        on.arrays.check_shape([max(n, 0) for n in sizes])
        try:
            cells = a.cells.reshape([int(n) for n in sizes])  # type: ignore[arg-type]
        except ValueError:
            raise Refused(f"a reshape of {a.shape_text()} that does not fit") from None
        out = a.view(cells, None)
        if a.ndim > 1:
            out.store.locked = "an array is changed after a reshape that may or may not copy"
        return out
    at = [i for i, n in enumerate(sizes) if isinstance(n, RowCount) or n == -1]
    others = [n for n in sizes if not isinstance(n, RowCount) and n != -1]
    if a.cells.size != 1 or len(at) != 1 or any(n != 1 for n in others):
        raise mixes_rows(f"a reshape of {a.shape_text()}")
    if a.cells is not (a.store.owner or a).cells:
        a.store.locked = "an array is changed after a reshape that may or may not copy"
    on.arrays.check_shape([1] * len(sizes))
    return a.view(a.cells.reshape((1,) * len(sizes)), at[0] - len(sizes))


def squeeze(on: Interpreter, a: Any, axis: Any = None) -> Array:
    a = asarray(on, a)
    axes = range(a.ndim) if axis is None else [on.arrays.axis(axis, a.ndim)]
    drop = [i for i in axes if a.cells.shape[i] == 1 and i != a.row_axis]
    if axis is not None and not drop:
        raise Refused(f"squeeze of an axis of {a.shape_text()} that is not of length 1")
    key = tuple(0 if i in drop else slice(None) for i in range(a.ndim))
    return read(on.arrays, a, (*key, Ellipsis))


def expand_dims(on: Interpreter, a: Any, axis: Any) -> Array:
    a = asarray(on, a)
    return expand(a, on.arrays.axis(axis, a.ndim + 1))


def transposed(on: Interpreter, a: Any, *axes: Any) -> Array:
    a = on.array(a)
    if axes and a.ndim != 2:
        raise Refused("a transpose with given axes")
    return transpose(a)


def broadcast_to(on: Interpreter, array: Any, shape: Any) -> Array:
    out = on.arrays.full(shape_of(on, shape), on.array(array))
    out.store.locked = "the result of np.broadcast_to is changed in place"
    return out


def repeat(on: Interpreter, a: Any, repeats: Any, axis: Any = None) -> Array:
    """np.repeat and np.tile of one number over the rows."""
    a = on.array(a)
    if not isinstance(repeats, RowCount) or a.cells.size != 1 or a.rows is not None or axis not in (None, 0):
        raise Refused("np.repeat of anything but one number over the rows")
    return on.arrays.full([repeats], read(on.arrays, a, (0,) * a.ndim) if a.ndim else a)


def tile(on: Interpreter, A: Any, reps: Any) -> Array:
    a = on.array(A)
    sizes = shape_of(on, reps)
    if a.rows is not None or any(not isinstance(n, RowCount) and n != 1 for n in sizes):
        raise Refused("np.tile of anything but constants over the rows")
    a = at_least(a, len(sizes))
    shape: list[int | RowCount] = list(a.cells.shape)
    for i, n in enumerate(sizes, a.ndim - len(sizes)):
        if isinstance(n, RowCount):
            if shape[i] != 1:
                raise mixes_rows("np.tile")
            shape[i] = n
    return on.arrays.full(shape, a)


def shape(on: Interpreter, a: Any) -> tuple[int | RowCount, ...]:
    return on.shape(on.array(a))


def ndim(on: Interpreter, a: Any) -> int:
    return on.array(a).ndim


def size(on: Interpreter, a: Any) -> int | RowCount:
    return on.size(on.array(a))


def isscalar(on: Interpreter, element: Any) -> bool:
    return element.scalar if isinstance(element, Array) else isinstance(element, (bool, int, float, str))


def astype(on: Interpreter, a: Any, dtype: Any, copy: Any = True) -> Array:
    return cast(on, on.array(a), kind_of(on, dtype, "f"))


# -- reductions and products


def reduction(name: str, combine: Combine) -> Any:
    def function(on: Interpreter, a: Any, axis: Any = None, keepdims: Any = False) -> Array:
        if isinstance(axis, Array):
            axis = whole(on.arrays, axis)
        return reduce(on.arrays, on.array(a), axis, keepdims is True, name, combine)

    return function


def linalg_norm(on: Interpreter, x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Array:
    if ord not in (None, 2) or (axis is None and on.array(x).ndim > 1 and ord == 2):
        raise Refused("np.linalg.norm of another order than 2")
    if axis is not None and not isinstance(axis, int):
        raise Refused("np.linalg.norm over several axes")
    return reduce(on.arrays, on.array(x), axis, keepdims is True, "np.linalg.norm", norm)


def dot(on: Interpreter, a: Any, b: Any) -> Array:
    a, b = on.array(a), on.array(b)
    if a.ndim == 0 or b.ndim == 0:
        return on.arrays.arithmetic("*", a, b)
    return matmul(on.arrays, a, b)


def matmul_(on: Interpreter, x1: Any, x2: Any) -> Array:
    return matmul(on.arrays, on.array(x1), on.array(x2))


def inner(on: Interpreter, a: Any, b: Any) -> Array:
    a, b = on.array(a), on.array(b)
    if a.ndim != 1 or b.ndim != 1:
        raise Refused("np.inner of arrays with more than one axis")
    return matmul(on.arrays, a, b)


def outer(on: Interpreter, a: Any, b: Any) -> Array:
    a, b = on.array(a), on.array(b)
    if a.ndim != 1 or b.ndim != 1:
        raise Refused("np.outer of arrays with other than one axis")
    return on.arrays.arithmetic("*", expand(a, 1), b)


def polyval(on: Interpreter, p: Any, x: Any) -> Array:
    """Horner's rule, highest power first."""
    result, at = on.array(0.0), on.array(x)
    for coefficient in lifted(on, p):
        result = on.arrays.arithmetic("+", on.arrays.arithmetic("*", result, at), coefficient)
    return result


def polynomial_polyval(on: Interpreter, x: Any, c: Any) -> Array:
    """Horner's rule, lowest power first."""
    return polyval(on, on.items(c)[::-1], x)


def vander(on: Interpreter, x: Any, N: Any = None, increasing: Any = False) -> Array:
    a = on.array(x)
    n = whole(on.arrays, N)
    if a.ndim != 1 or not 1 <= n <= 64:
        raise Refused("np.vander with this shape")
    powers = [on.arrays.full(on.shape(a), on.array(1.0))]
    while len(powers) < n:
        powers.append(on.arrays.arithmetic("*", powers[-1], a))
    return on.arrays.stack(powers if increasing is True else powers[::-1], 1)


def einsum(on: Interpreter, subscripts: Any, *operands: Any) -> Array:
    """Products summed over letters, none of which may be the rows."""
    if not isinstance(subscripts, str) or subscripts.count("->") != 1 or not 1 <= len(operands) <= 3:
        raise Refused("np.einsum of this form")
    inputs, output = subscripts.replace(" ", "").split("->")
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


def where(on: Interpreter, condition: Any, x: Any = None, y: Any = None) -> Array:
    if x is None or y is None:
        raise mixes_rows("np.where without values")
    return on.arrays.where(on.array(condition), on.array(x), on.array(y))


def select(on: Interpreter, condlist: Any, choicelist: Any, default: Any = 0) -> Array:
    conditions, choices = lifted(on, condlist), lifted(on, choicelist)
    if len(conditions) != len(choices) or not conditions or any(c.kind != "b" for c in conditions):
        raise Refused("np.select needs as many boolean conditions as choices")
    result = on.array(default)
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = on.arrays.where(condition, choice, result)
    return result


def piecewise(on: Interpreter, x: Any, condlist: Any, funclist: Any, *args: Any) -> Array:
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
    on: Interpreter, a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Array:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    out = on.array(a)
    if low is not None:
        out = on.arrays.extremum("maximum", out, on.array(low))
    if high is not None:
        out = on.arrays.extremum("minimum", out, on.array(high))
    return out if out is not a else on.arrays.copy(out)


def round_(on: Interpreter, a: Any, decimals: Any = 0) -> Array:
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
    on: Interpreter, x: Any, copy: Any = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
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


def float_of(on: Interpreter, value: Any) -> Any:
    return value if isinstance(value, Array) else float(plain(on, value, "np.nan_to_num"))


def isclose(on: Interpreter, a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8) -> Array:
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


def fill(on: Interpreter, a: Array, value: Any) -> None:
    on.set_part(a, Ellipsis, on.array(value))


def errstate(on: Interpreter, **kwargs: Any) -> Any:
    if any(v not in ("ignore", "warn", None) for v in kwargs.values()):
        raise Refused("np.errstate that raises")
    return CONTEXT


def nothing(on: Interpreter, *args: Any, **kwargs: Any) -> Any:
    """Calls without effect on an equation: warnings, np.seterr."""
    if any(v in ("error", "raise", "call") for v in (*args, *kwargs.values()) if isinstance(v, str)):
        raise Refused("warnings turned into errors")
    return CONTEXT


def scalar_float(on: Interpreter, x: Any = 0.0) -> Array:
    """np.float64: a number, or a copy of an array."""
    return cast(on, on.array(x), "f")


def members(names: Sequence[str]) -> dict[str, Any]:
    """This module's functions by name."""
    return {name.rstrip("_"): globals()[name] for name in names}
