"""Constants under another loss than squares, by iteratively reweighted least squares.

Each round minimises the sum of squares whose weights let it touch the loss at the present residuals, and lie
above it elsewhere: the loss cannot rise (Beaton and Tukey, 1974; Hunter and Lange, 2004).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmsr.expression.graph import evaluate
from llmsr.fitting.multistart import Search
from llmsr.fitting.residuals import Candidate, weighted
from llmsr.problem.split import Split

STARTS = 3  # least-squares ends that are followed
ROUNDS = 100
SHRINK = 0.6  # of the size up to which residuals count as one size, from round to round
SMALLEST = 1e-6  # of the first such size: where it no longer rounds the corner of a loss
GAIN = 1e-9  # share of the loss below which a round gains nothing


def reweighted(search: Search, train: Split) -> Candidate | None:
    """The best of what descents under the loss of `train` reach from the ends of a least-squares search.

    Its `squares` is the mean loss; None where nothing finite was found.
    """
    starts: list[Candidate] = []
    for end in sorted(search.found, key=lambda c: c.squares):
        if all(abs(end.squares - other.squares) > 1e-3 * other.squares for other in starts):
            starts.append(end)
    reached = [descended(search, train, start.theta) for start in starts[:STARTS]]
    return min((c for c in reached if np.isfinite(c.squares)), key=lambda c: c.squares, default=None)


def descended(search: Search, train: Split, theta: np.ndarray) -> Candidate:
    """Where a descent under the loss of `train` leads from `theta`; its `squares` is the mean loss."""
    residual = _residual(search, train, theta)
    best = Candidate(train.loss.mean(residual, train.weights), theta)
    first = least = float(np.median(np.abs(residual)))
    quiet = 0
    for _ in range(ROUNDS if search.tape.n_params else 0):
        once = train.loss.squares and quiet  # whose weights do not change
        ended = once or (quiet >= 3 and (train.loss.smooth or least < SMALLEST * first))
        if search.late or ended or not np.isfinite(best.squares):
            break
        weights = train.loss.quadratic(residual, train.weights, least)
        residuals = search.residuals(weighted(train, weights))
        # on from where the last round ended, lower or not: what rounds the corner less leads to the optimum
        end, _ = residuals.descend(theta, 30, 1e-12)
        theta = end.theta
        residual = _residual(search, train, end.theta)
        reached = replace(end, squares=train.loss.mean(residual, train.weights))
        quiet = 0 if reached.squares < (1.0 - GAIN) * best.squares else quiet + 1
        if reached.squares < best.squares:
            best = reached
        least *= SHRINK
    return best


def _residual(search: Search, train: Split, theta: np.ndarray) -> np.ndarray:
    params = np.ones(max(search.tape.params, default=-1) + 1)
    params[list(search.tape.params)] = theta
    return train.target - evaluate(search.expression, train.inputs, params)
