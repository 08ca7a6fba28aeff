"""Where the problems of a benchmark lie, and the data of the classic equations, made when they are wanted.

A problem is named as `oscillator1`, or as FOLDER/NAME for specs/FOLDER/specification_NAME_numpy.txt and
data/FOLDER/NAME. Those of the folder `bench` are made by `provide`; `bench/NAME-noise0.05` has normal noise
of 5% of the target's standard deviation on its training rows, none on its test rows.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from llmsr.benchmark.laws import BENCH, MISSION, STAND_IN_LAWS, BenchProblem, Law
from llmsr.errors import UserError
from llmsr.expression import Expression, Refusal, evaluate, parse
from llmsr.files import write_file
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.spec_writing import Quantity, spec_text

FOLDER = "bench"
ROWS = {"train": 2000, "test_id": 1000, "test_ood": 1000}
SEED = 20_240_901
_NOISE = re.compile(r"(?P<base>.+)-noise(?P<level>\d*\.?\d+)")


def location(name: str) -> dict[str, str]:
    """The flags of the command line that name a problem."""
    folder, slash, base = name.rpartition("/")
    if not slash:
        return {"problem_name": name}
    spec = f"specs/{folder}/specification_{_without_noise(base)}_numpy.txt"
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
    if _without_noise(base) not in BENCH:
        raise UserError(f"no problem {name!r}; specs/{FOLDER} has {', '.join(BENCH)}")
    if not (Path("data") / FOLDER / base / "train.csv").is_file():
        write_data(base, Path("data") / FOLDER)


def law_of(problem: Problem, name: str) -> Law | None:
    """The law behind a problem's data, None where none is known."""
    folder, _, base = name.rpartition("/")
    if folder == FOLDER:
        return BENCH[_without_noise(base)].law
    if problem.synthetic:
        return STAND_IN_LAWS.get(name)
    return MISSION.get(name)


def law_expression(law: Law, columns: tuple[str, ...]) -> Expression:
    """The law as an expression whose parameters are free."""
    found = parse(law.body, columns, params_name="params", max_params=len(law.constants))
    if isinstance(found, Refusal):
        raise ValueError(f"a law cannot be read: {found.reason}")
    return found


def draw(name: str) -> dict[str, np.ndarray]:
    """The rows of every split, inputs first, of the classic equation `name` with its noise.

    Training and test_id rows are uniform over the columns' ranges; those of test_ood over the wider
    ranges, every one outside the training range in at least one column.
    """
    base, level = _without_noise(name), _noise(name)
    problem = BENCH[base]
    generator = np.random.default_rng([SEED, *base.encode()])
    splits = {}
    for split, rows in ROWS.items():
        inputs = (
            _outside(problem, rows, generator) if split == "test_ood" else _inside(problem, rows, generator)
        )
        columns = tuple(column.name for column in problem.columns)
        target = evaluate(law_expression(problem.law, columns), inputs, np.array(problem.law.constants))
        if level and split == "train":
            noise = np.random.default_rng([SEED, 1, *base.encode()]).standard_normal(rows)
            target = target + level * target.std() * noise
        splits[split] = np.column_stack([inputs, target])
    return splits


def write_data(name: str, data_dir: Path) -> None:
    """Write <data_dir>/<name>/{train,test_id,test_ood}.csv; where `train` is, the others are too."""
    problem = BENCH[_without_noise(name)]
    header = ",".join([*(column.name for column in problem.columns), problem.target])
    splits = draw(name)
    for split in ("test_ood", "test_id", "train"):
        lines = [header, *(",".join(map(repr, map(float, row))) for row in splits[split])]
        write_file(data_dir / name / f"{split}.csv", "\n".join(lines) + "\n")


def bench_spec(name: str) -> str:
    """The text of a classic equation's spec; it does not tell the law."""
    problem = BENCH[name]
    inputs = [Quantity(column.name, column.meaning, column.unit) for column in problem.columns]
    return spec_text(inputs, Quantity(problem.target, problem.meaning, problem.unit), problem.task)


def _inside(problem: BenchProblem, rows: int, generator: np.random.Generator) -> np.ndarray:
    low, high = np.array([column.inside for column in problem.columns]).T
    return generator.uniform(low, high, (rows, len(low)))


def _outside(problem: BenchProblem, rows: int, generator: np.random.Generator) -> np.ndarray:
    low, high = np.array([column.inside for column in problem.columns]).T
    wide_low, wide_high = np.array([column.outside for column in problem.columns]).T
    found = np.empty((0, len(low)))
    while len(found) < rows:
        drawn = generator.uniform(wide_low, wide_high, (4 * rows, len(low)))
        found = np.vstack([found, drawn[((drawn < low) | (drawn > high)).any(axis=1)]])
    return found[:rows]


def _without_noise(name: str) -> str:
    found = _NOISE.fullmatch(name)
    return found["base"] if found else name


def _noise(name: str) -> float:
    found = _NOISE.fullmatch(name)
    return float(found["level"]) if found else 0.0
