"""`python -m llmsr predict DIR --csv new.csv`: what a run's equation says for new rows."""

from __future__ import annotations

import csv
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from llmsr.cli.shared import Verb, whole_output
from llmsr.config import option
from llmsr.errors import UserError
from llmsr.problem.columns import position_of
from llmsr.problem.table import is_number, opened, separator_of
from llmsr.report.equation import Equation
from llmsr.report.front import RULES
from llmsr.report.runs import read_run

BLOCK_ROWS = 50_000  # that are in memory at once

Line = tuple[int, list[str]]  # the number of a line in its file, and its cells


@dataclass(frozen=True)
class PredictSettings:
    """which equation, and of what"""

    directory: str = option(MISSING, "the run's directory", metavar="DIR", positional=True)
    csv: str = option(MISSING, "rows to predict for; input columns are enough", metavar="FILE")
    output: str = option("-", "where to write; - is standard output", metavar="FILE")
    select: str = option("best", "which equation of the front", choices=RULES)
    problem: str | None = option(None, "which problem, where the run has several", metavar="NAME")


def predict(given: PredictSettings) -> int:
    """Write the rows with the equation's prediction behind them."""
    runs = {run.problem_name: run for run in read_run(given.directory)}
    if given.problem is None and len(runs) > 1:
        raise UserError(
            f"{given.directory} has several problems; choose one with --problem: {', '.join(runs)}"
        )
    if given.problem is not None and given.problem not in runs:
        raise UserError(f"{given.directory} has no problem {given.problem!r}; it has {', '.join(runs)}")
    run = runs[given.problem or next(iter(runs))]
    equation = run.outputs(rule=given.select).picked_front().pick
    if equation is None:
        raise UserError(f"{given.directory} has no valid equation yet; let the run go on")
    with whole_output(given.output) as output:
        rows, nonfinite = write_predictions(equation, Path(given.csv), output)
    print(f"{rows} rows by {equation.text(exact=True)}", file=sys.stderr)
    if nonfinite:
        print(f"{nonfinite} predictions are not finite: their cells are empty", file=sys.stderr)
    return 0


PREDICT = Verb(
    "predict",
    "Add the equation's prediction to the rows of a CSV file; columns are matched by name, or by order\n"
    "where no name matches.",
    (PredictSettings,),
    predict,
    "DIR --csv FILE [--flag value ...]",
)


def write_predictions(equation: Equation, path: Path, output: IO[str]) -> tuple[int, int]:
    """Copy the CSV with one more column, the prediction; (rows, rows whose prediction is not finite).

    Columns are matched by name, as it is or as `new` makes it an identifier, whatever their order; where no
    name matches, the first columns are taken in the equation's order. The separator is found as `new` finds
    it, and kept. A file whose first line is numbers has no header. Memory is bounded. A prediction that is
    not finite is an empty cell. `UserError` names the line of a bad one; errors of `output` are its own.
    """
    lines = _lines(path)
    _, (separator,) = next(lines)
    number, first = next(lines, (0, []))
    if not first:
        raise UserError(f"{path}: the file is empty; give a header row and the data.")
    columns = equation.expression.columns
    first = [cell.strip() for cell in first]
    # a column's name is hardly ever a number
    headless = all(is_number(cell) for cell in first)
    positions = list(range(len(columns))) if headless else _positions(first, columns, path)
    if max(positions) >= len(first):
        raise UserError(
            f"{path}: {len(first)} columns, but the equation takes {len(columns)} ({', '.join(columns)}); "
            "add the rest."
        )
    header = first
    if headless:
        lines = itertools.chain([(number, first)], lines)
        own = len(columns) == len(first)
        header = list(columns) if own else [f"column{i + 1}" for i in range(len(first))]
    name = f"{equation.target}_predicted"
    # a file that was predicted for before has the column already
    while name in first:
        name += "_"
    writer = csv.writer(output, delimiter=separator, lineterminator="\n")
    writer.writerow([*header, name])
    rows = nonfinite = 0
    while block := list(itertools.islice(lines, BLOCK_ROWS)):
        inputs = np.array([_inputs(line, positions, len(first), path) for line in block])
        # the user's cells go out as they came in, whatever they hold
        for (_, cells), value in zip(block, equation.predict(inputs).tolist(), strict=True):
            finite = math.isfinite(value)
            nonfinite += not finite
            writer.writerow([*cells, repr(value) if finite else ""])
        rows += len(block)
    if not rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    return rows, nonfinite


def _lines(path: Path) -> Iterator[Line]:
    """The separator, as a line of its own, then all lines that are not empty; `UserError` as they come."""
    with opened(path, newline="") as file:
        head: list[str] = []
        while not head or head[-1].isspace():
            head.append(file.readline())
        separator = separator_of(head[-1])
        yield 0, [separator]
        reader = csv.reader(itertools.chain(head, file), delimiter=separator)
        for cells in reader:
            if cells:
                yield reader.line_num, cells


def _positions(header: Sequence[str], columns: Sequence[str], path: Path) -> list[int]:
    """Where the equation's columns stand in a header: by name, or from its left where no name is there."""
    found = {name: position_of(name, header) for name in columns}
    missing = [name for name, position in found.items() if position is None]
    if len(missing) == len(columns) and len(header) >= len(columns):
        return list(range(len(columns)))
    if missing:
        have = ", ".join(header[:12])
        raise UserError(
            f"{path}: no column {', '.join(missing)}; it has {have}, the equation takes {', '.join(columns)}."
        )
    return [position for position in found.values() if position is not None]


def _inputs(line: Line, positions: Sequence[int], width: int, path: Path) -> list[float]:
    number, cells = line
    if len(cells) != width:
        raise UserError(
            f"{path}: line {number} has {len(cells)} values but the first line has {width}; correct the line."
        )
    try:
        return [float(cells[p]) for p in positions]
    except ValueError:
        bad = next(cells[p] for p in positions if not is_number(cells[p]))
        raise UserError(
            f"{path}: line {number} has {bad.strip()[:40]!r} where a number should be; correct it."
        ) from None
