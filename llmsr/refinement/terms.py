"""The terms that a refinement may add: small equations over the columns and over parts of the equation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np

from llmsr.expression.graph import Expression, Graph
from llmsr.refinement.rows import NumberedGraph, Rows
from llmsr.refinement.unshared import Product, Unshared

SHIFTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles of a column at which bumps and steps are offered
SCALES = (0.5, 2.0, float(np.pi))
MAX_PARTS = 10
MAX_COLUMNS = 8  # beyond it, columns are not combined with each other
LARGE = 1e12
Unary = Callable[[Graph, int], int]
"""A function of one argument: adds its nodes to a graph, given the argument's position."""


def _power(exponent: float) -> Unary:
    return lambda g, u: u if exponent == 1.0 else g.add("pow", u, g.const(exponent))


def _plain(op: str) -> Unary:
    return lambda g, u: g.add(op, u)


def _negative_exp(inner: Unary) -> Unary:
    return lambda g, u: g.add("exp", g.add("neg", inner(g, u)))


def _over_one_plus(inner: Unary) -> Unary:
    return lambda g, u: g.add("div", g.const(1.0), g.add("add", inner(g, u), g.const(1.0)))


UNARY: dict[str, Unary] = {
    "identity": lambda g, u: u,
    "square": _power(2.0),
    "cube": _power(3.0),
    "abs": _plain("abs"),
    "signed square": lambda g, u: g.add("mul", u, g.add("abs", u)),
    "root": lambda g, u: g.add("sqrt", g.add("abs", u)),
    "inverse": lambda g, u: g.add("div", g.const(1.0), u),
    "log": lambda g, u: g.add("log", g.add("abs", u)),
    "sin": _plain("sin"),
    "cos": _plain("cos"),
    "tanh": _plain("tanh"),
    "arctan": _plain("arctan"),
    "exp": _plain("exp"),
    "decay": _negative_exp(lambda g, u: u),
    "bell": _negative_exp(_power(2.0)),
    "peak": _negative_exp(_plain("abs")),
    "lorentz": _over_one_plus(_power(2.0)),
    "quartic": _over_one_plus(_power(4.0)),
    "saturation": lambda g, u: g.add("div", u, g.add("add", g.add("abs", u), g.const(1.0))),
    "logistic": _plain("expit"),
    "ramp": lambda g, u: g.add("maximum", u, g.const(0.0)),
}
FACTORS = ("sin", "cos", "tanh", "exp", "decay", "abs", "root", "log", "bell", "inverse")
SCALED = ("sin", "cos", "exp", "decay", "tanh", "bell")
WAVES = ("sin", "cos", "exp", "tanh")
SHIFTED = ("tanh", "bell", "peak", "lorentz", "quartic")
KINKED = ("ramp", "abs", "square")
OF_PARTS = ("identity", "square", "sin", "cos", "tanh", "exp", "decay", "inverse", "root")
BESIDE_PARTS = ("identity", "inverse", "exp", "decay", "sin", "cos", "tanh", "square")


@dataclass(frozen=True)
class Term:
    """A small equation: the node at `root` of a graph.

    `values` are its numbers on the rows at hand, `size` its operators and leaves, `fresh` the number of its
    own parameters, `inside` the equation's parameters that it uses.
    """

    graph: NumberedGraph
    root: int
    fresh: int = 0
    inside: frozenset[int] = frozenset()

    @property
    def values(self) -> np.ndarray:
        return self.graph.values[self.root]

    @property
    def size(self) -> int:
        return self.graph.sizes[self.root]

    @property
    def expression(self) -> Expression:
        return self.graph.expression(self.root, ())

    @property
    def start(self) -> dict[int, float]:
        """The values at which its own parameters start."""
        return {p: self.graph.start[p] for p in self.expression.params if p in self.graph.start}


