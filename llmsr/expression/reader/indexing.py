"""Parts and axes of arrays as numpy has them; of the rows only the whole or a mask, nothing across them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from llmsr.expression.reader.arrays import EXACT, KINDS, Arrays, mixes_rows, unset
from llmsr.expression.reader.values import UNSET, Array, Refused, RowCount, Store


class Place(NamedTuple):
    """Where an index points: into `cells`, the row axis of the result, and whether it picks by a list."""

    native: tuple[Any, ...]
    rows: int | None
    listed: bool
    ellipsis: bool


def read(on: Arrays, a: Array, key: Any) -> Array:
    """`a[key]`: a view, a copy or a number, as in numpy."""
    if type(key) is int and a.rows is None and a.cells.ndim == 1:
        cells = np.array(a.cells[position(on, key, len(a.cells))])
        return Array(cells, a.kind, store=Store(a.store.bound), scalar=True)
    mask = row_mask(key)
    if mask is not None:
        cell = mask_cell(a, mask)
        on.spend(a.cells.size)
        return Array(a.cells.copy(), a.kind, a.rows, (*a.selection, cell), Store(a.store.bound))
    place = locate(on, a, key)
    cells = a.cells[place.native]
    if place.listed:
        on.check_shape(cells.shape)
        on.spend(cells.size)
        selection = a.selection if place.rows is not None else ()
        return Array(cells, a.kind, place.rows, selection, Store(a.store.bound))
    if np.ndim(cells) == 0 and not place.ellipsis:
        return Array(np.array(cells, dtype=np.int64), a.kind, store=Store(a.store.bound), scalar=True)
    return a.view(cells, place.rows)


def write(on: Arrays, a: Array, key: Any, value: Array) -> None:
    """`a[key] = value`; the caller has checked that `a` may be written to."""
    if KINDS.index(value.kind) > KINDS.index(a.kind):
        raise Refused("a value assigned into an array of a narrower type")
    bound = max(a.store.bound, value.store.bound)
    if a.kind == "i" and bound > EXACT:
        raise Refused("integers beyond 2**53", "too_large")
    mask = row_mask(key)
    if mask is not None:
        write_masked(on, a, mask, value)
    else:
        place = locate(on, a, key)
        target = a.cells[place.native]
        selection = a.selection if place.rows is not None else ()
        on.fits(value, np.shape(target), place.rows, selection, "a value")
        if value.cells.size and value.cells.min() < 0:
            raise unset()
        on.spend(max(np.size(target), 1))
        a.cells[place.native] = value.cells
    a.store.bound = bound


def write_masked(on: Arrays, a: Array, mask: Array, value: Array) -> None:
    """`a[mask] = value`, where `value` is one for all rows or was picked by the same mask."""
    cell = mask_cell(a, mask)
    on.fits(value, a.cells.shape, a.rows, (*a.selection, cell), "a value")
    on.spend(a.cells.size)
    flat = np.broadcast_to(value.cells, a.cells.shape).ravel().tolist()
    new = []
    for old, fresh in zip(a.cells.ravel().tolist(), flat, strict=True):
        if fresh < 0:
            raise unset()
        if old >= 0:
            new.append(on.graph.add("where", cell, fresh, old))
            continue
        covered = on.partial.get(old)
        if covered is not None and on.opposite(covered[0], cell):
            new.append(on.graph.add("where", cell, fresh, covered[1]))
        else:
            mark = UNSET - 1 - len(on.partial)
            on.partial[mark] = (cell, fresh)
            new.append(mark)
    a.cells[...] = np.array(new, dtype=np.int64).reshape(a.cells.shape)


def row_mask(key: Any) -> Array | None:
    """The key when it is a boolean array over the rows."""
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    return key if isinstance(key, Array) and key.kind == "b" and key.rows is not None else None


def mask_cell(a: Array, mask: Array) -> int:
    """The node of a mask over the rows of `a`, which must be its first axis."""
    if mask.ndim != 1 or a.row_axis != 0 or mask.selection != a.selection:
        raise Refused(f"a mask of shape {mask.shape_text()} on an array of shape {a.shape_text()}")
    cell = int(mask.cells[0])
    if cell < 0:
        raise unset()
    return cell


def locate(on: Arrays, a: Array, key: Any) -> Place:
    """Checks an index without masks and translates it."""
    parts = list(key) if isinstance(key, tuple) else [key]
    ellipsis = sum(p is Ellipsis for p in parts)
    used = sum(p is not None and p is not Ellipsis for p in parts)
    if used > a.ndim or ellipsis > 1 or len(parts) > 16:
        raise Refused(f"too many indices for an array of shape {a.shape_text()}")
    if not ellipsis:
        parts.append(Ellipsis)
    native: list[Any] = []
    axis = new_axis = 0
    row_at: int | None = None
    listed = False
    for part in parts:
        if part is Ellipsis:
            for _ in range(a.ndim - used):
                row_at = new_axis if axis == a.row_axis else row_at
                native.append(slice(None))
                axis, new_axis = axis + 1, new_axis + 1
            continue
        if part is None:
            native.append(None)
            new_axis += 1
            continue
        size = None if axis == a.row_axis else a.cells.shape[axis]
        if isinstance(part, slice):
            native.append(slice_of(on, part, size))
            row_at = new_axis if size is None else row_at
            new_axis += 1
        elif isinstance(part, (list, tuple)) or (isinstance(part, Array) and part.ndim == 1):
            if size is None or listed:
                raise mixes_rows("picking rows") if size is None else Refused("two lists in one index")
            listed = True
            native.append(positions(on, part, size))
            new_axis += 1
        else:
            if size is None:
                raise mixes_rows("picking one row")
            native.append(position(on, part, size))
        axis += 1
    if listed and any(isinstance(p, int) or p is None for p in native):
        # numpy may then move the listed axis to the front
        raise Refused("a list together with a number in one index")
    return Place(tuple(native), None if row_at is None else row_at - new_axis, listed, bool(ellipsis))


def slice_of(on: Arrays, part: slice, size: int | None) -> slice:
    """A slice of constants; of the rows (`size` None) only the whole."""
    start, stop, step = (None if p is None else whole(on, p) for p in (part.start, part.stop, part.step))
    if step == 0:
        raise Refused("a slice with step 0")
    if size is None:
        if (start or 0, stop, step or 1) != (0, None, 1):
            raise mixes_rows("a slice of the rows")
        return slice(None)
    return slice(start, stop, step)


def whole(on: Arrays, value: Any) -> int:
    """A constant integer."""
    if isinstance(value, Array) and value.kind == "i":
        value = on.constant(value)
    if isinstance(value, RowCount):
        raise mixes_rows("the number of rows used as a number")
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused("an index or size that is not a constant integer")
    if abs(value) > 10**9:
        raise Refused("an index or size far out of range", "too_large")
    return value


def position(on: Arrays, part: Any, size: int) -> int:
    i = whole(on, part)
    if not -size <= i < size:
        raise Refused(f"index {i} is out of range for {size} values")
    return i


def positions(on: Arrays, part: Any, size: int) -> list[int]:
    """The positions that a list, an array of integers or a constant mask picks."""
    if not isinstance(part, Array):
        return [position(on, v, size) for v in part]
    values = on.constants(part)
    if values is None or part.kind == "f" or part.rows is not None:
        raise Refused("an index that is not a constant integer")
    if part.kind == "b":
        if len(values) != size:
            raise Refused(f"a mask of {len(values)} values for {size}")
        return [i for i, v in enumerate(values) if v]
    return [position(on, int(v), size) for v in values]


# ---- along an axis

Combine = Callable[[Arrays, list[Array]], Array]


def reduce(on: Arrays, a: Array, axis: Any, keepdims: bool, what: str, combine: Combine) -> Array:
    """Combines the slices along `axis` (an integer, a tuple, or None for all), never along the rows."""
    if axis is None:
        axes = list(range(a.ndim))
    elif isinstance(axis, tuple):
        axes = sorted({on.axis(x, a.ndim) for x in axis})
    else:
        axes = [on.axis(axis, a.ndim)]
    if a.row_axis in axes:
        raise mixes_rows(what)
    for x in reversed(axes):
        slices = [slice_at(a, i, x) for i in range(a.cells.shape[x])]
        if not slices:
            raise Refused(f"{what} of nothing")
        a = combine(on, slices)
        if keepdims:
            a = expand(a, x)
    if not axes:
        a = combine(on, [a])
    a.scalar = a.ndim == 0
    return a


def total(on: Arrays, items: list[Array]) -> Array:
    """The sum; of booleans it is a count."""
    out = on.arithmetic("+", items[0], on.number(0))
    for item in items[1:]:
        out = on.arithmetic("+", out, item)
    return out


def product(on: Arrays, items: list[Array]) -> Array:
    out = on.arithmetic("*", items[0], on.number(1))
    for item in items[1:]:
        out = on.arithmetic("*", out, item)
    return out


def mean(on: Arrays, items: list[Array]) -> Array:
    return on.arithmetic("/", total(on, items), on.number(len(items)))


def chain(method: Callable[..., Array], op: str) -> Combine:
    """Folds a function of two arrays, such as `Arrays.extremum` with "maximum"."""

    def combine(on: Arrays, items: list[Array]) -> Array:
        out = items[0]
        for item in items[1:]:
            out = method(on, op, out, item)
        return out if len(items) > 1 else on.copy(out)

    return combine


smallest = chain(Arrays.extremum, "minimum")
greatest = chain(Arrays.extremum, "maximum")


def every(on: Arrays, items: list[Array]) -> Array:
    return chain(Arrays.logical, "and")(on, [on.compare("!=", item, on.number(0)) for item in items])


def some(on: Arrays, items: list[Array]) -> Array:
    return chain(Arrays.logical, "or")(on, [on.compare("!=", item, on.number(0)) for item in items])


def slice_at(a: Array, index: int, axis: int) -> Array:
    """One slice along an axis that is not the rows, as a copy."""
    cells = np.asarray(np.take(a.cells, index, axis))
    rows = None if a.row_axis is None else a.row_axis - (axis < a.row_axis) - cells.ndim
    return Array(cells, a.kind, rows, a.selection, Store(a.store.bound))


def expand(a: Array, axis: int) -> Array:
    """A view with one more axis of length 1."""
    cells = np.expand_dims(a.cells, axis)
    rows = None if a.row_axis is None else a.row_axis + (axis <= a.row_axis) - cells.ndim
    return a.view(cells, rows)


def transpose(a: Array) -> Array:
    """A view with the axes reversed."""
    rows = None if a.row_axis is None else (a.ndim - 1 - a.row_axis) - a.ndim
    return a.view(a.cells.T, rows)


def matmul(on: Arrays, a: Array, b: Array) -> Array:
    """`a @ b` for one or two axes each."""
    wrong = Refused(f"a matrix product of shapes {a.shape_text()} and {b.shape_text()}")
    if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2):
        raise wrong
    axis = a.ndim - 1
    if a.row_axis == axis and b.row_axis == 0:
        raise mixes_rows("a product summed over the rows")
    n = a.cells.shape[axis]
    if a.row_axis == axis or b.row_axis == 0 or n != b.cells.shape[0] or n == 0:
        raise wrong
    if a.kind == b.kind == "b":
        raise Refused("a matrix product of booleans")
    terms = []
    for i in range(n):
        left, right = slice_at(a, i, axis), slice_at(b, i, 0)
        if left.ndim == 1 and right.ndim == 1:
            left = expand(left, 1)
        terms.append(on.arithmetic("*", left, right))
    out = total(on, terms)
    out.scalar = out.ndim == 0
    return out
