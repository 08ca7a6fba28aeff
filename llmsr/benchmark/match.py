"""Numeric-symbolic match: whether a found equation is the law, told without a judge.

Points are drawn uniformly from two boxes, those of the training inputs and of the test_ood inputs. The law's
skeleton, all its constants free, is fitted to what the found equation predicts there. It matches where

- the skeleton then follows the predictions with an NMSE below 1e-10 in both boxes, so that the equation is of
  the law's family, written in whatever way, and
- the law itself follows them with an NMSE below 1e-3 in both boxes, so that it is no special case of the
  family: a law without one of its terms is the law with a constant of 0.

The second bound leaves room for constants that were fitted to noisy rows. On a narrow box a long enough
series is indistinguishable from the function that it approximates, and matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmsr.benchmark.laws import Law
from llmsr.benchmark.problems import law_expression
from llmsr.expression import Expression, evaluate
from llmsr.fitting import fit
from llmsr.problem.in_memory import Labels, table_problem
from llmsr.problem.loading import Problem, nmse

TOLERANCE = 1e-10  # NMSE in either box between the equation and the law's family
NEAR = 1e-3  # NMSE in either box between the equation and the law
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
    if not _follows(skeleton, law.constants, points, wanted, NEAR):
        return False
    if _follows(skeleton, law.constants, points, wanted, TOLERANCE):
        return True
    rows, values = np.vstack(list(points.values())), np.concatenate(list(wanted.values()))
    labels = Labels(problem.spec.columns, "predicted")
    table = table_problem(rows, values, labels, max_params=max(len(law.constants), 1))
    found = fit(skeleton, table, deadline=FIT_SECONDS)
    return found.status == "ok" and _follows(skeleton, found.params, points, wanted, TOLERANCE)


def _follows(
    skeleton: Expression,
    params: Sequence[float],
    points: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
    bound: float,
) -> bool:
    with np.errstate(all="ignore"):
        errors = [
            nmse(evaluate(skeleton, rows, np.asarray(params, dtype=float)), wanted[box])
            for box, rows in points.items()
        ]
    return all(error < bound for error in errors)
