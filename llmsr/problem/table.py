"""The rows of a table, or an even sample of them, as numbers, texts too; and what is wrong with its cells."""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.errors import UserError
from llmsr.problem.table_format import MISSING, Format, number, opened, strict_format

BLOCK_ROWS = 100_000
_SHOWN = 5
_TEXTS = 50
_ALL = "all"
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "yr": 31557600.0}
ToNumbers = Callable[[Any], np.ndarray]
"""Makes a pandas series of texts an array of float64, NaN where a text cannot be read."""


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
    some_texts: set[str] = field(default_factory=set)

    @property
    def text_fault(self) -> str:
        """Where its first cell stands that is no number."""
        return f"column {self.name!r} is not numeric (line {self.first_line} has {self.first_text!r})"


@dataclass
class RawTable:
    """The columns of a file, its number of rows and the sampled ones, by group, in the file's order.

    `groups` maps a group's name to an array (rows, columns), float64, of complete rows; `found` counts the
    complete rows of each group in the whole file, sampled or not. `first_missing` are the numbers of the
    first rows, from 0, with a value that is missing or infinite. `notices` are what a user should know.
    `texts` are what the numbers of a column of groups stand for.
    """

    format: Format
    columns: list[Column]
    rows: int = 0
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    first_missing: list[int] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.format.path

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def missing(self) -> int:
        """The number of rows with a value that is missing, infinite or no number."""
        return self.rows - sum(self.found.values())


