"""The Pareto front of a run, the equations that no other one beats in both size and loss; and its finals.

The loss is what the run minimised: minus the score, which is the training MSE unless the spec's own evaluate
says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmsr.errors import UserError
from llmsr.problem.loading import Problem
from llmsr.refinement.floor import at_floor
from llmsr.report.equation import Equation, expression_of
from llmsr.report.parts import FEW, Parts, description_length, fitted_constants, most_constants
from llmsr.sample import Sample
from llmsr.search.population import structure

if TYPE_CHECKING:
    import pandas as pd

NMSE_FLOOR = 1e-26  # of the training rows; below it, differences are rounding: near laws reach 1e-21
SAME_LOSS = 0.99  # a longer spelling of an equation must get below this share of the shorter one's loss
RULES = {
    "best": "the shortest description of the training rows: error, size and constants together",
    "accuracy": "the lowest training error",
}
FINALS, POOL = 5, 64  # equations that are told apart by structure, and samples that are kept for them
SPLITS = ("train", "test_id", "test_ood")
RUN = frozenset("=+-@\t\r")  # what text begins with that a spreadsheet runs
CSV_COLUMNS = (
    "complexity", "loss", "length", "equation", "sympy", "latex",
    *(f"nmse_{split}" for split in SPLITS), "sample", "picked",
    "rounded_equation", "rounded_latex", *(f"rounded_nmse_{split}" for split in SPLITS),
)  # fmt: skip


class Front:
    """The front of the valid samples seen so far, in ascending complexity and descending training loss.

    It is kept up to date as a run goes on. Complexity is that of the equation as written; an equation stands
    once, in its shortest spelling, unless a longer one was fitted better.
    """

    def __init__(self) -> None:
        self.members: list[Sample] = []

    def add(self, sample: Sample) -> bool:
        """Take in a sample; whether it is on the front."""
        evaluation = sample.evaluation
        size, loss = evaluation.complexity, lifted(sample)
        if not evaluation.ok or size is None or loss is None or not math.isfinite(loss):
            return False

        def same(member: Sample) -> bool:
            return member.evaluation.canonical == evaluation.canonical

        rest = []
        for member in self.members:
            level = _level(member)
            if _size(member) <= size and (level <= loss or (same(member) and loss > SAME_LOSS * level)):
                return False
            if _size(member) < size or (level < loss and not (same(member) and level > SAME_LOSS * loss)):
                rest.append(member)
        place = sum(_size(member) < size for member in rest)
        self.members = [*rest[:place], sample, *rest[place:]]
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


def _size(sample: Sample) -> int:
    return sample.evaluation.complexity or 0


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


def lengths(members: Sequence[Sample], problem: Problem, parts: Parts | None = None) -> list[float]:
    """The description length of every sample in nats, see `parts`."""
    if problem.spec.least_squares:
        parts = parts or Parts(problem)
        return [parts.length(member) for member in members]
    return [
        description_length(
            expression_of(member, problem.spec), member.evaluation.params or (), loss, len(problem.train)
        )
        for member, loss in zip(members, _floored(members), strict=True)
    ]


@dataclass(frozen=True)
class PickedFront:
    """The equations of a front, ascending in complexity, and the position of the pick.

    Of each size it has the equation of the shortest description, among them shorter ones that `Parts` makes,
    where no smaller one has a lower loss; and the one of the lowest loss. `lengths` are in nats beyond the
    shortest. `picked` is None where the front is empty.
    """

    equations: tuple[Equation, ...]
    lengths: tuple[float, ...]
    picked: int | None
    warning: str = ""

    @classmethod
    def of(
        cls,
        members: Sequence[Sample],
        problem: Problem,
        rule: str = "best",
        labels: tuple[str, ...] | None = None,
        known: Iterable[Equation] = (),
        parts: Parts | None = None,
    ) -> PickedFront:
        """A front's members as equations, and the one that a rule of `RULES`, or a row's number, chooses.

        `known` equations are not remade. `UserError` where there is no such rule or row.
        """
        if not members:
            return cls((), (), None)
        if problem.spec.least_squares:
            parts = parts or Parts(problem)
            members = [*members, *parts.shorter(members)]
        # of equally long ones the smaller comes first, of those without a length that of the lowest loss
        told = sorted(
            zip(lengths(members, problem, parts), members, strict=True),
            key=lambda of: (of[0], _level(of[1]) if of[0] == math.inf else 0.0, _size(of[1])),
        )
        rows = _rows(told)
        made = {_key(equation.sample): equation for equation in known}
        equations = tuple(
            made.get(_key(member)) or Equation.of(member, problem, labels) for _, member in rows
        )
        shortest = told[0][0]
        beyond = tuple(length - shortest if length < math.inf else math.inf for length, _ in rows)
        front = cls(equations, beyond, None)
        picked = front.position(rule)
        return replace(front, picked=picked, warning=few_rows(equations[picked], len(problem.train)))

    def position(self, rule: str) -> int:
        """The position of the equation that a rule, or a row's number from 1, picks."""
        positions = range(len(self.equations))
        if rule == "best":
            return min(positions, key=lambda i: (self.lengths[i], i))
        if rule == "accuracy":
            return min(positions, key=lambda i: (_level(self.equations[i].sample), i))
        if rule.isdecimal() and 1 <= int(rule) <= len(self.equations):
            return int(rule) - 1
        raise UserError(
            f"there is no selection {rule!r}; give {', '.join(RULES)} or a row of the front, "
            f"1 to {len(self.equations)}"
        )

    @property
    def pick(self) -> Equation | None:
        return None if self.picked is None else self.equations[self.picked]

    def with_pick(self, pick: Equation) -> PickedFront:
        """The same front with another account of its pick."""
        chosen = self.picked
        assert chosen is not None
        return replace(self, equations=(*self.equations[:chosen], pick, *self.equations[chosen + 1 :]))

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
                "length": length,
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
            for index, (equation, length) in enumerate(zip(self.equations, self.lengths, strict=True))
        ]
        # objects: a whole number stays one, and None stays nothing
        return pd.DataFrame(rows, columns=CSV_COLUMNS, dtype=object)

    def to_csv(self) -> str:
        """equations.csv: the table, its sympy in parentheses. Nothing in it is text of a model."""
        table = self.table()
        table["sympy"] = [f"({text})" if text else "" for text in table.sympy]
        table["length"] = [float(f"{length:.6g}") for length in table.length]
        # an apostrophe before text that a spreadsheet would run
        told = table.map(lambda cell: f"'{cell}" if str(cell)[:1] in RUN and isinstance(cell, str) else cell)
        return str(told.to_csv(index=False, lineterminator="\n"))


