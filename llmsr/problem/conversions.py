"""Columns of text as numbers: dates as the time since the first one, categories as codes or 0/1 columns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmsr.errors import UserError

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "yr": 31557600.0}
MOST_CATEGORIES = 50


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
    """Reads texts as numbers from 0 in the order in which they first occur, which is that of `names`."""

    names: dict[str, int] = field(default_factory=dict)

    def __call__(self, series: Any) -> np.ndarray:
        """The numbers of a pandas series of texts, NaN where one is missing."""
        for text in series.dropna().unique():
            self.names.setdefault(text.strip(), len(self.names))
        if len(self.names) > MOST_CATEGORIES:
            raise UserError(
                f"column {series.name!r} has more than {MOST_CATEGORIES} different texts; "
                "they are too many to be categories"
            )
        known = {text: float(i) for text, i in self.names.items()}
        return np.array([known.get(text.strip(), np.nan) if text == text else np.nan for text in series])

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
