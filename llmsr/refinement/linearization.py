"""A fitted equation linearised in its constants and parts on some rows: what its residual still allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from llmsr.expression.engine.tape import derivatives
from llmsr.expression.graph import Expression, complexity
from llmsr.refinement.rows import NumberedGraph, Rows, node_values, orthonormal, project_out
from llmsr.refinement.unshared import Edit, Editor, Unshared

FLOOR = 1e-28  # NMSE below which a loss is rounding and only size counts
PARSIMONY = 0.01  # decades of NMSE that one operator, column or constant must be worth
NEW = 10_000
"""New parameters of a candidate are numbered from here on; those inside terms have numbers of their own."""


def penalised_loss(nmse: float, size: int) -> float:
    """Decades of NMSE plus what the size costs; lower is better."""
    if not math.isfinite(nmse):
        return math.inf
    return math.log10(max(nmse, FLOOR)) + PARSIMONY * size


@dataclass(frozen=True)
class Candidate:
    """An equation that a move proposes; `start` maps its parameters to where a fit would begin.

    `predicted_nmse` is what a linear look at the constants promises before any fit; `move` names the edit.
    """

    expression: Expression
    start: Mapping[int, float]
    predicted_nmse: float
    move: str

    @cached_property
    def penalised_loss(self) -> float:
        """What candidates are ordered by, lower is better."""
        return penalised_loss(self.predicted_nmse, complexity(self.expression))


class Proposal(NamedTuple):
    """A body to be fitted, its canonical hash, and the move that made it."""

    body: str
    canonical: str
    move: str


class Linearization:
    """A fitted equation with the values, slopes and Jacobian that it has on some rows.

    `values[i]` are the numbers of node i; `slopes[i]` is the derivative of the result by node i: it is there
    for nodes that hold a column and for numbers that are no exponents. `jacobian` maps each parameter to the
    derivative by it. All have shape (rows,). No candidate is to have more than `max_params` parameters.
    Raises NotImplementedError for an operation without a derivative.
    """

    def __init__(
        self, equation: Unshared, start: Mapping[int, float], rows: Rows, max_params: int = NEW
    ) -> None:
        self.equation, self.start, self.rows, self.max_params = equation, start, rows, max_params
        self.values = node_values(equation.nodes, self.rows.inputs, start)
        self.residual = self.rows.target - self.values[-1]
        exponents = {node.args[1] for node in equation.nodes if node.op == "pow"}
        probed = [
            i
            for i, node in enumerate(equation.nodes)
            if equation.varies[i] or (node.op == "const" and i not in exponents)
        ]
        d = derivatives(_probed(equation, probed))
        values = node_values(d.nodes, self.rows.inputs, {**start, **{NEW + i: 0.0 for i in probed}})
        partial = {p: values[at] for p, at in zip(d.params, d.partials, strict=True)}
        self.slopes = {i: partial[NEW + i] for i in probed}
        self.jacobian = {p: partial[p] for p in equation.params}
        self._reach: dict[frozenset[int], np.ndarray] = {}

    @property
    def nmse(self) -> float:
        """The NMSE on the rows."""
        return float(self.residual @ self.residual) / self.rows.power

    @property
    def free(self) -> int:
        """The number of parameters that a candidate may have more."""
        return self.max_params - len(self.equation.params)

    @cached_property
    def graph(self) -> NumberedGraph:
        """The equation's nodes, in their places, with their values, for more to be built on them."""
        return NumberedGraph(self.rows, self.equation.nodes, self.values)

    def reach(self, without: frozenset[int] = frozenset()) -> np.ndarray:
        """An orthonormal basis of what the constants can move to first order, those of `without` held."""
        found = self._reach.get(without)
        if found is None:
            kept = [column for p, column in self.jacobian.items() if p not in without]
            found = self._reach[without] = orthonormal(kept, len(self.residual))
        return found

    def predicted_nmse(self, shift: np.ndarray, without: frozenset[int] = frozenset()) -> float:
        """The NMSE after a change of the prediction by `shift`, the other constants fitted to first order."""
        return self.nmse_of(project_out(self.reach(without), self.residual - shift))

    def nmse_of(self, residual: np.ndarray) -> float:
        """The NMSE that a residual is; infinity where it is not finite."""
        square = float(residual @ residual)
        return square / self.rows.power if np.isfinite(square) else np.inf

    def candidate(
        self,
        edits: Mapping[int, Edit],
        move: str,
        predicted_nmse: float | None = None,
        start: Mapping[int, float] | None = None,
    ) -> Candidate | None:
        """The equation with the parts of `edits` replaced; None without a column or a finite promise.

        Without `predicted_nmse` one Gauss-Newton step from where the edited equation stands decides it.
        """
        expression = self.equation.edited(edits)
        if not expression.inputs:
            return None
        if predicted_nmse is None:
            predicted_nmse = self._after_one_step(expression)
        if not np.isfinite(predicted_nmse):
            return None
        return Candidate(expression, {**self.start, **(start or {})}, predicted_nmse, move)

    def _after_one_step(self, expression: Expression) -> float:
        """The NMSE that one Gauss-Newton step promises; inf where undefined.

        The step is not taken, so for equations that bend much in their constants this is only a rank.
        """
        equation = Unshared.of(expression)
        if equation is None:
            return np.inf
        d = derivatives(equation)
        values = node_values(d.nodes, self.rows.inputs, self.start)
        residual = self.rows.target - values[d.root]
        if not np.isfinite(residual).all():
            return np.inf
        basis = orthonormal([values[p] for p in d.partials], len(residual))
        return self.nmse_of(project_out(basis, residual))

    def moved_to(self, candidate: Candidate) -> Linearization | None:
        """The linearization of a candidate where it starts; None where it is too large or not finite."""
        equation = Unshared.of(candidate.expression)
        if equation is None:
            return None
        there = Linearization(equation, candidate.start, self.rows, self.max_params)
        return there if np.isfinite(there.residual).all() else None


Move = Callable[[Linearization], list[Candidate]]
"""What a refinement consists of: a fitted equation in, candidates out, the most promising first."""


def _probed(equation: Unshared, probed: Sequence[int]) -> Expression:
    """The equation with parameter `NEW + i` added to each node i of `probed`."""
    graph = Editor(equation, max_nodes=20_000)
    made: list[int] = []
    wanted = set(probed)
    for i, node in enumerate(equation.nodes):
        index = graph.copied(node, made)
        made.append(graph.add("add", index, graph.param(NEW + i)) if i in wanted else index)
    return graph.expression(made[-1], equation.columns)
