"""A problem folder and its spec from a user's CSV file, ready for `python main.py --problem_name NAME`."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.config import listed, option
from llmsr.declarations import Declarations, with_declarations
from llmsr.errors import UserError
from llmsr.problem.columns import (
    Quantity,
    Told,
    identifiers,
    position_of,
    spec_text,
    told_columns,
    without_units,
)
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.spec import MAX_PARAMS_LIMIT, parse_spec
from llmsr.problem.split import variance_fault
from llmsr.problem.table import (
    Categories,
    Column,
    Dates,
    RawTable,
    ToNumbers,
    look_like_dates,
    parse_dates,
    read_raw,
    sentinel_of,
)
from llmsr.problem.table_format import Format, found_format, number

FEWEST_ROWS = 4
FEWEST_TO_TEST = 10  # with fewer rows all are for training
MANY_COLUMNS = 20
MOST_CATEGORIES = 50
MOST_SHOWN = 12  # different texts that are likely to be categories
IN_RANGE, OUT_OF_RANGE = "in range", "out of range"


@dataclass(frozen=True)
class NewProblem(Declarations):
    """the new problem"""

    name: str = option("", "name of the problem, for --problem_name")
    csv: str = option("", "table with a header row, one column is the target: CSV or the like, xlsx, parquet")
    target: str = option("", "column to find an equation for, or several, separated by commas")
    trajectory: str = option(
        "",
        "column of time: the other columns are states along trajectories, and their rates of change the "
        "targets; --target: states whose rates are wanted (default: all)",
    )
    description: str = option("", "what the data are, in a sentence that the model reads")
    inputs: str = option("", "columns to use, separated by commas (default: all others)")
    ignore: str = option("", "columns to leave out, separated by commas")
    units: str = option("", 'units, such as "t=min,temp=K"')
    meanings: str = option("", 'what columns mean, such as "t=time since pouring,temp=temperature"')
    about: str | None = option(None, "YAML file with description and columns, see below")
    ood: str = option("", 'rows to test out of range, such as "temp>300"; commas join conditions')
    test_share: float = option(0.2, "share of the rows in range that only test, drawn at random")
    max_rows: int = option(
        100_000, "rows that are used at most, an even sample of larger files", least=FEWEST_TO_TEST
    )
    max_params: int | None = option(
        None, "constants of an equation at most (default: 10, more for many columns)"
    )
    dates: str = option(
        "", 'columns of dates to read as the time since the first row, such as "when=h" (s, min, h, d or yr)'
    )
    dummies: str = option(
        "", "columns of texts to read as one column of 0 and 1 for every text but the first"
    )
    codes: str = option("", "columns of texts to read as numbers 0, 1, ... in the order in which they occur")
    missing: str = option("", "cells that stand for a missing value, such as -999, separated by commas")
    drop_missing: bool = option(False, "leave out rows with missing values")
    seed: int = option(0, "seed of the random split and of the sample")
    data_dir: str = option("data", "folder for <name>/{train,test_id,test_ood}.csv")
    spec_dir: str = option("specs", "folder for specification_<name>_numpy.txt")
    force: bool = option(False, "replace an existing problem of this name")


@dataclass(frozen=True)
class Made:
    """The problem that was made, where it lies, and what the user should know, one sentence each."""

    problem: Problem
    folder: Path
    spec_path: Path
    notices: tuple[str, ...]


def make_problem(asked: NewProblem) -> Made:
    """Write `<data_dir>/<name>/{train,test_id,test_ood}.csv` and the spec; UserError on bad input."""
    if lacking := [f"--{key}" for key in ("name", "csv", "target") if not getattr(asked, key)]:
        raise UserError(f"{' and '.join(lacking)} must be given; see python -m llmsr new --help")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", asked.name):
        raise UserError(f"{asked.name!r} cannot name a problem; use letters, digits, _ and -")
    if not 0 < asked.test_share < 1:
        raise UserError(f"--test_share must lie between 0 and 1, it is {asked.test_share:g}")
    if asked.max_params is not None and not 1 <= asked.max_params <= MAX_PARAMS_LIMIT:
        raise UserError(f"--max_params must lie between 1 and {MAX_PARAMS_LIMIT}, it is {asked.max_params}")
    folder = Path(asked.data_dir) / asked.name
    spec_path = Path(asked.spec_dir) / f"specification_{asked.name}_numpy.txt"
    if not asked.force:
        for path in (spec_path, folder):
            if path.exists():
                raise UserError(f"{path} exists already; choose another --name, or add --force to replace it")
    form = found_format(asked.csv, nameless=bool(listed(asked.inputs)))
    asked = replace(asked, target=_own_name(asked.target, form))
    told = told_columns(asked, lambda name: _own_name(name, form))
    return _write(asked, told, _read(asked, told, form), folder, spec_path)


def _own_name(name: str, form: Format) -> str:
    """The column as the file calls it, which may be said without its unit or as the spec calls it."""
    position = position_of(name, form.names)
    return name if position is None else form.names[position]


def _read(asked: NewProblem, told: Told, form: Format, empty: tuple[str, ...] = ()) -> RawTable:
    """The columns to use, those of texts and of dates as numbers; a column without a value is left out."""
    names = _used_names(asked, told, form, empty)
    dates = {_own_name(name, form): reader for name, reader in parse_dates(listed(asked.dates)).items()}
    dummies, codes = ([_own_name(n, form) for n in listed(text)] for text in (asked.dummies, asked.codes))
    categories = {name: Categories(MOST_CATEGORIES) for name in (*dummies, *codes)}
    grouped = {_own_name(asked.group, form): Categories()} if asked.group else {}
    for name in categories:
        if name not in names or name == asked.target:
            raise UserError(f"{asked.csv}: {name!r} is no input, so that it cannot be read as categories")
    conditions = [_condition(text, form, names, dates) for text in listed(asked.ood)]

    def group_of(rows: np.ndarray) -> dict[str, np.ndarray]:
        outside = np.zeros(len(rows), dtype=bool)
        for position, test, bound in conditions:
            outside |= _TESTS[test](rows[:, position], bound() if callable(bound) else bound)
        return {IN_RANGE: ~outside, OUT_OF_RANGE: outside}

    readers: dict[str, ToNumbers] = {**dates, **categories, **grouped}
    used, missing = set(names).__contains__, listed(asked.missing)
    table = read_raw(form, used, group_of, asked.max_rows, asked.seed, missing, readers)
    without = tuple(c.name for c in table.columns if c.missing == table.rows and c.name != asked.target)
    if without:
        table = _read(asked, told, form, (*empty, *without))
        table.notices.append(f"left out, without a value: {', '.join(without)}")
        return table
    _check_cells(table, asked)
    for name in dummies:
        _expand(table, name, categories[name])
    table.notices += [reader.notice(name) for name, reader in dates.items()]
    table.units |= {name: reader.unit for name, reader in dates.items()}
    table.texts = {name: list(reader.names) for name, reader in grouped.items()}
    for name in codes:
        texts = ", ".join(f"{code} {text}" for text, code in categories[name].names.items())
        table.notices.append(f"{name} is {texts}")
    return table


def _expand(table: RawTable, name: str, categories: Categories) -> None:
    """Put 0/1 columns in the place of a column of codes."""
    at = table.names.index(name)
    for group, rows in table.groups.items():
        made = categories.columns(name, rows[:, at])
        table.groups[group] = np.column_stack([rows[:, :at], *made.values(), rows[:, at + 1 :]])
    table.columns[at : at + 1] = [Column(label, low=0.0, high=1.0) for label in made]
    first = min(categories.names)
    table.notices.append(f"{', '.join(made)} are 1 where {name} is so, all are 0 where it is {first}")


# ---- what the file offers


def _used_names(asked: NewProblem, told: Told, form: Format, empty: Sequence[str]) -> list[str]:
    """The columns to read, in the file's order, without the `empty` ones."""
    names = list(filter(None, form.names))
    roles = asked.roles
    wanted: dict[str, Iterable[str]] = {"--target": (asked.target,), "--inputs": told.inputs,
                                        "--ignore": told.ignore}  # fmt: skip
    for flag in ("dates", "dummies", "codes"):
        parts = listed(getattr(asked, flag))
        wanted[f"--{flag}"] = [_own_name(part.partition("=")[0].strip(), form) for part in parts]
    wanted |= {"units": told.units, "meanings": told.meanings}
    wanted |= {f"--{role}": (name,) for role, name in roles.items()}
    for where, named in wanted.items():
        for name in named:
            if name not in names:
                raise UserError(f"{asked.csv}: no column {name!r} ({where}); {_nearest(name, names)}")
    others = (asked.target, *told.ignore, *empty, *roles.values())
    inputs = [n for n in names if n not in others]
    if told.inputs:
        inputs = [n for n in inputs if n in told.inputs]
    if not inputs:
        raise UserError(f"{asked.csv}: no input column is left beside the target {asked.target}")
    for role, name in roles.items():
        if name == asked.target or name in told.inputs:
            raise UserError(f"{asked.csv}: --{role} {name} is an input or the target too; name another")
    return [n for n in names if n == asked.target or n in (*inputs, *roles.values())]


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1, 0.5)
    near = near or [other for other in names if other.lower() == name.lower()]
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:12])}"


