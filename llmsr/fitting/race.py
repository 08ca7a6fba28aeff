"""Many short descents on few rows: from a bank of starts, and from one point with one parameter moved."""

from __future__ import annotations

import numpy as np

from llmsr.expression.engine.chosen import expired, jit
from llmsr.fitting.descent import copy, descend


@jit
def heat(program, thetas, linear, low, high, floor, tolerance, iterations, squares):
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
def kick(program, theta, squares, candidates, linear, low, high, floor, tolerance, iterations):
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
