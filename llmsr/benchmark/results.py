"""A benchmark's measures put side by side: one record per problem and arm, statistics over seeds, tests.

Everything is computed from `measures.json` of the finished cells, so that a fetched or shared directory of a
few kilobytes per run makes the same tables and figures. A failure is an error of CEILING. A run that did not
reach a threshold is censored at what it spent; it is never dropped and never counted as if it had arrived.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from llmsr.benchmark.measures import COSTS, SPLITS, THRESHOLDS
from llmsr.benchmark.plan import PEER, Arm, Plan
from llmsr.benchmark.runner import DONE, FAILED, CellDirectory, read_json

COLUMN = {name: place for place, name in enumerate((*COSTS, *SPLITS))}  # of a row of `improvements`
# what has a median in a record
MEDIANS = ("samples", "tokens", "fits", "refinement_fits", "cpu_seconds", "gpu_seconds", "seconds",
           "peak_host_bytes", "peak_gpu_bytes")  # fmt: skip

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
LEAST = 1e-33  # an NMSE of exactly 0 in logarithms
CEILING = 1e10  # an NMSE that is not finite, or larger
ROUNDING = 1e-10  # NMSE below which tests see no difference

Interval = tuple[float, float] | None  # of the bootstrap; None for fewer than two runs
Pairs = Sequence[tuple[float | None, float | None]]  # the NMSE of an arm and of its baseline

Measures = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A plan's finished runs: measures by (problem, arm) in the order of seeds; what failed or is missing."""

    plan: Plan
    runs: Mapping[tuple[str, str], list[Measures]]
    failures: list[tuple[str, str]]
    missing: int

    def of(self, problem: str, arm: str) -> list[Measures]:
        return self.runs.get((problem, arm), [])

    def pairs(self, problem: str, arm: Arm) -> list[tuple[Measures, Measures]]:
        """The runs of an arm beside its baseline's of equal seeds."""
        # equal seeds draw equal prompts, so pairs differ by the arm alone
        theirs = {m["seed"]: m for m in self.of(problem, arm.against)}
        return [(m, theirs[m["seed"]]) for m in self.of(problem, arm.name) if m["seed"] in theirs]

    @property
    def problems(self) -> list[str]:
        """The problems with a finished run."""
        begun = {problem for problem, _ in self.runs}
        return [problem for problem in self.plan.problems if problem in begun]


def read_results(plan: Plan, output: Path) -> Results:
    """The results that stand in a benchmark's directory."""
    runs: dict[tuple[str, str], list[Measures]] = {}
    failures, missing = [], 0
    for cell in plan.cells:
        directory = CellDirectory(cell, output / cell.place)
        state = directory.state()
        if state.get("status") == FAILED:
            failures.append((cell.name, state.get("reason", "")))
        # a cell whose measures are lost counts as missing and is measured again
        elif state.get("status") == DONE and (found := read_json(directory.measures)) is not None:
            runs.setdefault((cell.problem, cell.arm.name), []).append(found)
        else:
            missing += 1
    return Results(plan, runs, failures, missing)


def arm_records(results: Results) -> list[dict[str, Any]]:
    """One flat record per problem and arm with at least one finished run, ready for CSV."""
    return [
        {"problem": problem, "arm": arm.name, "kind": arm.kind} | _record(runs)
        for problem in results.plan.problems
        for arm in results.plan.arms
        if (runs := results.of(problem, arm.name))
    ]


def _record(runs: Sequence[Measures]) -> dict[str, Any]:
    finals = [m["final"] for m in runs]
    known = [final for final in finals if final]
    record: dict[str, Any] = {"runs": len(runs)}
    record |= {f"{name}_median": middle(m[name] for m in runs) for name in MEDIANS}
    record["wall_shared"] = any(m["jobs"] > 1 for m in runs)
    for name in ("valid", "distinct"):
        record[f"{name}_share_median"] = middle(m[name] / m["samples"] for m in runs if m["samples"])
    for split in (split for split in SPLITS if split in runs[0]["splits"]):
        if (found := nmse_spread([_final_nmse(m, split) for m in runs])) is not None:
            values = (found.median, found.low, found.high, *(found.interval or (None, None)))
            names = ("median", "min", "max", "ci_low", "ci_high")
            record |= {f"nmse_{split}_{name}": value for name, value in zip(names, values, strict=True)}
        for kind in ("share_within", "all_within"):
            shares = [final["accuracy_0.1"][split][kind] if final else 0.0 for final in finals]
            record[f"accuracy_0.1_{kind}_{split}_mean"] = fmean(shares)
    told = [final["match"] for final in known if final["match"] is not None]
    record["matches"] = sum(told) if told else None
    record["complexity_median"] = middle(final["complexity"] or 0 for final in known)
    for threshold in THRESHOLDS:
        record[f"reached_{threshold}"] = sum(m["reached"][threshold] is not None for m in runs)
        for unit in ("samples", "cpu_seconds"):
            record[f"{unit}_to_{threshold}_median"] = median_cost(costs(runs, threshold, unit))
    return record


def middle(values: Iterable[float | None]) -> float | None:
    """The median of the values that are known, None where none is."""
    found = [float(value) for value in values if value is not None]
    return median(found) if found else None


def _final_nmse(measures: Measures, split: str) -> float | None:
    return measures["final"]["nmse"].get(split) if measures["final"] else None


def costs(runs: Iterable[Measures], threshold: str, unit: str) -> list[Cost]:
    """What each run spent to a threshold, or in all; without the unit (a peer's samples) there is none."""
    found = []
    for measures in runs:
        reached = measures["reached"][threshold]
        spent = None if unit in ("samples", "tokens") and measures["kind"] == PEER else measures[unit]
        if spent is not None:
            found.append(Cost(float(reached[unit] if reached else spent), reached is not None))
    return found


def tests(results: Results) -> dict[str, dict[str, Comparison]]:
    """Per split, every arm against its baseline over all seeds and problems that both have finished."""
    return {
        split: compare_arms({
            arm.name: [
                (_final_nmse(ours, split), _final_nmse(theirs, split))
                for problem in results.plan.problems
                for ours, theirs in results.pairs(problem, arm)
                if split in ours["splits"]
            ]
            for arm in results.plan.arms
            if arm.name != arm.against
        })
        for split in SPLITS
    }  # fmt: skip


def course(runs: Sequence[Measures], unit: str, split: str, places: Sequence[float]) -> list[Spread | None]:
    """The best-so-far NMSE over the runs at each place on an axis; None without any run.

    The equation is the best on the training rows so far. A run without one yet, or with one whose
    prediction is not finite on the split, counts as CEILING; one that has ended keeps its last value.
    """
    x, y = COLUMN[unit], COLUMN[split]

    def last(measures: Measures, place: float) -> float | None:
        rows = [row for row in measures["improvements"] if row[x] is not None and row[x] <= place]
        return rows[-1][y] if rows else None

    return [nmse_spread([last(m, place) for m in runs], interval=False) for place in places]


# ---- statistics


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
    median, low, high = (10 ** float(of(logs)) for of in (np.median, np.min, np.max))
    ends = bootstrap((logs,), np.median) if interval else None
    return Spread(median, low, high, ends and (10 ** ends[0], 10 ** ends[1]))


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
