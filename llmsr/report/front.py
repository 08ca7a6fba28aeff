"""The Pareto front of a run: the equations that no other one beats in both size and training loss.

The loss is what the run minimised: minus the score, which is the training MSE unless the spec's own evaluate
says otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmsr.errors import UserError
from llmsr.problem.loading import Problem
from llmsr.refinement.floor import at_floor
from llmsr.report.equation import Equation
from llmsr.sample import Sample

if TYPE_CHECKING:
    import pandas as pd

NMSE_FLOOR = 1e-26  # of the training rows; below it, differences are rounding: near laws reach 1e-21
WITHIN, MOST_WITHIN = 1.1, 1.5  # `best` looks among losses up to this factor of the lowest
# over the number of rows, what the factor grows by: ten constants too many, and their choice
LUCK = 20
SAME_LOSS = 0.99  # a longer spelling of an equation must get below this share of the shorter one's loss
RULES = {
    "best": "the smallest at the data's floor, else the steepest gain among errors near the lowest",
    "accuracy": "the lowest training error",
    "simplest": "the smallest with up to 1.5 times the lowest",
    "aic": "Akaike: error against the number of constants",
    "mdl": "description length of residuals and equation",
}
SPLITS = ("train", "test_id", "test_ood")
CSV_COLUMNS = (
    "complexity", "loss", "score", "equation", "sympy", "latex",
    *(f"nmse_{split}" for split in SPLITS), "sample", "picked",
    "rounded_equation", "rounded_latex", *(f"rounded_nmse_{split}" for split in SPLITS),
)  # fmt: skip


class Front:
    """The front of the valid samples seen so far, in ascending complexity and descending training loss.

    `add` costs a binary search for nearly every sample, so that the front of a long run is kept up to date
    as it goes. Complexity is that of the equation as written; an equation stands once, in its shortest
    spelling, unless a longer one was fitted better.
    """

    def __init__(self) -> None:
        self.members: list[Sample] = []
        self._sizes: list[int] = []

    def add(self, sample: Sample) -> bool:
        """Take in a sample; whether it is on the front."""
        evaluation = sample.evaluation
        size, loss = evaluation.complexity, lifted(sample)
        if not evaluation.ok or size is None or loss is None or not math.isfinite(loss):
            return False
        after = bisect_right(self._sizes, size)
        if after and _level(self.members[after - 1]) <= loss:
            return False
        for member in self.members[:after]:
            if member.evaluation.canonical == evaluation.canonical and loss > SAME_LOSS * _level(member):
                return False
        first = last = bisect_left(self._sizes, size)
        while last < len(self.members) and _level(self.members[last]) >= loss:
            last += 1
        rest = [
            m
            for m in self.members[last:]
            if m.evaluation.canonical != evaluation.canonical or (loss_of(m) or 0.0) <= SAME_LOSS * loss
        ]
        self.members[first:] = [sample, *rest]
        self._sizes = [m.evaluation.complexity or 0 for m in self.members]
        return True


def loss_of(sample: Sample) -> float | None:
    """What the run minimised; None for a failure."""
    evaluation = sample.evaluation
    return -evaluation.score if evaluation.score is not None else evaluation.train_mse


def lifted(sample: Sample) -> float | None:
    """The loss; 0 where the error is below `NMSE_FLOOR`, since differences there are rounding."""
    loss, nmse = loss_of(sample), sample.evaluation.nmse.get("train")
    if loss is not None and loss > 0 and nmse is not None and 0 < nmse < NMSE_FLOOR:
        return 0.0
    return loss


def _level(sample: Sample) -> float:
    """The lifted loss of a member of a front, which has one."""
    loss = lifted(sample)
    assert loss is not None
    return loss


def _floored(front: Sequence[Sample]) -> list[float]:
    """The losses, positive and lifted to what `NMSE_FLOOR` comes to in their units.

    A loss of another kind than a mean squared error may be zero or negative; its exponential, over the spread
    of the front, then stands in for it.
    """
    losses = [loss_of(member) or 0.0 for member in front]
    # a log-likelihood, say: no logarithm can be taken of it, but its order and relative steps stay
    if min(losses, default=1.0) < 0:
        spread = (max(losses) - min(losses)) or 1.0
        return [math.exp(min(5.0 * (loss - max(losses)) / spread, 0.0)) for loss in losses]
    levels = [_level(member) for member in front]
    least = min((loss for loss in levels if loss > 0), default=1.0)
    # what an NMSE of 1 is in the loss's units; losses that are rounding cannot tell it
    errors = [member.evaluation.nmse.get("train") for member in front]
    units = [loss / error for loss, error in zip(levels, errors, strict=True) if error and loss]
    floor = min(least, NMSE_FLOOR * (units[0] if units else 1.0))
    return [loss if loss > 0 else floor for loss in levels]


def scores(front: Sequence[Sample]) -> list[float]:
    """How much each member gains on the one before it: -d log(loss) / d complexity; 0 for the first.

    PySR's score (Cranmer, 2023, arXiv 2305.01582): a knee of the front has a high one.
    """
    values = [0.0] if front else []
    sizes = [member.evaluation.complexity or 0 for member in front]
    logs = [math.log(loss) for loss in _floored(front)]
    for i in range(1, len(front)):
        values.append(max(0.0, logs[i - 1] - logs[i]) / (sizes[i] - sizes[i - 1]))
    return values


def pick(
    front: Sequence[Sample],
    rule: str = "best",
    *,
    within: float = 0.5,
    rows: int = 1,
    constants: Sequence[int] = (),
) -> int:
    """The position of the member that a rule selects; the front must not be empty.

    best      the highest score, that of the first member against the target's mean, among losses up to
              1.1 + 20 / rows times the lowest, at most 1.5. PySR's rule, which has 1.5: one constant too
              many lowers the loss on noise by about 1 / rows
    accuracy  the lowest loss
    simplest  the smallest equation with a loss up to (1 + `within`) times the lowest
    aic       the least rows * log(loss) + 2 * constants (Akaike, 1974)
    mdl       the least description length in nats: rows / 2 * log(loss) for the residuals, log(rows) / 2 per
              constant (Rissanen, 1978), log(8) per operator, column or constant of the equation

    Losses below NMSE 1e-26 count as equal. `rows` is the number of training rows, `constants` the number of
    fitted constants of each member. Only the training rows are looked at.
    """
    if not front:
        raise ValueError("the front is empty")
    losses = _floored(front)
    lowest = min(losses)
    positions = range(len(front))
    if rule == "best":
        # the smallest equation gains on the mean, which is one number
        error, size = front[0].evaluation.nmse.get("train"), front[0].evaluation.complexity or 0
        first = max(0.0, -math.log(max(error, NMSE_FLOOR))) / max(1, size - 1) if error is not None else 0.0
        rated = [first, *scores(front)[1:]]
        within = min(WITHIN + LUCK / rows, MOST_WITHIN)
        return max((i for i in positions if losses[i] <= within * lowest), key=lambda i: (rated[i], -i))
    if rule == "accuracy":
        return min(positions, key=lambda i: (losses[i], i))
    if rule == "simplest":
        return min(i for i in positions if losses[i] <= (1 + within) * lowest)
    counts = constants or [0] * len(front)
    if rule == "aic":
        return min(positions, key=lambda i: rows * math.log(losses[i]) + 2 * counts[i])
    if rule == "mdl":

        def length(i: int) -> float:
            size = front[i].evaluation.complexity or 0
            per_constant = 0.5 * math.log(max(rows, 2))
            return 0.5 * rows * math.log(losses[i]) + per_constant * counts[i] + math.log(8) * size

        return min(positions, key=length)
    raise UserError(f"unknown selection {rule!r}; there are: {', '.join(RULES)}")


@dataclass(frozen=True)
class PickedFront:
    """The equations of a front, ascending in complexity, their scores, and the position of the pick.

    `picked` is None where the front is empty.
    """

    equations: tuple[Equation, ...]
    scores: tuple[float, ...]
    picked: int | None

    @classmethod
    def of(
        cls,
        members: Sequence[Sample],
        problem: Problem,
        rule: str = "best",
        within: float = 0.5,
        labels: tuple[str, ...] | None = None,
        known: Iterable[Equation] = (),
    ) -> PickedFront:
        """A front's members as equations, and the one that `pick` chooses; `known` ones are not remade."""
        made = {_key(equation.sample): equation for equation in known}
        equations = tuple(
            made.get(_key(member)) or Equation.of(member, problem, labels) for member in members
        )
        rated = tuple(scores(members))
        front = cls(equations, rated, None)
        # among equations that leave nothing to explain differences of error are rounding
        level = [
            i for i, member in enumerate(members) if rule == "best" and at_floor(problem, member.evaluation)
        ]
        if level or not members:
            return cls(equations, rated, min(level, default=None))
        return cls(equations, rated, front.position(rule, within, len(problem.train)))

    @property
    def pick(self) -> Equation | None:
        return None if self.picked is None else self.equations[self.picked]

    def with_pick(self, pick: Equation) -> PickedFront:
        """The same front with another account of its pick."""
        chosen = self.picked
        assert chosen is not None
        return replace(self, equations=(*self.equations[:chosen], pick, *self.equations[chosen + 1 :]))

    def position(self, rule: str, within: float, rows: int) -> int:
        """The position of the equation that a rule would pick, see `pick`."""
        members = [equation.sample for equation in self.equations]
        constants = [len(equation.expression.params) for equation in self.equations]
        return pick(members, rule, within=within, rows=rows, constants=constants)

    def table(self) -> pd.DataFrame:
        """A row per equation, in the columns `CSV_COLUMNS`: exact forms first, rounded ones behind.

        `loss` is the training MSE in squared units of the target, `sympy` is empty where sympy cannot say the
        equation, and an NMSE is None where a prediction is not finite.
        """
        import pandas as pd

        rows = [
            {
                "complexity": equation.complexity,
                "loss": equation.sample.evaluation.train_mse,
                "score": score,
                "equation": equation.text(exact=True),
                "sympy": equation.exact_sympy,
                "latex": equation.latex(exact=True),
                **{f"nmse_{split}": equation.nmse.get(split) for split in SPLITS},
                "sample": equation.sample.number,
                "picked": int(index == self.picked),
                "rounded_equation": equation.text(),
                "rounded_latex": equation.latex(),
                **{f"rounded_nmse_{split}": equation.simplified_nmse.get(split) for split in SPLITS},
            }
            for index, (equation, score) in enumerate(zip(self.equations, self.scores, strict=True))
        ]
        # objects: a whole number stays one, and None stays nothing
        return pd.DataFrame(rows, columns=CSV_COLUMNS, dtype=object)

    def to_csv(self) -> str:
        """equations.csv: the table, its sympy in parentheses. Nothing in it is text of a model."""
        table = self.table()
        table["sympy"] = [f"({text})" if text else "" for text in table.sympy]
        table["score"] = [float(f"{score:.6g}") for score in table.score]
        text: str = table.map(_plain_cell).to_csv(index=False, lineterminator="\n")
        return text


def _key(sample: Sample) -> tuple[int, str]:
    """Tells the equations of a front apart; a sample and its refinements share a number."""
    return sample.number, sample.evaluation.canonical


def _plain_cell(cell: object) -> object:
    """The cell, with an apostrophe before text that a spreadsheet would run."""
    risky = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{cell}" if risky else cell
