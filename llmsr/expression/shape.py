"""What a fitted equation must be as a function of one column: even, odd, monotone, bounded.

It is checked by numbers: the points are rows of the data and others of their box. Nothing is proved: a
fault is one, and where none is found there may be one between the points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from llmsr.expression.graph import Expression, evaluate

ROWS, SEED = 128, 0  # of the data, and as many of the box
STEPS, WAYS = 33, 64  # along a column, from so many points
CLOSE = 1e-6  # of the spread of the values: differences that are rounding, or the fit's
# decades beyond the box: what is bounded does not grow from here to there
NEAR, FAR = (2.0, 6.0), (8.0, 12.0)
GROWTH = 1.05

Values = Callable[[np.ndarray], np.ndarray]


def _bounded(f: Values, points: np.ndarray, column: int) -> str:
    """What is wrong with an equation that may not grow far beyond the box, to the sides on which it lies."""
    size = float(np.abs(points[:, column]).max()) or 1.0
    inside = np.abs(f(points)).max()
    for side in (1.0, -1.0):
        if not (side * points[:, column] > 0).any():
            continue
        near, far = (
            f(_along(points, column, side * size * np.logspace(*decades, STEPS))) for decades in (NEAR, FAR)
        )
        # a quotient of infinities says nothing, an infinity does
        known = far[~np.isnan(far)]
        most = np.abs(known).max(initial=0.0)
        before = max(inside, np.abs(near[~np.isnan(near)]).max(initial=0.0))
        if not len(known) or most > GROWTH * before or np.isinf(most):
            return f"it is {most:.3g} and more far out"
    return ""


def shape_fault(
    shapes: Iterable[tuple[int, str]],
    names: tuple[str, ...],
    expression: Expression,
    inputs: np.ndarray,
    params: np.ndarray,
) -> str:
    """Why a fitted equation is not of the shapes, pairs of a column and a name; empty where it is."""
    rows = inputs[np.linspace(0, len(inputs) - 1, min(ROWS, len(inputs))).astype(int)]
    low, high = inputs.min(0), inputs.max(0)
    box = low + (high - low) * np.random.default_rng(SEED).random((ROWS, len(low)))
    points = np.vstack([rows, box])

    def f(at: np.ndarray) -> np.ndarray:
        return evaluate(expression, at, params)

    for column, name in shapes:
        with np.errstate(all="ignore"):
            if fault := SHAPES[name](f, points, column):
                return f"not {name} in {names[column]}: {fault}"
    return ""


def _mirrored(f: Values, points: np.ndarray, column: int, sign: float) -> str:
    """What is wrong with an equation that is to be `sign` times itself at the negative of a column."""
    other = points.copy()
    other[:, column] *= -1
    values, mirrored = f(points), sign * f(other)
    apart = np.abs(values - mirrored)
    if not (apart <= CLOSE * np.abs(values).max()).all():
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        at = points[worst, column]
        return f"it is {values[worst]:.3g} at {at:.3g} and {sign * mirrored[worst]:.3g} at {-at:.3g}"
    return ""


def _monotone(f: Values, points: np.ndarray, column: int, sign: float) -> str:
    """What is wrong with an equation whose steps along a column are to have this sign."""
    grid = np.linspace(points[:, column].min(), points[:, column].max(), STEPS)
    values = f(_along(points, column, grid)).reshape(-1, STEPS)
    if not np.isfinite(values).all():
        return "it is not finite everywhere in the box"
    steps = sign * np.diff(values)
    if (steps < -CLOSE * np.ptp(values)).any():
        place = int(np.argmin(steps.min(axis=0)))
        return f"it turns between {grid[place]:.3g} and {grid[place + 1]:.3g}"
    return ""


def _along(points: np.ndarray, column: int, grid: np.ndarray) -> np.ndarray:
    """Some of the points, each with every number of the grid in its column: (points * grid, columns)."""
    some = points[:: max(1, len(points) // WAYS)]
    made = np.repeat(some, len(grid), axis=0)
    made[:, column] = np.tile(grid, len(some))
    return made


SHAPES: dict[str, Callable[[Values, np.ndarray, int], str]] = {
    "even": partial(_mirrored, sign=1.0),
    "odd": partial(_mirrored, sign=-1.0),
    "increasing": partial(_monotone, sign=1.0),
    "decreasing": partial(_monotone, sign=-1.0),
    "bounded": _bounded,
}
"""Checks by name, of a function of points on points (points, columns) in a column; empty if right."""
