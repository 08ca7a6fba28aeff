"""The rows of a split laid out for fitting, the squared residuals of one expression on them, and descents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from llmsr.expression import engine
from llmsr.expression.engine.tape import Tape
from llmsr.expression.graph import Expression, Graph
from llmsr.fitting.descent import CAPPED, bfgs, descend, descend_all, perturb
from llmsr.problem.split import Split

SUBSET_ROWS = 256
SAMPLE_ROWS = 64


@dataclass(frozen=True)
class View:
    """Some rows: `columns` (columns, rows) and `target` (rows,), contiguous."""

    columns: np.ndarray
    target: np.ndarray

    @property
    def rows(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Dataset:
    """All rows, a strided subset on which starts compete, and a still smaller sample that shows ranges.

    `power` is the sum of squared deviations of the target from its mean, so that a sum of squared residuals
    divided by it is the NMSE; where the target is constant it is the sum of squares, or 1. Of `weighted` rows
    the last column is the root of the weight, over that of the mean weight, and the target is multiplied by
    it.
    """

    full: View
    subset: View
    sample: View
    power: float
    weighted: bool = False

    @cached_property
    def variance(self) -> np.float64:
        """The target's variance, ddof 0; of weighted rows the weighted one."""
        return np.float64(self.power / self.full.rows if self.weighted else np.var(self.full.target))

    def rooted(self, expression: Expression) -> Expression:
        """The equation whose residuals are to be squared: of weighted rows times the root of the weight."""
        if not self.weighted:
            return expression
        graph = Graph(len(expression.nodes) + 2, expression.nodes)
        root = graph.column(len(self.full.columns) - 1)
        return graph.expression(graph.add("mul", root, len(expression.nodes) - 1), expression.columns)

    def part(self, rows: int) -> Dataset:
        """A data set of so many strided rows."""
        return _arranged(_strided(self.full, rows), self.weighted)


def strided(numbers: np.ndarray, rows: int) -> np.ndarray:
    """`rows` equally spaced ones of the last axis, contiguous; all where there are no more."""
    count = numbers.shape[-1]
    return numbers if count <= rows else numbers.take(np.arange(rows) * count // rows, axis=-1)


def _strided(view: View, rows: int) -> View:
    return view if view.rows <= rows else View(strided(view.columns, rows), strided(view.target, rows))


def lay_out(split: Split, weights: np.ndarray | None = None) -> Dataset:
    """The data set of a split, for its weighted sum of squares; with weights (rows,) in place of its own."""
    weights = split.weights if weights is None else weights
    if weights is None and not split.loss.squares:
        weights = np.ones(len(split))  # they will be others, round by round
    target = np.ascontiguousarray(split.target, dtype=np.float64)
    columns = np.ascontiguousarray(split.inputs.T, dtype=np.float64)
    if weights is None:
        return _arranged(View(columns, target), False)
    root = np.sqrt(weights / np.mean(weights))
    return _arranged(View(np.vstack([columns, root]), root * target), True)


def _arranged(full: View, is_weighted: bool) -> Dataset:
    target = full.target
    deviation = target - target.mean()
    if is_weighted:
        root = full.columns[-1]
        deviation = target - root * (float(root @ target) / float(root @ root))
    power = float(deviation @ deviation) or float(target @ target) or 1.0
    subset, sample = _strided(full, SUBSET_ROWS), _strided(full, SAMPLE_ROWS)
    return Dataset(full, subset, sample, power, is_weighted)


_known: WeakKeyDictionary[Split, Dataset] = WeakKeyDictionary()


def dataset_of(split: Split) -> Dataset:
    """The data set of a split, laid out once for as long as the split lives; safe to call from threads."""
    known = _known.get(split)
    if known is None:  # two threads that do the same work do no harm
        known = _known[split] = lay_out(split)
    return known


# ---- residuals


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
        value = bfgs(self._program.handle, end, long)
        return Candidate(float(value) * self.rows, end)
