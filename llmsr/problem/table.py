"""A CSV file of numbers: its columns, its rows or an even sample of them, and what is wrong with it."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from llmsr.errors import UserError

BLOCK_ROWS = 100_000
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SHOWN = 5
_ALL = "all"


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
    def text_fault(self) -> str:
        """Where its first cell stands that is no number."""
        return f"column {self.name!r} is not numeric (line {self.first_line} has {self.first_text!r})"


@dataclass
class RawTable:
    """The columns of a file, its number of rows and the sampled ones, by group, in the file's order.

    `groups` maps a group's name to an array (rows, columns), float64, of complete rows; `found` counts the
    complete rows of each group in the whole file, sampled or not. `first_missing` are the numbers of the
    first rows, from 0, with a value that is missing or infinite.
    """

    path: Path
    columns: list[Column]
    rows: int = 0
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    first_missing: list[int] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def missing(self) -> int:
        """The number of rows with a value that is missing, infinite or no number."""
        return self.rows - sum(self.found.values())


def read_table(path: str | Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The column names and the rows, shape (rows, columns), float64, of a CSV file with a header.

    Every value is finite and there are at least one input column, one target column and one row; `UserError`
    with the file's name and line otherwise. Empty lines are skipped.
    """
    # a problem folder is for every program, so it keeps to the standard
    separator = SEPARATORS[read_header(path)[1]]
    if separator != "commas":
        raise UserError(f"{path}: the columns are separated by {separator}; separate them by commas.")
    table = read_raw(path)
    for column in table.columns:
        if column.texts:
            raise UserError(f"{path}: {column.text_fault}; give numbers only.")
    if table.missing:
        places = [_place(table, row) for row in table.first_missing]
        for line, cells in places:
            if len(cells) < len(table.columns):
                raise UserError(_width_fault(table, len(table.columns), line, cells))
        lines = ", ".join(str(line) for line, _ in places[:_SHOWN]) + (
            ", ..." if table.missing > _SHOWN else ""
        )
        have = "row has" if table.missing == 1 else "rows have"
        first = next(column.name for column in table.columns if column.missing)
        raise UserError(
            f"{path}: {table.missing} {have} an empty, NaN or infinite value "
            f"(line {lines}; first in column {first}); remove or correct them."
        )
    return tuple(table.names), table.groups[_ALL]


def read_header(path: str | Path) -> tuple[list[str], str]:
    """The column names and the separator of a CSV file; UserError where it has none that can be used."""
    with opened(path) as file:
        line = file.readline()
        if not line.strip():
            empty = not file.read().strip()
            raise UserError(
                f"{path}: the file is empty; give a header row and the data."
                if empty
                else f"{path}: line 1 is empty; begin the file with the columns' names."
            )
    separator = separator_of(line)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    if len(names) == 1 and " " in names[0]:
        raise UserError(f"{path}: the columns are separated by spaces; separate them by commas.")
    if len(names) == 1:
        raise UserError(f"{path}: only one column ({names[0][:60]}); give the inputs and, last, the target.")
    if all(is_number(name) for name in names):
        told = line.strip()[:60]
        raise UserError(
            f"{path}: no header row (line 1 is {told}), only numbers; add a line with the columns' names."
        )
    if "" in names:
        raise UserError(f"{path}: column {names.index('') + 1} has no name; name every column in line 1.")
    if twice := doubles(names):
        raise UserError(f"{path}: the column name {twice[0]!r} stands twice; give every column its own name.")
    return names, separator


def separator_of(line: str) -> str:
    """What separates the columns of a line: the one of `SEPARATORS` that stands in it most often."""
    return max(SEPARATORS, key=line.count)


