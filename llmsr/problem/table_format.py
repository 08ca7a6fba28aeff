"""How a file writes its table: encoding, separator, header, units and decimal sign, from its first lines."""

from __future__ import annotations

import codecs
import contextlib
import csv
import functools
import gzip
import io
import itertools
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from llmsr.errors import UserError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
MISSING = frozenset({"", "-", "--", "?", ".", "NA", "N/A", "n/a", "n.a.", "nan", "NaN", "None", "null",
                     "NULL"})  # fmt: skip
SAMPLE_LINES = 500
SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")

_COMMENT = re.compile(r"\s*(#+|//|%(?=\s))\s*")
_HASH = re.compile(r"\s*#")  # the one sign that marks comments below the header too
_NONE = re.compile(r"(?!)")
_GROUPED = {
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d*)?"),
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?"),
}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eEdD][+-]?\d+)?")
# Fortran writes D for a double's exponent, and no letter before one of three digits
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdD]([+-]?\d+)|([+-]\d{3}))?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)


def number(cell: str, decimal: str = ".") -> float | None:
    """The number that a cell holds, None for a text; a sign, space or apostrophe may group thousands."""
    text = cell.strip().replace("\N{MINUS SIGN}", "-")
    if " " in text or not text.isascii() or "'" in text:
        text = re.sub(r"(?<=\d)[\s'’](?=\d{3}(?!\d))", "", text)
    if _GROUPED[decimal].fullmatch(text):
        text = text.replace("." if decimal == "," else ",", "")
    if decimal == "," and "." not in text:
        text = text.replace(",", ".")
    found = re.fullmatch(_NUMBER, text)
    if found and (not found[3] or "." in found[1]):
        return float(f"{found[1]}e{found[2] or found[3] or 0}")
    return float(text) if _INFINITE.fullmatch(text) else None


@dataclass(frozen=True)
class Format:
    """How a file writes its table; `names` has an empty one for every column that is passed over.

    `header` is the text of line `header_line`; `skipped` counts the lines above the first row, `width` the
    cells of most rows. `notices` are sentences on what was read otherwise than it stands.
    """

    path: Path
    names: tuple[str, ...]
    separator: str = ","
    encoding: str = "utf-8-sig"
    decimal: str = "."
    comment: str | None = None
    skipped: int = 1
    width: int = 0
    header: str = ""
    header_line: int = 1
    left_out: frozenset[int] = frozenset()
    units: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows below the header: the line on which each ends, as an editor counts, and its cells."""
        # a generator: a fault of who takes the rows is none of the file's
        with opened(self.path, self.encoding, newline="") as file:
            for _ in range(self.skipped):
                file.readline()
            for line, cells in _rows(file, self.separator, _HASH if self.comment else _NONE):
                yield self.skipped + line, cells


def strict_format(path: str | Path) -> Format:
    """The format of a problem's own files: UTF-8, a header in line 1, commas; UserError for any other."""
    with opened(path) as file:
        line = file.readline()
        if not line.strip() and file.read().strip():
            raise UserError(f"{path}: line 1 is empty; begin the file with the columns' names.")
    if not line.strip():
        raise _empty(path)
    separator = max(SEPARATORS, key=lambda mark: line.count(mark) if mark != " " else 0)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    check_names(path, names, line)
    if separator != "," or (len(names) == 1 and " " in names[0]):
        told = SEPARATORS[separator if len(names) > 1 else " "]
        raise UserError(f"{path}: the columns are separated by {told}; separate them by commas.")
    return Format(Path(path), tuple(names), width=len(names))


def check_names(path: str | Path, names: Sequence[str], header: str, line: int = 1) -> None:
    """`UserError` for a header that cannot be used."""
    if len(names) == 1 and " " not in names[0]:
        raise UserError(f"{path}: only one column ({names[0][:60]}); give the inputs and, last, the target.")
    if all(number(name) is not None for name in names):
        told = f"line {line} is {header.strip()[:60]}"
        raise UserError(f"{path}: no header row ({told}), only numbers; add a line with the columns' names.")
    if "" in names:
        raise UserError(
            f"{path}: column {names.index('') + 1} has no name; name every column in line {line}."
        )
    if twice := doubles(names):
        raise UserError(f"{path}: the column name {twice[0]!r} stands twice; give every column its own name.")


def found_format(path: str | Path, nameless: bool = False) -> Format:
    """As `seen_format`; `UserError` for a header that cannot be used.

    A column without a name that is neither empty nor counts the rows is refused unless `nameless`.
    """
    form = seen_format(path)
    lacking = [i for i, name in enumerate(form.names, 1) if not name and i - 1 not in form.left_out]
    if lacking and not nameless:
        raise UserError(
            f"{path}: column {lacking[0]} has no name; name it in line {form.header_line}, or name the "
            "columns to use with --inputs."
        )
    check_names(path, list(filter(None, form.names)), form.header, form.header_line)
    return form


