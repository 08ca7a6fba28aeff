"""A user's CSV file, read in blocks: what is in its columns, and an even sample of its rows."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.errors import UserError
from llmsr.problem.column_names import doubles

BLOCK_ROWS = 100_000
SEPARATORS = (",", ";", "\t", "|")


@dataclass
class Column:
    """What a column holds: cells that are missing, cells that are no number, and the range of the others."""

    name: str
    missing: int = 0
    texts: int = 0
    first_text: str = ""
    first_line: int = 0
    low: float = np.inf
    high: float = -np.inf

    @property
    def constant(self) -> bool:
        return self.low == self.high and not self.missing and not self.texts


@dataclass
class RawTable:
    """The columns of a file, its number of rows and the sampled ones, by group, in the file's order.

    `groups` maps a group's name to an array (rows, columns) with NaN for what is missing or text; `found`
    counts the complete rows of each group in the whole file, sampled or not.
    """

    path: Path
    columns: list[Column]
    rows: int = 0
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


def read_header(path: str | Path) -> tuple[list[str], str]:
    """The column names and the separator of a CSV file; UserError where it has none that can be used."""
    path = Path(path)
    with _opened(path) as file:
        line = file.readline()
        if not line:
            raise UserError(f"{path}: the file is empty; give a header row and the data.")
        if not line.strip():
            raise UserError(f"{path}: line 1 is empty; begin the file with the columns' names.")
    separator = separator_of(line)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    if len(names) == 1:
        raise UserError(f"{path}: only one column ({names[0][:60]}); separate the columns by commas.")
    if all(_is_number(name) for name in names):
        raise UserError(f"{path}: line 1 has only numbers; add a line with the columns' names above it.")
    empty = [i for i, name in enumerate(names, start=1) if not name]
    if empty:
        raise UserError(f"{path}: column {empty[0]} has no name; name every column in line 1.")
    twice = doubles(names)
    if twice:
        raise UserError(f"{path}: the column name {twice[0]!r} stands twice; give every column its own name.")
    return names, separator


def separator_of(line: str) -> str:
    """What separates the columns of a line: the one of `SEPARATORS` that stands in it most often."""
    return max(SEPARATORS, key=line.count)


def read_raw(
    path: str | Path,
    used: Callable[[str], bool],
    group_of: Callable[[np.ndarray], dict[str, np.ndarray]],
    most_rows: int,
    seed: int,
) -> RawTable:
    """The columns for which `used(name)`, and at most `most_rows` complete rows of every group.

    `group_of` takes rows (rows, columns) and maps a group's name to a mask. Rows are drawn evenly over the
    whole file by `seed`; memory is bounded by `most_rows` and the block. `UserError` for what is no table.
    """
    import pandas as pd

    path = Path(path)
    names, separator = read_header(path)
    chosen = [i for i, name in enumerate(names) if used(name)]
    table = RawTable(path, [Column(names[i]) for i in chosen])
    generator = np.random.default_rng(seed)
    samples: dict[str, _Sample] = {}
    with _opened(path) as file:
        file.readline()
        try:
            blocks = pd.read_csv(
                file,
                sep=separator,
                header=None,
                names=range(len(names) + 1),
                index_col=False,
                chunksize=BLOCK_ROWS,
                skipinitialspace=True,
                low_memory=False,
            )
            for block in blocks:
                _check_width(block.pop(len(names)), len(names), table)
                values = _numbers(block[chosen], table)
                keys = generator.random(len(values))
                order = np.arange(table.rows, table.rows + len(values))
                table.rows += len(values)
                complete = np.isfinite(values).all(axis=1)
                for name, mask in group_of(values).items():
                    kept = complete & mask
                    table.found[name] = table.found.get(name, 0) + int(kept.sum())
                    sample = samples.setdefault(name, _Sample(len(chosen), most_rows))
                    sample.add(keys[kept], order[kept], values[kept])
        except pd.errors.EmptyDataError:
            pass
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: no valid CSV ({_short(error)}); correct that line.") from None
    if not table.rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    table.groups = {name: sample.in_order() for name, sample in samples.items()}
    return table


class _Sample:
    """The rows of the smallest keys, which are an even sample whatever the blocks."""

    def __init__(self, columns: int, most: int) -> None:
        self.most = most
        self.keys, self.order, self.values = np.empty(0), np.empty(0, dtype=int), np.empty((0, columns))

    def add(self, keys: np.ndarray, order: np.ndarray, values: np.ndarray) -> None:
        self.keys = np.concatenate([self.keys, keys])
        self.order = np.concatenate([self.order, order])
        self.values = np.concatenate([self.values, values])
        if len(self.keys) > self.most:
            kept = np.argpartition(self.keys, self.most)[: self.most]
            self.keys, self.order, self.values = self.keys[kept], self.order[kept], self.values[kept]

    def in_order(self) -> np.ndarray:
        return self.values[np.argsort(self.order)]


def _check_width(beyond: Any, columns: int, table: RawTable) -> None:
    """UserError where a line has a value behind the last column."""
    longer = beyond.notna().to_numpy()
    if longer.any():
        line = _line_of(table, table.rows + int(np.argmax(longer)))
        raise UserError(
            f"{table.path}: line {line} has more values than the {columns} columns of line 1; correct it."
        )


def _numbers(block: Any, table: RawTable) -> np.ndarray:
    """The block as float64 with NaN for missing and text; the columns' counts are brought up to date."""
    import pandas as pd

    values = np.empty((len(block), len(table.columns)))
    for position, (column, label) in enumerate(zip(table.columns, block.columns, strict=True)):
        series = block[label]
        numbers = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        text = np.isnan(numbers) & series.notna().to_numpy()
        if text.any() and not column.texts:
            first = int(np.argmax(text))
            column.first_text = str(series.iloc[first])[:40]
            column.first_line = _line_of(table, table.rows + first)
        column.texts += int(text.sum())
        finite = np.isfinite(numbers)
        column.missing += int((~finite & ~text).sum())
        if finite.any():
            column.low = min(column.low, float(numbers[finite].min()))
            column.high = max(column.high, float(numbers[finite].max()))
        values[:, position] = np.where(finite, numbers, np.nan)
    return values


def _line_of(table: RawTable, row: int) -> int:
    """The line of the file on which a row below the header ends, as an editor counts: blank lines too."""
    with _opened(table.path) as file:
        separator = separator_of(file.readline())
        reader = csv.reader(file, delimiter=separator)
        filled = (reader.line_num for cells in reader if len(cells) > 1 or "".join(cells).strip())
        return next(itertools.islice(filled, row, None)) + 1


def _opened(path: Path):  # type: ignore[no-untyped-def]
    try:
        file = open(path, encoding="utf-8-sig", newline="")  # noqa: SIM115 - the caller closes it
        file.read(1)
        file.seek(0)
        return file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a CSV file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
