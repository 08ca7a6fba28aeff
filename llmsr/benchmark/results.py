"""A benchmark's measures put side by side: one record per problem and arm, tests and ratios over all.

Everything is computed from `measures.json` of the finished cells, so that a fetched or shared directory of a
few kilobytes per run makes the same tables and figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from llmsr.benchmark.measures import COSTS, SPLITS, THRESHOLDS
from llmsr.benchmark.plan import PEER, Arm, Cell, Plan
from llmsr.benchmark.runner import DONE, FAILED, CellDirectory, read_json
from llmsr.benchmark.statistics import (
    Comparison,
    Cost,
    Spread,
    compare_arms,
    median_cost,
    nmse_spread,
)

COLUMN = {name: place for place, name in enumerate((*COSTS, *SPLITS))}  # of a row of `improvements`
# what has a median in a record
MEDIANS = ("samples", "tokens", "fits", "refinement_fits", "cpu_seconds", "gpu_seconds", "seconds",
           "peak_host_bytes", "peak_gpu_bytes")  # fmt: skip

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
    record |= {f"{name}_median": _median(m[name] for m in runs) for name in MEDIANS}
    record["wall_shared"] = any(m["jobs"] > 1 for m in runs)
    for name in ("valid", "distinct"):
        record[f"{name}_share_median"] = _median(m[name] / m["samples"] for m in runs if m["samples"])
    for split in (split for split in SPLITS if split in runs[0]["splits"]):
        found = nmse_spread([_final_nmse(m, split) for m in runs])
        if found is not None:
            record |= _flat(f"nmse_{split}", found)
        for kind in ("share_within", "all_within"):
            shares = [final["accuracy_0.1"][split][kind] if final else 0.0 for final in finals]
            record[f"accuracy_0.1_{kind}_{split}_mean"] = fmean(shares)
    told = [final["match"] for final in known if final["match"] is not None]
    record["matches"] = sum(told) if told else None
    record["complexity_median"] = _median(final["complexity"] or 0 for final in known)
    for threshold in (f"{t:g}" for t in THRESHOLDS):
        record[f"reached_{threshold}"] = sum(m["reached"][threshold] is not None for m in runs)
        for unit in ("samples", "cpu_seconds"):
            record[f"{unit}_to_{threshold}_median"] = median_cost(costs(runs, threshold, unit))
    return record


def _median(values: Iterable[float | None]) -> float | None:
    found = [float(value) for value in values if value is not None]
    return median(found) if found else None


def _flat(name: str, found: Spread) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    return {f"{name}_median": found.median, f"{name}_min": found.low, f"{name}_max": found.high,
            f"{name}_ci_low": low, f"{name}_ci_high": high}  # fmt: skip


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
    found = []
    for place in places:
        rows = [[row[y] for row in m["improvements"] if row[x] is not None and row[x] <= place] for m in runs]
        found.append(nmse_spread([row[-1] if row else None for row in rows], interval=False))
    return found


def estimate(plan: Plan, cells: Sequence[Cell], output: Path) -> list[tuple[Arm, int, int, float | None]]:
    """Per arm: its runs, how many of these cells are to do, CPU seconds of a run.

    The latter is the median of the arm's finished runs of the same budget, None before there is one.
    """
    found = []
    for arm in plan.arms:
        own, asked = (
            [CellDirectory(cell, output / cell.place) for cell in some if cell.arm is arm]
            for some in (plan.cells, cells)
        )
        waiting = sum(directory.state().get("status") != DONE for directory in asked)
        measures = [read_json(directory.measures) for directory in own]
        spent = _median(m["cpu_seconds"] for m in measures if m is not None and m["budget"] == arm.budget)
        found.append((arm, len(own), waiting, spent))
    return found
