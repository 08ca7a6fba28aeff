"""Arithmetic on arrays of graph nodes: numpy's broadcasting and types, but nothing that mixes rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.reader.values import Array, Limits, Refused, RowCount, Store, describe

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
        self.partial: dict[int, tuple[int, int]] = {}
        """Unset cells that have a value where a mask holds: mask node and value node."""
        self.one_kind = False
        """Whether a type that depends on a condition would show."""

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
        sizes: list[int] = []
        rows: int | None = None
        selection: tuple[int, ...] = ()
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
            if a.cells.size == 1:
                continue
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
        self.spend(8)  # a call costs about as much as eight cells
        add = self.graph.add
        if kind == "i" and bound > EXACT:
            raise Refused("integers beyond 2**53", "too_large")
        if not shape:
            self.spend(1)
            only = [a.cells.item() for a in arrays]
            if min(only) < 0:
                raise unset()
            return Array(np.array(add(op, *only), dtype=np.int64), kind, store=Store(bound), scalar=True)
        for a in arrays:
            if a.cells.size != 1:
                columns = [np.broadcast_to(a.cells, shape).ravel().tolist() for a in arrays]
                break
        else:
            columns = [[a.cells.item()] for a in arrays]
        self.spend(len(columns[0]))
        out = []
        for ids in zip(*columns, strict=True):
            if min(ids) < 0:
                raise unset()
            out.append(add(op, *ids))
        return Array(np.array(out, dtype=np.int64).reshape(shape), kind, rows, selection, Store(bound))

    def copy(self, a: Array, kind: str | None = None) -> Array:
        """A new array with the same cells."""
        self.spend(a.cells.size)
        return Array(a.cells.copy(), kind or a.kind, a.rows, a.selection, Store(a.store.bound), a.scalar)

    def arithmetic(self, symbol: str, a: Array, b: Array) -> Array:
        """A Python operator on arrays, with numpy's result types; integers only where float64 is exact."""
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
            return self.integral(self.elementwise("mul", "i", a, b, bound=left * right))
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
        return self.integral(self.elementwise(ARITHMETIC[symbol], "i", a, b, bound=left + right))

    def integral(self, a: Array) -> Array:
        """Integers without the sign that a float64 zero may have."""
        return self.elementwise("add", "i", a, self.number(0), bound=a.store.bound)

    def compare(self, symbol: str, a: Array, b: Array) -> Array:
        return self.elementwise(COMPARISONS[symbol], "b", a, b, bound=1.0)

    def float_function(self, op: str, *arrays: Array) -> Array:
        """A function whose result is float64; numpy computes it in half precision for booleans alone."""
        if all(a.kind == "b" or a.truth for a in arrays):
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
        if a.kind == "i":
            return self.arithmetic("-", self.number(0), a)
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

    def rounded(self, x: Array, decimals: int) -> Array:
        """np.round, which scales by a power of ten."""
        if x.kind != "f" or abs(decimals) > 20:
            raise Refused("rounding of integers or to this many decimals")
        if decimals == 0:
            return self.float_function("rint", x)
        scale, back = ("*", "/") if decimals > 0 else ("/", "*")
        power = self.number(10.0 ** abs(decimals))
        return self.arithmetic(back, self.float_function("rint", self.arithmetic(scale, x, power)), power)

    def choose(self, condition: Array, a: Array, b: Array) -> Array:
        """One of two values by a condition, where Python would keep the type of the one chosen."""
        kinds = {a.kind, b.kind}
        if len(kinds) == 2 and self.one_kind:
            raise Refused("a vectorized function whose type depends on the row (give otypes=[float])")
        if len(kinds) == 2 and ("b" in kinds or any(x.kind == "i" and not x.scalar for x in (a, b))):
            raise Refused("a value whose type depends on a condition on data")
        return self.where(condition, a, b)

    def opposite(self, a: int, b: int) -> bool:
        """Whether one mask node is the `not` of the other."""
        nodes = self.graph.nodes
        return any(nodes[p].op == "not" and nodes[p].args == (q,) for p, q in ((a, b), (b, a)))

    def constants(self, a: Array) -> list[float] | None:
        """The cells as numbers when all of them are constants."""
        values = []
        for cell in a.cells.ravel().tolist():
            if cell < 0 or self.graph.nodes[cell].op != "const":
                return None
            values.append(float(self.graph.nodes[cell].value))
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


def widest(items: Sequence[Array]) -> str:
    return max((item.kind for item in items), key=KINDS.index)


def largest(items: Sequence[Array]) -> float:
    return max(item.store.bound for item in items)


def unset() -> Refused:
    return Refused("a value that np.empty left unset is read")
