"""BFGS on the mean squared error with the analytic gradient: scipy's method and tolerances, compiled.

Its line searches are for the strong Wolfe conditions: first Moré and Thuente's (MINPACK-2), then bracketing
and zooming (Nocedal and Wright, algorithms 3.5 and 3.6) where that fails. Constants, the order of trial
points and the order of operations are scipy's, so that fits stop where scipy's would; scipy itself takes 2.6
times the time, the most of it between the evaluations.
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, no-any-return"
from __future__ import annotations

import numpy as np

from llmsr.expression.engine.chosen import expired, gradient, jit

GRADIENT_TOLERANCE = 1e-5
SUFFICIENT, CURVATURE = 1e-4, 0.9
_LEAST, _MOST, _WIDTH = 1e-100, 1e100, 1e-14


@jit
def _along(program, x, direction, alpha, point, slope):
    """(value, directional derivative) of the mean squared error at `x + alpha * direction`; fills `slope`."""
    for i in range(len(x)):
        point[i] = x[i] + alpha * direction[i]
    value = gradient(program, point, slope)
    total = 0.0
    for i in range(len(x)):
        total += slope[i] * direction[i]
    return value, total


@jit
def _cubic_minimiser(theta, a, da, b, db):
    """Where the cubic through two points with their slopes is least, nan where it has no minimum."""
    s = max(abs(theta), abs(da), abs(db))
    # not clipped at zero: a negative radicand has to show up as nan
    gamma = s * np.sqrt((theta / s) ** 2 - (da / s) * (db / s))
    if b < a:
        gamma = -gamma
    return a + ((gamma - da) + theta) / (((gamma - da) + gamma) + db) * (b - a)


@jit
def _cubic_beyond(theta, stx, dx, stp, dp, low, high):
    """Where the cubic is least beyond `stp`; an end of the interval where it falls without end."""
    s = max(abs(theta), abs(dx), abs(dp))
    gamma = s * np.sqrt(max(0.0, (theta / s) ** 2 - (dx / s) * (dp / s)))
    if stp > stx:
        gamma = -gamma
    r = ((gamma - dp) + theta) / ((gamma + (dx - dp)) + gamma)
    if r < 0.0 and gamma != 0.0:
        return stp + r * (stx - stp)
    return high if stp > stx else low


@jit
def _safeguarded_step(stx, fx, dx, sty, fy, dy, stp, fp, dp, bracketed, low, high):
    """One interval update and the next trial step; a trial of nan means that interpolation broke down."""
    sign = np.sign(dp) * np.sign(dx)
    # at the best step itself only the last two cases can follow, which need no theta
    theta = 3.0 * (fx - fp) / (stp - stx) + dx + dp if stp != stx else np.nan
    secant = stp + (dp / (dp - dx)) * (stx - stp)
    if fp > fx:  # the minimum is between the best step and the trial
        cubic = _cubic_minimiser(theta, stx, dx, stp, dp)
        quadratic = stx + ((dx / ((fx - fp) / (stp - stx) + dx)) / 2.0) * (stp - stx)
        near = abs(cubic - stx) <= abs(quadratic - stx)
        trial = cubic if near else cubic + (quadratic - cubic) / 2.0
        bracketed = True
    elif sign < 0.0:  # the slope has turned: between them as well
        cubic = _cubic_minimiser(theta, stp, dp, stx, dx)
        trial = cubic if abs(cubic - stp) > abs(secant - stp) else secant
        bracketed = True
    elif abs(dp) < abs(dx):  # the slope flattens: beyond the trial
        cubic = _cubic_beyond(theta, stx, dx, stp, dp, low, high)
        if bracketed:
            trial = cubic if abs(cubic - stp) < abs(secant - stp) else secant
            limit = stp + 0.66 * (sty - stp)
            trial = min(limit, trial) if stp > stx else max(limit, trial)
        else:
            trial = cubic if abs(cubic - stp) > abs(secant - stp) else secant
            trial = min(max(trial, low), high)
    elif bracketed:
        trial = _cubic_minimiser(3.0 * (fp - fy) / (sty - stp) + dy + dp, stp, dp, sty, dy)
    else:
        trial = high if stp > stx else low
    if fp > fx:
        sty, fy, dy = stp, fp, dp
    else:
        if sign < 0.0:
            sty, fy, dy = stx, fx, dx
        stx, fx, dx = stp, fp, dp
    return stx, fx, dx, sty, fy, dy, trial, bracketed


@jit
def _more_thuente(program, x, direction, alpha, f0, d0, point, slope):
    """(step, value) or (nan, value) where the search fails; `slope` is the gradient at the last trial."""
    if alpha < _LEAST or alpha > _MOST or not d0 < 0.0:
        return np.nan, f0
    test = SUFFICIENT * d0
    bracketed = False
    first_stage = True
    width = _MOST - _LEAST
    width_before = 2.0 * width
    stx, fx, dx = 0.0, f0, d0
    sty, fy, dy = 0.0, f0, d0
    low, high = 0.0, 5.0 * alpha
    for _ in range(99):
        f, d = _along(program, x, direction, alpha, point, slope)
        goal = f0 + alpha * test
        if first_stage and f <= goal and d >= 0.0:
            first_stage = False
        if f <= goal and abs(d) <= -CURVATURE * d0:
            return alpha, f
        if bracketed and (alpha <= low or alpha >= high or high - low <= _WIDTH * high):
            return np.nan, f
        if (alpha == _MOST and f <= goal and d <= test) or (alpha == _LEAST and (f > goal or d >= test)):
            return np.nan, f
        if first_stage and f <= fx and f > goal:
            stx, fm, dm, sty, fn, dn, alpha, bracketed = _safeguarded_step(
                stx,
                fx - stx * test,
                dx - test,
                sty,
                fy - sty * test,
                dy - test,
                alpha,
                f - alpha * test,
                d - test,
                bracketed,
                low,
                high,
            )
            fx, fy, dx, dy = fm + stx * test, fn + sty * test, dm + test, dn + test
        else:
            stx, fx, dx, sty, fy, dy, alpha, bracketed = _safeguarded_step(
                stx, fx, dx, sty, fy, dy, alpha, f, d, bracketed, low, high
            )
        if bracketed:
            if abs(sty - stx) >= 0.66 * width_before:
                alpha = stx + 0.5 * (sty - stx)
            width_before = width
            width = abs(sty - stx)
            low, high = min(stx, sty), max(stx, sty)
        else:
            low, high = alpha + 1.1 * (alpha - stx), alpha + 4.0 * (alpha - stx)
        if not np.isfinite(alpha) or expired(program):
            return np.nan, f
        alpha = min(max(alpha, _LEAST), _MOST)
        if bracketed and (alpha <= low or alpha >= high or high - low <= _WIDTH * high):
            alpha = stx
    return np.nan, f0


@jit
def _interpolated(first, a, b, f_a, d_a, f_b, c, f_c):
    """The next trial between `a` and `b`: cubic through a third point, else quadratic, else middle."""
    width = b - a
    lower, upper = min(a, b), max(a, b)
    if not first:
        db, dc = b - a, c - a
        denominator = (db * dc) ** 2 * (db - dc)
        u, w = f_b - f_a - d_a * db, f_c - f_a - d_a * dc
        third = (dc**2 * u - db**2 * w) / denominator
        second = (-(dc**3) * u + db**3 * w) / denominator
        trial = a + (-second + np.sqrt(second * second - 3.0 * third * d_a)) / (3.0 * third)
        margin = 0.2 * width
        if np.isfinite(trial) and not (trial > upper - margin or trial < lower + margin):
            return trial
    curvature = (f_b - f_a - d_a * width) / (width * width)
    trial = a - d_a / (2.0 * curvature)
    margin = 0.1 * width
    if np.isfinite(trial) and not (trial > upper - margin or trial < lower + margin):
        return trial
    return a + 0.5 * width


@jit
def _zoom(program, x, direction, a, b, f_a, f_b, d_a, f0, d0, point, slope):
    recent, f_recent = 0.0, f0
    for i in range(11):
        alpha = _interpolated(i == 0, a, b, f_a, d_a, f_b, recent, f_recent)
        f, d = _along(program, x, direction, alpha, point, slope)
        if f > f0 + SUFFICIENT * alpha * d0 or f >= f_a:
            recent, f_recent = b, f_b
            b, f_b = alpha, f
            continue
        if abs(d) <= -CURVATURE * d0:
            return alpha, f
        if d * (b - a) >= 0.0:
            recent, f_recent = b, f_b
            b, f_b = a, f_a
        else:
            recent, f_recent = a, f_a
        a, f_a, d_a = alpha, f, d
    return np.nan, f0


@jit
def _bracketing(program, x, direction, alpha, f0, d0, point, slope):
    before, f_before, d_before = 0.0, f0, d0
    f, d = _along(program, x, direction, alpha, point, slope)
    for i in range(10):
        if alpha == 0.0 or before > _MOST or expired(program):
            return np.nan, f0
        if f > f0 + SUFFICIENT * alpha * d0 or (f >= f_before and i > 0):
            return _zoom(program, x, direction, before, alpha, f_before, f, d_before, f0, d0, point, slope)
        if abs(d) <= -CURVATURE * d0:
            return alpha, f
        if d >= 0.0:
            return _zoom(program, x, direction, alpha, before, f, f_before, d, f0, d0, point, slope)
        before, f_before, d_before = alpha, f, d
        alpha = min(2.0 * alpha, _MOST)
        f, d = _along(program, x, direction, alpha, point, slope)
    return alpha, f


@jit
def _search(program, x, direction, f0, f_before, start_slope, point, slope):
    """(step, value) that satisfies the Wolfe conditions along `direction`, (nan, value) where none is found.

    `f_before` is the value one iteration earlier; `point` and `slope` become position and gradient of the
    last trial.
    """
    d0 = 0.0
    for i in range(len(x)):
        d0 += start_slope[i] * direction[i]
    alpha = 1.0
    if d0 != 0.0:
        alpha = min(1.0, 2.02 * (f0 - f_before) / d0)
        if alpha < 0.0:
            alpha = 1.0
    step, value = _more_thuente(program, x, direction, alpha, f0, d0, point, slope)
    if np.isnan(step) and not expired(program):
        step, value = _bracketing(program, x, direction, alpha, f0, d0, point, slope)
    return step, value


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
        step, reached = _search(program, theta, direction, value, before, slope, point, next_slope)
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
