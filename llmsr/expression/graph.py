"""An equation as data: a graph of element-wise operations over input columns and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import combinations
from operator import or_
from typing import Any, NamedTuple

import numpy as np

from llmsr.expression.operations import OPS


class Node(NamedTuple):
    """One operation of a graph; `args` are positions of earlier nodes.

    `value` is the number of a `const`, the index of a `column` or `param`, and None elsewhere.
    """

    op: str
    args: tuple[int, ...] = ()
    value: float | int | None = None


class GraphTooLarge(Exception):
    """The graph would exceed the node limit that its builder was given."""


class Graph:
    """A builder that shares equal nodes and folds operations on constants.

    `max_nodes` bounds memory for any input; `add` raises `GraphTooLarge` beyond it.
    """

    def __init__(self, max_nodes: int = 4000, nodes: Sequence[Node] = ()) -> None:
        """Starts with `nodes`, which refer to each other."""
        self.nodes: list[Node] = list(nodes)
        self.max_nodes = max_nodes
        self._known: dict[tuple[Any, ...], int] = {self._key(node): i for i, node in enumerate(self.nodes)}

    @staticmethod
    def _key(node: Node) -> tuple[Any, ...]:
        # by repr of the number, so that 0.0 and -0.0 stay apart and nan equals itself
        return ("const", (), repr(node.value)) if node.op == "const" else node

    def intern(self, node: Node) -> int:
        """The position of a node, which is added where there is no equal one."""
        key = self._key(node)
        index = self._known.get(key)
        if index is None:
            if len(self.nodes) >= self.max_nodes:
                raise GraphTooLarge(f"more than {self.max_nodes} operations")
            index = self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return index

    def const(self, value: float) -> int:
        return self.intern(Node("const", (), float(value)))

    def column(self, index: int) -> int:
        return self.intern(Node("column", (), index))

    def param(self, index: int) -> int:
        return self.intern(Node("param", (), index))

    def add(self, op: str, *args: int) -> int:
        """The position of `op(*args)`; constants are folded with the operation's own kernel."""
        spec = OPS[op]
        if len(args) != spec.arity:
            raise ValueError(f"{op} takes {spec.arity} arguments, got {len(args)}")
        nodes = self.nodes
        for a in args:
            if nodes[a].op != "const":
                return self.intern(Node(op, args))
        with np.errstate(all="ignore"):
            values = [np.float64(nodes[a].value) for a in args]
            return self.const(float(spec.kernel(*values)))

    def expression(self, root: int, columns: tuple[str, ...]) -> Expression:
        """The expression that ends in `root`, without the nodes it does not need."""
        nodes, _ = pruned(self.nodes, [root])
        return Expression(nodes, columns)


class Symbol:
    """One node; sums, products, quotients and signs are simplified: 0 + a, 1 * a, -(-a), 0 * a.

    Differences and functions are taken as they are said, `a**2` is `a * a` as it is said.
    """

    __slots__ = ("graph", "index")

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    @property
    def number(self) -> float | None:
        """The value where it is a number."""
        node = self.graph.nodes[self.index]
        return float(node.value) if node.op == "const" else None  # type: ignore[arg-type]

    @property
    def _negated(self) -> Symbol | None:
        """What this is minus of, where it is a negation."""
        node = self.graph.nodes[self.index]
        return Symbol(self.graph, node.args[0]) if node.op == "neg" else None

    def _symbol(self, value: Symbol | float) -> Symbol:
        return value if isinstance(value, Symbol) else Symbol(self.graph, self.graph.const(value))

    def apply(self, op: str, *args: Symbol | float) -> Symbol:
        """`op(*args)` as one more node; a choice between equals is none."""
        indices = [self._symbol(a).index for a in args]
        if op == "where" and indices[1] == indices[2]:
            return Symbol(self.graph, indices[1])
        return Symbol(self.graph, self.graph.add(op, *indices))

    def __neg__(self) -> Symbol:
        node = self.graph.nodes[self.index]
        if node.op == "neg":
            return Symbol(self.graph, node.args[0])
        if node.op == "sub":
            return Symbol(self.graph, self.graph.add("sub", node.args[1], node.args[0]))
        return self.apply("neg", self)

    def __add__(self, other: Symbol | float) -> Symbol:
        other = self._symbol(other)
        if self.number == 0.0:
            return other
        if other.number == 0.0:
            return self
        for a, b in ((self, other), (other, self)):
            if (negated := b._negated) is not None:
                return a - negated
        # in one order, so that a + b and b + a are one node
        return Symbol(self.graph, self.graph.add("add", *sorted((self.index, other.index))))

    __radd__ = __add__

    def __sub__(self, other: Symbol | float) -> Symbol:
        return self.apply("sub", self, other)

    def __rsub__(self, other: float) -> Symbol:
        return self.apply("sub", other, self)

    def __mul__(self, other: Symbol | float) -> Symbol:
        other = self._symbol(other)
        for a, b in ((self, other), (other, self)):
            value = a.number
            if value == 0.0:
                return a
            if value == 1.0:
                return b
            if value == -1.0:
                return -b
        for a, b in ((self, other), (other, self)):
            if (negated := a._negated) is not None:
                return -(negated * b)
        return Symbol(self.graph, self.graph.add("mul", *sorted((self.index, other.index))))

    __rmul__ = __mul__

    def __truediv__(self, other: Symbol) -> Symbol:
        if self.number == 0.0 or other.number == 1.0:
            return self
        if (negated := self._negated) is not None:
            return -(negated / other)
        return self.apply("div", self, other)

    def __pow__(self, exponent: float) -> Symbol:
        """Spelled with the cheapest operation."""
        if exponent == 0.0:
            return self._symbol(1.0)
        if exponent == 1.0:
            return self
        return self.apply("mul", self, self) if exponent == 2.0 else self.apply("pow", self, exponent)


