"""Where the problems of a benchmark lie, the laws behind them, and the data of the classic equations.

A problem is named as `oscillator1`, or as FOLDER/NAME for specs/FOLDER/specification_NAME_numpy.txt and
data/FOLDER/NAME. Those of the folder `bench` are made by `provide`; `bench/NAME-noise0.05` has normal noise
of 5% of the target's standard deviation on its training rows, none on its test rows. The known laws and the
ranges that rows are drawn from stand in specs/laws.yaml.

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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.config import read_yaml
from llmsr.errors import UserError
from llmsr.expression import Expression, Refusal, evaluate, parse
from llmsr.files import write_file
from llmsr.fitting import fit
from llmsr.problem.columns import Labels, Quantity, spec_text, table_problem
from llmsr.problem.loading import Problem, load_problem, locate, nmse

LAWS = "specs/laws.yaml"
FOLDER = "bench"
ROWS = {"train": 2000, "test_id": 1000, "test_ood": 1000}
SEED = 20_240_901
TOLERANCE = 1e-10  # NMSE in either box between an equation and the law's family
NEAR = 1e-3  # NMSE in either box between an equation and the law
POINTS = 1000  # per box
FIT_SECONDS = 10.0
BOX_SEED = 7
_NOISE = re.compile(r"(?P<base>.+)-noise(?P<level>\d*\.?\d+)")

Range = tuple[float, float]


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


@dataclass(frozen=True)
class Column:
    """An input with its meaning, its unit, its training range, and the wider one of test_ood."""

    name: str
    meaning: str
    unit: str
    inside: Range
    outside: Range


@dataclass(frozen=True)
class BenchProblem:
    """A classic equation as a problem; `target` is its name, meaning and unit."""

    task: str
    target: tuple[str, str, str]
    columns: tuple[Column, ...]
    law: Law

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> BenchProblem:
        """The problem that an entry of the file tells."""
        columns = tuple(Column(column, *told) for column, told in entry["columns"].items())
        return cls(entry["task"], tuple(entry["target"]), columns, Law.of(entry))


@cache
def laws() -> Mapping[str, Law]:
    """The known laws of problems that have data of their own, by the problem's name."""
    return {name: Law.of(entry) for name, entry in read_yaml(locate(LAWS))["problems"].items()}


@cache
def bench() -> Mapping[str, BenchProblem]:
    """The classic equations by name."""
    return {name: BenchProblem.of(entry) for name, entry in read_yaml(locate(LAWS))["bench"].items()}


def location(name: str) -> dict[str, str]:
    """The flags of the command line that name a problem."""
    folder, slash, base = name.rpartition("/")
    if not slash:
        return {"problem_name": name}
    spec = f"specs/{folder}/specification_{_parts(base)[0]}_numpy.txt"
    return {"problem_name": base, "spec_path": spec, "data_dir": f"data/{folder}"}


def load(name: str) -> Problem:
    """The problem of that name, its data made where they can be and are not there."""
    provide(name)
    where = location(name)
    return load_problem(where["problem_name"], where.get("spec_path"), where.get("data_dir", "data"))


def provide(name: str) -> None:
    """Write the data of a classic equation that are not there yet; `UserError` for an unknown one."""
    folder, _, base = name.rpartition("/")
    if folder != FOLDER:
        return
    if _parts(base)[0] not in bench():
        raise UserError(f"no problem {name!r}; specs/{FOLDER} has {', '.join(bench())}")
    if not (Path("data") / FOLDER / base / "train.csv").is_file():
        write_data(base, Path("data") / FOLDER)


def law_of(problem: Problem, name: str) -> Law | None:
    """The law behind a problem's data, None where none is known."""
    folder, _, base = name.rpartition("/")
    if folder == FOLDER:
        return bench()[_parts(base)[0]].law
    law = laws().get(name)
    return law if law is not None and law.synthetic == problem.synthetic else None


def draw(name: str) -> dict[str, np.ndarray]:
    """The rows of every split, inputs first, of the classic equation `name` with its noise.

    Training and test_id rows are uniform over the columns' ranges; those of test_ood over the wider
    ranges, every one outside the training range in at least one column.
    """
    base, level = _parts(name)
    problem = bench()[base]
    generator = np.random.default_rng([SEED, *base.encode()])
    skeleton = problem.law.expression([column.name for column in problem.columns])
    inside, outside = (
        np.array([getattr(column, side) for column in problem.columns]).T for side in ("inside", "outside")
    )
    splits = {}
    for split, rows in ROWS.items():
        if split == "test_ood":
            inputs = _between(inside, outside, rows, generator)
        else:
            inputs = generator.uniform(inside[0], inside[1], (rows, len(problem.columns)))
        target = evaluate(skeleton, inputs, np.array(problem.law.constants))
        if level and split == "train":
            noise = np.random.default_rng([SEED, 1, *base.encode()]).standard_normal(rows)
            target = target + level * target.std() * noise
        splits[split] = np.column_stack([inputs, target])
    return splits


def write_data(name: str, data_dir: Path) -> None:
    """Write <data_dir>/<name>/{train,test_id,test_ood}.csv; where `train` is, the others are too."""
    import pandas as pd

    problem = bench()[_parts(name)[0]]
    header = [*(column.name for column in problem.columns), problem.target[0]]
    # train last: it tells that the others are whole
    for split, rows in reversed(draw(name).items()):
        text = pd.DataFrame(rows, columns=header).to_csv(index=False, lineterminator="\n")
        write_file(data_dir / name / f"{split}.csv", text)


def bench_spec(name: str) -> str:
    """The text of a classic equation's spec; it does not tell the law."""
    problem = bench()[name]
    inputs = [Quantity(column.name, column.meaning, column.unit) for column in problem.columns]
    return spec_text(inputs, Quantity(*problem.target), problem.task)


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


def _between(
    inside: np.ndarray, outside: np.ndarray, rows: int, generator: np.random.Generator
) -> np.ndarray:
    """Rows uniform in the outer box and not in the inner one; both are arrays (low and high, columns)."""
    (low, high), (wide_low, wide_high) = inside, outside
    found = np.empty((0, len(low)))
    while len(found) < rows:
        drawn = generator.uniform(wide_low, wide_high, (4 * rows, len(low)))
        found = np.vstack([found, drawn[((drawn < low) | (drawn > high)).any(axis=1)]])
    return found[:rows]


def _parts(name: str) -> tuple[str, float]:
    """An equation's name without its noise, and the noise."""
    found = _NOISE.fullmatch(name)
    return (found["base"], float(found["level"])) if found else (name, 0.0)
