"""The floor of a table: the training error that even the law behind it has, from how its numbers are written.

Numbers of single precision, or of four decimals, are the law's only to half a step of that spacing. What the
inputs' steps do to the target is found by jittering them under an equation that fits. Rows whose inputs are
equal and whose targets differ show noise, which no equation explains.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from llmsr.expression.graph import Expression, evaluate
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import Split
from llmsr.sample import Evaluation

LEAST = 1e-28  # NMSE below which a loss is rounding in double precision
ABOVE = 3.0  # times the floor that a training error may be to be at it; laws of known tables have up to 2
TAIL = 0.1  # of the rows, those that rounding moves most: near a pole a few have most of the error
DRAWS = 4  # of the inputs' rounding
ROWS = 1000  # whose texts are looked at
MOST_ROWS = 10_000  # that are jittered
SENSIBLE = 1e-3  # NMSE of a floor, at most: an equation that rounding upsets more than that explains nothing
SEED = 0
SHORT = 6  # significant digits up to which numbers are taken for decimals
LONG = 15  # and from which on for double precision


def spacing(values: np.ndarray) -> np.ndarray:
    """The distance between neighbouring numbers in the format in which these seem to be written."""
    some = values[:: -(-len(values) // ROWS)]
    shortest = [repr(abs(v)) for v in some.tolist()]
    counts = np.array([len(t.partition("e")[0].replace(".", "").strip("0")) for t in shortest])
    digits = int(counts.max())
    size = np.abs(values)
    exponent = np.floor(np.log10(np.where(size > 0, size, 1.0)))
    single = bool((size < 3e38).all()) and all(_is_single(v) for v in some.tolist())
    if digits > LONG and not single:
        return np.spacing(size)
    if single and digits > SHORT:
        return np.spacing(size.astype(np.float32)).astype(float)
    places = np.array([_decimals(t) for t in shortest])
    # a last digit is 0 in one of ten numbers: what most numbers reach is how they are rounded
    if np.mean(counts == digits) > np.mean(places == places.max()):
        return np.asarray(10.0 ** (exponent + 1 - digits))
    return np.full(len(values), 10.0 ** -float(places.max()))


def _is_single(value: float) -> bool:
    """Whether a number is one of single precision, or the text of one."""
    near = np.float32(value)
    return float(near) == value or float(str(near)) == value


def _decimals(text: str) -> int:
    mantissa, _, exponent = text.partition("e")
    part = mantissa.partition(".")[2]
    return max(0, len(part.rstrip("0")) - int(exponent or 0))


@dataclass(frozen=True)
class Floor:
    """The smallest NMSE on some rows that can be told from rounding and from noise of repeated rows.

    `steps` are the spacings of the inputs (rows, columns), `weights` of rows have mean 1, `variance` is the
    target's on all rows, `written` what the target's spacing adds to the NMSE, by row, `repeats` the NMSE of
    rows with equal inputs.
    """

    inputs: np.ndarray
    target: np.ndarray
    steps: np.ndarray
    weights: np.ndarray
    variance: float
    written: np.ndarray
    repeats: float

    @classmethod
    def of(cls, split: Split) -> Floor:
        """The floor of a split; kept for as long as the split lives."""
        known = _known.get(id(split))
        if known is not None and known[0]() is split:
            return known[1]
        step = -(-len(split) // MOST_ROWS)
        inputs, target = split.inputs[::step], split.target[::step]
        variance = split.spread or 1.0
        steps = np.column_stack([spacing(column) for column in inputs.T])
        written = np.maximum(spacing(target) ** 2 / 12 / variance, LEAST)
        weights = np.ones(len(target)) if split.weights is None else split.weights[::step]
        weights = weights / np.mean(weights)
        made = cls(inputs, target, steps, weights, variance, written, _repeated(split) / variance)
        _known[id(split)] = weakref.ref(split), made
        return made

    @property
    def least(self) -> float:
        """What no equation can be expected to fall below, whatever it says of the inputs."""
        return max(float(np.mean(self.written)), self.repeats)

    def reached(self, expression: Expression, params: np.ndarray) -> bool:
        """Whether an equation's error is all that rounding and noise of repeated rows allow."""
        return self.times(expression, params) <= ABOVE

    def times(self, expression: Expression, params: np.ndarray) -> float:
        """An equation's error in units of what rounding and noise of repeated rows give; inf where hopeless.

        The rows that rounding moves most are left out.
        """
        squares = (evaluate(expression, self.inputs, params) - self.target) ** 2
        error = self.weights * squares / self.variance
        if not np.mean(error) <= ABOVE * max(SENSIBLE, self.repeats):
            return np.inf
        expected = self.expected(expression, params)
        kept = np.argsort(expected, kind="stable")[: len(expected) - int(TAIL * len(expected))]
        allowed = max(min(float(np.mean(expected[kept])), SENSIBLE), self.repeats)
        return float(np.mean(error[kept])) / allowed

    def expected(self, expression: Expression, params: np.ndarray) -> np.ndarray:
        """What rounding adds to an equation's NMSE, by row."""
        return self.weights * (self.written + self._moved(expression, params))

    def _moved(self, expression: Expression, params: np.ndarray) -> np.ndarray:
        """What rounding of the inputs adds to an equation's NMSE, by row."""
        draw, at = np.random.default_rng(SEED), evaluate(expression, self.inputs, params)
        squares = np.zeros(len(at))
        for _ in range(DRAWS):
            jitter = draw.uniform(-0.5, 0.5, self.steps.shape) * self.steps
            squares += (evaluate(expression, self.inputs + jitter, params) - at) ** 2 / DRAWS
        return np.where(np.isfinite(squares), squares, 0.0) / self.variance


def at_floor(problem: Problem, evaluation: Evaluation) -> bool:
    """Whether a sample's training error is rounding or noise of repeated rows: nothing is left to explain."""
    error = evaluation.nmse.get("train")
    if not evaluation.ok or error is None or not problem.spec.least_squares:
        return False
    if error <= LEAST:
        return True
    floors = [Floor.of(own.train) for own in problem.by_group]
    if error > ABOVE * max(SENSIBLE, *(floor.repeats for floor in floors)):
        return False
    expression = read_body(problem.spec, evaluation.body)
    params = np.asarray(evaluation.params).reshape(len(floors), -1)
    return isinstance(expression, Expression) and all(
        floor.reached(expression, own) for floor, own in zip(floors, params, strict=True)
    )


def _repeated(split: Split) -> float:
    """The mean square of targets about their mean where inputs are equal; 0 for few such rows."""
    _, group, counts = np.unique(split.inputs, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    many = counts[group] > 1
    free = int(many.sum() - (counts > 1).sum())
    if free < max(3, len(split) // 10):
        return 0.0
    means = np.bincount(group, split.target) / counts
    return float(np.sum((split.target - means[group])[many] ** 2)) / free


_known: dict[int, tuple[weakref.ref[Split], Floor]] = {}
