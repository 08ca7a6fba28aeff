"""How residuals are judged: by squares, or by a loss on which a few wild rows have less weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmsr.declarations import Declarations, loss_of

NORMAL = (
    1.345  # standard errors at which Huber's loss is 95% as sharp as squares on normal noise (Huber, 1981)
)
SHARE = 0.1  # of the target's spread: where it bends if nothing is known of the errors
MAD = 1.4826  # times the median absolute deviation is a normal distribution's standard deviation


@dataclass(frozen=True)
class Loss:
    """A loss of residuals, target minus prediction.

    mse: r^2. huber: r^2, beyond `bend` 2 bend |r| - bend^2. mae: |r|. quantile: `level` r, or (level - 1) r
    where that is more. With weights w a row counts w times its loss; where they come from measurement errors
    (`standard`) its loss is that of r sqrt(w). Weights count by their share of their mean, so that units are
    the target's.
    """

    name: str = "mse"
    bend: float = np.inf
    level: float = 0.5
    standard: bool = False

    @classmethod
    def of(cls, asked: Declarations, target: np.ndarray, weights: np.ndarray | None) -> Loss:
        """The loss that is asked for on these training rows."""
        name, number = loss_of(asked.loss)
        standard = bool(asked.sigma)
        if name == "quantile":
            return cls(name, level=number or 0.5, standard=standard)
        if name != "huber":
            return cls(name or "mse", standard=standard)
        if standard and weights is not None:
            return cls(name, (number or NORMAL) / float(np.sqrt(np.mean(weights))), standard=True)
        spread = MAD * float(np.median(np.abs(target - np.median(target))))
        return cls(name, number or SHARE * (spread or float(np.std(target))))

    @property
    def squares(self) -> bool:
        """Whether it is the plain sum of squares."""
        return self.name == "mse"

    @property
    def smooth(self) -> bool:
        """Whether it has a second derivative nearly everywhere, from which standard errors follow."""
        return self.name in ("mse", "huber")

    def mean(self, residual: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The mean loss of residuals of shape (rows,)."""
        if weights is None:
            return float(np.mean(self._rows(residual)))
        share = weights / np.mean(weights)
        if self.standard:
            return float(np.mean(self._rows(residual * np.sqrt(share))))
        return float(np.mean(share * self._rows(residual)))

    def spread(self, target: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The mean loss of the best constant: the variance (ddof 0) for squares."""
        if self.squares and weights is None:
            return float(np.var(target))
        middle = float(np.average(target, weights=weights))
        if not self.squares:
            for least in np.std(target) * 0.5 ** np.arange(40):
                middle = float(np.average(target, weights=self.quadratic(target - middle, weights, least)))
        return self.mean(target - middle, weights)

    def quadratic(self, residual: np.ndarray, weights: np.ndarray | None, least: float) -> np.ndarray:
        """Weights v with which v r^2 touches the loss of each row at its residual, up to a constant.

        Residuals below `least` count as that, since the weight of mae would be infinite at 0.
        """
        share = np.ones(len(residual)) if weights is None else weights / np.mean(weights)
        size = np.abs(residual * np.sqrt(share) if self.standard else residual)
        if self.squares:
            return share
        with np.errstate(divide="ignore"):
            if self.name == "huber":
                return share * np.minimum(1.0, self.bend / size)
        slope = np.ones(len(residual))
        if self.name == "quantile":
            slope = np.where(residual > 0, self.level, 1.0 - self.level)
        return share * slope / (2.0 * np.maximum(size, max(least, 1e-300)))

    def _rows(self, residual: np.ndarray) -> np.ndarray:
        if self.squares:
            return residual**2
        if self.name == "quantile":
            return np.maximum(self.level * residual, (self.level - 1.0) * residual)
        size = np.abs(residual)
        if self.name == "mae":
            return size
        return np.where(size <= self.bend, size**2, self.bend * (2.0 * size - self.bend))


SQUARES = Loss()
