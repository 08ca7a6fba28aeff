"""Arithmetic and shapes of arrays of graph nodes: numpy's rules, but nothing that mixes rows.

Every function gives a new value and changes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.operations import OPS
from llmsr.expression.reader.values import (
    NUMBERS,
    Array,
    Frame,
    Limits,
    List,
    Place,
    Refused,
    RowCount,
    describe,
    refuse_if,
)

WIDTHS = {"b": 0, "t": 1, "i": 1, "f": 2}
EXACT = 2.0**53
"""Integers up to here are exact as float64, which is how the graph holds them."""

COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "//": "floordiv", "%": "mod"}
Some = TypeVar("Some", bound=Sized)
BITWISE = {"&": "and", "|": "or", "^": "xor"}


def mixes_rows(what: str) -> Refused:
    return Refused(f"{what} mixes rows; an equation is a function of one row")


def widest(items: Sequence[Array]) -> str:
    return "bif"[max(WIDTHS[item.kind] for item in items)]


def fresh(
    cells: np.ndarray,
    kind: str,
    rows: int | None = None,
    selection: tuple[int, ...] = (),
    locked: str = "",
    sources: frozenset[Place] = frozenset(),
) -> Array:
    """A new array, at a place of its own."""
    place = Place(None, locked, sources)
    place.content = whole = Array(cells, kind, rows, selection, place)
    return whole


def as_number(a: Array) -> Array:
    """What numpy gives instead of an array without axes: a number, which cannot be changed."""
    return a if a.ndim else Array(a.cells, a.kind)


def view(a: Array, change: Callable[[np.ndarray], np.ndarray], rows: int | None) -> Array:
    """The same cells in another shape, at the same place."""
    selection = a.selection if rows is not None else ()
    if a.place is None:
        return fresh(change(a.cells), a.kind, rows, selection)
    return Array(change(a.cells), a.kind, rows, selection, a.place, change(positions(a)))


def positions(a: Array) -> np.ndarray:
    """Where the cells of an array are in the whole array of its place."""
    return np.arange(a.cells.size).reshape(a.cells.shape) if a.at is None else a.at


def expand(a: Array, axis: int) -> Array:
    """A view with one more axis of length 1."""
    rows = None if a.row_axis is None else a.row_axis + (axis <= a.row_axis) - a.ndim - 1
    return view(a, lambda cells: np.expand_dims(cells, axis), rows)


class Arrays:
    """Builds arrays on one graph, in the names of frames.

    `spent` counts operations on cells against the limit, `steps` syntax; `line` is where the body stands.
    """

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self.graph, self.limits = graph, limits
        self.spent = self.steps = 0
        self.line = 1
        self.frame = Frame(frozenset(), None)
        self.frames: list[Frame] = [self.frame]
        self.conditions: list[tuple[Array | None, int]] = []
        """The conditions on data under which the body stands, and when they began; None: in a single row."""
        self.sizes: dict[int, float] = {}
        """What `largest` found."""
        self.one_kind = False
        """Whether a type that depends on a condition would show."""

    def spend(self, cells: int) -> None:
        self.spent += cells
        if self.spent > self.limits.cells:
            raise Refused(f"more than {self.limits.cells} element-wise operations", "too_large")

    def bounded(self, items: Some) -> Some:
        """A tuple, text or dictionary that is not too long."""
        if len(items) > self.limits.items:
            raise Refused(f"a list, text or dictionary of more than {self.limits.items} items", "too_large")
        return items

    def step(self, line: int | None) -> None:
        self.steps += 1
        if self.steps > self.limits.steps:
            raise Refused(f"more than {self.limits.steps} steps", "too_large")
        if line is not None and not self.frame.elsewhere:
            self.line = line

    # -- values

    def where_held(self, a: Array, condition: Array, holds: bool = True) -> Array:
        """The cells that count where a condition holds, or where it does not."""
        cells, test, nodes = [], condition.cells.item(), self.graph.nodes
        self.spend(a.cells.size)
        for cell in a.cells.ravel().tolist():
            while nodes[cell].op == "where":
                asked, yes, no = nodes[cell].args
                if asked != test and not self.opposite(asked, test):
                    break
                cell = yes if (asked == test) == holds else no
            cells.append(cell)
        return replace(a, cells=np.array(cells, dtype=np.int64).reshape(a.cells.shape))

    def opposite(self, a: int, b: int) -> bool:
        """Whether one node is the `not` of the other."""
        nodes = self.graph.nodes
        return any(nodes[p].op == "not" and nodes[p].args == (q,) for p, q in ((a, b), (b, a)))

    def array(self, value: Any) -> Array:
        """Any number, array, list or tuple of them as an array, with the cells that it has now."""
        if isinstance(value, Array):
            if value.place is None:
                return value
            whole: Array = value.place.content
            now = whole if value.at is None else replace(value, cells=whole.cells.take(value.at))
            # what an earlier way has changed is what it was on the other
            for condition, _ in self.conditions:
                now = now if condition is None else self.where_held(now, condition)
            return now
        if isinstance(value, NUMBERS):
            return self.number(value)
        if isinstance(value, List):
            value = value.content
        if isinstance(value, tuple):
            return self.stack([self.array(item) for item in value], 0)
        if isinstance(value, RowCount):
            raise mixes_rows("the number of rows used as a number")
        raise Refused(f"{describe(value)} used as a number")

    def number(self, value: bool | int | float) -> Array:
        """A Python number as an array without axes."""
        kind = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"
        try:
            as_float = float(value)
        except OverflowError:
            raise Refused("an integer too large for a float64", "too_large") from None
        return Array(np.array(self.graph.const(as_float), dtype=np.int64), kind)

    def copy(self, a: Array, kind: str | None = None) -> Array:
        """A new array with the same cells; of a number the number."""
        self.spend(a.cells.size)
        if a.place is None:
            return replace(a, kind=kind or a.kind)
        return fresh(a.cells, kind or a.kind, a.rows, a.selection)

    def constants(self, a: Array) -> list[float] | None:
        """The cells as numbers when all of them are constants."""
        found = [self.graph.nodes[cell] for cell in a.cells.ravel().tolist()]
        known = all(node.op == "const" for node in found)
        return [float(node.value) for node in found if node.value is not None] if known else None

    def constant(self, a: Array) -> bool | int | float | None:
        """The one number of an array without axes, when it is a constant."""
        values = None if a.ndim else self.constants(a)
        return None if values is None else {"f": float, "b": bool}.get(a.kind, int)(values[0])

    def largest(self, cell: int) -> float:
        """The largest size of the integer at a node; infinite where nothing limits it."""
        known = self.sizes.get(cell)
        if known is None:
            op, args, value = self.graph.nodes[cell]
            if not args:
                known = abs(float(value or 0.0)) if op == "const" else np.inf
            elif OPS[op].boolean:
                known = 1.0
            elif op == "pow":
                base, exponent = map(self.largest, args)
                # of logarithms, since the power itself may be too large for a float
                known = 2.0 ** min(np.log2(max(base, 1.0)) * exponent, 64.0)
            else:
                sizes = [self.largest(arg) for arg in args[-2:]]  # the first of three is a condition
                known = math.prod(sizes) if op == "mul" else sum(sizes)
            self.sizes[cell] = known
        return known

    # -- one operation on every cell

    def check_shape(self, shape: Sequence[int]) -> None:
        refuse_if(len(shape) > 8 or any(n < 0 for n in shape), "an array of this shape is not possible")
        size = 1
        for n in shape:
            # checked at every step, since the product of a long shape may be a number of a million digits
            size *= n
            if n > self.limits.size or size > self.limits.size:
                raise Refused(f"an array of more than {self.limits.size} cells per row", "too_large")

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
        shape = [1] * ndim
        for a in arrays:
            if a.cells.size == 1:
                continue
            offset = ndim - a.cells.ndim
            for i, n in enumerate(a.cells.shape):
                if n == 1:
                    continue
                # whatever the number of rows is, it is not known to be n
                if shape[offset + i] not in (1, n) or (rows is not None and offset + i - ndim == rows):
                    texts = " and ".join(x.shape_text() for x in arrays)
                    raise Refused(f"shapes {texts} do not go together")
                shape[offset + i] = n
        self.check_shape(shape)
        return tuple(shape), rows, selection

    def elementwise(self, op: str, kind: str, *arrays: Array) -> Array:
        """One graph operation on every cell; an array, or a number where no array has axes."""
        shape, rows, selection = self.broadcast(arrays)
        if all(a.cells.size == 1 for a in arrays):
            columns = [[a.cells.item()] for a in arrays]
        else:
            columns = [np.broadcast_to(a.cells, shape).ravel().tolist() for a in arrays]
        self.spend(8 + len(columns[0]))  # a call costs about as much as eight cells
        add = self.graph.add
        out = [add(op, *ids) for ids in zip(*columns, strict=True)]
        if kind == "i":
            refuse_if(any(self.largest(i) > EXACT for i in out), "integers beyond 2**53", "too_large")
        if not shape:
            return Array(np.array(out[0], dtype=np.int64), kind)
        return fresh(np.array(out, dtype=np.int64).reshape(shape), kind, rows, selection)

    def arithmetic(self, symbol: str, a: Array, b: Array) -> Array:
        """A Python operator on arrays, with numpy's result types; integers only where float64 is exact."""
        kind = widest((a, b))
        if symbol in BITWISE:
            truths = a.kind in "bt" and b.kind in "bt"
            refuse_if(not truths, f"{symbol} of numbers that are not booleans (compare first, then combine)")
            return self.logical(BITWISE[symbol], a, b)
        refuse_if(symbol not in ARITHMETIC, f"the operator {symbol} on arrays")
        # numpy divides booleans and integers as float64
        if symbol == "/" or kind == "f":
            return self.elementwise(ARITHMETIC[symbol], "f", a, b)
        if kind == "b":
            refuse_if(symbol not in "+*", f"the operator {symbol} between two boolean arrays")
            return self.logical("or" if symbol == "+" else "and", a, b)
        if symbol in "+-":
            return self.elementwise(ARITHMETIC[symbol], "i", a, b)
        if symbol == "*":
            return self.integral(self.elementwise("mul", "i", a, b))
        # numpy gives 0 for an integer over 0 and stops at a negative power: what is not known may be either
        values = self.constants(b)
        if values is None:
            raise Refused(f"the operator {symbol} between integers that are not constants")
        if symbol == "**":
            if any(v < 0 for v in values):
                raise Refused("an integer to a negative power (write the base as a float)")
            return self.elementwise("pow", "i", a, b)
        refuse_if(any(v == 0 for v in values), "an integer divided by zero")
        return self.integral(self.elementwise(ARITHMETIC[symbol], "i", a, b))

    def integral(self, a: Array) -> Array:
        """Integers without the sign that a float64 zero may have."""
        return self.elementwise("add", "i", a, self.number(0))

    def compare(self, symbol: str, a: Array, b: Array) -> Array:
        return self.elementwise(COMPARISONS[symbol], "b", a, b)

    def logical(self, op: str, *arrays: Array) -> Array:
        return self.elementwise(op, "b", *arrays)

    def float_function(self, op: str, *arrays: Array) -> Array:
        """A function whose result is float64; numpy computes it in half precision for booleans alone."""
        self.no_booleans(*arrays)
        return self.elementwise(op, "f", *arrays)

    def no_booleans(self, *arrays: Array) -> None:
        if all(a.kind in "bt" for a in arrays):
            raise Refused("a function of booleans only, which numpy computes in half precision")

    def keep_kind(self, op: str, a: Array) -> Array:
        """abs, sign: the kind of the argument."""
        refuse_if(a.kind == "b" and op != "abs", f"{op} of booleans")
        return self.elementwise(op, a.kind, a)

    def rounding(self, op: str, a: Array) -> Array:
        """floor, ceil, trunc, which leave integers alone."""
        return self.copy(a) if a.kind == "i" else self.float_function(op, a)

    def positive(self, a: Array) -> Array:
        self.no_booleans(a)
        return self.copy(a)

    def fmod(self, a: Array, b: Array) -> Array:
        refuse_if("f" not in (a.kind, b.kind), "fmod of integers")
        return self.elementwise("fmod", "f", a, b)

    def extremum(self, op: str, a: Array, b: Array) -> Array:
        """minimum, maximum, fmin, fmax."""
        return self.elementwise(op, widest((a, b)), a, b)

    def negative(self, a: Array) -> Array:
        refuse_if(a.kind == "b", "the negative of booleans")
        # an integer 0 has no sign, which the negative of a float64 would have
        return self.elementwise("neg", "f", a) if a.kind == "f" else self.arithmetic("-", self.number(0), a)

    def invert(self, a: Array) -> Array:
        """`~`, which is `not` for booleans."""
        refuse_if(a.kind != "b", "~ of numbers that are not booleans")
        return self.logical("not", a)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self.elementwise("where", widest((a, b)), condition, a, b)

    def choose(self, condition: Array, a: Array, b: Array) -> Array:
        """One of two values by a condition, where Python would keep the type of the one chosen."""
        kinds = {a.kind, b.kind}
        if len(kinds) == 2 and self.one_kind:
            raise Refused("a vectorized function whose type depends on the row (give otypes=[float])")
        if len(kinds) == 2 and ("b" in kinds or any(x.kind == "i" and x.place is not None for x in (a, b))):
            raise Refused("a value whose type depends on a condition on data")
        return self.where(condition, a, b)

    # -- shapes

    @staticmethod
    def axis(axis: Any, ndim: int) -> int:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -ndim <= axis < ndim:
            raise Refused(f"axis {str(axis)[:20]} of an array with {ndim} axes")
        return axis % ndim

    def fits(self, value: Array, target: Array) -> None:
        """Refuses unless `value` broadcasts into the target without changing its shape."""
        shape, rows, _ = self.broadcast([value, target])
        if (shape, rows) != (target.cells.shape, target.rows):
            raise Refused(f"a value of shape {value.shape_text()} does not fit {target.shape_text()}")

    def stack(self, items: Sequence[Array], axis: int) -> Array:
        """np.stack: equal shapes along a new axis."""
        if not items:
            return fresh(np.empty(0, dtype=np.int64), "f")
        for item in items:
            if (item.cells.shape, item.rows) != (items[0].cells.shape, items[0].rows):
                raise Refused(f"shapes {items[0].shape_text()} and {item.shape_text()} cannot be stacked")
        axis = self.axis(axis, items[0].ndim + 1)
        return self.concatenate([expand(item, axis) for item in items], axis)

    def concatenate(self, items: Sequence[Array], axis: int) -> Array:
        """np.concatenate along an axis that is not the rows."""
        refuse_if(not items, "concatenating nothing")
        first = items[0]
        axis = self.axis(axis, first.ndim)
        for item in items:
            if item.row_axis == axis:
                raise mixes_rows("concatenating along the rows")
            shape = list(item.cells.shape)
            shape[axis : axis + 1] = first.cells.shape[axis : axis + 1]
            if (tuple(shape), item.rows, item.selection) != (first.cells.shape, first.rows, first.selection):
                raise Refused(f"shapes {first.shape_text()} and {item.shape_text()} cannot be concatenated")
        total = sum(item.cells.size for item in items)
        self.check_shape((total,))
        self.spend(total)
        cells = np.concatenate([item.cells for item in items], axis)
        kind = "b" if all(item.kind in "bt" for item in items) else widest(items)
        return fresh(cells, kind, first.rows, first.selection)
