"""numpy's functions that pick values: by constant positions, or by the region that a number lies in."""

from __future__ import annotations

import itertools
from typing import Any

from llmsr.expression.graph import OPS
from llmsr.expression.reader.indexing import read, whole
from llmsr.expression.reader.numpy_curves import MAX_POINTS
from llmsr.expression.reader.numpy_making import cast, lifted
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.values import Array, Refused


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
