"""What a benchmark will take, before it is run: from its finished cells, else from measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from llmsr.benchmark.cells import DONE, CellDirectory, read_json
from llmsr.benchmark.plan import GRPO, PEER, Arm, Cell, Plan
from llmsr.report.terminal import format_table

# CPU seconds of all processes together: those of a start, and those of a sample, means over the problems
# of docs/comparison.md, on shared cores
START = 7.0
RATES = {"grammar": 0.02, "skeleton-lm": 0.1, "reference": 0.23, GRPO: 0.18}


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
