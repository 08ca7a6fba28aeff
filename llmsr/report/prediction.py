"""Predictions of a run's equation for the rows of a new CSV file, read in blocks."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from llmsr.errors import UserError
from llmsr.expression.graph import evaluate
from llmsr.report.equation import Equation

BLOCK_ROWS = 50_000


def write_predictions(equation: Equation, source: str | Path, output: IO[str]) -> tuple[int, int]:
    """Copy the CSV with one more column, the prediction; (rows, rows whose prediction is not finite).

    Columns are matched by name, whatever their order; where no name matches, the first columns are taken in
    the equation's order. A file whose first line is numbers has no header. Memory is bounded.
    A prediction that is not finite is an empty cell. `UserError` names the line of a bad cell.
    """
    path = Path(source)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _copy(equation, path, file, output)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{path}: no valid CSV ({error}).") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _copy(equation: Equation, path: Path, file: IO[str], output: IO[str]) -> tuple[int, int]:
    reader = csv.reader(file)
    writer = csv.writer(output, lineterminator="\n")
    first = next((row for row in reader if row), None)
    if first is None:
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
    for block in _blocks(reader, [first] if headless else []):
        values = np.array([_inputs(cells, positions, line, path) for line, cells in block])
        predicted = evaluate(equation.expression, values, np.asarray(equation.params))
        for (_, cells), value in zip(block, predicted.tolist(), strict=True):
            finite = math.isfinite(value)
            nonfinite += not finite
            writer.writerow([*cells, repr(value) if finite else ""])
        rows += len(block)
    if not rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    return rows, nonfinite


def _positions(header: Sequence[str], columns: Sequence[str], path: Path) -> list[int]:
    missing = [name for name in columns if name not in header]
    if not missing:
        return [header.index(name) for name in columns]
    if len(missing) == len(columns) and len(header) >= len(columns):
        return list(range(len(columns)))
    have = ", ".join(header[:12])
    raise UserError(
        f"{path}: no column {', '.join(missing)}; it has {have}, the equation takes {', '.join(columns)}."
    )


def _blocks(reader: Iterator[list[str]], before: list[list[str]]) -> Iterator[list[tuple[int, list[str]]]]:
    """Rows with their line numbers, many at a time; empty lines are skipped."""
    block = [(1, row) for row in before]
    for row in reader:
        if row:
            block.append((reader.line_num, row))  # type: ignore[attr-defined]
        if len(block) >= BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block


def _inputs(cells: Sequence[str], positions: Sequence[int], line: int, path: Path) -> list[float]:
    try:
        values = [float(cells[p]) for p in positions]
    except IndexError:
        raise UserError(f"{path}: line {line} has only {len(cells)} values; correct the line.") from None
    except ValueError:
        bad = next(cells[p] for p in positions if not _is_number(cells[p]))
        raise UserError(
            f"{path}: line {line} has {bad.strip()[:40]!r} where a number should be; correct it."
        ) from None
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
