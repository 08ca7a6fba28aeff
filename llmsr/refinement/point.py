"""A fitted equation seen on some rows: what its residual, its slopes and its constants still allow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from llmsr.expression.derive import derivatives
from llmsr.expression.graph import OPS, Expression, Graph, Node
from llmsr.problem.loading import Split
from llmsr.refinement.tree import Tree, copied

ROWS = 256
SEED = 0
RANK = 1e-9  # singular values below this share of the largest are rounding


@dataclass(frozen=True)
class Rows:
    """Rows on which candidates are compared before any is fitted; squares over `power` are an NMSE."""

    inputs: np.ndarray
    target: np.ndarray
    power: float

    @classmethod
    def of(cls, split: Split, count: int = ROWS) -> Rows:
        count = min(count, len(split))
        index = _chosen(split.inputs, count)
        deviation = split.target - split.target.mean()
        return cls(
            split.inputs[index], split.target[index], float(deviation @ deviation) * count / len(split)
        )


def _chosen(inputs: np.ndarray, count: int) -> np.ndarray:
    """Which rows to look at: at a fixed stride, or at random where a column would then hide its values.

    On a grid the stride may be in step with a column that runs through it, and meet one value over and over.
    """
    strided = np.arange(count) * len(inputs) // count
    anywhere = np.sort(np.random.default_rng(SEED).permutation(len(inputs))[:count])
    for column in inputs.T:
        if len(np.unique(column[strided])) < len(np.unique(column[anywhere])) / 2:
            return anywhere
    return strided


def node_values(nodes: tuple[Node, ...], inputs: np.ndarray, start: tuple[float, ...]) -> list[np.ndarray]:
    """The value of every node, shape (rows,) each."""
    values: list[np.ndarray] = []
    for node in nodes:
        if node.op == "column":
            value = inputs[:, int(node.value or 0)]
        elif node.op == "param":
            value = np.full(len(inputs), start[int(node.value or 0)])
        elif node.op == "const":
            value = np.full(len(inputs), float(node.value or 0.0))
        else:
            value = OPS[node.op].kernel(*(values[a] for a in node.args))
        values.append(value)
    return values


def basis(columns: list[np.ndarray], rows: int) -> np.ndarray:
    """An orthonormal basis of the columns, shape (rows, rank); columns that are not finite are left out."""
    lengths = [float(np.linalg.norm(c)) for c in columns]
    kept = [c / n for c, n in zip(columns, lengths, strict=True) if 0 < n < np.inf]
    if not kept:
        return np.zeros((rows, 0))
    left, sizes, _ = np.linalg.svd(np.column_stack(kept), full_matrices=False)
    return left[:, sizes > RANK * sizes[0]]


def off(directions: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns without their part along an orthonormal basis, taken off twice against rounding."""
    for _ in range(2):
        columns = columns - directions @ (directions.T @ columns)
    return columns


def reachable(tree: Tree, rows: Rows) -> float:
    """The NMSE on `rows` that one Gauss-Newton step from the tree's start promises; inf where undefined.

    The step is not taken, so for equations that bend much in their constants this is only a rank.
    """
    d = derivatives(Expression(tree.nodes, tree.columns))
    values = node_values(d.nodes, rows.inputs, tree.start)
    residual = rows.target - values[d.root]
    if not np.isfinite(residual).all():
        return np.inf
    left = off(basis([values[p] for p in d.partials], len(residual)), residual)
    return float(left @ left) / rows.power


@dataclass
class Point:
    """A fitted tree with its values, slopes and derivatives by its parameters on `rows`.

    `slopes[i]` is the derivative of the result by node i; it is there for nodes that hold a column and for
    numbers that are no exponents. Raises NotImplementedError for an operation without a derivative.
    """

    tree: Tree
    rows: Rows
    values: list[np.ndarray] = field(init=False)
    residual: np.ndarray = field(init=False)
    slopes: dict[int, np.ndarray] = field(init=False)
    by_param: dict[int, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        tree = self.tree
        self.values = node_values(tree.nodes, self.rows.inputs, tree.start)
        self.residual = self.rows.target - self.values[-1]
        exponents = {node.args[1] for node in tree.nodes if node.op == "pow"}
        probed = [
            i
            for i, node in enumerate(tree.nodes)
            if tree.varies[i] or (node.op == "const" and i not in exponents)
        ]
        first = len(tree.start)
        d = derivatives(_probed(tree, probed, first))
        values = node_values(d.nodes, self.rows.inputs, (*tree.start, *([0.0] * len(tree.nodes))))
        partial = {p: values[at] for p, at in zip(d.params, d.partials, strict=True)}
        self.slopes = {i: partial[first + i] for i in probed}
        self.by_param = {p: partial[p] for p in tree.params}
        self._tangents: dict[frozenset[int], np.ndarray] = {}

    @property
    def nmse(self) -> float:
        return float(self.residual @ self.residual) / self.rows.power

    def tangent(self, without: frozenset[int] = frozenset()) -> np.ndarray:
        """A basis of what the constants can move, those of `without` held."""
        found = self._tangents.get(without)
        if found is None:
            kept = [column for p, column in self.by_param.items() if p not in without]
            found = self._tangents[without] = basis(kept, len(self.residual))
        return found

    def promise(self, shift: np.ndarray, without: frozenset[int] = frozenset()) -> float:
        """The NMSE after a change of the prediction by `shift`, the other constants fitted to first order."""
        left = off(self.tangent(without), self.residual - shift)
        square = float(left @ left)
        return square / self.rows.power if np.isfinite(square) else np.inf


def _probed(tree: Tree, probed: list[int], first: int) -> Expression:
    """The tree with parameter first + i added to each node i of `probed`."""
    graph = Graph(max_nodes=20_000)
    made: list[int] = []
    wanted = set(probed)
    for i, node in enumerate(tree.nodes):
        index = copied(graph, node, made)
        made.append(graph.add("add", index, graph.param(first + i)) if i in wanted else index)
    return graph.expression(made[-1], tree.columns)
