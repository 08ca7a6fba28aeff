"""What an answer is worth: an `Evaluation` in, a bounded number out.

A valid equation gets a value in [0, 1], failures get fixed values below it, graded so that a
model which cannot yet write a valid equation still feels which way is up:

    no text < does not parse < refused < uses no input < no finite fit < any valid equation

Only the training rows count; test_id and test_ood are never rewarded. Where a shape needs an error, it is
NMSE = mean squared error / variance of the target.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import entry_points

from llmsr.errors import UserError
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


def parsimony(evaluation: Evaluation, floor: float = NMSE_FLOOR) -> float:
    """1 - operations / 100, not below 0: what a smaller equation is worth beside its error."""
    return 1.0 - min(evaluation.complexity or 0, COMPLEXITY_SCALE) / COMPLEXITY_SCALE


Term = Callable[[Evaluation, float], float]
TERMS: dict[str, Term] = {
    "neg_log_nmse": neg_log_nmse,
    "neg_mse": neg_mse,
    "r2": r2,
    "parsimony": parsimony,
    "rank": neg_log_nmse,  # alone, before its group is known; advantages put the rank in its place
}
PLUGINS = "llmsr.rewards"  # entry points of installed packages: name = module:function


@lru_cache(maxsize=32)
def reward_terms(text: str) -> tuple[tuple[float, Term], ...]:
    """The weights, which sum to 1, and terms of a reward such as `neg_log_nmse + 0.05*parsimony`.

    A term is one of TERMS, the name of an entry point of PLUGINS, or `module:function`, a function from an
    `Evaluation` to a number of [0, 1]. `UserError` for what is none of these.
    """
    terms = []
    for part in text.split("+"):
        weight, _, name = part.rpartition("*")
        try:
            number = float(weight) if weight.strip() else 1.0
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise UserError(f"--reward {text}: {weight.strip()} is no weight; write 0.05*parsimony")
        terms.append((number, _term(name.strip())))
    total = sum(weight for weight, _ in terms)
    return tuple((weight / total, term) for weight, term in terms)


def _term(name: str) -> Term:
    if name in TERMS:
        return TERMS[name]
    found = list(entry_points(group=PLUGINS, name=name))
    module, _, function = name.partition(":")
    if not found and not function:
        raise UserError(f"--reward: there is no term {name!r}; take {', '.join(TERMS)} or module:function")
    # a module beside the run, also where the program was started as an installed command
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        own = found[0].load() if found else getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--reward {name}: {error}") from None
    return lambda evaluation, floor: min(max(float(own(evaluation)), 0.0), 1.0)


def reward(
    evaluation: Evaluation,
    told: str = "neg_log_nmse",
    *,
    copy: bool = False,
    graded_failures: bool = True,
    floor: float = NMSE_FLOOR,
) -> float:
    """The reward of one answer: in [0, 1] if valid, else below 0 by the kind of failure.

    `told` is what `reward_terms` reads. `floor` is the NMSE that the data's numbers allow at best. An
    equation whose units do not agree loses `PENALTY`; a valid one never falls below 0. `copy` tells that the
    equation is not new. Without `graded_failures` every failure is worth the least.
    """
    if not evaluation.ok:
        return FAILURES.get(evaluation.status, LOWEST) if graded_failures else LOWEST
    if copy:
        return COPY
    value = sum(weight * term(evaluation, floor) for weight, term in reward_terms(told))
    if math.isnan(value):
        return COPY  # a term of one's own may be anything
    return max(COPY, min(value, 1.0) - PENALTY * evaluation.penalized)


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
