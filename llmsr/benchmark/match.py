"""Numeric-symbolic match: whether a found equation is the law, told without a judge.

The law's skeleton, all its constants free, is fitted to what the found equation predicts on points drawn
uniformly from two boxes, those of the training inputs and of the test_ood inputs. The equation matches where
the law then follows the predictions with an NMSE below 1e-10 on both. A found equation that is the law
written in another way, or with other constants, matches; one that is merely close on the data's path does
not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmsr.benchmark.laws import Law
from llmsr.benchmark.problems import law_expression
from llmsr.expression import Expression, evaluate
from llmsr.fitting import fit
from llmsr.problem.in_memory import Labels, table_problem
from llmsr.problem.loading import Problem, nmse

TOLERANCE = 1e-10  # of the NMSE in either box
POINTS = 1000  # per box
FIT_SECONDS = 10.0
SEED = 7


def boxes(problem: Problem) -> dict[str, np.ndarray]:
    """Points (POINTS, columns) from the boxes of the train and, where there are some, the test_ood inputs."""
    found = {}
    for place, split in enumerate(("train", "test_ood")):
        if split in problem.splits:
            inputs = problem.splits[split].inputs
            low, high = inputs.min(axis=0), inputs.max(axis=0)
            generator = np.random.default_rng([SEED, place])
            found[split] = generator.uniform(low, high, (POINTS, len(low)))
    return found


def matches(expression: Expression, params: Sequence[float], law: Law, problem: Problem) -> bool:
    """Whether the fitted equation is the law, as above; a prediction that is not finite is no match."""
    points = boxes(problem)
    with np.errstate(all="ignore"):
        wanted = {
            box: evaluate(expression, rows, np.asarray(params, dtype=float)) for box, rows in points.items()
        }
    if not all(np.isfinite(values).all() and np.ptp(values) > 0 for values in wanted.values()):
        return False
    skeleton = law_expression(law, problem.spec.columns)
    if _follows(skeleton, law.constants, points, wanted):
        return True
    rows, values = np.vstack(list(points.values())), np.concatenate(list(wanted.values()))
    labels = Labels(problem.spec.columns, "predicted")
    table = table_problem(rows, values, labels, max_params=max(len(law.constants), 1))
    found = fit(skeleton, table, deadline=FIT_SECONDS)
    return found.status == "ok" and _follows(skeleton, found.params, points, wanted)


def _follows(
    skeleton: Expression,
    params: Sequence[float],
    points: dict[str, np.ndarray],
    wanted: dict[str, np.ndarray],
) -> bool:
    with np.errstate(all="ignore"):
        errors = [
            nmse(evaluate(skeleton, rows, np.asarray(params, dtype=float)), wanted[box])
            for box, rows in points.items()
        ]
    return all(error < TOLERANCE for error in errors)
