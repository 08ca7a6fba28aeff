"""A benchmark's measures put side by side: one record per problem and arm, tests and ratios over all.

Everything is computed from `measures.json` of the finished cells, so that a fetched or shared directory of a
few kilobytes per run makes the same tables and figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from llmsr.benchmark.measures import COSTS, SPLITS, THRESHOLDS
from llmsr.benchmark.plan import GRPO, PEER, Arm, Cell, Plan
from llmsr.benchmark.runner import DONE, FAILED, CellDirectory, read_json
from llmsr.benchmark.statistics import (
    Comparison,
    Cost,
    Ratio,
    Spread,
    compare_arms,
    cost_ratio,
    median_cost,
    nmse_spread,
    spread,
    value_ratio,
)
from llmsr.report.display import format_table

COLUMN = {name: place for place, name in enumerate((*COSTS, *SPLITS))}  # of a row of `improvements`

# CPU seconds of all processes together: those of a start, and those of a sample, means over the problems
# of docs/comparison.md, on shared cores
START = 7.0
RATES = {"grammar": 0.02, "skeleton-lm": 0.1, "reference": 0.23, GRPO: 0.18}

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

    def paired(self, problem: str, arm: str, other: str) -> list[tuple[Measures, Measures]]:
        """The runs of two arms with equal seeds."""
        theirs = {m["seed"]: m for m in self.of(problem, other)}
        return [(m, theirs[m["seed"]]) for m in self.of(problem, arm) if m["seed"] in theirs]


def read_results(plan: Plan, output: Path) -> Results:
    """The results that stand in a benchmark's directory."""
    runs: dict[tuple[str, str], list[Measures]] = {}
    failures, missing = [], 0
    for cell in plan.cells:
        directory = CellDirectory(cell, output / cell.place)
        state = directory.state()
        if state.get("status") == FAILED:
            failures.append((cell.name, state.get("reason", "")))
        elif state.get("status") == DONE and (found := read_json(directory.measures)) is not None:
            runs.setdefault((cell.problem, cell.arm.name), []).append(found)
        else:
            missing += 1
    return Results(plan, runs, failures, missing)


def arm_records(results: Results) -> list[dict[str, Any]]:
    """One flat record per problem and arm with at least one finished run, ready for CSV."""
    records = []
    for problem in results.plan.problems:
        for arm in results.plan.arms:
            runs = results.of(problem, arm.name)
            if runs:
                records.append({"problem": problem, "arm": arm.name, "kind": arm.kind} | _record(runs))
    return records


def _record(runs: Sequence[Measures]) -> dict[str, Any]:
    record: dict[str, Any] = {"runs": len(runs)}
    for name in ("samples", "tokens", "fits", "refinement_fits", "cpu_seconds", "gpu_seconds", "seconds",
                 "peak_host_bytes", "peak_gpu_bytes"):  # fmt: skip
        values = [float(m[name]) for m in runs if m[name] is not None]
        found = spread(values)
        record[f"{name}_median"] = found.median if found else None
    record["wall_shared"] = any(m["jobs"] > 1 for m in runs)
    for name in ("valid", "distinct"):
        shares = [m[name] / m["samples"] for m in runs if m["samples"]]
        found = spread(shares)
        record[f"{name}_share_median"] = found.median if found else None
    for split in SPLITS:
        if split in runs[0]["splits"]:
            record |= _flat(f"nmse_{split}", nmse_spread([_final_nmse(m, split) for m in runs]))
            for kind in ("share_within", "all_within"):
                means = [m["final"]["accuracy_0.1"][split][kind] if m["final"] else 0.0 for m in runs]
                record[f"accuracy_0.1_{kind}_{split}_mean"] = sum(means) / len(means)
    known = [m for m in runs if m["final"] and m["final"]["match"] is not None]
    record["matches"] = sum(m["final"]["match"] for m in known) if known else None
    sizes = spread([float(m["final"]["complexity"] or 0) for m in runs if m["final"]])
    record["complexity_median"] = sizes.median if sizes else None
    for threshold in THRESHOLDS:
        key = f"{threshold:g}"
        record[f"reached_{key}"] = sum(m["reached"][key] is not None for m in runs)
        for unit in ("samples", "cpu_seconds"):
            record[f"{unit}_to_{key}_median"] = median_cost(costs(runs, key, unit))
    return record


def _flat(name: str, found: Any) -> dict[str, Any]:
    if found is None:
        return {}
    low, high = found.interval or (None, None)
    return {f"{name}_median": found.median, f"{name}_min": found.low, f"{name}_max": found.high,
            f"{name}_ci_low": low, f"{name}_ci_high": high}  # fmt: skip


def _final_nmse(measures: Measures, split: str) -> float | None:
    return measures["final"]["nmse"].get(split) if measures["final"] else None


def costs(runs: Sequence[Measures], threshold: str, unit: str) -> list[Cost]:
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
    plan = results.plan
    found = {}
    for split in SPLITS:
        pairs = {}
        for arm in plan.arms:
            if arm.name == arm.against:
                continue
            pairs[arm.name] = [
                (_final_nmse(ours, split), _final_nmse(theirs, split))
                for problem in plan.problems
                for ours, theirs in results.paired(problem, arm.name, arm.against)
                if split in ours["splits"]
            ]
        found[split] = compare_arms(pairs)
    return found


