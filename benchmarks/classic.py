"""Makes the data of the twenty classic equations whose specs stand in specs/bench, from specs/laws.yaml.

    python benchmarks/classic.py                          all of them, into data/bench
    python benchmarks/classic.py bench/budworm-noise0.05  noise of 5% on the training targets, and their spec

Rows are drawn anew from a fixed seed; the last digits may differ between builds of numpy.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from judge import FOLDER, LAWS, NOISE, Law

from llmsr.config import read_yaml
from llmsr.expression import evaluate
from llmsr.files import write_file
from llmsr.problem.columns import Quantity, spec_text
from llmsr.problem.loading import locate

ROWS = {"train": 2000, "test_id": 1000, "test_ood": 1000}
SEED = 20_240_901

Range = tuple[float, float]


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
def bench() -> Mapping[str, BenchProblem]:
    """The classic equations by name."""
    return {name: BenchProblem.of(entry) for name, entry in read_yaml(locate(LAWS))["bench"].items()}


def draw(name: str) -> dict[str, np.ndarray]:
    """The rows of every split, inputs first, of the classic equation `name` with its noise.

    Training and test_id rows are uniform over the columns' ranges; those of test_ood over the wider
    ranges, every one outside the training range in at least one column.
    """
    base, _, noise = name.partition(NOISE)
    problem, level = bench()[base], float(noise or 0)
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

    problem = bench()[name.partition(NOISE)[0]]
    header = [*(column.name for column in problem.columns), problem.target[0]]
    # train last: it tells that the others are whole
    for split, rows in reversed(draw(name).items()):
        text = pd.DataFrame(rows, columns=header).to_csv(index=False, lineterminator="\n")
        write_file(data_dir / name / f"{split}.csv", text)


def bench_spec(name: str) -> str:
    """The text of a classic equation's spec; it does not tell the law."""
    problem = bench()[name]
    inputs = [Quantity(column.name, column.meaning, column.unit) for column in problem.columns]
    text = spec_text(inputs, Quantity(*problem.target), problem.task)
    # units stand in the words alone: declared, they would refuse equations that the kept runs could find
    return re.sub(r"# llmsr: units .*\n", "", text)


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


def main(names: Sequence[str]) -> int:
    """Write the data of the named problems, or of all without noise."""
    for name in names or [f"{FOLDER}/{name}" for name in bench()]:
        folder, _, base = name.rpartition("/")
        known, _, noise = base.partition(NOISE)
        if folder != FOLDER or known not in bench() or not re.fullmatch(r"\d*\.?\d*", noise):
            print(f"no problem {name!r}; there are {', '.join(f'{FOLDER}/{one}' for one in bench())}")
            return 2
        write_data(base, Path("data") / FOLDER)
        if noise:  # with a spec of its own, which says what that of the clean rows says
            write_file(Path("specs", FOLDER, f"specification_{base}_numpy.txt"), bench_spec(known))
        print(f"data/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
