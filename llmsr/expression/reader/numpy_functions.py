"""numpy's functions that shape, split and join arrays, multiply matrices, and choose between values."""

from __future__ import annotations

import itertools
from typing import Any

from llmsr.expression.operations import OPS
from llmsr.expression.reader.arrays import mixes_rows
from llmsr.expression.reader.indexing import Combine, expand, matmul, read, reduce, total, transpose, whole
from llmsr.expression.reader.making import array, asarray, cast, into, lifted, shape_of
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.values import Array, Items, Refused, RowCount

MAX_POINTS = 32
"""Of a table of constants: more is a table of answers and no equation."""


# ---- shapes


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
            cells = a.cells.reshape([int(n) for n in sizes])
        except ValueError:
            raise Refused(f"a reshape of {a.shape_text()} that does not fit") from None
        out: Array = a.view(cells, None)
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
    column: Array = a.view(a.cells.reshape((1,) * len(sizes)), at[0] - len(sizes))
    return column


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


# ---- reductions and products


def reduction(name: str, combine: Combine) -> Any:
    def function(on: Operators, a: Any, axis: Any = None, keepdims: Any = False) -> Array:
        if isinstance(axis, Array):
            axis = whole(on.arrays, axis)
        return reduce(on.arrays, on.array(a), axis, keepdims is True, name, combine)

    return function


def dot(on: Operators, a: Any, b: Any) -> Array:
    a, b = on.array(a), on.array(b)
    if a.ndim == 0 or b.ndim == 0:
        return on.arrays.arithmetic("*", a, b)
    return matmul(on.arrays, a, b)


def matmul_(on: Operators, x1: Any, x2: Any) -> Array:
    return matmul(on.arrays, on.array(x1), on.array(x2))


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


# ---- choosing


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


def take(on: Operators, a: Any, indices: Any, axis: Any = None) -> Array:
    """np.take by constant positions; without an axis of a vector only."""
    array = on.array(a)
    if axis is None and array.ndim != 1:
        raise Refused("np.take of anything but a vector, without an axis")
    at = on.arrays.axis(0 if axis is None else axis, array.ndim)
    listed = isinstance(indices, (list, tuple)) or (isinstance(indices, Array) and indices.ndim == 1)
    index = indices if listed else whole(on.arrays, indices)
    return on.arrays.copy(read(on.arrays, array, (*(slice(None),) * at, index)))


def digitize(on: Operators, x: Any, bins: Any, right: Any = False) -> Array:
    return region(on, "np.digitize", x, bins, "<=" if right is True else "<")


def searchsorted(on: Operators, a: Any, v: Any, side: Any = "left") -> Array:
    if side not in ("left", "right"):
        raise Refused("np.searchsorted with this side")
    return region(on, "np.searchsorted", v, a, "<=" if side == "left" else "<")


def region(on: Operators, name: str, x: Any, edges: Any, symbol: str) -> Array:
    """How many of the constant, ascending `edges` the number is not below; all for NaN, as in numpy."""
    calc = on.arrays
    values = calc.constants(on.array(edges))
    if values is None or on.array(edges).ndim != 1 or not 1 <= len(values) <= MAX_POINTS:
        raise Refused(f"{name} with anything but 1 to {MAX_POINTS} constants")
    if not all(a <= b for a, b in itertools.pairwise(values)):
        raise Refused(f"{name} with constants that do not ascend")
    number = on.array(x)
    count = calc.number(0)
    for value in values:
        beyond = calc.logical("not", calc.compare(symbol, number, calc.number(value)))
        count = calc.arithmetic("+", count, cast(on, beyond, "i"))
    return count


def choose(on: Operators, a: Any, choices: Any) -> Array:
    """np.choose by what is known to be the position of a choice."""
    calc, index, values = on.arrays, on.array(a), lifted(on, choices)
    counted = all(counts(on, cell) for cell in index.cells.ravel().tolist())
    if index.kind == "f" or not counted or not 0 <= index.store.bound < len(values) <= MAX_POINTS:
        raise Refused("np.choose by anything but the position of a choice, such as np.digitize gives")
    result = values[-1]
    for i in range(len(values) - 2, -1, -1):
        result = calc.where(calc.compare("==", index, calc.number(i)), values[i], result)
    return result


def counts(on: Operators, cell: int) -> bool:
    """Whether a node is a sum of masks and of constants that are not negative."""
    waiting, seen = [cell], 0
    while waiting and seen <= 4 * MAX_POINTS:
        at = waiting.pop()
        if at < 0:
            return False
        node, seen = on.arrays.graph.nodes[at], seen + 1
        if node.op == "add":
            waiting += node.args
        elif node.op == "const":
            if not node.value >= 0:  # type: ignore[operator]
                return False
        elif node.op not in OPS or not OPS[node.op].boolean:
            return False
    return not waiting