def ratios(results: Results, arm: Arm, unit: str, threshold: str) -> Ratio | None:
    """How many times less than its baseline an arm spends until a threshold, over the problems."""
    ours, theirs = {}, {}
    for problem in results.plan.problems:
        pairs = results.paired(problem, arm.name, arm.against)
        if pairs:
            ours[problem] = costs([a for a, _ in pairs], threshold, unit)
            theirs[problem] = costs([b for _, b in pairs], threshold, unit)
    return cost_ratio({p: c for p, c in ours.items() if c}, theirs)


def memory_ratio(results: Results, arm: Arm, name: str = "peak_host_bytes") -> tuple[float, Any] | None:
    """Peak memory of an arm over its baseline's, in pairs of equal problem and seed."""
    pairs = [
        (float(a[name] or 0), float(b[name] or 0))
        for problem in results.plan.problems
        for a, b in results.paired(problem, arm.name, arm.against)
    ]
    return value_ratio([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def trained(results: Results) -> list[Arm]:
    """The arms that train and have finished a run."""
    arms, problems = results.plan.arms, results.plan.problems
    return [arm for arm in arms if arm.kind == GRPO and any(results.of(p, arm.name) for p in problems)]


def claim(results: Results) -> list[dict[str, Any]]:
    """How much quicker every trained arm is than its baseline: ratios with a verdict on the plan's claim.

    `supported` where the whole interval lies at the claim's lower end or above; `refuted` where it lies below
    that and the baseline arrives as often as the arm, since a baseline that is cut more often makes the ratio
    a lower bound; `open` otherwise; `not reached` where neither got to the threshold.
    """
    found = []
    least = float(results.plan.claim.partition("-")[0] or 1)
    for arm in trained(results):
        for threshold in THRESHOLDS:
            for unit in ("samples", "cpu_seconds", "gpu_seconds"):
                ratio = ratios(results, arm, unit, f"{threshold:g}")
                if ratio is None and unit == "gpu_seconds":
                    continue
                told = {"arm": arm.name, "against": arm.against, "threshold": threshold, "unit": unit}
                found.append(told | {"verdict": verdict(ratio, least)} | (asdict(ratio) if ratio else {}))
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


def course(runs: Sequence[Measures], unit: str, split: str, places: Sequence[float]) -> list[Spread | None]:
    """The best-so-far NMSE over the runs at each place on an axis; None without any run.

    The equation is the best on the training rows so far. A run without one yet, or with one whose
    prediction is not finite on the split, counts as CEILING; one that has ended keeps its last value.
    """
    x, y = COLUMN[unit], COLUMN[split]
    found = []
    for place in places:
        values: list[float | None] = []
        for measures in runs:
            rows = [row for row in measures["improvements"] if row[x] is not None and row[x] <= place]
            values.append(rows[-1][y] if rows else None)
        found.append(nmse_spread(values, interval=False))
    return found


def estimate(plan: Plan, cells: Sequence[Cell], output: Path, jobs: int) -> str:
    """The matrix of a plan with what these cells of it have yet to spend, as a table and a sentence."""
    measured = _measured(plan, output)
    rows, total, left = [], 0.0, 0
    for arm in plan.arms:
        runs = sum(c.arm is arm for c in plan.cells)
        waiting = [c for c in cells if c.arm is arm and _state(c, output) != DONE]
        per_run = measured.get(arm.name)
        known = per_run is not None
        if per_run is None:
            per_run = _assumed(arm)
        total += per_run * len(waiting)
        left += len(waiting)
        what = " ".join(f"{k}={v}" for k, v in arm.flags.items())
        budget = str(arm.budget) if arm.kind != PEER else "-"
        rows.append([arm.name, arm.kind, budget, str(runs), str(len(waiting)), f"{per_run:,.0f}",
                     "measured" if known else "assumed", what[:90]])  # fmt: skip
    head = ["arm", "kind", "budget", "runs", "to do", "CPU s per run", "", "flags"]
    problems = ", ".join(plan.problems)
    return (
        f"{len(plan.problems)} problems ({problems}) x {len(plan.arms)} arms x {len(plan.seeds)} seeds\n\n"
        f"{format_table(head, rows)}\n\n"
        f"{left} runs to do, about {total:,.0f} CPU seconds ({total / 3600:.1f} core hours); "
        f"with --jobs {jobs} about {total / jobs / 3600:.1f} hours if as many cores are free"
    )


def _state(cell: Cell, output: Path) -> str | None:
    return CellDirectory(cell, output / cell.place).state().get("status")


def _measured(plan: Plan, output: Path) -> dict[str, float]:
    """CPU seconds of a run of each arm, the median of its finished cells."""
    found: dict[str, list[float]] = {}
    for cell in plan.cells:
        measures = read_json(output / cell.place / "measures.json")
        if measures is not None and measures["budget"] == cell.arm.budget:
            found.setdefault(cell.arm.name, []).append(measures["cpu_seconds"])
    return {name: median(values) for name, values in found.items()}


def _assumed(arm: Arm) -> float:
    if arm.kind == PEER:
        return float(arm.flags.get("cpu_seconds", 300.0))
    if arm.kind == GRPO:
        return START + arm.budget * RATES[GRPO]
    rate = RATES.get(str(arm.flags.get("proposer", "skeleton-lm")), RATES["skeleton-lm"])
    by_bfgs = RATES["reference"] if arm.flags.get("fitter") == "reference" else 0.0
    return START + arm.budget * (rate + by_bfgs)