@dataclass(frozen=True)
class Terms:
    """Terms over the columns: `wide` for summands of an equation, `narrow` for what goes inside it.

    Terms that are not finite, or hardly vary, on the rows are left out; of terms equal up to a factor the
    first stays.
    """

    rows: Rows
    _graph: NumberedGraph = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_graph", NumberedGraph(self.rows))

    @cached_property
    def _columns(self) -> list[int]:
        return [self._graph.column(i) for i in range(self.rows.inputs.shape[1])]

    @cached_property
    def narrow(self) -> list[Term]:
        with np.errstate(all="ignore"):
            return distinct([*self._functions(), *self._scaled(), *self._shifted()])

    @cached_property
    def wide(self) -> list[Term]:
        with np.errstate(all="ignore"):
            products = self._products() if len(self._columns) <= MAX_COLUMNS else ()
            return distinct([*self.narrow, *products])

    def of_parts(self, equation: Unshared, graph: NumberedGraph) -> list[Term]:
        """Functions of the equation's own parts, and parts times a column or a function of one.

        `graph` has the equation's nodes in their places.
        """
        inner = [i for i, node in enumerate(equation.nodes) if equation.varies[i] and node.args]
        products = dict.fromkeys(
            equation.factors(i) for i in sorted(inner, key=lambda i: (-equation.size(i), i))
        )
        beside = [graph.column(i) for i in range(len(self._columns))]
        found: list[Term] = []
        for product in list(products)[:MAX_PARTS]:
            inside = equation.params_of(product)
            part = multiplied(graph, product)
            roots = [UNARY[name](graph, part) for name in OF_PARTS]
            for column in beside if len(beside) <= MAX_COLUMNS else ():
                roots += [graph.add("mul", part, UNARY[name](graph, column)) for name in BESIDE_PARTS]
            found += [Term(graph, root, 0, inside) for root in roots]
        return distinct(found)

    def _functions(self) -> Iterator[Term]:
        for column in self._columns:
            for f in UNARY.values():
                yield Term(self._graph, f(self._graph, column))

    def _scaled(self) -> Iterator[Term]:
        """Waves and exponentials of a column times a new constant."""
        for column in self._columns:
            for name in SCALED:
                for scale in SCALES:
                    yield Term(self._graph, self._stretched(UNARY[name], column, scale), 1)

    def _stretched(self, f: Unary, column: int, scale: float) -> int:
        return f(self._graph, self._graph.add("mul", self._graph.fresh(scale), column))

    def _shifted(self) -> Iterator[Term]:
        """Bumps, steps and kinks at new constants within a column's range."""
        g = self._graph
        for i, column in enumerate(self._columns):
            spread = float(np.std(self.rows.inputs[:, i])) or 1.0
            for middle in map(float, np.quantile(self.rows.inputs[:, i], SHIFTS)):
                for name in KINKED:
                    yield Term(g, UNARY[name](g, g.add("sub", column, g.fresh(middle))), 1)
                for name in SHIFTED:
                    for scale in (1 / spread, 3 / spread):
                        shifted = g.add("sub", column, g.fresh(middle))
                        yield Term(g, UNARY[name](g, g.add("mul", g.fresh(scale), shifted)), 2)

    def _products(self) -> Iterator[Term]:
        """Monomials, ratios, and a column times a function of a column."""
        g = self._graph
        for x in self._columns:
            for a in (4.0, 5.0):
                yield Term(g, _power(a)(g, x))
        for x, y in combinations(self._columns, 2):
            for a, b in ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0), (1.0, 3.0), (3.0, 1.0)):
                yield Term(g, g.add("mul", _power(a)(g, x), _power(b)(g, y)))
            yield Term(g, g.add("div", x, y))
            yield Term(g, g.add("div", y, x))
        for x in self._columns:
            for y in self._columns:
                for name in FACTORS:
                    yield Term(g, g.add("mul", x, UNARY[name](g, y)))
                for name in WAVES:
                    for scale in SCALES:
                        yield Term(g, g.add("mul", x, self._stretched(UNARY[name], y, scale)), 1)


def multiplied(graph: Graph, product: Product) -> int:
    """The position of the product of some nodes of a graph; 1 where there are none."""
    above = [i for i, power in product if power > 0]
    made = above[0] if above else graph.const(1.0)
    for factor in above[1:]:
        made = graph.add("mul", made, factor)
    for i, power in product:
        if power < 0:
            made = graph.add("div", made, i)
    return made


def distinct(terms: Iterable[Term], constants: bool = False) -> list[Term]:
    """The terms that are finite and vary, of those equal up to a factor the first; or `constants` too."""
    kept: dict[bytes, Term] = {}
    for term in terms:
        values = term.values
        length = float(np.linalg.norm(values))
        largest = int(np.abs(values).argmax())
        if not 0 < length < np.inf or abs(values[largest]) > LARGE:
            continue
        if not constants and np.ptp(values) <= 1e-9 * abs(values[largest]):
            continue
        direction = np.round(values / (length * np.sign(values[largest])), 9) + 0.0
        kept.setdefault(direction.tobytes(), term)
    return list(kept.values())