_TESTS = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}


def _condition(
    text: str, form: Format, names: Sequence[str], dates: Mapping[str, Dates]
) -> tuple[int, str, float | Callable[[], float]]:
    """The column's position, the comparison and the bound of a condition such as temp>300.

    The bound of a column of dates may be a date, whose number is known once the first row is read.
    """
    found = re.fullmatch(r"\s*([^<>=]+?)\s*(>=|<=|>|<)\s*([^<>=]+?)\s*", text)
    name = _own_name(found[1], form) if found else ""
    if found and name in dates and look_like_dates([found[3]]):
        return names.index(name), found[2], lambda: dates[name].of(found[3])
    bound = number(found[3]) if found else None
    if not found or bound is None or not np.isfinite(bound):
        raise UserError(f"--ood {text.strip()!r} is no condition; write it like temp>300")
    if name not in names:
        raise UserError(f"{form.path}: no column {name!r} (--ood); {_nearest(name, names)}")
    return names.index(name), found[2], bound


def _check_cells(table: RawTable, asked: NewProblem) -> None:
    path = table.path
    if texts := [column for column in table.columns if column.texts]:
        raise UserError(f"{path}: {_text_fault(texts, table.rows, asked.target)}")
    missing, complete = table.missing, table.rows - table.missing
    if missing and not asked.drop_missing:
        where = ", ".join(f"{c.name}: {c.missing}" for c in table.columns if c.missing)
        raise UserError(
            f"{path}: {missing} of {table.rows} rows have a missing or infinite value ({where}); "
            "add --drop_missing to leave these rows out"
        )
    if complete < FEWEST_ROWS:
        what = "complete rows" if missing else "rows"
        raise UserError(f"{path}: too few {what}, {complete}; give at least {FEWEST_ROWS}")
    target = next(column for column in table.columns if column.name == asked.target)
    if target.missing == table.rows:
        raise UserError(f"{path}: the target {target.name} has no value in any row")
    if target.low == target.high:
        raise UserError(f"{path}: the target {target.name} is {target.low:g} in every row")
    for group, rows in ((IN_RANGE, FEWEST_ROWS), (OUT_OF_RANGE, 2)):
        if asked.ood and table.found[group] < rows:
            ranges = ", ".join(f"{c.name} from {c.low:g} to {c.high:g}" for c in table.columns)
            raise UserError(
                f"--ood {asked.ood!r} leaves {table.found[group]} rows {group}, {rows} are needed; "
                f"the data have {ranges}"
            )