def read_table(
    path: str | Path, to_numbers: Mapping[str, ToNumbers] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """The column names and the rows, shape (rows, columns), float64, of a CSV file with a header.

    Every value is finite and there are at least one input column, one target column and one row; `UserError`
    with the file's name and line otherwise. Empty lines are skipped. `to_numbers` is as for `read_raw`.
    """
    # a problem folder is for every program, so it keeps to the standard
    table = read_raw(strict_format(path), to_numbers=to_numbers)
    for column in table.columns:
        if column.texts:
            raise UserError(f"{path}: {column.text_fault}; give numbers only.")
    if table.missing:
        places = [_place(table, row) for row in table.first_missing]
        for line, cells in places:
            if len(cells) < len(table.columns):
                raise UserError(_width_fault(table.format, line, cells))
        more = ["..."] if table.missing > _SHOWN else []
        lines = ", ".join([*(str(line) for line, _ in places[:_SHOWN]), *more])
        first = next(column.name for column in table.columns if column.missing)
        raise UserError(
            f"{path}: {table.missing} {'row has' if table.missing == 1 else 'rows have'} an empty, NaN or "
            f"infinite value (line {lines}; first in column {first}); remove or correct them."
        )
    return tuple(table.names), table.groups[_ALL]


def read_raw(
    form: Format,
    used: Callable[[str], bool] = lambda name: True,
    group_of: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda rows: {_ALL: np.ones(len(rows), bool)},
    most_rows: int | None = None,
    seed: int = 0,
    missing: Sequence[str] = (),
    to_numbers: Mapping[str, ToNumbers] | None = None,
) -> RawTable:
    """The named columns for which `used(name)`, and at most `most_rows` complete rows of every group.

    `group_of` takes rows (rows, columns) and maps a group's name to a mask. Rows are drawn evenly over the
    whole file by `seed`; memory is bounded by `most_rows` and the block. `missing` are cells that stand for
    no value, `to_numbers` reads columns that hold texts. `UserError` for what is no table.
    """
    chosen = [i for i, name in enumerate(form.names) if name and used(name)]
    table = RawTable(form, [Column(form.names[i]) for i in chosen])
    table.units, table.notices = dict(form.units), list(form.notices)
    readers = {i: (to_numbers or {}).get(form.names[i]) for i in chosen}
    generator = np.random.default_rng(seed)
    samples: dict[str, _Sample] = {}
    for block in _blocks(form, missing, [i for i in chosen if readers[i]]):
        for surplus in range(len(form.names), len(block.columns)):
            longer = np.flatnonzero(block[surplus].notna())
            if len(longer):
                raise UserError(_width_fault(form, *_place(table, table.rows + int(longer[0]))))
        values = np.empty((len(block), len(chosen)))
        for position, column in enumerate(table.columns):
            series = block[chosen[position]]
            reader = readers[chosen[position]]
            numbers = reader(series) if reader else _numbers(series, form.decimal)
            values[:, position] = _counted(column, series, numbers, table)
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
        raise UserError(f"{form.path}: no rows below the header; add the data.")
    table.groups = {name: sample.in_order() for name, sample in samples.items()}
    return table


def _blocks(form: Format, missing: Sequence[str], texts: Sequence[int]) -> Iterator[Any]:
    """The rows as data frames of BLOCK_ROWS rows whose columns are numbered; those of `texts` stay texts."""
    import pandas as pd

    with opened(form.path, form.encoding) as file, contextlib.suppress(pd.errors.EmptyDataError):
        for _ in range(form.skipped):
            file.readline()
        yield from pd.read_csv(
            file,
            sep=r"\s+" if form.separator == " " else form.separator,
            header=None,
            names=range(max(len(form.names), form.width) + 1),
            index_col=False,
            chunksize=BLOCK_ROWS,
            skipinitialspace=True,
            low_memory=False,
            comment=form.comment,
            decimal=form.decimal,
            na_values=[*MISSING, *missing],
            dtype=dict.fromkeys(texts, str),
            # the nearest float64 of every number; later versions give it by default, and warn
            **({"float_precision": "round_trip"} if pd.__version__ < "3.1" else {}),
        )


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


def _width_fault(form: Format, line: int, cells: Sequence[str]) -> str:
    return (
        f"{form.path}: line {line} has {len(cells)} values but the header names {len(form.names)} columns; "
        "correct the line."
    )


def _numbers(series: Any, decimal: str) -> np.ndarray:
    """The series as float64 with NaN for missing and text."""
    if series.dtype.kind in "biuf":
        return series.to_numpy(dtype=np.float64)
    read = (number(cell, decimal) if isinstance(cell, str) else float(cell) for cell in series)
    return np.array([np.nan if value is None else value for value in read])


def _counted(column: Column, series: Any, numbers: np.ndarray, table: RawTable) -> np.ndarray:
    """The numbers with NaN for infinite ones; the column's counts are brought up to date."""
    text = np.isnan(numbers) & series.notna().to_numpy()
    if text.any():
        first = int(np.argmax(text))
        if not column.texts:
            column.first_text = str(series.iloc[first])[:40]
            column.first_line, _ = _place(table, table.rows + first)
        column.texts += int(text.sum())
        if len(column.some_texts) < _TEXTS:
            column.some_texts |= set(itertools.islice(dict.fromkeys(map(str, series[text])), _TEXTS))
    finite = np.isfinite(numbers)
    column.missing += int((~finite & ~text).sum())
    if finite.any():
        column.low = min(column.low, float(numbers[finite].min()))
        column.high = max(column.high, float(numbers[finite].max()))
    return np.where(finite, numbers, np.nan)


def _place(table: RawTable, row: int) -> tuple[int, list[str]]:
    """The line of the file on which a row ends, as an editor counts, blank lines too; and its cells."""
    return next(itertools.islice(table.format.rows(), row, None))


# ---- columns of texts: dates as the time since the first one, categories as codes or 0/1 columns


@dataclass
class Dates:
    """Reads texts as the time since the first row's, in `unit`; a date without a time counts from 0 h."""

    column: str
    unit: str = ""
    origin: Any = None
    day_first: bool = False

    def __call__(self, series: Any) -> np.ndarray:
        """The times of a pandas series of texts, NaN where a text is no date."""
        texts = series.dropna()
        if self.origin is None and len(texts):
            self.day_first = any(re.match(r"(1[3-9]|[23]\d)/|\d\d?\.\d\d?\.", text) for text in texts)
            found = _instants(texts, self.day_first).dropna()
            if not len(found):
                raise UserError(f"--dates: column {self.column!r} has {texts.iloc[0]!r}, which is no date")
            self.origin = found.iloc[0]
            if not self.unit:
                self.unit = "s" if texts.str.contains(":").any() else "d"
        if self.origin is None:
            return np.full(len(series), np.nan)
        seconds = (_instants(series, self.day_first) - self.origin).dt.total_seconds()
        return seconds.to_numpy(dtype=np.float64, na_value=np.nan) / SECONDS[self.unit]

    def of(self, text: str) -> float:
        """The time of one date, which may stand before the first row's."""
        import pandas as pd

        return float(self(pd.Series([text]))[0])

    def notice(self, name: str) -> str:
        """What the numbers of the column mean, as a sentence."""
        start = str(self.origin).removesuffix("+00:00").removesuffix(" 00:00:00")
        return f"{name} is the time in {self.unit} since {start}"


@dataclass
class Categories:
    """Reads texts as numbers from 0 in the order in which they first occur, which is that of `names`.

    `most` is how many different texts may be there.
    """

    most: float = np.inf
    names: dict[str, int] = field(default_factory=dict)

    def __call__(self, series: Any) -> np.ndarray:
        """The numbers of a pandas series of texts, NaN where one is missing."""
        texts = series.astype(object).str.strip()
        for text in texts.dropna().unique():
            self.names.setdefault(text, len(self.names))
        if len(self.names) > self.most:
            raise UserError(
                f"column {series.name!r} has more than {self.most} different texts; "
                "they are too many to be categories"
            )
        return texts.map(self.names).to_numpy(dtype=np.float64)

    def texts(self, codes: np.ndarray) -> np.ndarray:
        """The texts of numbers, an array of str."""
        return np.array(list(self.names), dtype=object)[codes.astype(int)]

    def columns(self, label: str, codes: np.ndarray) -> dict[str, np.ndarray]:
        """A column of 0 and 1, shape (rows,), for every category but the first in alphabetical order.

        The one that is left out is the case in which all are 0, so that no column follows from the others.
        """
        return {
            f"{label}_{text}": (codes == self.names[text]).astype(float) for text in sorted(self.names)[1:]
        }


def _instants(texts: Any, day_first: bool) -> Any:
    import pandas as pd

    # pandas takes 1000.5 for a year; 20240131 is a date
    texts = texts.mask(texts.str.fullmatch(r"[-+]?(?!\d{8}$)\d*[.,]?\d*").fillna(False).astype(bool))
    with warnings.catch_warnings():
        # pandas warns of texts that it reads one by one
        warnings.simplefilter("ignore")
        return pd.to_datetime(texts, format="mixed", dayfirst=day_first, errors="coerce", utc=True)


def look_like_dates(texts: Iterable[str]) -> bool:
    """Whether all texts can be read as dates."""
    import pandas as pd

    texts = list(texts)
    dated = all(
        re.search(r"\d\D+\d", text) and not re.fullmatch(r"[\d.,]+", text.strip("-+")) for text in texts
    )
    return dated and not _instants(pd.Series(texts, dtype=str), False).isna().any()


def parse_dates(texts: Sequence[str]) -> dict[str, Dates]:
    """`when` or `when=h` as readers by column; `UserError` for a unit that is no time."""
    made = {}
    for text in texts:
        name, _, unit = (part.strip() for part in text.partition("="))
        if unit and unit not in SECONDS:
            raise UserError(f"--dates {text!r} must name a unit of time: {', '.join(SECONDS)}")
        made[name] = Dates(name, unit)
    return made


SENTINELS = (-999.0, -9999.0, -99999.0, -999.9, -999.99, -99.0, -88.0, 999.0, 9999.0, 99999.0, 999999.0, 1e20,
             1e30, -1e30)  # fmt: skip


def sentinel_of(values: np.ndarray) -> float | None:
    """A number that stands for a missing value by custom, and lies far from all others; None without one."""
    for mark in SENTINELS:
        others = np.unique(values[values != mark])
        outside = mark in values and len(others) > 1 and not others[0] < mark < others[-1]
        # further out than any two neighbours are apart
        if outside and np.abs(others - mark).min() > 3 * np.diff(others).max():
            return mark
    return None
