"""The squared residuals of one expression on some rows, and descents on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.expression.engine import chosen as engine
from llmsr.expression.engine.tape import Tape
from llmsr.fitting.bfgs import minimise
from llmsr.fitting.descent import CAPPED, descend, descend_all, perturb

FLOOR = 1e-26  # NMSE below which nothing is left to gain in float64


@dataclass(frozen=True)
class Candidate:
    """Parameters in the tape's order and their sum of squared residuals."""

    squares: float
    theta: np.ndarray


class Residuals:
    """A tape bound to rows: `features` (features, rows), `target` (rows,).

    `linear` marks the parameters that enter linearly; `power` is the sum of squares that an NMSE of 1 has;
    `deadline` is in the clock of `time.monotonic`. Nothing here changes the parameters that it is given.
    """

    def __init__(
        self,
        tape: Tape,
        features: np.ndarray,
        target: np.ndarray,
        linear: np.ndarray,
        power: float,
        deadline: float,
    ) -> None:
        self.features, self.linear, self.power = features, linear, power
        self.floor = 1e-3 * FLOOR * power
        # far enough for every sensible unit, near enough for squares of both to stay finite
        self.high = np.where(linear, 1e14, 1e9)
        self.rows = len(target)
        self._program = engine.bind(tape, features, target, deadline)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return bool(engine.expired(self._program.handle))

    @property
    def was_late(self) -> bool:
        """Whether the deadline was seen to have passed."""
        return bool(self._program.was_late)

    @property
    def evaluations(self) -> int:
        """The passes over the rows so far."""
        return int(self._program.evaluations)

    def gram(self, theta: np.ndarray) -> np.ndarray:
        """The Gram matrix of [Jacobian, residual], shape (params + 1, params + 1)."""
        k = len(theta)
        g = np.empty((k + 1, k + 1))
        engine.gram(self._program.handle, theta, g)
        return g

    def squares(self, theta: np.ndarray) -> float:
        """The sum of squared residuals; infinity where one is not finite."""
        return float(self.gram(theta)[-1, -1])

    def descend(self, theta: np.ndarray, iterations: int, tolerance: float) -> tuple[Candidate, bool]:
        """Where Levenberg-Marquardt leads from `theta`, and whether it was stopped on its way."""
        k = len(theta)
        theta, g = theta.copy(), np.full((k + 1, k + 1), np.inf)
        handle, high = self._program.handle, self.high
        ended = descend(handle, theta, self.linear, -high, high, self.floor, np.inf, tolerance, iterations, g)
        return Candidate(float(g[k, k]), theta), ended == CAPPED

    def descend_all(
        self,
        thetas: Sequence[np.ndarray],
        iterations: int = 30,
        tolerance: float = 1e-5,
        box: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> list[Candidate]:
        """Where descents from several parameter vectors end, each in its box of lows and highs; best first.

        Those without a finite end are left out.
        """
        ends, squares = np.vstack(thetas), np.empty(len(thetas))
        wide = np.tile(self.high, (len(ends), 1))
        low, high = (-wide, wide) if box is None else box
        descend_all(
            self._program.handle, ends, self.linear, low, high, self.floor, tolerance, iterations, squares
        )
        order = np.argsort(squares, kind="stable")
        return [Candidate(float(squares[i]), ends[i]) for i in order if np.isfinite(squares[i])]

    def perturbed(self, start: Candidate, grid: np.ndarray, iterations: int) -> Candidate:
        """The best of short descents from `start` with one parameter moved to a number of `grid`.

        `grid` has shape (params, any number); every gain is kept at once. The start itself if late.
        """
        if self.late:
            return start
        theta, high = start.theta.copy(), self.high
        squares = perturb(
            self._program.handle,
            theta,
            start.squares,
            grid,
            self.linear,
            -high,
            high,
            self.floor,
            1e-3,
            iterations,
        )
        return Candidate(float(squares), theta)

    def bfgs(self, theta: np.ndarray, long: int) -> Candidate:
        """Where BFGS on the mean squared error stops; after `long` iterations where others can go on."""
        end = theta.copy()
        value = minimise(self._program.handle, end, long)
        return Candidate(float(value) * self.rows, end)
