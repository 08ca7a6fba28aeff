"""Whether a found equation is the law behind a problem's data; specs/laws.yaml has the laws that are known.

A benchmark asks `match` of the equations that its runs end with.

**Match**, whether a found equation is the law, is told without a judge. Points are drawn uniformly from two
boxes, those of the training inputs and of the test_ood inputs, and the law's skeleton, all its constants
free, is fitted to what the found equation predicts there. It matches where the skeleton then follows the
predictions with an NMSE below 1e-10 in both boxes, so that the equation is of the law's family, however it is
written; and where the law itself follows them below 1e-3, so that it is no special case of the family (a law
without one of its terms is the law with a constant of 0). The second bound leaves room for constants that
were fitted to noisy rows. On a narrow box a long enough series cannot be told from the function that it
approximates, and matches.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmsr.config import read_yaml
from llmsr.expression import Expression, Refusal, evaluate, parse
from llmsr.fitting import fit
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.loading import Problem, locate
from llmsr.problem.split import nmse

LAWS = "specs/laws.yaml"
FOLDER, NOISE = "bench", "-noise"  # of the classic equations, bench/NAME or bench/NAME-noise0.05
TOLERANCE = 1e-10  # NMSE in either box between an equation and the law's family
NEAR = 1e-3  # NMSE in either box between an equation and the law
POINTS = 1000  # per box
FIT_SECONDS = 10.0
BOX_SEED = 7


@dataclass(frozen=True)
class Law:
    """`body` is a function body over the columns and `params`, whose true values are `constants`."""

    body: str
    constants: tuple[float, ...]
    synthetic: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Law:
        """The law that an entry of the file tells."""
        return cls(entry["body"].strip(), tuple(entry["constants"]), entry.get("synthetic", False))

    def expression(self, columns: Sequence[str]) -> Expression:
        """The law over these columns, its parameters free."""
        found = parse(self.body, tuple(columns), params_name="params", max_params=len(self.constants))
        if isinstance(found, Refusal):
            raise ValueError(f"a law cannot be read: {found.reason}")
        return found


@cache
def laws() -> Mapping[str, Law]:
    """The known laws by the names of their problems."""
    told = read_yaml(locate(LAWS))
    entries = told["problems"] | {f"{FOLDER}/{name}": entry for name, entry in told["bench"].items()}
    return {name: Law.of(entry) for name, entry in entries.items()}


def law_of(problem: Problem) -> Law | None:
    """The law behind a problem's data, None where none is known; noise on the rows does not change it."""
    law = laws().get(problem.name.partition(NOISE)[0])
    return law if law is not None and law.synthetic == problem.synthetic else None


def match(expression: Expression, params: Sequence[float], problem: Problem) -> bool | None:
    """Whether the fitted equation is the law; None where no law is known."""
    law = law_of(problem)
    return None if law is None else matches(expression, params, law, problem)


def matches(expression: Expression, params: Sequence[float], law: Law, problem: Problem) -> bool:
    """Whether the fitted equation is the law, as above; a prediction that is not finite is no match."""
    points = boxes(problem)
    with np.errstate(all="ignore"):
        wanted = {
            box: evaluate(expression, rows, np.asarray(params, dtype=float)) for box, rows in points.items()
        }
    if not all(np.isfinite(values).all() and np.ptp(values) > 0 for values in wanted.values()):
        return False
    # another spelling of the law agrees with it in numbers, whatever its text
    skeleton = law.expression(problem.spec.columns)

    def follows(constants: Sequence[float], bound: float) -> bool:
        with np.errstate(all="ignore"):
            predicted = {box: evaluate(skeleton, points[box], np.asarray(constants)) for box in points}
        return all(nmse(predicted[box], wanted[box]) < bound for box in points)

    if not follows(law.constants, NEAR):
        return False
    if follows(law.constants, TOLERANCE):
        return True
    rows, values = np.vstack(list(points.values())), np.concatenate(list(wanted.values()))
    labels = Labels(problem.spec.columns, "predicted")
    table = table_problem(rows, values, labels, max_params=max(len(law.constants), 1))
    found = fit(skeleton, table, deadline=FIT_SECONDS)
    return found.status == "ok" and follows(found.params, TOLERANCE)


def boxes(problem: Problem) -> dict[str, np.ndarray]:
    """Points (POINTS, columns) from the boxes of the train and, where there are some, the test_ood inputs."""
    found = {}
    for place, split in enumerate(("train", "test_ood")):
        if split in problem.splits:
            inputs = problem.splits[split].inputs
            low, high = inputs.min(axis=0), inputs.max(axis=0)
            # the same points for every equation, so that equal ones are judged alike
            generator = np.random.default_rng([BOX_SEED, place])
            found[split] = generator.uniform(low, high, (POINTS, len(low)))
    return found
