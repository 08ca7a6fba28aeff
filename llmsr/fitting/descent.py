"""Two minimisers, compiled: Levenberg-Marquardt on the Gram matrix, and BFGS with the analytic gradient.

The functions are written so that numba can compile them; where the numpy engine is in use they run as they
stand. In Levenberg-Marquardt the linear parameters are projected out, by Kaufman's way: a damped Gauss-Newton
step on all parameters in which the linear ones carry no damping moves the others exactly as the projected
problem would. After each step the linear parameters are solved anew from the Gram matrix that the step has
already paid for. BFGS takes scipy's steps and stopping rules; scipy's own takes 2.2 to 2.8 times its CPU, the
most of it between the evaluations.
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"
from __future__ import annotations

import numpy as np

from llmsr.expression.engine import expired, gradient, gram, jit

CONVERGED, STALLED, CAPPED, LATE, INFINITE = 0, 1, 2, 3, 4
_PIVOT = 1e-14  # of a matrix scaled to a diagonal of one: what is below is rounding


@jit
def copy(source, target):
    """Copies numbers between contiguous arrays of one shape."""
    # slice assignment would compile a check of shapes with its messages, at a second for every use
    flat, out = source.ravel(), target.ravel()
    for i in range(len(flat)):
        out[i] = flat[i]


@jit
def solve(matrix, right, lower, out):
    """Solves `matrix @ out = right` by Cholesky for a matrix scaled to a diagonal of about one.

    Unknowns whose pivot vanishes to rounding (columns that repeat others) are set to zero. `lower` is
    scratch of the matrix's shape.
    """
    n = len(right)
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for t in range(j):
                total -= lower[i, t] * lower[j, t]
            if i != j:
                lower[i, j] = total / lower[j, j] if lower[j, j] < np.inf else 0.0
            elif total > _PIVOT:
                lower[i, i] = np.sqrt(total)
            else:
                for t in range(i):
                    lower[i, t] = 0.0
                lower[i, i] = np.inf
    for i in range(n):
        total = right[i]
        for t in range(i):
            total -= lower[i, t] * out[t]
        out[i] = total / lower[i, i] if lower[i, i] < np.inf else 0.0
    for i in range(n - 1, -1, -1):
        total = out[i]
        for t in range(i + 1, n):
            total -= lower[t, i] * out[t]
        out[i] = total / lower[i, i] if lower[i, i] < np.inf else 0.0


@jit
def damped_step(g, active, free, damping, scale, lower, step):
    """The step of the `active` parameters that minimises the Gram matrix's quadratic model.

    Those that are not `free` carry the damping, in units of `scale`. Writes `step`, 0 where it is not active;
    returns the loss that the model promises to remove.
    """
    k = len(step)
    size = np.zeros(k)
    for i in range(k):
        if active[i] and g[i, i] > 0.0:
            size[i] = np.sqrt(g[i, i])
    matrix = np.zeros((k, k))
    right = np.zeros(k)
    for i in range(k):
        if size[i] == 0.0:
            continue
        right[i] = g[k, i] / size[i]
        for j in range(k):
            if size[j] > 0.0:
                matrix[i, j] = g[i, j] / size[i] / size[j]
        if not free[i]:
            ratio = scale[i] / size[i]
            matrix[i, i] += damping * ratio * ratio
    solve(matrix, right, lower, step)
    for i in range(k):
        step[i] = step[i] / size[i] if size[i] > 0.0 else 0.0
    removed = 0.0
    for i in range(k):
        inner = 0.0
        for j in range(k):
            inner += g[i, j] * step[j]
        removed += step[i] * (2.0 * g[k, i] - inner)
    return removed


@jit
def moved(theta, step, low, high, out):
    """`theta + step` inside the box; False where that is not finite."""
    for i in range(len(theta)):
        out[i] = min(max(theta[i] + step[i], low[i]), high[i])
        if not np.isfinite(out[i]):
            return False
    return True


@jit
def descend(program, theta, linear, low, high, floor, rival, tolerance, iterations, g):
    """Improves `theta` in place and leaves its Gram matrix in `g`; returns why it stopped.

    Stops when the sum of squares is below `floor`, when two steps in a row gain less than `tolerance` of
    it, after `iterations` trial steps, or at the program's deadline; after a few steps also where it is far
    above `rival`, or ten times what a step promises would not bring it there. The sum of squares never rises.
    """
    k = len(theta)
    if not gram(program, theta, g):
        return INFINITE
    everything = np.ones(k, np.bool_)
    n_linear = 0
    for i in range(k):
        if linear[i]:
            n_linear += 1
    scale = np.zeros(k)
    lower = np.zeros((k, k))
    step = np.zeros(k)
    trial = np.empty(k)
    refined = np.empty(k)
    g_trial = np.empty((k + 1, k + 1))
    g_refined = np.empty((k + 1, k + 1))
    # the linear parameters first: a step of all from a start far from them would be wasted
    if n_linear > 0:
        promised = damped_step(g, linear, linear, 0.0, scale, lower, step)
        inside = promised > 1e-3 * g[k, k] and moved(theta, step, low, high, trial)
        if inside and gram(program, trial, g_trial) and g_trial[k, k] < g[k, k]:
            copy(trial, theta)
            copy(g_trial, g)
    damping = 1e-3
    growth = 2.0
    quiet = 0
    for turn in range(iterations):
        loss = g[k, k]
        if turn == 3 and loss > 4.0 * rival:
            return STALLED
        if loss <= floor:
            return CONVERGED
        if expired(program):
            return LATE
        for i in range(k):
            scale[i] = max(scale[i], np.sqrt(g[i, i]))
        promise = damped_step(g, everything, linear, damping, scale, lower, step)
        if turn >= 2 and damping < 1.0 and loss - 10.0 * promise > rival:
            return STALLED
        if not promise > 1e-30 * loss or (damping < 1e-2 and promise < tolerance * loss):
            return CONVERGED
        better = moved(theta, step, low, high, trial) and gram(program, trial, g_trial)
        if better and n_linear > 0 and n_linear < k:
            promised = damped_step(g_trial, linear, linear, 0.0, scale, lower, step)
            if promised > 0.05 * g_trial[k, k] and g_trial[k, k] - promised < loss:
                inside = moved(trial, step, low, high, refined)
                if inside and gram(program, refined, g_refined) and g_refined[k, k] < g_trial[k, k]:
                    copy(refined, trial)
                    copy(g_refined, g_trial)
        if better and g_trial[k, k] < loss:
            gain = loss - g_trial[k, k]
            copy(trial, theta)
            copy(g_trial, g)
            ratio = min(gain / promise, 2.0)
            shrink = 1.0 - (2.0 * ratio - 1.0) ** 3
            damping = max(damping * min(max(shrink, 0.1), 2.0), 1e-12)
            growth = 2.0
            quiet = quiet + 1 if gain < tolerance * loss else 0
            if quiet >= 2:
                return CONVERGED
        else:
            # a linear problem is solved by one step, so what fails now is rounding
            if n_linear == k:
                return STALLED
            damping = damping * growth
            growth = growth * 2.0
            if damping > 1e9:
                return STALLED
    return CAPPED


@jit
def descend_all(program, thetas, linear, low, high, floor, tolerance, iterations, squares):
    """Descends from every row of `thetas` (starts, params) in place, each in its own box `low`, `high`.

    `squares` (starts,) receives the sums of squares; infinity where a start has none or was not reached in
    time.
    """
    k = thetas.shape[1]
    g = np.empty((k + 1, k + 1))
    for i in range(len(thetas)):
        squares[i] = np.inf
        if not expired(program):
            g[k, k] = np.inf
            descend(program, thetas[i], linear, low[i], high[i], floor, np.inf, tolerance, iterations, g)
            squares[i] = g[k, k]


@jit
def perturb(program, theta, squares, candidates, linear, low, high, floor, tolerance, iterations):
    """Moves one parameter at a time to each of its `candidates` (params, any number) and descends from there.

    Candidates that are not finite are skipped.
    Whatever lowers the sum of squares, `squares` at the start, is kept in `theta`. Returns the sum of
    squares reached.
    """
    k = len(theta)
    g = np.empty((k + 1, k + 1))
    trial = np.empty(k)
    for i in range(k):
        if linear[i]:
            continue
        for j in range(candidates.shape[1]):
            if squares <= floor or expired(program):
                return squares
            if not np.isfinite(candidates[i, j]) or candidates[i, j] == theta[i]:
                continue
            copy(theta, trial)
            trial[i] = candidates[i, j]
            g[k, k] = np.inf
            descend(program, trial, linear, low, high, floor, squares, tolerance, iterations, g)
            if g[k, k] < squares:
                squares = g[k, k]
                copy(trial, theta)
    return squares


# ---- BFGS


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
def bfgs(program, theta, long):
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
