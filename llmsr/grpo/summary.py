"""What a training run found: its best equations, and how reward, validity and error went along."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmsr.files import write_file
from llmsr.sample import Sample

SHOWN_POINTS = 12


def curve(samples: Sequence[Sample], answers_per_step: int) -> list[dict[str, Any]]:
    """One point per step: answers so far, mean reward, shares of valid and distinct ones, best error so far.

    `distinct` counts equations that no earlier answer of the run had, over the step's answers. The best is
    the one of least training error; its errors on the other splits stand beside it.
    """
    training = [sample for sample in samples if sample.proposer == "policy"]
    points: list[dict[str, Any]] = []
    known: set[str] = set()
    best: Sample | None = None
    for first in range(0, len(training), answers_per_step):
        block = training[first : first + answers_per_step]
        valid = [sample for sample in block if sample.evaluation.ok]
        fresh = {sample.evaluation.canonical for sample in valid} - known
        known |= fresh
        best = best_of([*([best] if best else []), *valid])
        nmse = best.evaluation.nmse if best else {}
        points.append(
            {
                "step": first // answers_per_step + 1,
                "samples": first + len(block),
                "reward": _mean([sample.reward or 0.0 for sample in block]),
                "valid": len(valid) / len(block),
                "distinct": len(fresh) / len(block),
                **{f"best_nmse_{split}": nmse.get(split) for split in ("train", "test_id", "test_ood")},
            }
        )
    return points


def best_of(samples: Sequence[Sample]) -> Sample | None:
    """The valid sample of least training NMSE, the earliest of equals."""
    valid = [sample for sample in samples if sample.evaluation.ok]
    return min(valid, key=lambda s: (_train(s), s.number), default=None)


def summary(name: str, target: str, note: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """The outcome for one problem as plain data; `best` is None where no answer was valid."""
    training = [sample for sample in samples if sample.proposer == "policy"]
    found = best_of(training)
    best = None
    if found is not None:
        evaluation = found.evaluation
        best = {
            "sample": found.number,
            "step": found.step,
            "equation": f"{target} = {evaluation.expression}",
            "latex": evaluation.latex,
            "body": evaluation.body,
            "params": list(evaluation.params or ()),
            "complexity": evaluation.complexity,
            "train_mse": evaluation.train_mse,
            "nmse": dict(evaluation.nmse),
            "fitter": evaluation.fitter,
        }
    valid = [sample for sample in training if sample.evaluation.ok]
    return {
        "problem": name,
        "note": note,
        "samples": len(training),
        "valid": len(valid),
        "distinct": len({sample.evaluation.canonical for sample in valid}),
        "failures": dict(Counter(s.evaluation.status for s in training if not s.evaluation.ok)),
        "best": best,
    }


def write_curve(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The curve as CSV; an empty cell where there was no valid equation yet."""
    if not points:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(points[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(points)
    write_file(path, text.getvalue())


def format_curve(points: Sequence[Mapping[str, Any]]) -> str:
    """The curve as a table of at most SHOWN_POINTS lines, the first and the last step among them."""
    if not points:
        return "no step was finished"
    stride = max(1, math.ceil(len(points) / SHOWN_POINTS))
    shown = [*points[:-1:stride], points[-1]]
    lines = [f"{'step':>5} {'samples':>8} {'reward':>7} {'valid':>6} {'new':>5} {'best NMSE':>10}"]
    for point in shown:
        nmse = point["best_nmse_train"]
        error = f"{nmse:.2e}" if nmse is not None else "-"
        lines.append(
            f"{point['step']:>5} {point['samples']:>8} {point['reward']:>+7.3f} {point['valid']:>6.0%} "
            f"{point['distinct']:>5.0%} {error:>10}"
        )
    return "\n".join(lines)


def format_summary(found: Mapping[str, Any]) -> str:
    """The outcome for one problem as a person reads it."""
    lines = [
        f"{found['problem']}: {found['samples']} answers, {found['valid']} valid, {found['distinct']} "
        f"distinct equations"
    ]
    if found["note"]:
        lines.append(f"note: {found['note']}")
    best = found["best"]
    if best is None:
        reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(found["failures"].items()))
        return "\n".join([*lines, f"no valid equation was found ({reasons or 'no answers'})"])
    used = [f"params[{i}] = {p:.10g}" for i, p in enumerate(best["params"]) if f"[{i}]" in best["body"]]
    return "\n".join(
        [
            *lines,
            f"best equation (sample {best['sample']}, step {best['step']}, complexity {best['complexity']}):",
            f"  {best['equation']}",
            "constants: " + (", ".join(used) or "none"),
            "NMSE: " + ", ".join(f"{split} {_number(value)}" for split, value in best["nmse"].items()),
        ]
    )


def _train(sample: Sample) -> float:
    value = sample.evaluation.nmse.get("train")
    return math.inf if value is None else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _number(value: float | None) -> str:
    return f"{value:.3e}" if value is not None else "not finite"
