"""Statistics over seeds: medians with bootstrap intervals, costs to a threshold with censored runs, paired
tests.

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
LEAST_COST = 1e-9  # a mean cost of 0 in ratios
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


class Ratio(NamedTuple):
    """How many times less an arm spends than the baseline until a threshold; above 1 it is quicker.

    The ratio of restricted means (see `restricted_means`), as geometric mean over `problems` of them;
    `interval` is the bootstrap's over seeds. `reached` counts runs of the arm and of the baseline, `runs`
    those of either.
    """

    ratio: float
    interval: Interval
    problems: int
    reached: tuple[int, int]
    runs: int


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
    ends = _bootstrap((logs,), np.median) if interval else None
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


def restricted_means(ours: Sequence[Cost], theirs: Sequence[Cost]) -> tuple[float, float] | None:
    """Both arms' mean cost to a threshold, cut at a horizon that no run was censored before.

    Up to that horizon every run's cost is known, so that the restricted mean is a plain mean; the horizon is
    the least that a run that did not arrive has spent, else the most that one that did. None where no run of
    either arm arrives within it.
    """
    means = _restricted_means(np.array(ours), np.array(theirs))
    return None if np.isnan(means).any() else (float(means[0]), float(means[1]))


def _restricted_means(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """As above for arrays (..., runs, 2) of costs; shape (2, ...), nan where nobody arrives."""
    spent, reached = np.moveaxis(np.concatenate([ours, theirs], axis=-2), -1, 0)
    censored = np.where(reached > 0, np.inf, spent).min(axis=-1, keepdims=True)
    horizon = np.where(np.isfinite(censored), censored, spent.max(axis=-1, keepdims=True))
    arrives = ((reached > 0) & (spent <= horizon)).any(axis=-1) & (horizon[..., 0] > 0)
    means = [np.minimum(costs[..., 0], horizon).mean(axis=-1) for costs in (ours, theirs)]
    return np.where(arrives, np.maximum(means, LEAST_COST), np.nan)


def cost_ratio(arm: Mapping[str, Sequence[Cost]], baseline: Mapping[str, Sequence[Cost]]) -> Ratio | None:
    """Baseline's over arm's restricted mean cost, over the problems where either of them arrives.

    In a resample too: a problem where nobody arrives in it says nothing there. Both map a problem to its runs
    in the order of their seeds; a seed is resampled for both together. None where no problem is left.
    """
    pairs = [
        (np.array(arm[name]), np.array(baseline[name]))
        for name in arm
        if baseline.get(name) and len(arm[name]) == len(baseline[name])
        and restricted_means(arm[name], baseline[name]) is not None
    ]  # fmt: skip
    if not pairs:
        return None

    def statistic(*seeds: np.ndarray, axis: int = -1) -> np.ndarray:
        logs = []
        for (ours, theirs), chosen in zip(pairs, seeds, strict=True):
            index = chosen.astype(int)
            means = _restricted_means(ours[index], theirs[index])
            logs.append(np.log(means[1] / means[0]))
        return np.exp(np.nanmean(logs, axis=0))

    everyone = tuple(np.arange(len(ours)) for ours, _ in pairs)
    arrived = [sum(int(side[:, 1].sum()) for side in sides) for sides in zip(*pairs, strict=True)]
    return Ratio(
        float(statistic(*everyone)),
        _bootstrap(everyone, statistic),
        len(pairs),
        (arrived[0], arrived[1]),
        sum(map(len, everyone)),
    )


def value_ratio(arm: Sequence[float], baseline: Sequence[float]) -> tuple[float, Interval] | None:
    """The geometric mean of arm over baseline in paired positive values, with its bootstrap interval."""
    logs = np.array([math.log(a / b) for a, b in zip(arm, baseline, strict=True) if a > 0 and b > 0])
    if not len(logs):
        return None
    return float(np.exp(logs.mean())), _bootstrap((logs,), lambda x, axis: np.exp(np.mean(x, axis=axis)))


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


def _bootstrap(data: tuple[np.ndarray, ...], statistic: Callable[..., Any]) -> Interval:
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
