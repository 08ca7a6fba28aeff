"""The train split laid out for fitting: contiguous columns, a strided subset, the target's power."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llmsr.problem.loading import Split

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
    divided by it is the NMSE; where the target is constant it is the sum of squares, or 1.
    """

    full: View
    subset: View
    sample: View
    power: float

    @cached_property
    def variance(self) -> np.float64:
        """The target's variance, ddof 0."""
        return np.float64(np.var(self.full.target))

    def part(self, rows: int) -> Dataset:
        """A data set of so many strided rows."""
        return _arranged(_strided(self.full, rows))


def strided(numbers: np.ndarray, rows: int) -> np.ndarray:
    """`rows` equally spaced ones of the last axis, contiguous; all where there are no more."""
    count = numbers.shape[-1]
    return numbers if count <= rows else numbers.take(np.arange(rows) * count // rows, axis=-1)


def _strided(view: View, rows: int) -> View:
    return view if view.rows <= rows else View(strided(view.columns, rows), strided(view.target, rows))


def lay_out(split: Split) -> Dataset:
    """The data set of a split."""
    target = np.ascontiguousarray(split.target, dtype=np.float64)
    return _arranged(View(np.ascontiguousarray(split.inputs.T, dtype=np.float64), target))


def _arranged(full: View) -> Dataset:
    target = full.target
    deviation = target - target.mean()
    power = float(deviation @ deviation) or float(target @ target) or 1.0
    return Dataset(full, _strided(full, SUBSET_ROWS), _strided(full, SAMPLE_ROWS), power)


# by the split's id, since what holds arrays has no hash; the reference tells whether it is still that split
_known: dict[int, tuple[weakref.ref[Split], Dataset]] = {}
_lock = threading.Lock()


def dataset_of(split: Split) -> Dataset:
    """The data set of a split, laid out once for as long as the split lives; safe to call from threads."""
    key = id(split)
    with _lock:
        entry = _known.get(key)
        if entry is not None and entry[0]() is split:
            return entry[1]
    made = lay_out(split)  # without the lock: two threads that do the same work do no harm
    with _lock:
        for stale in [k for k, (ref, _) in _known.items() if ref() is None]:
            del _known[stale]
        _known[key] = (weakref.ref(split), made)
    return made
