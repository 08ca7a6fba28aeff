"""Parts of arrays and what is computed along their axes; of the rows only the whole or a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from llmsr.expression.reader.arrays import (
    WIDTHS,
    Arrays,
    as_number,
    expand,
    fresh,
    mixes_rows,
    positions,
    view,
)
from llmsr.expression.reader.values import UNSET, Array, List, Refused, RowCount, refuse_if


class Picked(NamedTuple):
    """Where an index points: numpy's own index, the row axis of the result, whether it picks by a list."""

    native: tuple[Any, ...]
    rows: int | None
    listed: bool


def transpose(a: Array) -> Array:
    """A view with the axes reversed."""
    return view(a, np.transpose, None if a.row_axis is None else -1 - a.row_axis)


def slice_at(a: Array, index: int, axis: int) -> Array:
    """One slice along an axis that is not the rows, as a copy."""
    cells = np.asarray(np.take(a.cells, index, axis))
    rows = None if a.row_axis is None else a.row_axis - (axis < a.row_axis) - cells.ndim
    return fresh(cells, a.kind, rows, a.selection)


def part(on: Arrays, a: Array, key: Any) -> Array:
    """`a[key]`: a view, a copy or a number, as in numpy."""
    mask = row_mask(on, key)
    if mask is not None:
        on.spend(a.cells.size)
        return picked_by(a, mask)
    at = located(on, a, key)
    if at.listed:
        cells = a.cells[at.native]
        on.check_shape(cells.shape)
        on.spend(cells.size)
        return fresh(cells, a.kind, at.rows, a.selection if at.rows is not None else ())
    out = view(a, lambda cells: np.asarray(cells[at.native]), at.rows)
    return out if out.ndim or has_ellipsis(key) else as_number(out)


def has_ellipsis(key: Any) -> bool:
    return any(p is Ellipsis for p in (key if isinstance(key, tuple) else (key,)))


def written(on: Arrays, a: Array, key: Any, value: Array) -> Array:
    """The whole array of the place of `a` as it is after `a[key] = value`."""
    assert a.place is not None
    whole: Array = a.place.content
    # numpy would cut floats to integers, or stop
    refuse_if(WIDTHS[value.kind] > WIDTHS[a.kind], "a value assigned into an array of a narrower type")
    mask = row_mask(on, key)
    if mask is not None:
        at, cells = positions(a), masked(on, a, mask, value)
    else:
        found = located(on, a, key)
        at = np.asarray(positions(a)[found.native])
        on.fits(value, Array(at, a.kind, found.rows, a.selection if found.rows is not None else ()))
        cells = value.cells
    on.spend(at.size + 1)
    # a copy: what the array was is still needed by the way on which the condition does not hold
    flat = whole.cells.flatten()
    flat[at] = cells
    return replace(whole, cells=flat.reshape(whole.cells.shape))


def masked(on: Arrays, a: Array, mask: Array, value: Array) -> np.ndarray:
    """The cells of `a` after `a[mask] = value`, where `value` is one for all rows or picked by the mask."""
    picked = picked_by(a, mask)
    mask_cell, nodes = picked.selection[-1], on.graph.nodes
    on.fits(value, picked)
    cells = []
    flat = np.broadcast_to(value.cells, a.cells.shape).ravel().tolist()
    for old, new in zip(a.cells.ravel().tolist(), flat, strict=True):
        op, args, _ = nodes[old]
        # where np.empty left rows unset, the opposite mask may have set all others
        if op == "where" and args[2] == on.graph.column(UNSET):
            old = args[1] if on.opposite(args[0], mask_cell) else old
        cells.append(on.graph.add("where", mask_cell, new, old))
    return np.array(cells, dtype=np.int64).reshape(a.cells.shape)


def row_mask(on: Arrays, key: Any) -> Array | None:
    """The key when it is a boolean array over the rows."""
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    return on.array(key) if isinstance(key, Array) and key.kind == "b" and key.rows is not None else None


def picked_by(a: Array, mask: Array) -> Array:
    """The rows of `a`, which must be its first axis, where a mask holds."""
    if mask.ndim != 1 or a.row_axis != 0 or mask.selection != a.selection:
        raise Refused(f"a mask of shape {mask.shape_text()} on an array of shape {a.shape_text()}")
    return fresh(a.cells, a.kind, a.rows, (*a.selection, int(mask.cells[0])))


