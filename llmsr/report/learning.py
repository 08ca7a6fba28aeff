"""How a training run went, step by step: the curve of `result.json` and curve.csv, and its table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmsr.report.history import History
from llmsr.report.terminal import format_table

SHOWN_POINTS = 12
SPLITS = ("train", "test_id", "test_ood")


def learning_curve(histories: Sequence[History]) -> list[dict[str, Any]]:
    """One point per step: answers so far, mean reward, shares of valid and of new ones, best error so far.

    `distinct` is the share of answers with an equation that no earlier answer had. Several histories are
    those of a run's problems: their answers are counted together, and there is no one best error.
    """
    points: list[dict[str, Any]] = []
    samples = 0
    for number in sorted({number for history in histories for number in history.steps}):
        steps = [history.steps[number] for history in histories if number in history.steps]
        answers, rewarded = sum(s.samples for s in steps), sum(s.rewarded for s in steps)
        samples += answers
        best = steps[0].best_so_far if len(histories) == 1 else None
        points.append(
            {
                "step": number,
                "samples": samples,
                "reward": sum(s.reward for s in steps) / rewarded if rewarded else None,
                "valid": sum(s.valid for s in steps) / answers,
                "distinct": sum(s.new for s in steps) / answers,
                **{f"best_nmse_{split}": best.nmse.get(split) if best else None for split in SPLITS},
            }
        )
    return points


def curve_csv(points: Sequence[Mapping[str, Any]]) -> str:
    """The curve as CSV; a cell is empty where there was no valid equation yet."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(points[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(points)
    return text.getvalue()


def format_curve(points: Sequence[Mapping[str, Any]]) -> str:
    """The curve as a table of at most SHOWN_POINTS lines, the last step among them."""
    if not points:
        return "no step was finished"
    stride = max(1, math.ceil(len(points) / SHOWN_POINTS))
    rows = []
    for point in points[(len(points) - 1) % stride :: stride]:
        reward, nmse = point["reward"], point["best_nmse_train"]
        rows.append(
            [
                str(point["step"]), f"{point['samples']:,}", "-" if reward is None else f"{reward:+.3f}",
                f"{point['valid']:.0%}", f"{point['distinct']:.0%}", "-" if nmse is None else f"{nmse:.2e}",
            ]
        )  # fmt: skip
    return format_table(["step", "samples", "reward", "valid", "new", "best NMSE"], rows)
