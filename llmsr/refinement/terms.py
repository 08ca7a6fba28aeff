"""The terms that a refinement may add: atoms over the columns, and functions of the equation's own parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from llmsr.expression.graph import Expression
from llmsr.refinement.atoms import UNARY, Atom, combinations_of, free_functions_of, functions_of
from llmsr.refinement.rows import NumberedGraph, Rows, distinct, power_product
from llmsr.refinement.unshared import Product, Unshared

MAX_PARTS = 10
MAX_COLUMNS = 8  # beyond it, columns are not combined with each other
GRID = 3  # numbers at which an inner constant begins
BEND = ("decay", "lorentz", "quartic", "saturation", "logistic", "ramp", "arctan")
WAVES, SCALES = ("sin", "cos", "exp", "tanh"), (0.5, 2.0, float(np.pi))
OF_PARTS = ("identity", "square", "sin", "cos", "tanh", "exp", "decay", "inverse", "root")


@dataclass(frozen=True)
class Term:
    """A small equation: the node at `root` of a graph.

    `values` are its numbers on the rows at hand, `size` its operators and leaves, `inside` the equation's
    parameters that it uses, `start` the values at which its own parameters start.
    """

    graph: NumberedGraph
    root: int
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

    @cached_property
    def start(self) -> dict[int, float]:
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
        g, found = self._graph, []
        with np.errstate(all="ignore"):
            for u in self._columns:
                found += [*functions_of(g, u), *(Atom(name, UNARY[name](g, u)) for name in BEND)]
                found += free_functions_of(g, u, GRID)
            return self._planted(found)

    @cached_property
    def wide(self) -> list[Term]:
        if len(self._columns) > MAX_COLUMNS:
            return self.narrow
        with np.errstate(all="ignore"):
            more = [*self._stretched(), *self._planted(combinations_of(self._graph, self._columns))]
            return different([*self.narrow, *more])

    def _stretched(self) -> Iterator[Term]:
        """A column times a wave or an exponential, which may grow, of a column times a new constant."""
        g = self._graph
        for x, y, name, scale in product(self._columns, self._columns, WAVES, SCALES):
            inner = UNARY[name](g, g.add("mul", g.fresh(scale), y))
            yield from (Term(g, inner), Term(g, g.add("mul", x, inner)))

    def _planted(self, atoms: Iterable[Atom]) -> list[Term]:
        g = self._graph
        return different([Term(g, atom.planted(g)) for atom in atoms])

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
        for factors in list(products)[:MAX_PARTS]:
            inside = equation.params_of(factors)
            part = multiplied(graph, factors)
            roots = [UNARY[name](graph, part) for name in OF_PARTS]
            for column in beside if len(beside) <= MAX_COLUMNS else ():
                roots += [graph.add("mul", part, UNARY[name](graph, column)) for name in OF_PARTS]
            found += [Term(graph, root, inside) for root in roots]
        return different(found)


def multiplied(graph: NumberedGraph, product: Product) -> int:
    """The position of the product of some nodes of a graph; 1 where there are none."""
    return power_product(graph, [i for i, _ in product], [float(power) for _, power in product])


def different(terms: Sequence[Term], constants: bool = False) -> list[Term]:
    """The terms that are finite and vary, of those equal up to a factor the first; or `constants` too."""
    kept = [terms[k] for k in distinct(term.values for term in terms)]
    return [t for t in kept if constants or np.ptp(t.values) > 1e-9 * np.abs(t.values).max()]
