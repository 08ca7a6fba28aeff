"""BFGS on the mean squared error with the analytic gradient, compiled: scipy's steps and stopping rules.

scipy's own takes 2.2 to 2.8 times the CPU of this one, the most of it between the evaluations.
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"
from __future__ import annotations

import numpy as np

from llmsr.expression.engine.chosen import expired, gradient, jit

GRADIENT_TOLERANCE = 1e-5
SUFFICIENT, CURVATURE = 1e-4, 0.9  # of the strong Wolfe conditions
TRIALS = 20  # of one line search
FAR = 1e9  # parameters beyond it are outside the box that Levenberg-Marquardt stays in


@jit
def _between(a, f_a, d_a, b, f_b, d_b):
    """Where the cubic through two points with their slopes is least, the middle where that is no use.

    As in Moré and Thuente's search a lower end draws the trial to itself: halfway to where the parabola
    through both values and the first slope is least.
    """
    theta = 3.0 * (f_a - f_b) / (b - a) + d_a + d_b
    size = max(abs(theta), abs(d_a), abs(d_b))
    gamma = np.sign(b - a) * size * np.sqrt((theta / size) ** 2 - (d_a / size) * (d_b / size))
    cubic = a + (gamma - d_a + theta) / (2.0 * gamma - d_a + d_b) * (b - a)
    if f_b > f_a:
        parabola = a + d_a / ((f_a - f_b) / (b - a) + d_a) / 2.0 * (b - a)
        if abs(cubic - a) > abs(parabola - a):
            cubic = 0.5 * (cubic + parabola)
    inside = min(a, b) + 0.001 * abs(b - a) < cubic < max(a, b) - 0.001 * abs(b - a)
    return cubic if inside else 0.5 * (a + b)


@jit
def _line_search(program, theta, direction, alpha, f0, d0, point, slope):
    """(step, value) that satisfies the strong Wolfe conditions along `direction`, (nan, value) if none does.

    Nocedal and Wright, algorithms 3.5 and 3.6. `alpha` is the first trial, `f0` and `d0` are value and slope
    where it starts; `point` and `slope` become position and gradient of the last trial.
    """
    low, f_low, d_low = 0.0, f0, d0  # the lowest trial so far
    high, f_high, d_high = np.inf, f0, d0  # the other end of where the minimum is
    for _ in range(TRIALS):
        for i in range(len(theta)):
            point[i] = theta[i] + alpha * direction[i]
        f = gradient(program, point, slope)
        d = np.dot(slope, direction)
        if not f <= f0 + SUFFICIENT * alpha * d0 or (low > 0.0 and f >= f_low):
            high, f_high, d_high = alpha, f, d
        elif abs(d) <= -CURVATURE * d0:
            return alpha, f
        else:
            if d * (high - low) >= 0.0:
                high, f_high, d_high = low, f_low, d_low
            low, f_low, d_low = alpha, f, d
        if expired(program) or (high < np.inf and abs(high - low) <= 1e-14 * abs(high)):
            break
        # as in scipy five times as far while the minimum may be further out, then where cubics say
        alpha = 5.0 * alpha if high == np.inf else _between(low, f_low, d_low, high, f_high, d_high)
    return np.nan, f0


@jit
def minimise(program, theta, long):
    """Moves `theta` to where BFGS stops; returns the mean squared error there, infinity without a start.

    Stops when no gradient entry exceeds 1e-5, after 200 iterations per parameter, after `long` of them where
    no parameter is beyond `FAR`, when the line search fails, or at the program's deadline.
    """
    n = len(theta)
    slope, next_slope, point = np.zeros(n), np.zeros(n), np.empty(n)
    value = gradient(program, theta, slope)
    if not np.isfinite(value):
        return np.inf
    inverse = np.eye(n)
    before = value + np.sqrt(np.dot(slope, slope)) / 2.0
    for turn in range(200 * n):
        if np.abs(slope).max() <= GRADIENT_TOLERANCE or expired(program):
            break
        if turn >= long and np.abs(theta).max() < FAR:
            break
        direction = -np.dot(inverse, slope)
        descent = np.dot(slope, direction)
        alpha = min(1.0, 2.02 * (value - before) / descent) if descent != 0.0 else 1.0
        step, reached = _line_search(
            program, theta, direction, alpha if alpha > 0.0 else 1.0, value, descent, point, next_slope
        )
        if np.isnan(step) or not np.isfinite(reached):
            break
        before, value = value, reached
        moved = step * direction
        change = next_slope - slope
        theta += moved
        slope[:] = next_slope
        curvature = np.dot(change, moved)
        rho = 1.0 / curvature if curvature != 0.0 else 1000.0
        # multiplied out as scipy does: a shorter form loses other digits, and ill-conditioned runs end
        # elsewhere
        left = np.eye(n) - np.outer(moved, change) * rho
        inverse = np.dot(left, np.dot(inverse, left.T)) + rho * np.outer(moved, moved)
    return value