class Finals:
    """The finals of a run: a few equations of different structure, of which a scientist may know the law.

    They are those that are worth most by training error and size.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._pool: dict[str, tuple[float, Sample]] = {}

    def add(self, sample: Sample) -> None:
        """Take in a sample; failures are passed over."""
        from llmsr.refinement.refiner import loss_and_size  # late: it waits for a compiler

        evaluation = sample.evaluation
        if not evaluation.ok:
            return
        worth = loss_and_size(self._problem.spec, evaluation)
        known = self._pool.get(evaluation.canonical)
        if known is None or worth < known[0]:
            self._pool[evaluation.canonical] = worth, sample
        if len(self._pool) > 2 * POOL:
            best = sorted(self._pool.items(), key=lambda item: item[1][0])[:POOL]
            self._pool = dict(best)

    def behind(self, first: Iterable[Sample] = (), count: int = FINALS) -> list[Sample]:
        """At most `count` samples, with `first` counted in but not among them, no two of one structure.

        At the data's floor the smallest come first, then those that are worth most.
        """
        spec = self._problem.spec

        def order(entry: tuple[float, Sample]) -> tuple[bool, float]:
            worth, sample = entry
            done = at_floor(self._problem, sample.evaluation)
            return not done, float(sample.evaluation.complexity or 0) if done else worth

        seen = {structure(spec, sample.evaluation.body) for sample in first}
        left = count - len(seen)
        found: list[Sample] = []
        for _, sample in sorted(self._pool.values(), key=order):
            name = structure(spec, sample.evaluation.body)
            if name not in seen and len(found) < left:
                seen.add(name)
                found.append(sample)
        return found


def few_rows(equation: Equation, rows: int) -> str:
    """The warning that rows are few for an equation; empty where they are not."""
    constants = fitted_constants(equation.expression, equation.params)
    if rows >= FEW and constants <= most_constants(rows):
        return ""
    return (
        f"{rows} rows are few: equations of more than {most_constants(rows)} fitted constants come last, and "
        "another form may fit as well; check it on new rows"
    )


def _rows(told: Sequence[tuple[float, Sample]]) -> list[tuple[float, Sample]]:
    """The rows of a front out of samples with their lengths, shortest first; see `PickedFront`."""
    of_size: dict[int, tuple[float, Sample]] = {}
    for entry in told:
        of_size.setdefault(_size(entry[1]), entry)
    lowest = min(told, key=lambda entry: (_level(entry[1]), _size(entry[1])))
    rows, least = [], math.inf
    for _, entry in sorted(of_size.items(), key=lambda item: item[0]):
        if _level(entry[1]) < least or entry is told[0]:
            rows.append(entry)
            least = min(least, _level(entry[1]))
    if lowest not in rows:
        rows = [e for e in rows if _size(e[1]) <= _size(lowest[1]) or e is told[0]] + [lowest]
    return sorted(rows, key=lambda entry: _size(entry[1]))


def _key(sample: Sample) -> tuple[object, ...]:
    """Tells the equations of a front apart; a sample and its refinements share a number, parts a form too."""
    return sample.number, sample.evaluation.canonical, sample.evaluation.params