def seen_format(path: str | Path) -> Format:
    """The format that the first lines of any table show.

    The header is the fullest line above the first row of numbers: what stands above it is passed over, what
    stands below it are units. A column without a name is left out where it is empty, counts the rows or holds
    labels. `UserError` for a file that cannot be read or has no line.
    """
    encoding = _encoding(path)
    with opened(path, encoding) as file:
        lines = list(itertools.islice(file, SAMPLE_LINES))
    if not any(map(str.strip, lines)):
        raise _empty(path)
    separator = max(SEPARATORS, key=lambda mark: _share_of_numbers(list(_rows(lines, mark))))
    lines = _header_uncommented(lines, separator)
    rows = [(line, [" ".join(cell.split()) for cell in cells]) for line, cells in _rows(lines, separator)]
    if not rows:
        raise UserError(f"{path}: only comments; give a header row and the data.")
    decimal = _decimal_sign([cell for _, cells in rows for cell in cells], separator)
    header, first = _head(rows, decimal)
    line, names = rows[header]
    width = max(_usual_width(rows[first:]), len(names))
    columns = [[cells[i] for _, cells in rows[first:] if i < len(cells)] for i in range(width)]
    names, left_out = _named(names, columns)
    units: dict[str, str] = {}
    for _, cells in rows[header + 1 : first]:
        units |= {
            name: cell.strip("()[] ") for name, cell in zip(names, cells, strict=False) if cell not in MISSING
        }
    notices = list(left_out.values())
    if header:
        notices.insert(0, f"passed over, above the header in line {line}: {rows[0][1][0][:40]!r} ...")
    if first > header + 1:
        notices.append(
            f"units are read from line {rows[first - 1][0]}, {', '.join(rows[first - 1][1])[:60]!r}"
        )
    if encoding == "cp1252":
        notices.append("the file is not UTF-8 and is read as Windows-1252; look whether its names are right")
    notices += _told_numbers(columns, decimal)
    # a comment behind the last cell is one, any other # belongs to its text
    marked = any(
        "#" in cell and (cell is not cells[-1] or not re.search(r"[^#]\s#", cell))
        for _, cells in rows[first:]
        for cell in cells
    )
    return Format(
        Path(path),
        tuple(names),
        separator,
        encoding,
        decimal,
        comment=None if marked else "#",
        skipped=rows[first - 1][0],
        width=width,
        header=lines[line - 1],
        header_line=line,
        left_out=frozenset(left_out),
        units=units,
        notices=tuple(notices),
    )


def _rows(
    lines: Iterable[str], separator: str, comment: re.Pattern[str] = _COMMENT
) -> Iterator[tuple[int, list[str]]]:
    """The lines that are neither empty nor comments: their numbers, from 1, and their cells."""
    text = ("\n" if comment.match(line) else line for line in lines)
    if separator == " ":
        text = (f"{line.strip()}\n" for line in text)
    reader = csv.reader(text, delimiter=separator, skipinitialspace=True)
    for cells in reader:
        if len(cells) > 1 or "".join(cells).strip():
            yield reader.line_num, cells


def _usual_width(rows: Sequence[tuple[int, list[str]]]) -> int:
    return Counter(len(cells) for _, cells in rows).most_common(1)[0][0] if rows else 0


def _share_of_numbers(rows: Sequence[tuple[int, list[str]]]) -> tuple[float, int]:
    """How much of a file is a table of numbers if its lines are parted so; then, how many lines are even."""
    width = _usual_width(rows)
    if width < 2:
        return 0.0, 0
    even = [cells for _, cells in rows if len(cells) == width]
    fit = sum(cell.strip() in MISSING or _is_number(cell) for cells in even for cell in cells)
    return fit / (width * len(rows)), len(even)


def _is_number(cell: str) -> bool:
    return number(cell) is not None or number(cell, ",") is not None


def _header_uncommented(lines: list[str], separator: str) -> list[str]:
    """The lines; the last comment above the first row is its header where that row holds numbers alone."""
    line, cells = next(_rows(lines, separator), (0, [""]))
    above = [i for i in range(line - 1) if _COMMENT.match(lines[i])]
    if above and all(cell in MISSING or _is_number(cell) for cell in cells):
        header = _COMMENT.sub("", lines[above[-1]], count=1)
        if [len(names) for _, names in _rows([header], separator, _NONE)] == [len(cells)]:
            return [*lines[: above[-1]], header, *lines[above[-1] + 1 :]]
    return lines


def _decimal_sign(cells: Sequence[str], separator: str) -> str:
    with_comma = [cell for cell in cells if _DECIMAL_COMMA.fullmatch(cell)]
    if any(not _GROUPED["."].fullmatch(cell) for cell in with_comma):
        return ","
    # 1,234 may be either: commas that part columns are no decimal signs, nor are they beside points
    points = any(
        "." in cell and number(cell) is not None and not _GROUPED[","].fullmatch(cell) for cell in cells
    )
    return "," if with_comma and separator != "," and not points else "."