def _text_fault(texts: Sequence[Column], rows: int, target: str) -> str:
    """Where texts stand, and the flags that read or leave out such columns."""
    where = texts[0].text_fault
    rare = [f"--missing {c.first_text!r}" for c in texts if c.texts < rows / 2 and len(c.some_texts) == 1]
    if texts[0].first_text == texts[0].name:
        return f"{where}, which repeats the header; remove that line"
    if rare:
        return f"{where}; give numbers, or add {rare[0]} --drop_missing if that stands for a missing value"
    if all(re.fullmatch(r"\D{,3}[\d.,]+\s*[^\d\s.,]*", text) for text in texts[0].some_texts):
        return f"{where}; give numbers alone, and what stands around them in the column's name"
    if texts[0].name == target:
        return f"{where}; the target must be numbers"
    if len(texts) > 1:
        where = f"columns {', '.join(repr(c.name) for c in texts)} are not numeric; of these {where}"
    dates = [c.name for c in texts if look_like_dates(c.some_texts)]
    kinds = [c.name for c in texts if c.name not in dates and len(c.some_texts) <= MOST_SHOWN < rows]
    more = [
        f", read {what} with --{flag} {','.join(names)!r}"
        for flag, what, names in (("dates", "dates", dates), ("dummies", "categories", kinds))
        if names
    ]
    ignored = ",".join(column.name for column in texts)
    return f"{where}; give numbers{''.join(more)}, or leave out what is text with --ignore {ignored!r}"


# ---- what is written


