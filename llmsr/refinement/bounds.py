"""Bounds of an equation: its minimum or maximum with a line in one column, through the origin or not.

What yields, saturates or sets in follows one law up to a limit and another beyond it. A smooth step between
them costs as many constants and fits worse where the change is sharp.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llmsr.expression.complexity import complexity
from llmsr.refinement.candidate import Candidate
from llmsr.refinement.point import Point, basis, off
from llmsr.refinement.tree import Grafting

SLOPES = np.linspace(0.02, 0.98, 25)  # quantiles of target over column at which a bound is tried
LEAST_ROWS = 5  # on either side of a bound
ALIKE = 0.02  # relative difference of slopes that are tried as one
OPS = {"minimum": 1.0, "maximum": -1.0}


def bounds(point: Point, first: int, max_params: int) -> list[Candidate]:
    """The equation bounded by `p * column` or by `p * column + q`, p being parameter `first`; best first.

    What a bound promises: its own line on the rows that it takes, the equation's constants following to first
    order on the others.
    """
    free = max_params - len(point.tree.params)
    found: list[Candidate] = []
    for column in range(point.rows.inputs.shape[1]):
        for op, sign in OPS.items():
            for constants in range(1, min(free, 2) + 1):
                best = min(_lines(point, column, sign, constants), key=lambda line: line[0], default=None)
                if best is not None:
                    found.append(_candidate(point, column, op, best[1], best[0], first))
    return sorted(found, key=lambda c: c.rank)


def _lines(
    point: Point, column: int, sign: float, constants: int
) -> Iterator[tuple[float, tuple[float, ...]]]:
    """(NMSE, coefficients) of bounds that take some rows and leave some."""
    x, y, value = point.rows.inputs[:, column], point.rows.target, point.values[-1]
    line = np.column_stack([x, np.ones_like(x)][:constants])
    ratio = y[x != 0] / x[x != 0]
    tried = 0.0
    for slope in np.quantile(ratio, SLOPES) if len(ratio) else ():
        taken = sign * slope * x < sign * value
        if abs(slope - tried) <= ALIKE * abs(tried) or not LEAST_ROWS <= taken.sum() <= len(y) - LEAST_ROWS:
            continue
        tried = float(slope)
        fitted, *_ = np.linalg.lstsq(line[taken], y[taken], rcond=None)
        under = y[taken] - line[taken] @ fitted
        kept = [c[~taken] for c in point.by_param.values()]
        left = off(basis(kept, int((~taken).sum())), point.residual[~taken])
        square = float(under @ under + left @ left) / point.rows.power
        if np.isfinite(square):
            yield square, tuple(fitted.tolist())


def _candidate(
    point: Point, column: int, op: str, line: tuple[float, ...], promised: float, first: int
) -> Candidate:
    tree = point.tree

    def build(g: Grafting, node: int) -> int:
        bound = g.add("mul", g.param(first), g.column(column))
        if len(line) > 1:
            bound = g.add("add", bound, g.param(first + 1))
        return g.add(op, bound, g.part(node))

    start = (*tree.start, *(1.0,) * (first - len(tree.start)), *line)
    expression = tree.replaced({tree.root: build})
    return Candidate(expression, start, promised, complexity(expression), "bound")