def pruned(nodes: Sequence[Node], outputs: Sequence[int]) -> tuple[tuple[Node, ...], list[int]]:
    """The nodes that `outputs` need, in their order, and the new places of the outputs."""
    needed = [False] * len(nodes)
    for output in outputs:
        needed[output] = True
    for index in range(max(outputs), -1, -1):
        if needed[index]:
            for a in nodes[index].args:
                needed[a] = True
    # most graphs that are asked for have nothing to leave out
    if all(needed):
        return tuple(nodes), list(outputs)
    position: dict[int, int] = {}
    kept: list[Node] = []
    for index, (op, args, value) in enumerate(nodes):
        if needed[index]:
            position[index] = len(kept)
            kept.append(Node(op, tuple([position[a] for a in args]), value))
    return tuple(kept), [position[output] for output in outputs]


@dataclass(frozen=True)
class Expression:
    """An equation of one row: nodes in topological order, the last one being the result.

    `columns` names the input columns in their order. Every node is a number per row (or a number for all
    rows), so nothing an expression can say mixes rows.
    """

    nodes: tuple[Node, ...]
    columns: tuple[str, ...]

    @cached_property
    def params(self) -> tuple[int, ...]:
        """The indices of the parameters that the result depends on, ascending."""
        return tuple(sorted({int(n.value) for n in self.nodes if n.op == "param"}))  # type: ignore[arg-type]

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The indices of the columns that the result depends on, ascending."""
        return tuple(sorted({int(n.value) for n in self.nodes if n.op == "column"}))  # type: ignore[arg-type]


CEILING = 1_000_000
"""The largest complexity that is told apart; larger trees all count as this."""


def tree_sizes(expression: Expression) -> list[int]:
    """Operators plus leaves under each node, as a tree without sharing, at most `CEILING` each."""
    # a graph of a hundred nodes may be a tree of 2**50: the sizes stop before they are slow to add
    sizes: list[int] = []
    for node in expression.nodes:
        sizes.append(min(CEILING, 1 + sum(sizes[a] for a in node.args)))
    return sizes


def complexity(expression: Expression) -> int:
    """Operators plus leaves of the tree without sharing, between 1 and `CEILING`.

    Every operation counts 1, a negation too, and so does every appearance of a column, a parameter or a
    number (PySR's default count). It is the size of the equation as written, not of its canonical form.
    The time is linear in the nodes of the graph, however large the tree.
    """
    return tree_sizes(expression)[-1]


def values_of(
    nodes: Sequence[Node], columns: Sequence[np.ndarray] | np.ndarray, params: Sequence[float] | np.ndarray
) -> list[Any]:
    """The value of every node by plain numpy, for columns of shape (rows,): shape (rows,) or ()."""
    values: list[Any] = []
    for op, args, value in nodes:
        if op == "const":
            values.append(np.float64(value))
        elif op == "column":
            values.append(columns[int(value)])  # type: ignore[arg-type]
        elif op == "param":
            values.append(np.float64(params[int(value)]))  # type: ignore[arg-type]
        else:
            values.append(OPS[op].kernel(*[values[a] for a in args]))
    return values


def evaluate(expression: Expression, inputs: np.ndarray, params: np.ndarray) -> np.ndarray:
    """The value of every row, shape (rows,), by plain numpy: the meaning that all engines must agree with.

    `inputs` has shape (rows, columns), `params` at least as many entries as the largest parameter index.
    """
    with np.errstate(all="ignore"):
        value = values_of(expression.nodes, inputs.T, params)[-1]
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(inputs),))


# ---- parameters that enter linearly


def linear_params(expression: Expression) -> tuple[int, ...]:
    """The largest set of parameters in which the expression is jointly affine, ascending; all others held
    fixed.

    Decided by dependency, so never wrong but possibly smaller than algebra could show. Among sets of equal
    size the one whose parameters appear first in the graph wins.
    """
    order = list(dict.fromkeys(int(n.value) for n in expression.nodes if n.op == "param"))  # type: ignore[arg-type]
    depends: list[int] = []  # a node's mask: bit i where it depends on parameter order[i]
    clashes = [0] * len(order)  # bit j of entry i: parameters i and j are multiplied or bent together
    for op, args, value in expression.nodes:
        below = [depends[a] for a in args]
        mask = 1 << order.index(int(value)) if op == "param" else reduce(or_, below, 0)  # type: ignore[arg-type]
        depends.append(mask)
        if not mask or not args or op in ("add", "sub", "neg"):
            continue
        one, other = mask, mask
        if op == "mul":
            one, other = below
        elif op in ("div", "where"):
            other = below[1 if op == "div" else 0]
        for i in range(len(order)):
            clashes[i] |= (one >> i & 1) * other | (other >> i & 1) * one
    free = [i for i, clash in enumerate(clashes) if not clash >> i & 1]
    return tuple(sorted(order[i] for i in _independent(free, clashes)))


def _independent(free: list[int], clashes: list[int]) -> tuple[int, ...]:
    """The first largest subset of `free` without pairs that clash; greedy beyond 16 members."""
    if len(free) > 16:
        chosen: list[int] = []
        for i in sorted(free, key=lambda i: (clashes[i].bit_count(), i)):
            if not any(clashes[i] >> j & 1 for j in chosen):
                chosen.append(i)
        return tuple(chosen)
    rest = [i for i in free if any(clashes[i] >> j & 1 for j in free)]
    lone = [i for i in free if i not in rest]
    for size in range(len(rest), 0, -1):
        for subset in combinations(rest, size):
            mask = sum(1 << i for i in subset)
            if not any(clashes[i] & mask for i in subset):
                return (*lone, *subset)
    return tuple(lone)
