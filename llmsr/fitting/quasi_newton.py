"""BFGS on the mean squared error with the analytic gradient: scipy's method and tolerances, compiled."""

from __future__ import annotations

import numpy as np

from llmsr.expression.engine.chosen import expired, gradient, jit
from llmsr.fitting.line_search import search

GRADIENT_TOLERANCE = 1e-5


@jit
def minimise(program, theta):
    """Moves `theta` to where BFGS stops; returns the mean squared error there, infinity without a start.

    Stops when no gradient entry exceeds 1e-5, after 200 iterations per parameter, when the line search
    fails, or at the program's deadline.
    """
    n = len(theta)
    slope = np.zeros(n)
    value = gradient(program, theta, slope)
    if not np.isfinite(value):
        return np.inf
    inverse = np.eye(n)
    length = 0.0
    for i in range(n):
        length += slope[i] * slope[i]
    before = value + np.sqrt(length) / 2.0
    direction = np.empty(n)
    point = np.empty(n)
    next_slope = np.zeros(n)
    change = np.empty(n)
    left = np.empty((n, n))
    middle = np.empty((n, n))
    for _ in range(200 * n):
        steepest = 0.0
        for i in range(n):
            steepest = max(steepest, abs(slope[i]))
        if steepest <= GRADIENT_TOLERANCE or expired(program):
            break
        for i in range(n):
            total = 0.0
            for j in range(n):
                total -= inverse[i, j] * slope[j]
            direction[i] = total
        step, reached = search(program, theta, direction, value, before, slope, point, next_slope)
        if np.isnan(step):
            break
        before = value
        value = reached
        curvature = 0.0
        for i in range(n):
            direction[i] *= step
            theta[i] += direction[i]
            change[i] = next_slope[i] - slope[i]
            slope[i] = next_slope[i]
            curvature += change[i] * direction[i]
        if not np.isfinite(value):
            break
        rho = 1.0 / curvature if curvature != 0.0 else 1000.0
        # (I - rho s y') inverse (I - rho y s') + rho s s', multiplied out as scipy does: a shorter form
        # would lose other digits, and ill-conditioned runs would end elsewhere
        for i in range(n):
            for j in range(n):
                left[i, j] = (1.0 if i == j else 0.0) - direction[i] * change[j] * rho
        for i in range(n):
            for j in range(n):
                total = 0.0
                for t in range(n):
                    total += inverse[i, t] * left[j, t]
                middle[i, j] = total
        for i in range(n):
            for j in range(n):
                total = 0.0
                for t in range(n):
                    total += left[i, t] * middle[t, j]
                inverse[i, j] = total + rho * direction[i] * direction[j]
    return value