def read_raw(
    path: str | Path,
    used: Callable[[str], bool] = lambda name: True,
    group_of: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda rows: {_ALL: np.ones(len(rows), bool)},
    most_rows: int | None = None,
    seed: int = 0,
) -> RawTable:
    """The columns for which `used(name)`, and at most `most_rows` complete rows of every group.

    `group_of` takes rows (rows, columns) and maps a group's name to a mask. Rows are drawn evenly over the
    whole file by `seed`; memory is bounded by `most_rows` and the block. `UserError` for what is no table.
    """
    import pandas as pd

    names, separator = read_header(path)
    chosen = [i for i, name in enumerate(names) if used(name)]
    table = RawTable(Path(path), [Column(names[i]) for i in chosen])
    generator = np.random.default_rng(seed)
    samples: dict[str, _Sample] = {}
    with opened(path) as file, contextlib.suppress(pd.errors.EmptyDataError):
        file.readline()
        blocks = pd.read_csv(
            file,
            sep=separator,
            header=None,
            names=range(len(names) + 1),
            index_col=False,
            chunksize=BLOCK_ROWS,
            skipinitialspace=True,
            low_memory=False,
            # the nearest float64 of every number; later versions give it by default, and warn
            **({"float_precision": "round_trip"} if pd.__version__ < "3.1" else {}),
        )
        for block in blocks:
            longer = np.flatnonzero(block.pop(len(names)).notna())
            if len(longer):
                raise UserError(_width_fault(table, len(names), *_place(table, table.rows + int(longer[0]))))
            values = _numbers(block[chosen], table)
            # a key for every row, complete or not: the draw does not depend on the conditions
            keys = generator.random(len(values))
            order = np.arange(table.rows, table.rows + len(values))
            complete = np.isfinite(values).all(axis=1)
            more = _SHOWN - len(table.first_missing)
            table.first_missing += (table.rows + np.flatnonzero(~complete)[:more]).tolist()
            table.rows += len(values)
            for name, mask in group_of(values).items():
                kept = complete & mask
                table.found[name] = table.found.get(name, 0) + int(kept.sum())
                sample = samples.setdefault(name, _Sample(len(chosen), most_rows))
                sample.add(keys[kept], order[kept], values[kept])
    if not table.rows:
        raise UserError(f"{path}: no rows below the header; add the data.")
    table.groups = {name: sample.in_order() for name, sample in samples.items()}
    return table


class _Sample:
    """The rows of the smallest keys, which are an even sample whatever the blocks."""

    def __init__(self, columns: int, most: int | None) -> None:
        self.most = most
        # keys, places in the file, values
        self.parts: tuple[np.ndarray, ...] = np.empty(0), np.empty(0, dtype=int), np.empty((0, columns))

    def add(self, *parts: np.ndarray) -> None:
        self.parts = tuple(map(np.concatenate, zip(self.parts, parts, strict=True)))
        if self.most is not None and len(self.parts[0]) > self.most:
            kept = np.argpartition(self.parts[0], self.most)[: self.most]
            self.parts = tuple(part[kept] for part in self.parts)

    def in_order(self) -> np.ndarray:
        _, order, values = self.parts
        return values[np.argsort(order)]


def _width_fault(table: RawTable, columns: int, line: int, cells: Sequence[str]) -> str:
    return (
        f"{table.path}: line {line} has {len(cells)} values but the header names {columns} columns; "
        "correct the line."
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
            column.first_line, _ = _place(table, table.rows + first)
        column.texts += int(text.sum())
        finite = np.isfinite(numbers)
        column.missing += int((~finite & ~text).sum())
        if finite.any():
            column.low = min(column.low, float(numbers[finite].min()))
            column.high = max(column.high, float(numbers[finite].max()))
        values[:, position] = np.where(finite, numbers, np.nan)
    return values


def _place(table: RawTable, row: int) -> tuple[int, list[str]]:
    """The line of the file on which a row ends, as an editor counts, blank lines too; and its cells."""
    with opened(table.path) as file:
        reader = csv.reader(file, delimiter=separator_of(file.readline()))
        filled = (
            (reader.line_num + 1, cells) for cells in reader if len(cells) > 1 or "".join(cells).strip()
        )
        return next(itertools.islice(filled, row, None))


@contextlib.contextmanager
def opened(path: str | Path, newline: str | None = None) -> Iterator[IO[str]]:
    """The open file; whatever is wrong with reading its text is a `UserError` of one sentence."""
    import pandas as pd

    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a CSV file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8.") from None
    except (pd.errors.ParserError, csv.Error) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no valid CSV ({told}); correct that line.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def is_number(cell: str) -> bool:
    """Whether a cell of a table is written as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def doubles(names: Iterable[object]) -> list[str]:
    """The names that occur more than once, in order of appearance."""
    texts = [str(name) for name in names]
    return list(dict.fromkeys(text for text in texts if texts.count(text) > 1))
