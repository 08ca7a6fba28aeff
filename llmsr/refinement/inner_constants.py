"""Inner constants of a few terms moved to where their best sum comes nearest to a target, by Gauss-Newton.

The coefficients are projected out (Golub and Pereyra, 1973; Kaufman's step). A fraction of the cost of a fit,
since nothing is compiled and nothing is promised: it ranks sets of terms, of which the best are fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmsr.expression.graph import Node
from llmsr.refinement.rows import NumberedGraph, node_values

STEPS = 8
DIFFERENCE = 1e-6  # relative, by which derivatives are taken
SHORTER = (1.0, 0.3, 0.05)  # shares of a step that are tried
ENOUGH = 1e-24  # share of the target's square that is left

Part = tuple[tuple[Node, ...], tuple[int, ...]]
"""The nodes of a term and its parameters."""


def moved_constants(
    graph: NumberedGraph, roots: Sequence[int], target: np.ndarray
) -> tuple[float, list[int]]:
    """The share of the target's square that the terms leave, and the terms with constants where it is so."""
    parts = [_part(graph, root) for root in roots]
    goal = target / np.linalg.norm(target)
    at = {p: graph.start[p] for _, params in parts for p in params}
    columns = [_values(graph, part, at) for part in parts]
    error, basis, rest, weights = _explained(columns, goal)
    for _ in range(STEPS):
        if error < ENOUGH:
            break
        slopes, names = [], []
        for k, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            for p in part[1]:
                step = DIFFERENCE * (abs(at[p]) or 1.0)
                slopes.append(weight * (_values(graph, part, {**at, p: at[p] + step}) - columns[k]) / step)
                names.append(p)
        matrix = np.column_stack(slopes)
        matrix -= basis @ (basis.T @ matrix)
        lengths = np.linalg.norm(matrix, axis=0)
        if not np.isfinite(lengths).all() or not lengths.all():
            break
        move = np.linalg.lstsq(matrix / lengths, rest, rcond=1e-8)[0] / lengths
        for share in SHORTER:
            trial = {**at, **{p: at[p] + share * float(m) for p, m in zip(names, move, strict=True)}}
            moved = [_values(graph, part, trial) for part in parts]
            found = _explained(moved, goal)
            if found[0] < error:
                break
        else:
            break
        gained = error / max(found[0], 1e-300)
        at, columns, (error, basis, rest, weights) = trial, moved, found
        if gained < 1.01:
            break
    return error, [_planted(graph, part, at, root) for part, root in zip(parts, roots, strict=True)]


def _part(graph: NumberedGraph, root: int) -> Part:
    expression = graph.expression(root, ())
    return expression.nodes, expression.params


def _values(graph: NumberedGraph, part: Part, at: dict[int, float]) -> np.ndarray:
    return np.asarray(node_values(part[0], graph.rows.inputs, at)[-1])


def _explained(
    columns: list[np.ndarray], goal: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The square that is left, a basis of the columns, what is left, and the columns' coefficients."""
    matrix = np.column_stack(columns)
    lengths = np.linalg.norm(matrix, axis=0)
    if not (np.isfinite(lengths).all() and lengths.all()):
        return np.inf, matrix, goal, lengths
    basis, upper = np.linalg.qr(matrix / lengths)
    along = basis.T @ goal
    rest = goal - basis @ along
    weights = np.linalg.lstsq(upper, along, rcond=1e-13)[0] / lengths
    return float(rest @ rest), basis, rest, weights


def _planted(graph: NumberedGraph, part: Part, at: dict[int, float], root: int) -> int:
    """The term with its constants moved, as new nodes of the graph."""
    nodes, params = part
    if all(at[p] == graph.start[p] for p in params):
        return root
    made: list[int] = []
    for node in nodes:
        if node.op == "param":
            made.append(graph.fresh(at[int(node.value or 0)]))
        elif node.args:
            made.append(graph.add(node.op, *(made[a] for a in node.args)))
        else:
            made.append(graph.intern(node))
    return made[-1]