def located(on: Arrays, a: Array, key: Any) -> Picked:
    """Checks an index without masks and translates it."""
    parts = list(key) if isinstance(key, tuple) else [key]
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    missing = a.ndim - sum(p is not None and p is not Ellipsis for p in parts)
    # more than sixteen parts are an attack on the loop below
    if missing < 0 or len(dots) > 1 or len(parts) > 16:
        raise Refused(f"too many indices for an array of shape {a.shape_text()}")
    at = dots[0] if dots else len(parts)
    parts[at : at + 1] = [slice(None)] * missing
    native: list[Any] = []
    axis = new_axis = 0
    row_at: int | None = None
    listed = False
    for p in parts:
        size = None if axis == a.row_axis else a.cells.shape[axis] if axis < a.ndim else 0
        if p is None:
            native.append(None)
            axis -= 1
        elif isinstance(p, slice):
            native.append(slice_of(on, p, size))
            row_at = new_axis if size is None else row_at
        elif isinstance(p, (List, tuple)) or (isinstance(p, Array) and p.ndim == 1):
            if size is None or listed:
                raise mixes_rows("picking rows") if size is None else Refused("two lists in one index")
            listed = True
            native.append(listed_positions(on, p, size))
        else:
            if size is None:
                raise mixes_rows("picking one row")
            native.append(position(on, p, size))
            new_axis -= 1
        axis, new_axis = axis + 1, new_axis + 1
    if listed and any(isinstance(p, int) or p is None for p in native):
        # numpy may then move the listed axis to the front
        raise Refused("a list together with a number in one index")
    if dots:
        native.append(Ellipsis)
    return Picked(tuple(native), None if row_at is None else row_at - new_axis, listed)


def slice_of(on: Arrays, p: slice, size: int | None) -> slice:
    """A slice of constants; of the rows (`size` None) only the whole."""
    start, stop, step = (None if p is None else whole(on, p) for p in (p.start, p.stop, p.step))
    refuse_if(step == 0, "a slice with step 0")
    if size is None and (start or 0, stop, step or 1) != (0, None, 1):
        raise mixes_rows("a slice of the rows")
    return slice(start, stop, step)


def whole(on: Arrays, value: Any) -> int:
    """A constant integer."""
    if isinstance(value, Array) and value.kind == "i":
        value = on.constant(on.array(value))
    if isinstance(value, RowCount):
        raise mixes_rows("the number of rows used as a number")
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused("an index or size that is not a constant integer")
    refuse_if(abs(value) > 10**9, "an index or size far out of range", "too_large")
    return value


def position(on: Arrays, p: Any, size: int) -> int:
    i = whole(on, p)
    refuse_if(not -size <= i < size, f"index {i} is out of range for {size} values")
    return i


def listed_positions(on: Arrays, p: Any, size: int) -> list[int]:
    """The positions that a list, an array of integers or a constant mask picks."""
    if not isinstance(p, Array):
        return [position(on, v, size) for v in (p.content if isinstance(p, List) else p)]
    values = on.constants(on.array(p))
    if values is None or p.kind == "f" or p.rows is not None:
        raise Refused("an index that is not a constant integer")
    if p.kind != "b":
        return [position(on, int(v), size) for v in values]
    if len(values) != size:
        raise Refused(f"a mask of {len(values)} values for {size}")
    return [i for i, v in enumerate(values) if v]


# ---- along an axis

Combine = Callable[[Arrays, list[Array]], Array]


def reduced(on: Arrays, a: Array, axis: Any, keepdims: bool, what: str, combine: Combine) -> Array:
    """Combines the slices along `axis` (an integer, a tuple, or None for all), never along the rows."""
    given = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = sorted({on.axis(x, a.ndim) for x in given})
    if a.row_axis in axes:
        raise mixes_rows(what)
    for x in reversed(axes):
        slices = [slice_at(a, i, x) for i in range(a.cells.shape[x])]
        if not slices:
            raise Refused(f"{what} of nothing")
        a = combine(on, slices)
        a = expand(a, x) if keepdims else a
    return as_number(a if axes else combine(on, [a]))


def total(on: Arrays, items: list[Array]) -> Array:
    """The sum; of booleans it is a count."""
    return reduce(partial(on.arithmetic, "+"), [on.arithmetic("+", items[0], on.number(0)), *items[1:]])


def product(on: Arrays, items: list[Array]) -> Array:
    return reduce(partial(on.arithmetic, "*"), [on.arithmetic("*", items[0], on.number(1)), *items[1:]])


def mean(on: Arrays, items: list[Array]) -> Array:
    return on.arithmetic("/", total(on, items), on.number(len(items)))


def extreme(op: str) -> Combine:
    """The largest ("maximum") or smallest."""
    return lambda on, items: reduce(partial(on.extremum, op), items) if items[1:] else on.copy(items[0])


def truths(op: str) -> Combine:
    """Whether all ("and") or any hold."""

    def combine(on: Arrays, items: list[Array]) -> Array:
        tests = [on.compare("!=", item, on.number(0)) for item in items]
        return reduce(partial(on.logical, op), tests) if tests[1:] else tests[0]

    return combine


COMBINE: dict[str, Combine] = {
    "sum": total,
    "prod": product,
    "mean": mean,
    "max": extreme("maximum"),
    "min": extreme("minimum"),
    "all": truths("and"),
    "any": truths("or"),
}


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
    refuse_if(a.kind == b.kind == "b", "a matrix product of booleans")
    # a slice at a time, so that the graph holds products and sums and nothing of matrices
    terms = []
    for i in range(n):
        left, right = slice_at(a, i, axis), slice_at(b, i, 0)
        if left.ndim == 1 and right.ndim == 1:
            left = expand(left, 1)
        terms.append(on.arithmetic("*", left, right))
    return as_number(total(on, terms))
