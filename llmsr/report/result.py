"""The result of a run: its best equation, what it costs to be wrong, and how it was found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llmsr.evolution.search import Totals
from llmsr.problem import Problem


def result_of(problem: Problem, totals: Totals) -> dict[str, Any]:
    """The run's outcome as plain data; `best` is None where no sample was valid.

    The best sample is the one of least training loss; test_id and test_ood are reported, never selected on.
    """
    best = None
    if totals.best is not None:
        evaluation = totals.best.evaluation
        best = {
            "sample": totals.best.number,
            "equation": f"{problem.target} = {evaluation.expression}",
            "latex": evaluation.latex,
            "body": evaluation.body,
            "params": list(evaluation.params or ()),
            "complexity": evaluation.complexity,
            "train_mse": evaluation.train_mse,
            "nmse": dict(evaluation.nmse),
            "fitter": evaluation.fitter,
            "engine": evaluation.engine,
        }
    return {
        "problem": problem.name,
        "note": problem.note,
        "samples": totals.samples,
        "valid": totals.valid,
        "distinct": totals.distinct,
        "tokens": totals.tokens,
        "failed_prompts": totals.failed_prompts,
        "failures": dict(totals.failures),
        "best": best,
    }


def write_result(run_dir: Path, result: dict[str, Any]) -> None:
    """Write `result.json`, whole or not at all."""
    temporary = run_dir / "result.json.part"
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, run_dir / "result.json")


def format_result(result: dict[str, Any]) -> str:
    """The result as a person reads it in a terminal."""
    counts = (
        f"{result['problem']}: {result['samples']} samples, {result['valid']} valid, "
        f"{result['distinct']} distinct equations"
    )
    lines = [counts]
    if result["note"]:
        lines.append(f"note: {result['note']}")
    best = result["best"]
    if best is None:
        reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(result["failures"].items()))
        lines.append(f"no valid equation was found ({reasons or 'no samples'})")
        return "\n".join(lines)
    used = [f"params[{i}] = {p:.10g}" for i, p in enumerate(best["params"]) if f"params[{i}]" in best["body"]]
    lines += [
        "",
        f"best equation (sample {best['sample']}, complexity {best['complexity']}):",
        f"  {best['equation']}",
        "",
        "constants:",
        *(f"  {entry}" for entry in used or ["none"]),
        "",
        "NMSE (mean squared error / variance of the target):",
        *(f"  {split:<9}{_number(value)}" for split, value in best["nmse"].items()),
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return f"{value:.3e}" if value is not None else "not finite"
