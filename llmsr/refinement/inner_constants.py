"""Inner constants moved to where a sum of functions comes nearest to a target, compiled.

Gauss-Newton with the coefficients of the sum projected out (Golub and Pereyra, 1973; Kaufman's step). A set
of terms takes some 0.2 ms compiled, where a fit takes thirty: it ranks sets, of which the best are fitted.
"""

# numba finds the types of what it compiles from the calls, so that none are written here
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, no-any-return"
from __future__ import annotations

import numpy as np

from llmsr.expression.engine import jit
from llmsr.refinement.functions import TWO_CONSTANTS

STEPS = 12
DIFFERENCE = 1e-6  # relative, by which derivatives are taken
ENOUGH = 1e-26  # share of the target's square that is left
SAME = 1e-8  # length of a unit column behind the others, at least
FARTHEST = 2.0  # times its size that a constant moves in a step, at most


@jit
def function_values(number, u, k, c):
    """The function of that number, by its place in `functions.FAMILIES`, at the values u."""
    if number == 0:
        return np.exp(-k * u)
    if number == 1:
        return np.sin(k * u)
    if number == 2:
        return np.cos(k * u)
    if number == 3:
        return np.tanh(k * u)
    if number == 4:
        return 1.0 / (1.0 + k * u)
    if number == 5:
        return 1.0 / (1.0 + k * u * u)
    if number == 6:
        return 1.0 / (1.0 + k * u * u * u * u)
    if number == 7:
        return np.log(np.abs(1.0 + k * u))
    if number == 8:
        return np.exp(-k * u * u)
    if number == 9:
        return np.abs(u) ** k
    if number == 10:
        return 1.0 / (1.0 + np.exp(-k * (u - c)))
    if number == 11:
        return np.exp(-((k * (u - c)) ** 2))
    return np.exp(-np.abs(k * (u - c)))


@jit
def _orthogonal(columns, count, basis, upper):
    """Columns made orthonormal, rows of `basis`, by Gram and Schmidt taken twice; `upper` holds the rest.

    A column that is nothing beside those before it becomes zero.
    """
    for j in range(count):
        v = columns[j].copy()
        length = np.sqrt(v @ v)
        upper[:, j] = 0.0
        for _ in range(2):
            for i in range(j):
                shadow = basis[i] @ v
                upper[i, j] += shadow
                v -= shadow * basis[i]
        left = np.sqrt(v @ v)
        if left > SAME * length:
            upper[j, j] = left
            basis[j] = v / left
        else:
            basis[j] = 0.0


@jit
def _solved(upper, along, count):
    """The coefficients behind `_orthogonal`; 0 for a column that is nothing beside the others."""
    found = np.zeros(count)
    for j in range(count - 1, -1, -1):
        if upper[j, j] > 0.0:
            total = along[j]
            for i in range(j + 1, count):
                total -= upper[j, i] * found[i]
            found[j] = total / upper[j, j]
    return found


@jit
def _left(plain, factors, arguments, numbers, constants, goal, columns, basis, upper):
    """What the best sum leaves of the goal; fills the columns, their basis and the coefficients' triangle."""
    fixed, free = len(plain), len(factors)
    for i in range(fixed):
        columns[i] = plain[i]
    for i in range(free):
        value = function_values(numbers[i], arguments[i], constants[i, 0], constants[i, 1])
        columns[fixed + i] = factors[i] * value
    _orthogonal(columns, fixed + free, basis, upper)
    rest = goal.copy()
    for _ in range(2):
        for i in range(fixed + free):
            rest -= (basis[i] @ rest) * basis[i]
    return rest


@jit
def move_constants(plain, factors, arguments, numbers, constants, goal):
    """Move the inner constants of a sum; the share of the goal's square that is left.

    The sum has the terms `plain` (terms, rows) and those with constants, `factors` * f(`arguments`), both
    (free terms, rows), where `numbers` tells f and `constants` (free terms, 2) begins; these are changed in
    place. The goal has length 1.
    """
    fixed, free, rows = len(plain), len(factors), len(goal)
    count = fixed + free
    columns, basis, upper = np.zeros((count, rows)), np.zeros((count, rows)), np.zeros((count, count))
    slopes, own = np.zeros((2 * free, rows)), np.zeros((2 * free, rows))
    triangle = np.zeros((2 * free, 2 * free))
    rest = _left(plain, factors, arguments, numbers, constants, goal, columns, basis, upper)
    error = rest @ rest
    for _ in range(STEPS):
        if not error > ENOUGH:
            break
        weights = _solved(upper, basis @ goal, count)
        m = 0
        for i in range(free):
            for which in range(2 if numbers[i] >= TWO_CONSTANTS else 1):
                moved = constants[i].copy()
                step = DIFFERENCE * (abs(moved[which]) if moved[which] != 0.0 else 1.0)
                moved[which] += step
                value = factors[i] * function_values(numbers[i], arguments[i], moved[0], moved[1])
                slopes[m] = weights[fixed + i] / step * (value - columns[fixed + i])
                for j in range(count):
                    slopes[m] -= (basis[j] @ slopes[m]) * basis[j]
                m += 1
        _orthogonal(slopes, m, own, triangle)
        step_to = _solved(triangle[:m, :m], own[:m] @ rest, m)
        if not np.isfinite(step_to).all():
            break
        better = False
        for share in (1.0, 0.3, 0.05):
            trial, m = constants.copy(), 0
            for i in range(free):
                for which in range(2 if numbers[i] >= TWO_CONSTANTS else 1):
                    most = FARTHEST * abs(constants[i, which])
                    trial[i, which] += min(max(share * step_to[m], -most), most)
                    m += 1
            left = _left(plain, factors, arguments, numbers, trial, goal, columns, basis, upper)
            if left @ left < error:
                better = True
                break
        if not better:
            break
        gained = error / max(left @ left, 1e-300)
        constants[:], rest, error = trial, left, left @ left
        if gained < 1.001:
            break
    return error
