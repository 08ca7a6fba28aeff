"""The size of an equation as a reader sees it: one number for Pareto fronts, prompts and rewards."""

from __future__ import annotations

from llmsr.expression.graph import Expression

CEILING = 1_000_000
"""The largest complexity that is told apart; larger trees all count as this."""


def tree_sizes(expression: Expression) -> list[int]:
    """Operators plus leaves under each node, as a tree without sharing, at most `CEILING` each."""
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
