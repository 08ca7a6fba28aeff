"""`python -m llmsr predict DIR --csv new.csv`: what a run's equation says for new rows."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from llmsr.cli.shared import Verb, whole_output
from llmsr.config import option
from llmsr.errors import UserError
from llmsr.problem.columns import identifiers, position_of
from llmsr.problem.split import codes_of
from llmsr.problem.table_format import MISSING, Format, number, seen_format
from llmsr.problem.trajectories import Trajectories, rate_name, read_trajectories
from llmsr.report.equation import Equation
from llmsr.report.front import RULES
from llmsr.report.runs import read_run
from llmsr.report.system import integrated

BLOCK_ROWS = 50_000  # that are in memory at once

Line = tuple[int, list[str]]  # the number of a line in its file, and its cells


@dataclass(frozen=True)
class PredictSettings:
    """which equation, and of what"""

    directory: str = option(dataclasses.MISSING, "the run's directory", metavar="DIR", positional=True)
    csv: str = option(dataclasses.MISSING, "rows to predict for; input columns are enough", metavar="FILE")
    output: str = option("-", "where to write; - is standard output", metavar="FILE")
    select: str = option("best", "which equation: " + ", ".join(RULES) + ", or a row of the front")
    interval: float | None = option(
        None, "share of new measurements, such as 0.95, that two more columns hold between them"
    )
    problem: str | None = option(None, "which problem, where the run has several", metavar="NAME")
    trajectory: str = option(
        "",
        "column of time: the equations of the runs below DIR are rates of change, which are integrated from "
        "the first row of each trajectory",
        metavar="TIME",
    )


@Verb
def predict(given: PredictSettings) -> int:
    """Add the equation's prediction to the rows of a table.

    Columns are matched by name, or by order where no name matches.
    """
    if given.trajectory:
        return _integrate(given)
    runs = {run.problem_name: run for run in read_run(given.directory)}
    if given.problem not in (runs if len(runs) > 1 else (None, *runs)):
        told = f"has no problem {given.problem!r}" if given.problem else "has several problems"
        raise UserError(f"{given.directory} {told}; choose one with --problem: {', '.join(runs)}")
    run = runs[given.problem or next(iter(runs))]
    equation = run.outputs(rule=given.select).picked_front().pick
    if equation is None:
        raise UserError(f"{given.directory} has no valid equation yet; let the run go on")
    with whole_output(given.output) as output:
        rows, nonfinite = write_predictions(equation, Path(given.csv), output, given.interval)
    print(f"{rows} rows by {equation.text(exact=True)}", file=sys.stderr)
    if nonfinite:
        print(f"{nonfinite} predictions are not finite: their cells are empty", file=sys.stderr)
    return 0


def _integrate(given: PredictSettings) -> int:
    """Integrate a system of equations beside the measured trajectories, and tell the error of each state."""
    trajectories = read_trajectories(given.csv, given.trajectory)
    equations = _system(given, trajectories)
    rates = {name: (equation.expression, equation.params) for name, equation in equations.items()}
    reached, errors = integrated(rates, trajectories)
    with whole_output(given.output) as output:
        writer = csv.writer(output, lineterminator="\n")
        names = (f"{name}_integrated" for name in trajectories.short)
        writer.writerow([trajectories.time, *trajectories.states, *names])
        for (t, x), found in zip(trajectories.parts, reached, strict=True):
            for row in np.column_stack([t, x, found]).tolist():
                writer.writerow([repr(value) if math.isfinite(value) else "" for value in row])
    complete = np.isfinite(np.vstack(reached)).all(1)
    for name, error in errors.items():
        told = f"lost before the end, in {(~complete).sum()} of {len(complete)} rows"
        if error is not None:
            told = f"NMSE {error:.2e}"
        print(f"{name}, integrated: {told}; {equations[name].text()}", file=sys.stderr)
    return 0


def _system(given: PredictSettings, trajectories: Trajectories) -> dict[str, Equation]:
    """The equation of every state's rate among the runs in or right below a directory."""
    folders = sorted({path.parent for path in Path(given.directory).glob("*/archive")}) or [
        Path(given.directory)
    ]
    runs = [run for folder in folders for run in read_run(folder)]
    found = {run.problem().target: run.outputs(rule=given.select).picked_front().pick for run in runs}
    equations = {}
    for name in trajectories.short:
        equation = found.get(rate_name(name))
        if equation is None:
            have = ", ".join(map(str, found)) or "none"
            raise UserError(f"{given.directory} has no equation for {rate_name(name)}; it has {have}")
        known = {*trajectories.short, *identifiers([trajectories.time])}
        if unknown := set(equation.expression.columns) - known:
            raise UserError(f"{given.csv}: no column {min(unknown)}, which the rate of {name} takes")
        equations[name] = equation
    return equations


