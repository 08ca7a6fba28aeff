"""A candidate: an equation that a refinement proposes, and what it promises before it is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmsr.expression.graph import Expression
from llmsr.refinement.tree import Tree

FLOOR = 1e-28  # NMSE below which a loss is rounding and only size counts
PARSIMONY = 0.01  # decades of NMSE that one operator, column or constant must be worth


@dataclass(frozen=True)
class Candidate:
    """`promised` is the NMSE that a linear look at the constants promises; `move` names the edit."""

    expression: Expression
    start: tuple[float, ...]
    promised: float
    size: int
    move: str

    @property
    def rank(self) -> float:
        """What candidates are ordered by, lower is better."""
        return worth(self.promised, self.size)

    def tree(self) -> Tree | None:
        return Tree.of(self.expression, self.start)


def worth(nmse: float, size: int) -> float:
    """Decades of NMSE plus what the size costs; lower is better."""
    if not math.isfinite(nmse):
        return math.inf
    return math.log10(max(nmse, FLOOR)) + PARSIMONY * size
