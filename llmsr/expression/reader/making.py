"""Making arrays: of values and shapes, of another type, or by a function of the numbers of each row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from llmsr.expression.reader.arrays import EXACT, KINDS, mixes_rows
from llmsr.expression.reader.indexing import expand, whole
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.values import (
    CONTEXT,
    UNSET,
    Array,
    DType,
    Module,
    Native,
    Refused,
    RowCount,
    Store,
    Table,
    describe,
)

KIND_NAMES = {
    "float": "f", "float64": "f", "double": "f", "f8": "f", "d": "f", "int": "i", "int64": "i", "bool": "b",
    "bool_": "b",
}  # fmt: skip


def kind_of(on: Operators, dtype: Any, default: str) -> str:
    """The kind that a dtype argument asks for."""
    if dtype is None:
        return default
    if isinstance(dtype, DType):
        return dtype.kind
    name = dtype.name.removeprefix("np.") if isinstance(dtype, Native) else dtype
    if isinstance(name, str) and name in KIND_NAMES:
        return KIND_NAMES[name]
    raise Refused("a dtype other than float64, int64 and bool")


def cast(on: Operators, a: Array, kind: str) -> Array:
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


def shape_of(on: Operators, shape: Any) -> list[int | RowCount]:
    """A shape argument: a size or a tuple of sizes."""
    sizes = shape if isinstance(shape, (list, tuple)) else [shape]
    out = [n if isinstance(n, RowCount) else whole(on.arrays, n) for n in sizes]
    if any(not isinstance(n, RowCount) and n < 0 for n in out):
        raise Refused("a negative size")
    return out


def lifted(on: Operators, items: Any) -> list[Array]:
    """The members of a list of arrays."""
    return [on.array(item) for item in on.items(items)]


def array(on: Operators, object: Any, dtype: Any = None, copy: Any = True, ndmin: Any = 0) -> Array:
    if isinstance(object, (dict, str)) or object is None:
        raise Refused(f"an array made of {describe(object)}")
    a = on.array(object if not isinstance(object, range) else on.items(object))
    out = cast(on, a, kind_of(on, dtype, a.kind))
    out.scalar = False
    out.store.owner = out
    while out.ndim < whole(on.arrays, ndmin):
        out = expand(out, 0)
    return out


def asarray(on: Operators, a: Any, dtype: Any = None) -> Array:
    if isinstance(a, Array) and not a.scalar and kind_of(on, dtype, a.kind) == a.kind:
        return a
    return array(on, a, dtype)


def into(on: Operators, name: str, result: Array, out: Any, where: Any = True) -> Array:
    """`out` with the result written into it, where the mask `where` holds."""
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    if not isinstance(out, Array) or out.scalar:
        raise Refused(f"{name} with out= that is no array, or where= without it")
    if where is not True:
        mask = on.array(where)
        if mask.kind != "b":
            raise Refused(f"{name} with where= that is no mask")
        result = on.arrays.where(mask, result, out)
    on.set_part(out, Ellipsis, result)
    return out


def full(on: Operators, shape: Any, fill_value: Any, dtype: Any = None) -> Array:
    value = on.array(fill_value)
    return on.arrays.full(shape_of(on, shape), cast(on, value, kind_of(on, dtype, value.kind)))


def fromiter(on: Operators, iter: Any, dtype: Any, count: Any = -1) -> Array:
    """np.fromiter over values that are known now."""
    items = on.items(iter)
    if whole(on.arrays, count) not in (-1, len(items)):
        raise Refused("np.fromiter of fewer values than there are")
    return array(on, on.new_list(items), dtype)


def zeros(on: Operators, shape: Any, dtype: Any = None) -> Array:
    return full(on, shape, 0.0, DType(kind_of(on, dtype, "f")))


def ones(on: Operators, shape: Any, dtype: Any = None) -> Array:
    return full(on, shape, 1.0, DType(kind_of(on, dtype, "f")))


def empty(on: Operators, shape: Any, dtype: Any = None) -> Array:
    out = zeros(on, shape, dtype)
    out.cells[...] = UNSET
    return out


def full_like(on: Operators, a: Any, fill_value: Any, dtype: Any = None) -> Array:
    a, value = on.array(a), on.array(fill_value)
    kind = kind_of(on, dtype, a.kind)
    if KINDS.index(value.kind) > KINDS.index(kind):
        raise Refused("a fill value of a wider type than the array")
    return on.arrays.full(on.shape(a), cast(on, value, kind))


def zeros_like(on: Operators, a: Any, dtype: Any = None) -> Array:
    a = on.array(a)
    return zeros(on, on.shape(a), DType(kind_of(on, dtype, a.kind)))


def ones_like(on: Operators, a: Any, dtype: Any = None) -> Array:
    a = on.array(a)
    return ones(on, on.shape(a), DType(kind_of(on, dtype, a.kind)))


def empty_like(on: Operators, a: Any, dtype: Any = None) -> Array:
    a = on.array(a)
    return empty(on, on.shape(a), DType(kind_of(on, dtype, a.kind)))


def constants(on: Operators, values: np.ndarray) -> Array:
    """A one-dimensional array of known numbers."""
    kind = "f" if values.dtype.kind == "f" else "i"
    on.arrays.check_shape(values.shape)
    on.arrays.spend(values.size)
    numbers = [float(v) for v in values]
    cells = np.array([on.arrays.graph.const(v) for v in numbers], dtype=np.int64)
    bound = max(map(abs, numbers), default=0.0) if kind == "i" else 0.0
    return Array(cells, kind, store=Store(bound))


def plain(on: Operators, value: Any, what: str) -> Any:
    """A Python number, where a number known now is needed."""
    if isinstance(value, RowCount):
        raise mixes_rows(f"{what} over the number of rows")
    if isinstance(value, Array):
        value = on.arrays.constant(value)
    if not isinstance(value, (int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise Refused(f"{what} of values that are not constants")
    return value


def arange(on: Operators, *bounds: Any, dtype: Any = None) -> Array:
    numbers = [plain(on, b, "np.arange") for b in bounds]
    if not 1 <= len(numbers) <= 3:
        raise Refused("np.arange takes one to three arguments")
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    if step == 0 or abs((stop - start) / step) > on.limits.items or max(map(abs, numbers)) > EXACT:
        raise Refused(f"np.arange of more than {on.limits.items} values", "too_large")
    return cast(on, constants(on, np.arange(start, stop, step)), kind_of(on, dtype, "f" if any(
        isinstance(n, float) for n in numbers) else "i"))  # fmt: skip


def linspace(on: Operators, start: Any, stop: Any, num: Any = 50, endpoint: Any = True) -> Array:
    n = whole(on.arrays, num)
    if not 0 <= n <= on.limits.items:
        raise Refused(f"np.linspace of more than {on.limits.items} values", "too_large")
    a, b = (float(plain(on, v, "np.linspace")) for v in (start, stop))
    return constants(on, np.linspace(a, b, n, endpoint=endpoint is True))


def vectorize(on: Operators, pyfunc: Any, otypes: Any = None) -> Native:
    """np.vectorize: a function of numbers, called for every row."""
    kind = None
    if otypes is not None:
        (given,) = on.items(otypes) if isinstance(otypes, (list, tuple)) else (otypes,)
        kind = kind_of(on, given, "f")

    def call(on: Operators, args: list[Any], kwargs: dict[str, Any]) -> Array:
        if kwargs:
            raise Refused("a vectorized function called with names")
        return each_row(on, pyfunc, [on.array(a) for a in args], kind)

    return Native("np.vectorize", call)


def each_row(on: Operators, function: Any, arrays: list[Array], kind: str | None) -> Array:
    """The column of the values that a function has for the numbers of each row.

    Inside the function a column is one number per row, like a parameter; nothing outside can be changed,
    and what meets a whole column there keeps the row axis and cannot be returned. Without `kind` numpy takes
    the type from the first row, so that a type that differs between rows is refused.
    """
    columns = [a for a in arrays if a.ndim]
    selections = {a.selection for a in columns if a.ndim == 1 and a.rows is not None}
    if not columns or len(selections) != 1 or any(a.rows is None or a.ndim != 1 for a in columns):
        raise Refused("np.vectorize of anything but columns and numbers")
    numbers = [Array(a.cells.reshape(()), a.kind, store=Store(a.store.bound), scalar=True) for a in arrays]
    before = on.arrays.one_kind
    on.arrays.one_kind = before or kind is None
    on.tentative, on.undecided = on.tentative + 1, on.undecided + 1
    value = on.array(on.apply(function, numbers, {}))
    on.tentative, on.undecided = on.tentative - 1, on.undecided - 1
    on.arrays.one_kind = before
    if value.rows is not None or value.ndim:
        raise Refused("a vectorized function whose value is not one number per row")
    return on.arrays.full([RowCount(columns[0].selection)], value if kind is None else cast(on, value, kind))


# ---- what arrays are, and what surrounds them


def shape(on: Operators, a: Any) -> tuple[int | RowCount, ...]:
    return on.shape(on.array(a))


def ndim(on: Operators, a: Any) -> int:
    return on.array(a).ndim


def size(on: Operators, a: Any) -> int | RowCount:
    return on.size(on.array(a))


def isscalar(on: Operators, element: Any) -> bool:
    return element.scalar if isinstance(element, Array) else isinstance(element, (bool, int, float, str))


def real(on: Operators, val: Any) -> Array:
    """The real part: the array itself, since there are no other numbers."""
    return asarray(on, val)


def fill(on: Operators, a: Array, value: Any) -> None:
    on.set_part(a, Ellipsis, on.array(value))


def round_(on: Operators, a: Any, decimals: Any = 0) -> Array:
    return on.arrays.rounded(on.array(a), whole(on.arrays, decimals))


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


def astype(on: Operators, a: Any, dtype: Any, copy: Any = True) -> Array:
    return cast(on, on.array(a), kind_of(on, dtype, "f"))
