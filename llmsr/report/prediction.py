"""Predictions of a run's equation for the rows of a new CSV file, read in blocks."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from llmsr.errors import UserError
from llmsr.expression.graph import evaluate
from llmsr.problem.column_names import position_of
from llmsr.problem.table import separator_of
from llmsr.report.equation import Equation

BLOCK_ROWS = 50_000


def write_predictions(equation: Equation, source: str | Path, output: IO[str]) -> tuple[int, int]:
    """Copy the CSV with one more column, the prediction; (rows, rows whose prediction is not finite).

    Columns are matched by name, as it is or as `new` makes it an identifier, whatever their order; where no
    name matches, the first columns are taken in the equation's order. The separator is found as `new` finds
    it, and kept. A file whose first line is numbers has no header. Memory is bounded. A prediction that is
    not finite is an empty cell. `UserError` names the line of a bad one; errors of `output` are its own.
    """
    path = Path(source)
    with _reading(path):
        file = open(path, encoding="utf-8-sig", newline="")  # noqa: SIM115 - closed below
    with file:
        return _copy(equation, path, file, output)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{path}: no valid CSV ({error}).") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _copy(equation: Equation, path: Path, file: IO[str], output: IO[str]) -> tuple[int, int]:
    rows_of_file, separator = _rows(file, path)
    writer = csv.writer(output, delimiter=separator, lineterminator="\n")
    line, first = next(rows_of_file, (0, []))
    if not first:
        raise UserError(f"{path}: the file is empty; give a header row and the data.")
    columns = equation.problem.spec.columns
    first = [cell.strip() for cell in first]
    headless = all(_is_number(cell) for cell in first)
    positions = list(range(len(columns))) if headless else _positions(first, columns, path)
    if max(positions) >= len(first):
        raise UserError(
            f"{path}: {len(first)} columns, but the equation takes {len(columns)} ({', '.join(columns)}); "
            "add the rest."
        )
    name = f"{equation.target}_predicted"
    while name in first:
        name += "_"
    header = first
    if headless:
        header = (
            list(columns) if len(columns) == len(first) else [f"column{i + 1}" for i in range(len(first))]
        )
    writer.writerow([*header, name])
    rows = nonfinite = 0
    for block in _blocks(rows_of_file, [(line, first)] if headless else []):
        values = np.array([_inputs(cells, positions, len(first), line, path) for line, cells in block])
        predicted = evaluate(equation.expression, values, np.asarray(equation.params))
        for (_, cells), value in zip(block, predicted.tolist(), strict=True):
            finite = math.isfinite(value)
            nonfinite += not finite
            writer.writerow([*cells, repr(value) if finite else ""])
        rows += len(block)
    if not rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    return rows, nonfinite


def _rows(file: IO[str], path: Path) -> tuple[Iterator[tuple[int, list[str]]], str]:
    """The rows with their line numbers, empty lines skipped, and the separator; `UserError` as they come."""
    head: list[str] = []
    with _reading(path):
        while not head or head[-1].isspace():
            head.append(file.readline())
    separator = separator_of(head[-1])
    reader = csv.reader(itertools.chain(head, file), delimiter=separator)

    def rows() -> Iterator[tuple[int, list[str]]]:
        while True:
            with _reading(path):
                row = next(reader, None)
            if row is None:
                return
            if row:
                yield reader.line_num, row

    return rows(), separator


def _positions(header: Sequence[str], columns: Sequence[str], path: Path) -> list[int]:
    found = {name: position_of(name, header) for name in columns}
    missing = [name for name, position in found.items() if position is None]
    if len(missing) == len(columns) and len(header) >= len(columns):
        return list(range(len(columns)))
    if not missing:
        return [position for position in found.values() if position is not None]
    have = ", ".join(header[:12])
    raise UserError(
        f"{path}: no column {', '.join(missing)}; it has {have}, the equation takes {', '.join(columns)}."
    )


def _blocks(
    rows: Iterator[tuple[int, list[str]]], before: list[tuple[int, list[str]]]
) -> Iterator[list[tuple[int, list[str]]]]:
    """The rows, many at a time."""
    rows = itertools.chain(before, rows)
    while block := list(itertools.islice(rows, BLOCK_ROWS)):
        yield block


def _inputs(cells: Sequence[str], positions: Sequence[int], width: int, line: int, path: Path) -> list[float]:
    if len(cells) != width:
        raise UserError(
            f"{path}: line {line} has {len(cells)} values but the first line has {width}; correct the line."
        )
    try:
        return [float(cells[p]) for p in positions]
    except ValueError:
        bad = next(cells[p] for p in positions if not _is_number(cells[p]))
        raise UserError(
            f"{path}: line {line} has {bad.strip()[:40]!r} where a number should be; correct it."
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
