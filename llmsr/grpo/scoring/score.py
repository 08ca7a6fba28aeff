"""What a trainer is told of an answer: the score and its flags."""

from __future__ import annotations

import math

from llmsr.reward import NMSE_CEILING, NMSE_FLOOR
from llmsr.sample import STATUSES, Evaluation

Score = dict[str, float]


def score_with_flags(evaluation: Evaluation, value: float, copy: bool, new: bool = False) -> Score:
    """The reward `value` as `score` and what goes with it: the same keys for every answer, all floats.

    `new` tells a valid equation that the run's answers had not shown before.
    `log10_nmse` lies between -10 and 1, the latter also for a failure; `status` is the position in
    `llmsr.sample.STATUSES`.
    """
    nmse = evaluation.nmse.get("train") if evaluation.ok else None
    clipped = NMSE_CEILING if nmse is None else min(max(nmse, NMSE_FLOOR), NMSE_CEILING)
    return {
        "score": float(value),
        "valid": float(evaluation.ok),
        "copy": float(copy),
        "new": float(new and evaluation.ok),
        "status": float(STATUSES.index(evaluation.status)),
        "log10_nmse": math.log10(clipped),
        "complexity": float(evaluation.complexity or 0),
        "fit_seconds": float(evaluation.fit_seconds),
    }


def fault(error: BaseException) -> Evaluation:
    """The evaluation of an answer on which something broke that is not the answer's doing."""
    return Evaluation(status="error", reason=f"{type(error).__name__}: {error}"[:500])
