"""How many times quicker training is than its baselines: the claim of 3 to 5 times, judged by a benchmark.

    python benchmarks/claim.py CONFIG OUTPUT_DIR [3-5]

Prints, in Markdown, for every trained arm and threshold of a benchmark's finished runs how much less it
spends than the arm that it is tested against, with a verdict.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmsr.benchmark.measures import THRESHOLDS
from llmsr.benchmark.plan import GRPO, Arm, read_plan
from llmsr.benchmark.results import Cost, Interval, Results, bootstrap, costs, read_results
from llmsr.benchmark.tables import Table
from llmsr.cli.benchmark import SETTINGS

CLAIM = "3-5"
LEAST_COST = 1e-9  # a mean cost of 0 in ratios
NOTE = (
    "Ratio: the baseline's restricted mean cost to the threshold over the arm's, geometric mean over "
    "problems, 95% bootstrap interval over seeds; above 1 the arm is quicker. Runs that did not get there "
    "are censored. Supported: the interval lies at {least} or above; refuted: below {least}, and the "
    "baseline got there as often as the arm (else the ratio is a lower bound); open: all else."
)


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
        bootstrap(everyone, statistic),
        len(pairs),
        (arrived[0], arrived[1]),
        sum(map(len, everyone)),
    )


def value_ratio(arm: Sequence[float], baseline: Sequence[float]) -> tuple[float, Interval] | None:
    """The geometric mean of arm over baseline in paired positive values, with its bootstrap interval."""
    logs = np.array([math.log(a / b) for a, b in zip(arm, baseline, strict=True) if a > 0 and b > 0])
    if not len(logs):
        return None
    return float(np.exp(logs.mean())), bootstrap((logs,), lambda x, axis: np.exp(np.mean(x, axis=axis)))


def trained(results: Results) -> list[Arm]:
    """The arms that train and have finished a run."""
    begun = {arm for _, arm in results.runs}
    return [arm for arm in results.plan.arms if arm.kind == GRPO and arm.name in begun]


def ratios(results: Results, arm: Arm, unit: str, threshold: str) -> Ratio | None:
    """How many times less than its baseline an arm spends until a threshold, over the problems."""
    ours, theirs = {}, {}
    for problem in results.plan.problems:
        pairs = results.pairs(problem, arm)
        ours[problem] = costs((a for a, _ in pairs), threshold, unit)
        theirs[problem] = costs((b for _, b in pairs), threshold, unit)
    return cost_ratio({p: c for p, c in ours.items() if c}, theirs)


def memory_ratio(results: Results, arm: Arm, name: str = "peak_host_bytes") -> tuple[float, Interval] | None:
    """Peak memory of an arm over its baseline's, in pairs of equal problem and seed."""
    pairs = [pair for problem in results.plan.problems for pair in results.pairs(problem, arm)]
    return value_ratio(*([float(pair[side][name] or 0) for pair in pairs] for side in (0, 1)))


def claim(results: Results, least: float) -> list[dict[str, Any]]:
    """How much quicker every trained arm is than its baseline: ratios with a verdict on `least`.

    `supported` where the whole interval lies at `least` or above; `refuted` where it lies below
    that and the baseline arrives as often as the arm, since a baseline that is cut more often makes the ratio
    a lower bound; `open` otherwise; `not reached` where neither got to the threshold.
    """
    found = []
    for arm in trained(results):
        for threshold in THRESHOLDS:
            for unit in ("samples", "cpu_seconds", "gpu_seconds"):
                ratio = ratios(results, arm, unit, threshold)
                if ratio is None and unit == "gpu_seconds":
                    continue
                told = {"arm": arm.name, "against": arm.against, "threshold": threshold, "unit": unit}
                found.append(told | {"verdict": verdict(ratio, least)} | (ratio._asdict() if ratio else {}))
    return found


def verdict(ratio: Ratio | None, least: float) -> str:
    """What a ratio says about the claim, see `claim`."""
    if ratio is None:
        return "not reached"
    if ratio.interval is None:
        return "open"
    if ratio.interval[0] >= least:
        return "supported"
    arm, baseline = ratio.reached
    return "refuted" if ratio.interval[1] < least and arm <= baseline else "open"


def claim_table(results: Results, said: str) -> Table:
    """The claim's ratios, a row per trained arm, threshold and unit."""
    head = ["arm", "against", "NMSE", "counted in", "times quicker", "95% interval",
            "got there (arm, baseline)", "problems", f"{said} times"]  # fmt: skip
    rows = []
    for entry in claim(results, float(said.partition("-")[0])):
        ratio, interval, reached = (entry.get(name) for name in ("ratio", "interval", "reached"))
        rows.append([
            entry["arm"], entry["against"], entry["threshold"], entry["unit"].replace("_", " "),
            f"{ratio:.2f}" if ratio is not None else "–",
            f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "–",
            f"{reached[0]}, {reached[1]} of {entry['runs']}" if reached else "none",
            str(entry.get("problems", 0)), entry["verdict"],
        ])  # fmt: skip
    return Table(head, rows)


def memory_lines(results: Results) -> list[str]:
    """A sentence per trained arm on its peak memory against its baseline's."""
    lines = []
    for arm in trained(results):
        for what, key in (("host", "peak_host_bytes"), ("GPU", "peak_gpu_bytes")):
            if found := memory_ratio(results, arm, key):
                ratio, interval = found
                more = f" (95% interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
                told = f"{ratio:.2f} times that of {arm.against}{more}"
                lines.append(f"{arm.name}: peak {what} memory is {told}.")
    return lines


def claim_markdown(results: Results, said: str = CLAIM) -> str:
    """The claim's table and what its columns mean; empty where no arm trains."""
    table = claim_table(results, said)
    if not table.rows:
        return ""
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    title = f"## Is training {said.replace('-', ' to ')} times faster than {results.plan.baseline}?"
    told = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    memory = "\n".join(f"- {line}" for line in memory_lines(results))
    return f"{title}\n\n{told}\n\n{NOTE.format(least=said.partition('-')[0])}\n\n{memory}\n"


if __name__ == "__main__":
    config, output, *said = sys.argv[1:]
    print(claim_markdown(read_results(read_plan(config, SETTINGS), Path(output)), *said), end="")
