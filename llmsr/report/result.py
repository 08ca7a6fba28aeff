"""The result of a run: its best equation, what it costs to be wrong, and how it was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsr.files import write_file
from llmsr.problem.loading import Problem
from llmsr.report.terminal import format_result
from llmsr.sample import Sample
from llmsr.search.totals import Totals

__all__ = ["format_result", "front_of", "result_of", "write_result"]

if TYPE_CHECKING:
    from llmsr.report.equation import Equation


def result_of(problem: Problem, totals: Totals) -> dict[str, Any]:
    """The run's outcome as plain data; `best` is None where no sample was valid.

    The best sample is the one of least training loss; test_id and test_ood are reported, never selected on.
    """
    return {
        "problem": problem.name,
        "note": problem.note,
        "samples": totals.samples,
        "valid": totals.valid,
        "distinct": totals.distinct,
        "refinements": totals.refinements,
        "tokens": totals.tokens,
        "failed_prompts": totals.failed_prompts,
        "failures": dict(totals.failures),
        "best": _described(problem, totals.best) if totals.best is not None else None,
    }


def front_of(equations: Sequence[Equation], picked: int | None, rule: str) -> dict[str, Any]:
    """What `result.json` says beside `result_of`: the front, and the member that was picked by which rule."""
    entries = []
    for equation in equations:
        entry = _described(equation.problem, equation.sample)
        entry |= {
            "score": equation.score,
            "exact": equation.text,
            "constants": equation.constants,
            "rounded": {
                "equation": equation.tidy_text,
                "latex": equation.tidy_latex,
                "nmse": dict(equation.tidy_nmse),
                "terms_dropped": equation.tidy.dropped,
                "recognised": [
                    {"number": r.number, "name": r.name, "value": r.value} for r in equation.tidy.recognised
                ],
            },
        }
        entries.append(entry)
    return {
        "selection": rule,
        "pick": entries[picked] if picked is not None else None,
        "front": entries,
    }


def _described(problem: Problem, sample: Sample) -> dict[str, Any]:
    evaluation = sample.evaluation
    return {
        "sample": sample.number,
        "proposer": sample.proposer,
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


def write_result(run_dir: Path, result: dict[str, Any]) -> None:
    """Write `result.json`, whole or not at all."""
    write_file(run_dir / "result.json", json.dumps(result, indent=2) + "\n")
