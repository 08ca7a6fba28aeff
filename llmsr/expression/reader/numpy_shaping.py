"""numpy's functions that join, split and reshape arrays without touching the order of rows."""

from __future__ import annotations

from typing import Any

from llmsr.expression.reader.arrays import mixes_rows
from llmsr.expression.reader.indexing import read, whole
from llmsr.expression.reader.numpy_making import array, asarray, cast, kind_of, lifted, shape_of
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.reductions import expand, transpose
from llmsr.expression.reader.values import Array, Items, Refused, RowCount


def stack(on: Operators, arrays: Any, axis: Any = 0) -> Array:
    return on.arrays.stack(lifted(on, arrays), axis)


def concatenate(on: Operators, arrays: Any, axis: Any = 0) -> Array:
    return on.arrays.concatenate(lifted(on, arrays), whole(on.arrays, axis))


def column_stack(on: Operators, tup: Any) -> Array:
    items = []
    for a in lifted(on, tup):
        if a.ndim == 0:
            raise Refused("np.column_stack with a single number")
        items.append(expand(a, 1) if a.ndim == 1 else a)
    return on.arrays.concatenate(items, 1)


def vstack(on: Operators, tup: Any) -> Array:
    return on.arrays.concatenate([at_least(a, 2) for a in lifted(on, tup)], 0)


def hstack(on: Operators, tup: Any) -> Array:
    items = [at_least(a, 1) for a in lifted(on, tup)]
    return on.arrays.concatenate(items, 0 if items and items[0].ndim == 1 else 1)


def at_least(a: Array, ndim: int) -> Array:
    while a.ndim < ndim:
        a = expand(a, 0)
    return a


def joined(on: Operators, parts: Any) -> Array:
    """`np.r_[parts]`."""
    items = parts if isinstance(parts, tuple) else (parts,)
    if any(isinstance(item, (slice, str)) for item in items):
        raise Refused("np.r_ with a slice or a text")
    arrays = [at_least(on.array(item), 1) for item in items]
    if any(a.ndim != 1 for a in arrays):
        raise Refused("np.r_ of anything but numbers and vectors")
    return on.arrays.concatenate(arrays, 0)


def atleast_1d(on: Operators, *arys: Any) -> Any:
    arrays = [asarray(on, a) for a in arys]
    out = [a if a.ndim else on.arrays.copy(expand(a, 0)) for a in arrays]
    return out[0] if len(out) == 1 else tuple(out)


def atleast_2d(on: Operators, *arys: Any) -> Any:
    out = [at_least(asarray(on, a), 2) for a in arys]
    return out[0] if len(out) == 1 else tuple(out)


def broadcast_arrays(on: Operators, *args: Any) -> tuple[Array, ...]:
    arrays = [on.array(a) for a in args]
    if not arrays:
        return ()
    shape, rows, selection = on.arrays.broadcast(arrays)
    sizes: list[int | RowCount] = list(shape)
    if rows is not None:
        sizes[rows] = RowCount(selection)
    return tuple(broadcast_to(on, a, sizes) for a in arrays)


def split(on: Operators, ary: Any, indices_or_sections: Any, axis: Any = 0) -> Items:
    """np.split along an axis that is not the rows; the parts are views."""
    a = on.array(ary)
    at = on.arrays.axis(axis, a.ndim)
    if at == a.row_axis:
        raise mixes_rows("np.split along the rows")
    size = a.cells.shape[at]
    if isinstance(indices_or_sections, (list, tuple)):
        ends = [whole(on.arrays, i) for i in indices_or_sections]
    else:
        n = whole(on.arrays, indices_or_sections)
        if not 1 <= n <= size or size % n:
            raise Refused(f"np.split of {size} values into {n} equal parts")
        ends = list(range(size // n, size, size // n))
    key = (slice(None),) * at
    bounds = zip([None, *ends], [*ends, None], strict=True)
    return on.new_list([read(on.arrays, a, (*key, slice(*pair))) for pair in bounds])


def copy(on: Operators, a: Any) -> Array:
    return array(on, a)


def ravel(on: Operators, a: Any) -> Array:
    return reshape(on, a, -1)


def flatten(on: Operators, a: Any) -> Array:
    return on.arrays.copy(reshape(on, a, -1))


def reshape(on: Operators, a: Any, *shape: Any) -> Array:
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


def squeeze(on: Operators, a: Any, axis: Any = None) -> Array:
    a = asarray(on, a)
    axes = range(a.ndim) if axis is None else [on.arrays.axis(axis, a.ndim)]
    drop = [i for i in axes if a.cells.shape[i] == 1 and i != a.row_axis]
    if axis is not None and not drop:
        raise Refused(f"squeeze of an axis of {a.shape_text()} that is not of length 1")
    key = tuple(0 if i in drop else slice(None) for i in range(a.ndim))
    return read(on.arrays, a, (*key, Ellipsis))


def expand_dims(on: Operators, a: Any, axis: Any) -> Array:
    a = asarray(on, a)
    return expand(a, on.arrays.axis(axis, a.ndim + 1))


def transposed(on: Operators, a: Any, *axes: Any) -> Array:
    a = on.array(a)
    if axes and a.ndim != 2:
        raise Refused("a transpose with given axes")
    return transpose(a)


def broadcast_to(on: Operators, array: Any, shape: Any) -> Array:
    out = on.arrays.full(shape_of(on, shape), on.array(array))
    out.store.locked = "the result of np.broadcast_to is changed in place"
    return out


def repeat(on: Operators, a: Any, repeats: Any, axis: Any = None) -> Array:
    """np.repeat and np.tile of one number over the rows."""
    a = on.array(a)
    if not isinstance(repeats, RowCount) or a.cells.size != 1 or a.rows is not None or axis not in (None, 0):
        raise Refused("np.repeat of anything but one number over the rows")
    return on.arrays.full([repeats], read(on.arrays, a, (0,) * a.ndim) if a.ndim else a)


def tile(on: Operators, A: Any, reps: Any) -> Array:
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


def shape(on: Operators, a: Any) -> tuple[int | RowCount, ...]:
    return on.shape(on.array(a))


def ndim(on: Operators, a: Any) -> int:
    return on.array(a).ndim


def size(on: Operators, a: Any) -> int | RowCount:
    return on.size(on.array(a))


def isscalar(on: Operators, element: Any) -> bool:
    return element.scalar if isinstance(element, Array) else isinstance(element, (bool, int, float, str))


def astype(on: Operators, a: Any, dtype: Any, copy: Any = True) -> Array:
    return cast(on, on.array(a), kind_of(on, dtype, "f"))
