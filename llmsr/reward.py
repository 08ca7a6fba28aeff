"""What an answer is worth: an `Evaluation` in, a bounded number out.

Every shape gives a valid equation a value in [0, 1], and failures fixed values below it, graded so that a
model which cannot yet write a valid equation still feels which way is up:

    no text < does not parse < refused < uses no input < no finite fit < any valid equation

Only the training rows count; test_id and test_ood are never rewarded. Where a shape needs an error, it is
NMSE = mean squared error / variance of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from llmsr.sample import Evaluation

FAILURES = {
    "empty": -1.0,
    "syntax": -0.8,
    "unsupported": -0.6,
    "too_large": -0.6,
    "constant": -0.5,
    "form": -0.5,
    "units": -0.5,
    "crash": -0.5,
    "error": -0.4,
    "timeout": -0.4,
    "nonfinite": -0.4,
}
LOWEST = min(FAILURES.values())
PENALTY = 0.5  # what an equation loses whose units do not agree, where that is no refusal
COPY = 0.0  # an equation that the prompt itself shows: valid, and worth nothing

NMSE_FLOOR = 1e-28  # below it differences are rounding in double precision
NMSE_CEILING = 10.0
COMPLEXITY_SCALE = 100.0


def neg_log_nmse(evaluation: Evaluation, floor: float = NMSE_FLOOR) -> float:
    """-log10(NMSE), clipped to [floor, 10] and mapped to [0, 1]: 1 for the law, whatever the data's format.

    A higher floor than the data's would give a flexible form of ten constants as much as the law.
    """
    value = min(max(_train_nmse(evaluation), floor), NMSE_CEILING)
    span = math.log10(NMSE_CEILING) - math.log10(floor)
    return (math.log10(NMSE_CEILING) - math.log10(value)) / span


def neg_mse(evaluation: Evaluation, floor: float = NMSE_FLOOR) -> float:
    """1 / (1 + MSE): LLM-SR's score -MSE squeezed into (0, 1]; MSE in squared units of the target."""
    mse = evaluation.train_mse
    return 1.0 / (1.0 + mse) if mse is not None and mse >= 0 else 0.0


def r2(evaluation: Evaluation, floor: float = NMSE_FLOOR) -> float:
    """1 - NMSE, not below 0: the share of the variance that is explained."""
    return max(0.0, 1.0 - _train_nmse(evaluation))


SHAPES: dict[str, Callable[[Evaluation, float], float]] = {
    "neg_log_nmse": neg_log_nmse,
    "neg_mse": neg_mse,
    "r2": r2,
    "rank": neg_log_nmse,  # alone, before its group is known; `group_rewards` puts the rank in its place
}


def reward(
    evaluation: Evaluation,
    shape: str = "neg_log_nmse",
    *,
    complexity_weight: float = 0.0,
    copy: bool = False,
    likeness: float = 0.0,
    graded_failures: bool = True,
    floor: float = NMSE_FLOOR,
) -> float:
    """The reward of one answer: in [0, 1] if valid, else below 0 by the kind of failure.

    `floor` is the NMSE that the data's numbers allow at best. `complexity_weight` is what an equation of 100
    operations loses, `likeness` what one loses that resembles others of its group, `PENALTY` one whose units
    do not agree; a valid one never falls below 0. `copy` tells that the equation is not new. Without
    `graded_failures` every failure is worth the least.
    """
    if not evaluation.ok:
        return FAILURES.get(evaluation.status, LOWEST) if graded_failures else LOWEST
    if copy:
        return COPY
    if evaluation.penalized:
        likeness += PENALTY
    size = min(evaluation.complexity or 0, COMPLEXITY_SCALE) / COMPLEXITY_SCALE
    return max(COPY, SHAPES[shape](evaluation, floor) - complexity_weight * size - likeness)


def group_rewards(
    evaluations: Sequence[Evaluation],
    copies: Sequence[bool],
    shape: str = "neg_log_nmse",
    *,
    complexity_weight: float = 0.0,
) -> list[float]:
    """The rewards of the answers to one prompt; only `rank` looks at them together."""
    alone = [
        reward(e, shape, complexity_weight=complexity_weight, copy=c)
        for e, c in zip(evaluations, copies, strict=True)
    ]
    return ranked(alone) if shape == "rank" else alone


def ranked(rewards: Sequence[float]) -> list[float]:
    """Positive rewards of one group replaced by their rank, the best 1 and the worst of k 1/k; ties share
    a mean.

    Failures and copies (0 and below) keep their values.
    """
    valid = sorted(value for value in rewards if value > COPY)
    below = {value: valid.index(value) for value in valid}
    ties = {value: valid.count(value) for value in valid}
    return [
        (below[value] + (ties[value] + 1) / 2) / len(valid) if value > COPY else value for value in rewards
    ]


def _train_nmse(evaluation: Evaluation) -> float:
    value = evaluation.nmse.get("train")
    return value if value is not None and value >= 0 else math.inf
