"""Arithmetic on arrays of graph nodes, with numpy's broadcasting and element types, and no way to mix rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.limits import Limits
from llmsr.expression.values import UNSET, Array, Refused, RowCount, Store

KINDS = "bif"
EXACT = 2.0**53
"""Integers up to here are exact as float64, which is how the graph holds them."""

COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "//": "floordiv", "%": "mod"}
BITWISE = {"&": "and", "|": "or", "^": "xor"}

Number = bool | int | float


def mixes_rows(what: str) -> Refused:
    return Refused(f"{what} mixes rows; an equation is a function of one row")


class Arrays:
    """Builds arrays on one graph; `spent` counts element-wise operations against the limit."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self.graph = graph
        self.limits = limits
        self.spent = 0

    # -- cost -------------------------------------------------------------------------------------------------

    def spend(self, cells: int) -> None:
        self.spent += cells
        if self.spent > self.limits.cells:
            raise Refused(f"more than {self.limits.cells} element-wise operations", "too_large")

    def check_shape(self, shape: Sequence[int]) -> None:
        if len(shape) > 8 or any(n < 0 for n in shape):
            raise Refused("an array of this shape is not possible")
        size = 1
        for n in shape:
            size *= n
            if n > self.limits.size or size > self.limits.size:
                raise Refused(f"an array of more than {self.limits.size} cells per row", "too_large")

    # -- making -----------------------------------------------------------------------------------------------

    def number(self, value: Number) -> Array:
        """A Python number as an array without axes."""
        if isinstance(value, bool):
            kind = "b"
        else:
            kind = "i" if isinstance(value, int) else "f"
        try:
            as_float = float(value)
        except OverflowError:
            raise Refused("an integer too large for a float64", "too_large") from None
        cells = np.array(self.graph.const(as_float), dtype=np.int64)
        return Array(cells, kind, store=Store(abs(as_float) if kind != "f" else 0.0), scalar=True)

    def lift(self, value: Any) -> Array:
        """Any number, array, list or tuple of them as an array."""
        if isinstance(value, Array):
            return value
        if isinstance(value, (bool, int, float)):
            return self.number(value)
        if isinstance(value, (list, tuple)):
            return self.stack([self.lift(item) for item in value], 0)
        if isinstance(value, RowCount):
            raise mixes_rows("the number of rows used as a number")
        raise Refused(f"{describe(value)} used as a number")

    def full(self, shape: Sequence[int | RowCount], value: Array) -> Array:
        """A new array of this shape filled with `value`, which is broadcast."""
        rows, selection, sizes = None, (), []
        for axis, n in enumerate(shape):
            if isinstance(n, RowCount):
                if rows is not None:
                    raise mixes_rows("an array with two row axes")
                rows, selection = axis - len(shape), n.selection
            sizes.append(1 if isinstance(n, RowCount) else n)
        self.check_shape(sizes)
        self.fits(value, sizes, rows, selection, "this value")
        cells = np.broadcast_to(value.cells, sizes).copy()
        return Array(cells, value.kind, rows, selection, Store(value.store.bound))

    def fits(
        self, value: Array, shape: Sequence[int], rows: int | None, selection: tuple[int, ...], what: str
    ) -> None:
        """Refuses unless `value` broadcasts into the given shape without changing it."""
        if value.rows is not None and (value.rows, value.selection) != (rows, selection):
            if rows is not None and value.rows == rows:
                raise mixes_rows("combining differently selected rows")
            raise Refused(f"{what} of shape {value.shape_text()} does not fit")
        target = (1,) * (value.ndim - len(shape)) + tuple(shape)
        padded = (1,) * (len(target) - value.ndim) + value.cells.shape
        for i, (have, want) in enumerate(zip(padded, target, strict=True)):
            at_rows = rows is not None and i - len(target) == rows
            if (have != want and have != 1) or (at_rows and have != 1):
                raise Refused(f"{what} of shape {value.shape_text()} does not fit")
        if value.ndim > len(shape):
            raise Refused(f"{what} of shape {value.shape_text()} does not fit")

    def stack(self, items: Sequence[Array], axis: int) -> Array:
        """np.stack: equal shapes along a new axis."""
        if not items:
            return Array(np.empty(0, dtype=np.int64), "f")
        first = items[0]
        for item in items:
            if (item.cells.shape, item.rows, item.selection) != (
                first.cells.shape,
                first.rows,
                first.selection,
            ):
                raise Refused(
                    f"values of shapes {first.shape_text()} and {item.shape_text()} cannot be stacked"
                )
        self.check_shape((len(items), *first.cells.shape))
        self.spend(len(items) * first.cells.size)
        axis = self.axis(axis, first.ndim + 1)
        cells = np.stack([item.cells for item in items], axis)
        rows = None
        if first.row_axis is not None:
            rows = first.row_axis + (axis <= first.row_axis) - cells.ndim
        return Array(cells, widest(items), rows, first.selection, Store(largest(items)))

    def concatenate(self, items: Sequence[Array], axis: int) -> Array:
        """np.concatenate along an axis that is not the rows."""
        if not items:
            raise Refused("concatenating nothing")
        first = items[0]
        axis = self.axis(axis, first.ndim)
        for item in items:
            if item.ndim != first.ndim:
                raise Refused("concatenating arrays with different numbers of axes")
            if item.row_axis == axis:
                raise mixes_rows("concatenating along the rows")
            if (item.rows, item.selection) != (first.rows, first.selection):
                raise Refused(f"shapes {first.shape_text()} and {item.shape_text()} cannot be concatenated")
            if any(
                a != b
                for i, (a, b) in enumerate(zip(item.cells.shape, first.cells.shape, strict=True))
                if i != axis
            ):
                raise Refused(f"shapes {first.shape_text()} and {item.shape_text()} cannot be concatenated")
        total = sum(item.cells.size for item in items)
        self.check_shape((total,))
        self.spend(total)
        cells = np.concatenate([item.cells for item in items], axis)
        return Array(cells, widest(items), first.rows, first.selection, Store(largest(items)))

    # -- shapes -----------------------------------------------------------------------------------------------

    @staticmethod
    def axis(axis: Any, ndim: int) -> int:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -ndim <= axis < ndim:
            raise Refused(f"axis {str(axis)[:20]} of an array with {ndim} axes")
        return axis % ndim

    def broadcast(self, arrays: Sequence[Array]) -> tuple[tuple[int, ...], int | None, tuple[int, ...]]:
        """The common shape, row axis and selection."""
        ndim = max(a.cells.ndim for a in arrays)
        rows: int | None = None
        selection: tuple[int, ...] = ()
        for a in arrays:
            if a.rows is None:
                continue
            if rows is None:
                rows, selection = a.rows, a.selection
            elif rows != a.rows:
                raise mixes_rows("combining a row axis with another axis of the same rows")
            elif selection != a.selection:
                raise mixes_rows("combining differently selected rows")
        if ndim == 0:
            return (), None, ()
        shape = [1] * ndim
        for a in arrays:
            offset = ndim - a.cells.ndim
            for i, n in enumerate(a.cells.shape):
                if n == 1:
                    continue
                if shape[offset + i] not in (1, n) or (rows is not None and offset + i - ndim == rows):
                    texts = " and ".join(x.shape_text() for x in arrays)
                    raise Refused(f"shapes {texts} do not go together")
                shape[offset + i] = n
        self.check_shape(shape)
        return tuple(shape), rows, selection

    def elementwise(self, op: str, kind: str, *arrays: Array, bound: float = 0.0) -> Array:
        """One graph operation on every cell."""
        shape, rows, selection = self.broadcast(arrays)
        add = self.graph.add
        if kind == "i" and bound > EXACT:
            raise Refused("integers beyond 2**53", "too_large")
        if not shape:
            self.spend(1)
            ids = [a.cells.item() for a in arrays]
            if UNSET in ids:
                raise unset()
            return Array(np.array(add(op, *ids), dtype=np.int64), kind, store=Store(bound), scalar=True)
        columns = [np.broadcast_to(a.cells, shape).ravel().tolist() for a in arrays]
        self.spend(len(columns[0]))
        out = []
        for ids in zip(*columns, strict=True):
            if UNSET in ids:
                raise unset()
            out.append(add(op, *ids))
        return Array(np.array(out, dtype=np.int64).reshape(shape), kind, rows, selection, Store(bound))

    def copy(self, a: Array, kind: str | None = None) -> Array:
        """A new array with the same cells."""
        self.spend(a.cells.size)
        return Array(a.cells.copy(), kind or a.kind, a.rows, a.selection, Store(a.store.bound), a.scalar)

    # -- arithmetic -------------------------------------------------------------------------------------------

    def arithmetic(self, symbol: str, a: Array, b: Array) -> Array:
        """A Python operator on arrays, with numpy's result types; `//`, `%` and `**` of integers only where exact."""
        kind = max(a.kind, b.kind, key=KINDS.index)
        left, right = a.store.bound, b.store.bound
        both_bool = kind == "b"
        if symbol in BITWISE:
            if not both_bool:
                raise Refused(f"{symbol} of numbers that are not booleans (compare first, then combine)")
            return self.elementwise(BITWISE[symbol], "b", a, b, bound=1.0)
        if symbol not in ARITHMETIC:
            raise Refused(f"the operator {symbol} on arrays")
        if both_bool and symbol in "+*":
            return self.elementwise("or" if symbol == "+" else "and", "b", a, b, bound=1.0)
        if both_bool and symbol != "/":
            raise Refused(f"the operator {symbol} between two boolean arrays")
        if symbol == "/":
            return self.elementwise("div", "f", a, b)
        if kind == "f":
            return self.elementwise(ARITHMETIC[symbol], "f", a, b)
        if symbol in "+-":
            return self.elementwise(ARITHMETIC[symbol], "i", a, b, bound=left + right)
        if symbol == "*":
            return self.elementwise("mul", "i", a, b, bound=left * right)
        divisors = self.constants(b)
        if divisors is None:
            raise Refused(f"the operator {symbol} between integers that are not constants")
        if symbol == "**":
            if any(v < 0 for v in divisors):
                raise Refused("an integer to a negative power (write the base as a float)")
            try:
                bound = max(left, 1.0) ** right
            except OverflowError:
                bound = float("inf")
            return self.elementwise("pow", "i", a, b, bound=bound)
        if any(v == 0 for v in divisors):
            raise Refused("an integer divided by zero")
        return self.elementwise(ARITHMETIC[symbol], "i", a, b, bound=left + right)

    def compare(self, symbol: str, a: Array, b: Array) -> Array:
        return self.elementwise(COMPARISONS[symbol], "b", a, b, bound=1.0)

    def float_function(self, op: str, *arrays: Array) -> Array:
        """A function whose result is float64; numpy computes it in half precision for booleans alone."""
        if all(a.kind == "b" for a in arrays):
            raise Refused("a function of booleans only, which numpy computes in half precision")
        return self.elementwise(op, "f", *arrays)

    def keep_kind(self, op: str, a: Array) -> Array:
        """abs, sign: the kind of the argument."""
        if a.kind == "b" and op != "abs":
            raise Refused(f"{op} of booleans")
        return self.elementwise(op, a.kind, a, bound=a.store.bound)

    def extremum(self, op: str, a: Array, b: Array) -> Array:
        """minimum, maximum, fmin, fmax."""
        kind = max(a.kind, b.kind, key=KINDS.index)
        return self.elementwise(op, kind, a, b, bound=max(a.store.bound, b.store.bound))

    def negative(self, a: Array) -> Array:
        if a.kind == "b":
            raise Refused("the negative of booleans")
        return self.elementwise("neg", a.kind, a, bound=a.store.bound)

    def invert(self, a: Array) -> Array:
        """`~`, which is `not` for booleans."""
        if a.kind != "b":
            raise Refused("~ of numbers that are not booleans")
        return self.elementwise("not", "b", a, bound=1.0)

    def logical(self, op: str, *arrays: Array) -> Array:
        return self.elementwise(op, "b", *arrays, bound=1.0)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        kind = max(a.kind, b.kind, key=KINDS.index)
        return self.elementwise("where", kind, condition, a, b, bound=max(a.store.bound, b.store.bound))

    def power(self, a: Array, b: Array) -> Array:
        return self.arithmetic("**", a, b)

    # -- constants --------------------------------------------------------------------------------------------

    def constants(self, a: Array) -> list[float] | None:
        """The cells as numbers when all of them are constants."""
        values = []
        for cell in a.cells.ravel().tolist():
            if cell == UNSET or self.graph.nodes[cell].op != "const":
                return None
            values.append(float(self.graph.nodes[cell].value))  # type: ignore[arg-type]
        return values

    def constant(self, a: Array) -> Number | None:
        """The one number of an array without axes, when it is a constant."""
        if a.cells.ndim or a.cells.size != 1:
            return None
        values = self.constants(a)
        if values is None:
            return None
        if a.kind == "f":
            return values[0]
        return bool(values[0]) if a.kind == "b" else int(values[0])

    # -- reductions -------------------------------------------------------------------------------------------

    def reduce(
        self, a: Array, axis: Any, keepdims: bool, what: str, combine: Callable[[list[Array]], Array]
    ) -> Array:
        """Combines the slices along `axis` (an integer, a tuple or None for all); never along the rows."""
        if axis is None:
            axes = list(range(a.ndim))
        elif isinstance(axis, tuple):
            axes = sorted({self.axis(x, a.ndim) for x in axis})
        else:
            axes = [self.axis(axis, a.ndim)]
        if a.row_axis in axes:
            raise mixes_rows(what)
        for x in reversed(axes):
            slices = [self.take(a, i, x) for i in range(a.cells.shape[x])]
            if not slices:
                raise Refused(f"{what} of nothing")
            a = combine(slices)
            if keepdims:
                a = self.expand(a, x)
        if a.ndim == 0:
            a.scalar = True
        return a

    def take(self, a: Array, index: int, axis: int) -> Array:
        cells = np.take(a.cells, index, axis)
        rows = None
        if a.row_axis is not None:
            rows = a.row_axis - (axis < a.row_axis) - cells.ndim
        return Array(cells, a.kind, rows, a.selection, Store(a.store.bound))

    def expand(self, a: Array, axis: int) -> Array:
        cells = np.expand_dims(a.cells, axis)
        rows = None if a.row_axis is None else a.row_axis + (axis <= a.row_axis) - cells.ndim
        return a.view(cells, rows)

    def sum(self, items: list[Array]) -> Array:
        total = items[0] if items[0].kind != "b" else self.arithmetic("+", items[0], self.number(0))
        for item in items[1:]:
            total = self.arithmetic("+", total, item)
        return total if len(items) > 1 else self.copy(total)

    def product(self, items: list[Array]) -> Array:
        total = items[0] if items[0].kind != "b" else self.arithmetic("*", items[0], self.number(1))
        for item in items[1:]:
            total = self.arithmetic("*", total, item)
        return total if len(items) > 1 else self.copy(total)

    def chain(self, op: str, items: list[Array]) -> Array:
        """minimum or maximum of several."""
        total = items[0]
        for item in items[1:]:
            total = self.extremum(op, total, item)
        return total if len(items) > 1 else self.copy(total)

    def transpose(self, a: Array) -> Array:
        if a.ndim < 2:
            return a.view(a.cells, a.rows)
        if a.ndim > 2:
            raise Refused("the transpose of an array with more than two axes")
        rows = None if a.row_axis is None else (1 - a.row_axis) - 2
        return a.view(a.cells.T, rows)

    def matmul(self, a: Array, b: Array) -> Array:
        """`a @ b` for one or two axes each, not along the rows."""
        if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2):
            raise Refused(f"a matrix product of shapes {a.shape_text()} and {b.shape_text()}")
        a_axis, b_axis = a.ndim - 1, 0
        if a.row_axis == a_axis or b.row_axis == b_axis:
            if a.row_axis == a_axis and b.row_axis == b_axis:
                raise mixes_rows("a product summed over the rows")
            raise Refused(f"a matrix product of shapes {a.shape_text()} and {b.shape_text()}")
        n = a.cells.shape[a_axis]
        if n != b.cells.shape[b_axis] or n == 0:
            raise Refused(f"a matrix product of shapes {a.shape_text()} and {b.shape_text()}")
        terms = []
        for i in range(n):
            left, right = self.take(a, i, a_axis), self.take(b, i, b_axis)
            if left.ndim == 1 and right.ndim == 1:
                left = self.expand(left, 1)
            terms.append(self.arithmetic("*", left, right))
        out = self.sum(terms)
        out.scalar = out.ndim == 0
        return out

    # -- indexing ---------------------------------------------------------------------------------------------

    def index(self, a: Array, key: Any) -> Array:
        """`a[key]`: integers, slices, None, Ellipsis and lists off the row axis, a mask on the row axis."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if (
            len(parts) == 1
            and isinstance(parts[0], Array)
            and parts[0].kind == "b"
            and parts[0].rows is not None
        ):
            return self.select(a, parts[0])
        native, rows, fancy, lost = self.native_index(a, parts)
        cells = a.cells[native]
        if lost:
            rows = None
        if fancy:
            self.check_shape(cells.shape)
            self.spend(cells.size)
            return Array(cells, a.kind, rows, a.selection if rows is not None else (), Store(a.store.bound))
        if not isinstance(cells, np.ndarray) or cells.ndim == 0:
            cells = np.array(int(cells), dtype=np.int64)
            if any(p is Ellipsis for p in parts):
                return a.view(a.cells[native], None)
            return Array(cells, a.kind, store=Store(a.store.bound), scalar=True)
        return a.view(cells, rows)

    def native_index(self, a: Array, parts: list[Any]) -> tuple[tuple[Any, ...], int | None, bool, bool]:
        """The index for `cells`, the new row axis from the right, whether it copies, whether the rows are gone."""
        used = sum(1 for p in parts if p is not None and p is not Ellipsis)
        if used > a.ndim or sum(1 for p in parts if p is Ellipsis) > 1:
            raise Refused(f"too many indices for an array of shape {a.shape_text()}")
        if Ellipsis not in [p for p in parts if p is Ellipsis]:
            parts = [*parts, Ellipsis]
        out: list[Any] = []
        axis = new_axis = 0
        row_at: int | None = None
        fancy = False
        for part in parts:
            if part is Ellipsis:
                for _ in range(a.ndim - used):
                    if axis == a.row_axis:
                        row_at = new_axis
                    out.append(slice(None))
                    axis, new_axis = axis + 1, new_axis + 1
                continue
            if part is None:
                out.append(None)
                new_axis += 1
                continue
            on_rows = axis == a.row_axis
            if isinstance(part, slice):
                part = slice(*(self.whole(p, True) for p in (part.start, part.stop, part.step)))
                if on_rows:
                    if (part.start or 0, part.stop, part.step or 1) != (0, None, 1):
                        raise mixes_rows("a slice of the rows")
                    part, row_at = slice(None), new_axis
                elif part.step == 0:
                    raise Refused("a slice with step 0")
                out.append(part)
                new_axis += 1
            elif isinstance(part, (list, tuple)) or (isinstance(part, Array) and part.ndim == 1):
                if on_rows:
                    raise mixes_rows("picking rows")
                if fancy:
                    raise Refused("two lists in one index")
                fancy = True
                out.append(self.positions(part, a.cells.shape[axis]))
                new_axis += 1
            else:
                if on_rows:
                    raise mixes_rows("picking one row")
                i = self.whole(part, False)
                if not -a.cells.shape[axis] <= i < a.cells.shape[axis]:
                    raise Refused(f"index {i} is out of range for {a.cells.shape[axis]} values")
                out.append(i)
            axis += 1
        if fancy and any(isinstance(p, int) for p in out):
            # numpy may then move the listed axis to the front
            raise Refused("a list together with a number in one index")
        rows = None if row_at is None else row_at - new_axis
        return tuple(out), rows, fancy, a.rows is not None and row_at is None

    def whole(self, value: Any, none: bool) -> Any:
        """A constant integer for an index."""
        if value is None and none:
            return None
        if isinstance(value, Array) and value.kind == "i":
            value = self.constant(value)
        if isinstance(value, RowCount):
            raise mixes_rows("the number of rows used as an index")
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused("an index that is not a constant integer")
        if abs(value) > 10**9:
            raise Refused("an index far out of range")
        return value

    def positions(self, part: Any, size: int) -> list[int]:
        if isinstance(part, Array):
            values = self.constants(part)
            if values is None or part.kind == "f" or part.rows is not None:
                raise Refused("an index that is not a constant integer")
            if part.kind == "b":
                if len(values) != size:
                    raise Refused(f"a mask of {len(values)} values for {size}")
                return [i for i, v in enumerate(values) if v]
            items: list[Any] = [int(v) for v in values]
        else:
            items = [self.whole(v, False) for v in part]
        if any(not -size <= i < size for i in items):
            raise Refused(f"an index is out of range for {size} values")
        return items

    def mask_cell(self, a: Array, mask: Array) -> int:
        """The node of a mask over the rows of `a`, which must be its first axis."""
        if mask.ndim != 1 or a.row_axis != 0 or mask.selection != a.selection:
            raise Refused(f"a mask of shape {mask.shape_text()} on an array of shape {a.shape_text()}")
        cell = int(mask.cells[0])
        if cell == UNSET:
            raise unset()
        return cell

    def select(self, a: Array, mask: Array) -> Array:
        """`a[mask]`: the rows where the mask holds, which only go together with the same selection."""
        cell = self.mask_cell(a, mask)
        self.spend(a.cells.size)
        return Array(a.cells.copy(), a.kind, a.rows, (*a.selection, cell), Store(a.store.bound))


def widest(items: Sequence[Array]) -> str:
    return max((item.kind for item in items), key=KINDS.index)


def largest(items: Sequence[Array]) -> float:
    return max(item.store.bound for item in items)


def unset() -> Refused:
    return Refused("a value that np.empty left unset is read")


def describe(value: Any) -> str:
    """A value in a word or two, for people."""
    if value is None:
        return "None"
    if isinstance(value, Array):
        return f"an array of shape {value.shape_text()}"
    names = {
        bool: "a boolean", int: "an integer", float: "a number", str: "a string", tuple: "a tuple",
        dict: "a dictionary", slice: "a slice", RowCount: "the number of rows",
    }  # fmt: skip
    if isinstance(value, list):
        return "a list"
    return names.get(type(value), "a function or module")