def _head(rows: Sequence[tuple[int, list[str]]], decimal: str) -> tuple[int, int]:
    """Where the header stands among the rows, and the first row of data."""
    numbers = [sum(number(cell, decimal) is not None for cell in cells) for _, cells in rows]
    typical = statistics.median(numbers)
    first = next((i for i, count in enumerate(numbers) if count and count >= typical / 2), 1) or 1
    filled = [sum(cell != "" for cell in cells) for _, cells in rows[:first]]
    header = filled.index(max(filled))
    for i in range(header + 1, first):
        # a text below the header is a unit only where the column holds numbers
        marked = [j for j, cell in enumerate(rows[i][1]) if cell not in MISSING]
        below = [cells[j] for _, cells in rows[first:] for j in marked if j < len(cells)]
        if not any(number(cell, decimal) is not None for cell in below):
            return header, i
    return header, first


def _named(names: Sequence[str], columns: Sequence[Sequence[str]]) -> tuple[list[str], dict[int, str]]:
    """A name for every column, and by position the sentence why a column without a name is left out."""
    names = ["" if re.fullmatch(r"Unnamed: \d+|__index_level_\d+__", name) else name for name in names]
    lacking = len(columns) - len(names)
    differ = len(set(columns[0])) == len(columns[0])
    if lacking == 1 and differ and _are_labels(columns[0]) and any(columns[-1]):
        names = ["", *names]  # as R writes row names: no name above them
    elif lacking > 0 and not any(map(any, columns[len(names) :])):
        names += [""] * lacking
    left_out = {}
    for i, name in enumerate(names):
        if not name and not any(columns[i]):
            left_out[i] = f"left out, without a name and empty: column {i + 1}"
        elif not name and i == 0 and _are_labels(columns[0]):
            left_out[i] = "left out, without a name and with numbers or labels of rows: column 1"
    return names, left_out


def _are_labels(cells: Sequence[str]) -> bool:
    """Whether cells number the rows, whatever their order, or are texts that all differ."""
    if len(cells) < 2:
        return False
    whole = all(re.fullmatch(r"-?\d+", cell) for cell in cells)
    return whole or (len(set(cells)) == len(cells) and not any(map(_is_number, cells)))


def _told_numbers(columns: Sequence[Sequence[str]], decimal: str) -> list[str]:
    """A sentence with an example for decimal commas and for grouped thousands."""
    told = ["numbers are read with decimal commas"] if decimal == "," else []
    grouped = next((cell for cells in columns for cell in cells if _GROUPED[decimal].fullmatch(cell)), None)
    if grouped:
        told.append(f"thousands are read as grouped: {grouped} is {number(grouped, decimal):g}")
    return told


def _encoding(path: str | Path) -> str:
    """UTF-16 and UTF-8 as their marks and bytes tell; cp1252, the Windows one, for any other text."""
    if Path(path).suffix.lower() in (*SPREADSHEETS, ".parquet"):
        return "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _told_faults(path), _binary(path) as file:
        block = file.read(1 << 20)
        if block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        if b"\0" in block[:2]:
            return "utf-16-be" if block[:1] == b"\0" else "utf-16-le"
        try:
            while block:
                decoder.decode(block)
                block = file.read(1 << 20)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _empty(path: str | Path) -> UserError:
    return UserError(f"{path}: the file is empty; give a header row and the data.")


# ---- opening


def _binary(path: str | Path) -> IO[bytes]:
    return gzip.open(path) if str(path).endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


@contextlib.contextmanager
def opened(path: str | Path, encoding: str = "utf-8-sig", newline: str | None = None) -> Iterator[IO[str]]:
    """The open file, a spreadsheet or parquet file as CSV text; any fault of it is a `UserError`."""
    with _told_faults(path):
        if Path(path).suffix.lower() in (*SPREADSHEETS, ".parquet"):
            yield io.StringIO(_as_csv(str(path), os.stat(path).st_mtime_ns))
            return
        with _binary(path) as binary, io.TextIOWrapper(binary, encoding, newline=newline) as file:
            yield file


@functools.lru_cache(maxsize=1)
def _as_csv(path: str, mtime: int) -> str:
    """The first sheet of a spreadsheet, or a parquet file, as CSV text; `mtime` tells versions apart."""
    import pandas as pd

    try:
        if path.lower().endswith(".parquet"):
            return pd.read_parquet(path).to_csv(index=False)
        return pd.read_excel(path, header=None, dtype=object).to_csv(index=False, header=False)
    except ImportError as error:
        told = f"a package to read it is not there ({error.name or error}); pip install 'llmsr[tables]'"
    except Exception as error:  # noqa: BLE001  readers of foreign formats raise errors of many kinds
        told = f"cannot be read as its name says ({' '.join(str(error).split())[:150]})."
    raise UserError(f"{path}: {told}")


@contextlib.contextmanager
def _told_faults(path: str | Path) -> Iterator[None]:
    import pandas as pd

    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a CSV file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the table as CSV in UTF-8.") from None
    except (pd.errors.ParserError, csv.Error) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no valid CSV ({told}); correct that line.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None


def doubles(names: Iterable[object]) -> list[str]:
    """The names that occur more than once, in order of appearance."""
    texts = [str(name) for name in names]
    return list(dict.fromkeys(text for text in texts if texts.count(text) > 1))
