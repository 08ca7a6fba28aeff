"""Reads a CSV file of numbers and says in one sentence what is wrong with a bad one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from llmsr.errors import UserError

_SHOWN = 5


def read_table(path: str | Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The column names and the rows, shape (rows, columns), float64, of a CSV file with a header.

    Every value is finite and there are at least one input column, one target column and one row; `UserError`
    with the file's name and line otherwise. Empty lines are skipped.
    """
    path = Path(path)
    text = _read(path)
    head, _, body = text.partition("\n")
    names = _header(head, path)
    if not body.strip():
        raise UserError(f"{path}: no rows below the header; add the data.")
    try:
        rows = np.loadtxt(io.StringIO(body), delimiter=",", ndmin=2, quotechar='"', comments=None)
    except ValueError:
        rows = None
    if rows is None or rows.shape[1] != len(names):
        rows = _read_slowly(body, names, path)
    bad = ~np.isfinite(rows)
    if bad.any():
        # the fast reader skips empty lines, so lines are counted again
        rows = _read_slowly(body, names, path)
    return names, rows


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty; give a header row and the data.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _header(line: str, path: Path) -> tuple[str, ...]:
    if not line.strip():
        raise UserError(f"{path}: line 1 is empty; begin the file with the columns' names.")
    names = tuple(cell.strip() for cell in next(csv.reader([line])))
    if len(names) == 1:
        for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (" ", "spaces")):
            if mark in line.strip():
                raise UserError(f"{path}: the columns are separated by {word}; separate them by commas.")
        raise UserError(f"{path}: only one column ({names[0]}); give the inputs and, last, the target.")
    if any(_number(name) is not None for name in names):
        raise UserError(
            f"{path}: no header row (line 1 is {line.strip()[:60]}); add a line with column names."
        )
    if "" in names:
        raise UserError(f"{path}: column {names.index('') + 1} has no name; name every column in line 1.")
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise UserError(f"{path}: the column name {doubles[0]} stands twice; give every column its own name.")
    return names


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_0 as ten
    except ValueError:
        return None


def _read_slowly(body: str, names: tuple[str, ...], path: Path) -> np.ndarray:
    """The rows, cell by cell, or the error that names the first bad cell."""
    rows: list[list[float]] = []
    missing: dict[int, str] = {}
    reader = csv.reader(io.StringIO(body))
    for cells in reader:
        line = reader.line_num + 1
        if not cells:
            continue
        if len(cells) != len(names):
            raise UserError(
                f"{path}: line {line} has {len(cells)} values but the header names {len(names)} columns; "
                "correct the line."
            )
        row = []
        for name, cell in zip(names, cells, strict=True):
            number = _number(cell) if cell.strip() else np.nan
            if number is None:
                raise UserError(
                    f"{path}: column {name} is not numeric (line {line} has {cell.strip()[:40]!r}); "
                    "give numbers only."
                )
            if not np.isfinite(number):
                missing.setdefault(line, name)
            row.append(number)
        rows.append(row)
    if missing:
        lines = list(missing)
        shown = ", ".join(str(n) for n in lines[:_SHOWN]) + (", ..." if len(lines) > _SHOWN else "")
        have = "row has" if len(lines) == 1 else "rows have"
        raise UserError(
            f"{path}: {len(lines)} {have} an empty, NaN or infinite value "
            f"(line {shown}; first in column {missing[lines[0]]}); remove or correct them."
        )
    if not rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    return np.array(rows, dtype=np.float64)