def write_predictions(
    equation: Equation, path: Path, output: IO[str], interval: float | None = None
) -> tuple[int, int]:
    """Copy the CSV with one more column, the prediction; (rows, rows whose prediction is not finite).

    With an `interval` two more columns follow, its ends, see `Equation.predict_within`.

    Columns are matched by name, as it is or as `new` makes it an identifier, whatever their order; where no
    name matches, the first columns are taken in the equation's order. The separator is found as `new` finds
    it, and kept. A file whose first line is numbers has no header. Memory is bounded. A prediction that is
    not finite is an empty cell. `UserError` names the line of a bad one; errors of `output` are its own.
    """
    form = seen_format(path)
    first = header = [*form.names]
    columns = equation.expression.columns
    # a column's name is hardly ever a number
    headless = all(number(cell) is not None for cell in first)
    positions = list(range(len(columns))) if headless else _positions(first, columns, path)
    if max(positions) >= len(first):
        raise UserError(
            f"{path}: {len(first)} columns, but the equation takes {len(columns)} ({', '.join(columns)}); "
            "add the rest."
        )
    if headless:
        form = replace(form, skipped=form.header_line - 1)
        own = len(columns) == len(first)
        header = list(columns) if own else [f"column{i + 1}" for i in range(len(first))]
    ends = ("predicted",) if interval is None else ("predicted", "low", "high")
    names = [f"{equation.target}_{end}" for end in ends]
    # a file that was predicted for before has the columns already
    while set(names) & set(first):
        names = [f"{name}_" for name in names]
    writer = csv.writer(output, delimiter=form.separator, lineterminator="\n")
    writer.writerow([*header, *names])
    rows = nonfinite = 0
    lines = form.rows()
    while block := list(itertools.islice(lines, BLOCK_ROWS)):
        inputs = np.array([_inputs(line, positions, form, equation.groups) for line in block])
        said = [equation.predict(inputs)]
        if interval is not None:
            value, _, reach = equation.predict_within(inputs, interval)
            said = [value, value - reach, value + reach]
        # the user's cells go out as they came in, whatever they hold
        for (_, cells), values in zip(block, np.column_stack(said).tolist(), strict=True):
            nonfinite += not math.isfinite(values[0])
            told = [repr(v).replace(".", form.decimal) if math.isfinite(v) else "" for v in values]
            writer.writerow([*cells, *told])
        rows += len(block)
    if not rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    return rows, nonfinite


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


def _inputs(line: Line, positions: Sequence[int], form: Format, groups: tuple[str, ...]) -> list[float]:
    at, cells = line
    if len(cells) not in (len(form.names), form.width):
        raise UserError(
            f"{form.path}: line {at} has {len(cells)} values but the first line has {len(form.names)}; "
            "correct the line."
        )
    if groups:  # the last column names the row's group
        *positions, last = positions
        place = codes_of(np.array([cells[last].strip()]), groups, f"{form.path}, line {at}")
    values = []
    for position in positions:
        cell = cells[position].strip()
        value = math.nan if cell in MISSING else number(cell, form.decimal)
        if value is None:
            raise UserError(f"{form.path}: line {at} has {cell[:40]!r} where a number should be; correct it.")
        values.append(value)
    return [*values, *place.tolist()] if groups else values
