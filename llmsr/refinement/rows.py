"""The rows on which candidates are compared, and the numbers that equations have on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from llmsr.expression import Refusal, parse
from llmsr.expression.graph import Expression, Graph, Node
from llmsr.expression.operations import OPS
from llmsr.problem.split import Split

ROWS = 256
PROBES = 512  # points at which an equation must be finite
SEED = 0
LARGE = 1e12  # size of a number beyond which a function is of no use as a summand
RANK = 1e-9  # singular values below this share of the largest are rounding
NAMES = ("u", "v", "w", "k", "c")  # of a formula
FUNCTIONS = """
from numpy import arccos, arccosh, arcsin, arctan, cbrt, cos, exp, log, log1p, maximum, sin, sqrt, tanh
from scipy.special import expit
"""
INSIDE_TERMS = 20_000
"""The parameters of terms are numbered from here on, each term's its own, so that terms can be added up."""


@dataclass(frozen=True)
class Rows:
    """Rows on which candidates are compared before any is fitted; squares over `power` are an NMSE.

    `inputs` has shape (rows, columns), `target` (rows,).
    """

    inputs: np.ndarray
    target: np.ndarray
    power: float

    @classmethod
    def of(cls, split: Split, count: int = ROWS) -> Rows:
        """At most `count` rows of a split; of weighted ones `count`, drawn as often as they weigh."""
        if split.weights is not None:
            share = np.cumsum(split.weights) / np.sum(split.weights)
            index = np.searchsorted(share, (np.arange(count) + 0.5) / count)
            drawn = split.taken(index)
            return cls(drawn.inputs, drawn.target, float(np.var(drawn.target)) * count)
        return cls._at(split, _chosen(split.inputs, min(count, len(split))))

    @classmethod
    def spread(cls, split: Split, count: int = ROWS) -> Rows:
        """At most `count` rows that show every column over all its range.

        What settles has most of its rows where nothing happens; a law is told by the others.
        """
        if split.weights is not None or len(split) <= count:
            return cls.of(split, count)
        index: list[int] = []
        share = count // (split.inputs.shape[1] + 1)
        for column in split.inputs.T:
            order = np.argsort(column, kind="stable")
            levels = np.linspace(column[order[0]], column[order[-1]], share)
            index += order[np.searchsorted(column[order], levels).clip(max=len(column) - 1)].tolist()
        strided = np.setdiff1d(_chosen(split.inputs, count), index)
        more = count - len(set(index))
        return cls._at(split, np.union1d(index, strided[np.arange(more) * len(strided) // more]).astype(int))

    @classmethod
    def _at(cls, split: Split, index: np.ndarray) -> Rows:
        deviation = split.target - split.target.mean()
        power = float(deviation @ deviation) * len(index) / len(split)
        return cls(split.inputs[index], split.target[index], power)


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


def probes(inputs: np.ndarray) -> np.ndarray:
    """Points of the box of the columns, zeros of columns that change sign among them: (points, columns).

    Where an equation is not finite at one of them, it is not where it will be used.
    """
    low, high = inputs.min(0), inputs.max(0)
    found = low + (high - low) * np.random.default_rng(SEED).random((PROBES, len(low)))
    for column in np.flatnonzero((low <= 0) & (high >= 0)):
        found[column :: PROBES // 8, column] = 0.0
    return found


def node_values(nodes: Sequence[Node], inputs: np.ndarray, start: Mapping[int, float]) -> list[np.ndarray]:
    """The value of every node, shape (rows,) each; `start` maps parameters to their values."""
    values: list[np.ndarray] = []
    for node in nodes:
        values.append(_value(node, values, inputs, start))
    return values


def _value(
    node: Node, values: Sequence[np.ndarray], inputs: np.ndarray, start: Mapping[int, float]
) -> np.ndarray:
    if node.args:
        return np.asarray(OPS[node.op].kernel(*(values[a] for a in node.args)))
    if node.op == "column":
        return inputs[:, int(node.value or 0)]
    number = start[int(node.value or 0)] if node.op == "param" else float(node.value or 0.0)
    return np.full(len(inputs), number)


class NumberedGraph(Graph):
    """A graph that knows of each of its nodes the numbers on some rows, `values`, and the size as a tree.

    Seeded with an equation's nodes and their values, it shares them with all terms that use them.
    """

    def __init__(
        self,
        rows: Rows,
        nodes: Sequence[Node] = (),
        values: Sequence[np.ndarray] = (),
        max_nodes: int = 100_000,
    ) -> None:
        super().__init__(max_nodes=max_nodes, nodes=nodes)
        self.rows = rows
        self.values = list(values)
        self.sizes: list[int] = []
        for node in nodes:
            self.sizes.append(1 + sum(self.sizes[a] for a in node.args))
        self.start: dict[int, float] = {}

    def fresh(self, value: float) -> int:
        """The position of a parameter of its own that starts at `value`."""
        index = INSIDE_TERMS + len(self.start)
        self.start[index] = value
        return self.param(index)

    def size(self, u: int) -> int:
        """The absolute value of a node: itself where it is never negative."""
        return u if self.values[u].min() >= 0 else self.add("abs", u)

    def made(self, formula: str, **nodes: int) -> int:
        """The node of a formula, of which the names stand for nodes; sizes are taken by `size`."""
        expression, places = _parsed(formula), list[int]()
        for op, args, value in expression.nodes:
            inner = [places[a] for a in args]
            if op == "column":
                places.append(nodes[expression.columns[int(value or 0)]])
            elif op == "const":
                places.append(self.const(float(value or 0.0)))
            else:
                places.append(self.size(*inner) if op == "abs" else self.add(op, *inner))
        return places[-1]

    def expression(self, root: int, columns: tuple[str, ...]) -> Expression:
        """The expression that ends in `root`, in time of its own size, however large the graph is."""
        needed, stack = {root}, [root]
        while stack:
            for a in self.nodes[stack.pop()].args:
                if a not in needed:
                    needed.add(a)
                    stack.append(a)
        place = {old: new for new, old in enumerate(sorted(needed))}
        nodes = (self.nodes[i]._replace(args=tuple(place[a] for a in self.nodes[i].args)) for i in place)
        return Expression(tuple(nodes), columns)

    def intern(self, node: Node) -> int:
        index = super().intern(node)
        if index == len(self.values):
            self.values.append(_value(node, self.values, self.rows.inputs, self.start))
            self.sizes.append(1 + sum(self.sizes[a] for a in node.args))
        return index


@cache
def _parsed(formula: str) -> Expression:
    """A formula of our own as an expression of its names."""
    found = parse(f"{FUNCTIONS}return {formula}", NAMES)
    assert not isinstance(found, Refusal), f"{formula}: {found}"
    return found


def orthonormal(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """An orthonormal basis of the columns, shape (rows, rank); columns that are not finite are left out."""
    lengths = [float(np.linalg.norm(c)) for c in columns]
    kept = [c / n for c, n in zip(columns, lengths, strict=True) if 0 < n < np.inf]
    if not kept:
        return np.zeros((rows, 0))
    left, sizes, _ = np.linalg.svd(np.column_stack(kept), full_matrices=False)
    return left[:, sizes > RANK * sizes[0]]


def distinct(numbers: Iterable[np.ndarray], digits: int = 9) -> list[int]:
    """The places of those numbers that are finite and not all 0; of those equal up to a factor the first."""
    kept: dict[bytes, int] = {}
    for place, values in enumerate(numbers):
        length = float(np.linalg.norm(values))
        largest = values[np.abs(values).argmax()]
        if 0 < length < np.inf and abs(largest) <= LARGE:
            direction = np.round(values / (length * np.sign(largest)), digits) + 0.0
            kept.setdefault(direction.tobytes(), place)
    return list(kept.values())


def coefficients(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The factors with which columns add up nearest to a target; zeros where a column is not finite."""
    lengths = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(lengths).all() and lengths.all() and np.isfinite(target).all()):
        return np.zeros(columns.shape[1])
    return np.asarray(np.linalg.lstsq(columns / lengths, target, rcond=1e-13)[0] / lengths)


def project_out(directions: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns without their part along an orthonormal basis, taken off twice against rounding."""
    for _ in range(2):
        columns = columns - directions @ (directions.T @ columns)
    return columns


def power_product(g: NumberedGraph, nodes: Sequence[int], exponents: Sequence[float] | np.ndarray) -> int:
    """The product of powers of nodes, those below a line gathered; odd fractions are of sizes."""
    above, below = -1, -1
    for u, e in zip(nodes, map(float, exponents), strict=True):
        if not e:
            continue
        base = u if e == int(e) else g.size(u)
        size = abs(e)
        factor = (
            base if size == 1 else g.add("sqrt", base) if size == 0.5 else g.add("pow", base, g.const(size))
        )
        if e > 0:
            above = factor if above < 0 else g.add("mul", above, factor)
        else:
            below = factor if below < 0 else g.add("mul", below, factor)
    above = g.const(1.0) if above < 0 else above
    return above if below < 0 else g.add("div", above, below)
