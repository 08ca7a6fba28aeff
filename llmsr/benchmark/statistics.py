"""Statistics over seeds: medians with bootstrap intervals, censored costs to a threshold, paired tests.

Nothing here knows files. A failure is an error of CEILING. A run that did not reach a threshold is censored
at what it spent; it is never dropped and never counted as if it had arrived.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
LEAST = 1e-33  # an NMSE of exactly 0 in logarithms
CEILING = 1e10  # an NMSE that is not finite, or larger
ROUNDING = 1e-10  # NMSE below which tests see no difference

Interval = tuple[float, float] | None  # of the bootstrap; None for fewer than two runs
Pairs = Sequence[tuple[float | None, float | None]]  # the NMSE of an arm and of its baseline


class Spread(NamedTuple):
    """A median with its range and its bootstrap interval."""

    median: float
    low: float
    high: float
    interval: Interval


class Cost(NamedTuple):
    """What one run spent until it reached a threshold, or in all where `reached` is False."""

    spent: float
    reached: bool


class Comparison(NamedTuple):
    """An arm against the baseline over paired runs: Wilcoxon's signed-rank test on log10 NMSE.

    `difference` is the median of arm minus baseline in decades (below 0: the arm is better), `p` the test's
    two-sided probability and `p_holm` the same after Holm's correction over the arms.
    """

    difference: float
    p: float
    p_holm: float
    pairs: int
    better: int
    worse: int


def log_nmse(value: float | None, least: float = LEAST) -> float:
    """log10 of an NMSE between `least` and CEILING; None (a prediction that is not finite) is the ceiling."""
    if value is None or math.isnan(value):
        value = CEILING
    return math.log10(min(max(value, least), CEILING))


def nmse_spread(values: Sequence[float | None], interval: bool = True) -> Spread | None:
    """The spread of NMSE taken in logarithms, as NMSE; None without any, CEILING stands for a failure."""
    if not values:
        return None
    logs = np.array([log_nmse(value) for value in values])
    ends = bootstrap((logs,), np.median) if interval else None
    return Spread(
        10 ** float(np.median(logs)),
        10 ** float(logs.min()),
        10 ** float(logs.max()),
        ends and (10 ** ends[0], 10 ** ends[1]),
    )


def median_cost(costs: Sequence[Cost]) -> float | None:
    """The Kaplan-Meier median of costs to a threshold; None where fewer than half of the runs arrive."""
    if not any(cost.reached for cost in costs):
        return None
    data = stats.CensoredData(
        uncensored=[cost.spent for cost in costs if cost.reached],
        right=[cost.spent for cost in costs if not cost.reached],
    )
    survival = stats.ecdf(data).sf
    arrived = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
    return float(arrived[0]) if len(arrived) else None


def compare_arms(arms: Mapping[str, Pairs]) -> dict[str, Comparison]:
    """Each arm's test from its pairs over seeds and problems."""
    differences = {
        name: np.array([log_nmse(a, ROUNDING) - log_nmse(b, ROUNDING) for a, b in pairs])
        for name, pairs in arms.items()
        if pairs
    }
    p = {name: signed_rank(values) for name, values in differences.items()}
    corrected = holm(p)
    return {
        name: Comparison(
            float(np.median(values)), p[name], corrected[name], len(values),
            int((values < 0).sum()), int((values > 0).sum()),
        )
        for name, values in differences.items()
    }  # fmt: skip


def signed_rank(differences: np.ndarray) -> float:
    """The two-sided p of Wilcoxon's signed-rank test, zeros ranked as Pratt does; 1 where all are zero.

    Exact with zeros and ties too, by counting the signs that give each sum of ranks: scipy's approximation is
    off by a factor of two where most differences are zero.
    """
    twice = np.rint(2 * stats.rankdata(np.abs(differences))).astype(int)  # ties have half ranks
    ranks, positive = twice[differences != 0], differences[differences != 0] > 0
    ways = np.ones(1)  # of every sum of positive ranks, divided by the number of all signs
    for rank in ranks:
        ways = (np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))) / 2
    found = int(ranks[positive].sum())
    return float(min(1.0, 2 * min(ways[: found + 1].sum(), ways[found:].sum())))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (1979): family-wise error over all names."""
    # the k-th smallest of n is multiplied by n - k + 1, and never less than one before it
    order = sorted(p, key=lambda name: p[name])
    raised = [min(1.0, (len(p) - place) * p[name]) for place, name in enumerate(order)]
    return dict(zip(order, np.maximum.accumulate(raised).tolist(), strict=True))


def bootstrap(data: tuple[np.ndarray, ...], statistic: Callable[..., Any]) -> Interval:
    """The percentile interval of a statistic of one or several independently resampled samples.

    Resamples in which it is nan, which tell nothing of it, are left out. None for a sample of one.
    """
    if min(map(len, data)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about resamples that are all nan
        drawn = stats.bootstrap(
            data, statistic, vectorized=True, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
            method="percentile", random_state=np.random.default_rng(SEED),
        ).bootstrap_distribution  # fmt: skip
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
