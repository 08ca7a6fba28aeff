"""Fewer columns: two that enter only through one group become that group.

A smooth surrogate of the data, a polynomial, tells how the target moves with every column on every row. Where
the slopes by two columns are in the same ratio everywhere, both enter by one group only (Udrescu and Tegmark,
2020): by logarithms a product of powers, by the columns a sum or difference, by their squares or inverses a
sum.
What the surrogate suggests is only tried: an exact law for what is left decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, combinations_with_replacement
from math import comb

import numpy as np

from llmsr.refinement.atoms import UNARY
from llmsr.refinement.powers import Task, sides, snapped
from llmsr.refinement.rows import NumberedGraph, power_product

DEGREES = (5, 4, 3, 2)
SHARE = 0.35  # terms of a surrogate to rows, at most
EXPLAINED = 0.05  # NMSE of a surrogate on rows that it has not seen, at most
PARALLEL = 0.93  # cosine between slopes that are tried as proportional
JUMPS = 0.5  # mean square of steps between neighbours, in variances, at most; 2 where there is no function
TRIED = 5  # groups of one task
SIDES = ("y", "log y", "1/y", "y^2", "exp y")


def reduced(task: Task, most: int = TRIED) -> Iterator[Task]:
    """At most `most` tasks with fewer columns, the most likely first; they may be reduced again."""
    if len(task.columns) < 2:
        return
    offers: list[tuple[float, int, Task]] = []
    values = np.column_stack([task.graph.values[u] for u in task.columns])
    for one in sides(task, SIDES):
        slopes = _slopes(values, one.target)
        if slopes is not None:
            offers += _groups(one if one.side == "exp y" else task, values, slopes, len(offers))
    seen: set[tuple[tuple[int, ...], str]] = set()
    for _, _, offer in sorted(offers, key=lambda entry: entry[:2]):
        if (offer.columns, offer.side) not in seen and len(seen) < most:
            seen.add((offer.columns, offer.side))
            if _is_function(offer):
                yield offer


def _is_function(task: Task) -> bool:
    """Whether the target hardly jumps between neighbours; told for one column alone."""
    if len(task.columns) > 1:
        return True
    along = task.target[np.argsort(task.graph.values[task.columns[0]], kind="stable")]
    return bool(np.mean(np.diff(along) ** 2) < JUMPS * np.var(along))


def _slopes(values: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """The slopes of a polynomial surrogate, shape (rows, columns); None where it predicts badly."""
    low, high = values.min(0), values.max(0)
    scaled = 2 * (values - low) / (high - low) - 1
    rows, d = scaled.shape
    for degree in DEGREES:
        if comb(d + degree, degree) > SHARE * rows:
            continue
        powers = _exponents(d, degree)
        matrix = np.prod(scaled[:, None, :] ** powers, axis=2)
        seen = np.arange(rows) % 5 > 0
        goal = target - target.mean()
        tried = np.linalg.lstsq(matrix[seen], goal[seen], rcond=1e-10)[0]
        unseen = goal[~seen] - matrix[~seen] @ tried
        if not float(np.mean(unseen**2)) <= EXPLAINED * float(np.var(target)):
            continue
        solved = np.linalg.lstsq(matrix, goal, rcond=1e-10)[0]
        slopes = []
        for i in range(d):
            lowered = powers.copy()
            lowered[:, i] = np.maximum(lowered[:, i] - 1, 0)
            slopes.append(np.prod(scaled[:, None, :] ** lowered, axis=2) @ (solved * powers[:, i]))
        return np.column_stack(slopes) * 2 / (high - low)
    return None


def _exponents(columns: int, degree: int) -> np.ndarray:
    """The exponents of all monomials up to a degree, shape (monomials, columns)."""
    chosen = (c for total in range(degree + 1) for c in combinations_with_replacement(range(columns), total))
    return np.array([np.bincount(np.array(c, int), minlength=columns) for c in chosen])


def _groups(task: Task, values: np.ndarray, slopes: np.ndarray, order: int) -> list[tuple[float, int, Task]]:
    """The task with two columns replaced by one group of them."""
    g, found = task.graph, []
    inner = {
        "log": 1 / values,
        "identity": np.ones_like(values),
        "square": 2 * values,
        "inverse": -1 / values**2,
    }
    for kind, by in inner.items():
        if not np.isfinite(by).all() or not by.all():
            continue
        moved = slopes / by
        for (i, u), (j, v) in combinations(enumerate(task.columns), 2):
            a, b = moved[:, i], moved[:, j]
            lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
            cosine = float(a @ b) / lengths if lengths > 0 else 0.0
            group = _group(g, kind, u, v, float(np.median(b / a))) if abs(cosine) >= PARALLEL else -1
            if group >= 0:
                columns = (*(w for w in task.columns if w not in (u, v)), group)
                found.append((1 - abs(cosine), order, replace(task, columns=columns)))
    return found


def _group(g: NumberedGraph, kind: str, u: int, v: int, ratio: float) -> int:
    """The group of two columns whose slopes have a ratio; -1 where that is not simple."""
    if kind == "log":
        simple = float(snapped(np.array([ratio]), np.array([0.05]))[0])
        if not simple or abs(simple) > 3 or abs(ratio - simple) > 0.2 * abs(simple):
            return -1
        # the smaller exponent is made whole: x*y**2 and not sqrt(x)*y
        return power_product(g, [u, v], (1.0, simple) if abs(simple) >= 1 else (1 / simple, 1.0))
    if abs(abs(ratio) - 1) > 0.15:
        return -1
    return g.add("add" if ratio > 0 else "sub", *(g.made(UNARY[kind], u=w) for w in (u, v)))
