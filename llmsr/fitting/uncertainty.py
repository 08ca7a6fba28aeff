"""How well rows determine fitted constants: standard errors, intervals and correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from llmsr.expression.engine.tape import derivatives
from llmsr.expression.graph import Expression, GraphTooLarge, values_of
from llmsr.problem.split import Split

LEVEL = 0.95
BLOCK_ROWS = 65_536
ROUNDING = 1e-13  # singular values of a scaled Jacobian below this share of the largest are rounding
PART = 1e-6  # of a direction that the rows leave free, from which on a constant is free too


@dataclass(frozen=True)
class Uncertainty:
    """The errors of an equation's constants, in the order of `params`, their indices.

    `covariance` (k, k) is infinite on the diagonal for a constant that the rows do not determine. `noise` is
    the standard deviation of a row of mean weight about the equation, `freedom` the number of rows minus that
    of determined constants. `draws` (draws, k) are constants fitted to resampled rows, where asked for.
    """

    params: tuple[int, ...]
    values: np.ndarray
    covariance: np.ndarray
    noise: float
    freedom: int
    draws: np.ndarray | None = None

    @property
    def standard_errors(self) -> np.ndarray:
        """The standard deviation of every constant, shape (k,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlations(self) -> np.ndarray:
        """The correlations of the constants, shape (k, k); nan for one that is not determined."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.covariance / np.outer(self.standard_errors, self.standard_errors))

    def intervals(self, level: float = LEVEL) -> np.ndarray:
        """Low and high end of every constant's confidence interval, shape (k, 2).

        By Student's distribution, or as quantiles of the draws.
        """
        if self.draws is not None:
            ends: np.ndarray = np.quantile(self.draws, [0.5 - level / 2, 0.5 + level / 2], axis=0).T
            return ends
        reach = self.standard_errors * stdtrit(self.freedom, 0.5 + level / 2)
        return np.column_stack([self.values - reach, self.values + reach])

    def prediction(self, expression: Expression, inputs: np.ndarray) -> np.ndarray:
        """The standard deviation of a new row of mean weight about the prediction, shape (rows,).

        Of the constants to first order, and of the noise.
        """
        params = np.ones(max(self.params, default=-1) + 1)
        params[list(self.params)] = self.values
        variance = np.full(len(inputs), self.noise**2)
        for start in range(0, len(inputs), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            _, jacobian = linearized(expression, inputs[rows], params)
            # a constant that no row moves has no part in it, however wide its error
            known = np.where(np.isfinite(self.covariance), self.covariance, 0.0)
            variance[rows] += np.einsum("ri,ij,rj->r", jacobian, known, jacobian)
        deviation: np.ndarray = np.sqrt(variance)
        return deviation

    def to_json(self, names: Sequence[str], level: float = LEVEL) -> dict[str, Any]:
        """Plain data; `names` are those of the constants. None stands for what the rows do not determine."""
        rows = zip(names, self.values, self.standard_errors, self.intervals(level), strict=True)
        return {
            "level": level,
            "from": "the Jacobian" if self.draws is None else f"{len(self.draws)} bootstrap fits",
            "noise": self.noise,
            "degrees_of_freedom": self.freedom,
            "constants": {
                name: dict(zip(("value", "standard_error", "low", "high"),
                               map(_number, (value, error, low, high)), strict=True))
                for name, value, error, (low, high) in rows
            },
            "correlations": [[_number(c) for c in row] for row in self.correlations],
        }  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def linearized(
    expression: Expression, inputs: np.ndarray, params: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The prediction (rows,) and its Jacobian (rows, k) by the constants in the order of `params`.

    NotImplementedError or GraphTooLarge where there is no derivative.
    """
    found = derivatives(expression)
    with np.errstate(all="ignore"):
        values = values_of(found.nodes, inputs.T, params)
    rows = (len(inputs),)
    columns = [np.broadcast_to(values[p], rows) for p in found.partials]
    return np.broadcast_to(values[found.root], rows), np.column_stack([*columns, np.empty((*rows, 0))])


def uncertainty(expression: Expression, params: Sequence[float], train: Split) -> Uncertainty | None:
    """The errors of constants fitted to `train`; None where its loss or the equation gives none.

    The covariance is that of least squares, noise^2 (J^T J)^-1, J the Jacobian with its rows times the roots
    of their weights; of Huber's loss that of its estimate (Huber, 1981, section 7.6). The noise is taken from
    the residuals, so that the weights need only be right up to a factor.
    """
    if not train.loss.smooth or not expression.params:
        return None
    theta = np.asarray(params, dtype=float)
    weights = train.weights if train.weights is not None else np.ones(len(train))
    root = np.sqrt(weights / np.mean(weights))
    triangle = np.zeros((0, len(expression.params)))
    pulls, inside = 0.0, 0
    for start in range(0, len(train), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        try:
            predicted, jacobian = linearized(expression, train.inputs[rows], theta)
        except (NotImplementedError, GraphTooLarge):
            return None
        with np.errstate(all="ignore"):
            residual = (train.target[rows] - predicted) * root[rows]
            size = np.abs(residual if train.loss.standard else train.target[rows] - predicted)
            pull = residual * np.minimum(1.0, train.loss.bend / np.maximum(size, 1e-300))
            pulls += float(pull @ pull)
            inside += int(np.count_nonzero(size <= train.loss.bend))
            block = np.vstack([triangle, jacobian * root[rows, None]])
            if not np.isfinite(np.square(block).sum() + pulls):
                return None
        triangle = np.asarray(np.linalg.qr(block, "r"))
    inverse, rank = _inverse(triangle)
    freedom = len(train) - rank
    noise = np.sqrt(pulls / freedom) * len(train) / inside if freedom > 0 and inside else np.inf
    with np.errstate(invalid="ignore"):
        covariance = noise**2 * inverse
    return Uncertainty(expression.params, theta[list(expression.params)], covariance, float(noise), freedom)


def _inverse(triangle: np.ndarray) -> tuple[np.ndarray, int]:
    """(J^T J)^-1 from J's triangle, infinite where the rows do not determine a constant; the rank of J."""
    size = np.linalg.norm(triangle, axis=0)
    scale = np.where(size > 0, size, 1.0)
    _, values, directions = np.linalg.svd(triangle / scale)
    free = np.ones(len(directions), bool)
    free[: len(values)] = values <= ROUNDING * max(values.max(initial=0.0), 1e-300)
    half = directions[~free].T / values[~free[: len(values)]] / scale[:, None]
    inverse = half @ half.T
    loose = (np.abs(directions[free]) > PART).any(axis=0)
    inverse[np.ix_(loose, loose)] = np.where(np.eye(int(loose.sum()), dtype=bool), np.inf, 0.0)
    return inverse, int((~free).sum())


def bootstrapped(
    expression: Expression, params: Sequence[float], train: Split, draws: int, seed: int = 0
) -> Uncertainty | None:
    """The errors of constants, from fits to rows drawn with replacement (Efron, 1979); None without any.

    Each fit begins at the fitted constants. Works for every loss; the noise is then that of the residuals.
    """
    from llmsr.fitting.multistart import Search
    from llmsr.fitting.residuals import lay_out

    theta = np.asarray(params, dtype=float)
    generator, found = np.random.default_rng(seed), []
    for _ in range(draws if expression.params else 0):
        drawn = train.taken(generator.integers(len(train), size=len(train)))
        search = Search(expression, lay_out(drawn), np.inf)
        end = search.reweighted_from(theta[list(search.tape.params)], drawn)
        if np.isfinite(end.squares):
            found.append(end.theta)
    if len(found) < 2:
        return None
    fitted = np.array(found)
    known = uncertainty(expression, params, train)
    predicted, _ = linearized(expression, train.inputs, theta)
    noise = known.noise if known else float(np.std(train.target - predicted))
    freedom = len(train) - len(expression.params)
    made = Uncertainty(
        expression.params, theta[list(expression.params)], np.atleast_2d(np.cov(fitted.T)), noise, freedom
    )
    return replace(made, draws=fitted)