def _write(asked: NewProblem, told: Told, table: RawTable, folder: Path, spec_path: Path) -> Made:
    notices = table.notices
    roles = list(asked.roles.values())
    if constant := [c.name for c in table.columns if c.low == c.high and c.name not in roles]:
        notices.append(f"left out, the same in every row: {', '.join(constant)}")
    labels = [name for name in table.names if name not in (asked.target, *constant, *roles)]
    if not labels:
        raise UserError(f"{table.path}: every input column is the same in every row")
    # the target stands last, what is neither input nor target first
    written = [*roles, *labels, asked.target]
    positions = [table.names.index(name) for name in written]
    quantities = _quantities(written, told, table)
    if table.missing:
        notices.append(f"left out, with a missing value: {table.missing} of {table.rows} rows")
    for group, rows in table.groups.items():
        if len(rows) < table.found[group]:
            notices.append(
                f"of {table.found[group]} rows {group} an even sample of {len(rows)} is used (--max_rows)"
            )
    if len(labels) > MANY_COLUMNS:
        notices.append(f"{len(labels)} inputs are many for a model to read; name the likely ones by --inputs")
    for name, position in zip(written, positions, strict=True):
        mark = sentinel_of(table.groups[IN_RANGE][:, position])
        if mark is not None and name not in table.texts:
            notices.append(
                f"{name} is {mark:g} in some rows, far from all others: if that stands for a missing value, "
                f"add --missing={mark:g} --drop_missing"
            )
    inside = table.groups[IN_RANGE][:, positions]
    tested = np.zeros(len(inside), dtype=bool)
    if len(inside) < FEWEST_TO_TEST:
        notices.append(f"only {len(inside)} rows: all are for training and none tests; more rows are better")
    else:
        count = max(2, round(asked.test_share * len(inside)))
        # a generator of its own: another sample of the file must not change who tests
        tested[np.random.default_rng([asked.seed, 1]).permutation(len(inside))[:count]] = True
    splits = {"train": inside[~tested]}
    if tested.any():
        splits["test_id"] = inside[tested]
    if asked.ood:
        splits["test_ood"] = table.groups[OUT_OF_RANGE][:, positions]
    for name, rows in splits.items():
        if not len(rows) or np.ptp(rows[:, -1]) == 0:
            raise UserError(
                f"{table.path}: the target has one value in all {len(rows)} rows of {name}; "
                "give more rows or another --test_share or --ood"
            )
        if fault := variance_fault(rows[:, -1]):
            told_fault = f"the variance of the target {asked.target} {fault} in {name}; rescale the column"
            raise UserError(f"{table.path}: {told_fault}")
    text = spec_text(quantities[len(roles) : -1], quantities[-1], told.description, asked.max_params)
    renamed: dict[str, Any] = {
        role: quantity.name for role, quantity in zip(asked.roles, quantities, strict=False)
    }
    text = with_declarations(text, replace(asked, **renamed))
    parse_spec(text, str(spec_path))  # before anything that stands there is replaced
    texts = {q.name: table.texts[n] for q, n in zip(quantities, written, strict=True) if n in table.texts}
    _write_files(folder, spec_path, [q.name for q in quantities], splits, text, texts)
    problem = load_problem(asked.name, spec_path.absolute(), Path(asked.data_dir).absolute())
    return Made(problem, folder, spec_path, tuple(notices))


def _quantities(labels: Sequence[str], told: Told, table: RawTable) -> list[Quantity]:
    """The columns as the spec names them; a unit in brackets behind a name is taken for its unit."""
    bare, units = without_units(labels)
    names = identifiers(bare)
    if changed := [f"{label} is {name}" for label, name in zip(labels, names, strict=True) if label != name]:
        table.notices.append(f"names in the spec and in equations: {'; '.join(changed)}")
    return [
        Quantity(
            name,
            told.meanings.get(label) or (plain if plain != name else ""),
            told.units.get(label) or units.get(plain) or table.units.get(label, ""),
        )
        for label, plain, name in zip(labels, bare, names, strict=True)
    ]


def _write_files(
    folder: Path,
    spec_path: Path,
    names: Sequence[str],
    splits: Mapping[str, np.ndarray],
    text: str,
    texts: Mapping[str, Sequence[str]],
) -> None:
    """Write spec and rows; a column among `texts` holds places of these."""
    import pandas as pd

    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec_path.parent.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test_id", "test_ood"):
            path = folder / f"{split}.csv"
            if split in splits:
                rows = pd.DataFrame(splits[split], columns=list(names))
                for name, known in texts.items():
                    rows[name] = np.array(known, dtype=object)[rows[name].astype(int)]
                rows.to_csv(path, index=False)
            else:
                path.unlink(missing_ok=True)  # of an earlier problem of this name
        spec_path.write_text(text, encoding="utf-8")
    except OSError as error:
        if new:  # half a problem would stand in the way of the next try
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None
