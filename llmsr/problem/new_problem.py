"""A problem folder and its spec from a user's CSV file, ready for `python main.py --problem_name NAME`."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmsr.config import Checked, listed, option, read_yaml
from llmsr.errors import UserError
from llmsr.problem.columns import Quantity, identifiers, spec_text, without_unit
from llmsr.problem.loading import Problem, load_problem, variance_fault
from llmsr.problem.spec import MAX_PARAMS_LIMIT, parse_spec
from llmsr.problem.table import Column, RawTable, read_header, read_raw

FEWEST_ROWS = 10
MANY_COLUMNS = 20
IN_RANGE, OUT_OF_RANGE = "in range", "out of range"


@dataclass(frozen=True)
class NewProblem(Checked):
    """the new problem"""

    name: str = option("", "name of the problem, for --problem_name")
    csv: str = option("", "CSV file with a header row; one column is the target")
    target: str = option("", "column to find an equation for")
    description: str = option("", "what the data are, in a sentence that the model reads")
    inputs: str = option("", "columns to use, separated by commas (default: all others)")
    ignore: str = option("", "columns to leave out, separated by commas")
    units: str = option("", 'units, such as "t=min,temp=K"')
    meanings: str = option("", 'what columns mean, such as "t=time since pouring,temp=temperature"')
    about: str | None = option(None, "YAML file with description and columns, see below")
    ood: str = option("", 'rows to test out of range, such as "temp>300"; commas join conditions')
    test_share: float = option(0.2, "share of the rows in range that only test, drawn at random")
    max_rows: int = option(
        100_000, "rows that are used at most, an even sample of larger files", least=FEWEST_ROWS
    )
    max_params: int | None = option(
        None, "constants of an equation at most (default: 10, more for many columns)"
    )
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


@dataclass(frozen=True)
class _Told:
    """What the user says of the columns: which are used, and in words what they are."""

    inputs: tuple[str, ...]
    ignore: tuple[str, ...]
    description: str
    units: Mapping[str, str]
    meanings: Mapping[str, str]


def make_problem(asked: NewProblem) -> Made:
    """Write `<data_dir>/<name>/{train,test_id,test_ood}.csv` and the spec; UserError on bad input."""
    lacking = [f"--{key}" for key in ("name", "csv", "target") if not getattr(asked, key)]
    if lacking:
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
    told = _told(asked)
    names = _used_names(asked, told)
    conditions = [_condition(text, names, asked.csv) for text in listed(asked.ood)]

    def group_of(rows: np.ndarray) -> dict[str, np.ndarray]:
        outside = np.zeros(len(rows), dtype=bool)
        for position, test, bound in conditions:
            outside |= _TESTS[test](rows[:, position], bound)
        return {IN_RANGE: ~outside, OUT_OF_RANGE: outside}

    table = read_raw(asked.csv, set(names).__contains__, group_of, asked.max_rows, asked.seed)
    _check_cells(table, asked)
    return _write(asked, told, table, folder, spec_path)


# ---- what the user says


def _told(asked: NewProblem) -> _Told:
    description, units, meanings = _read_about(asked.about) if asked.about else ("", {}, {})
    return _Told(
        inputs=listed(asked.inputs),
        ignore=listed(asked.ignore),
        description=asked.description or description,
        units=units | _pairs(asked.units, "--units"),
        meanings=meanings | _pairs(asked.meanings, "--meanings"),
    )


def _pairs(text: str, flag: str) -> dict[str, str]:
    """`a=b,c=d` as a mapping; a part without `=` belongs to the text before it."""
    pairs: list[list[str]] = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        # a text may hold commas: what has no = goes on with the text before it
        if equals:
            pairs.append([name.strip(), value.strip()])
        elif pairs:
            pairs[-1][1] += f",{part.rstrip()}"
        elif part.strip():
            raise UserError(f"{flag} must be like column=text, got {part.strip()!r}")
    return {pair[0]: pair[1] for pair in pairs}


def _read_about(path: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """The description, the units and the meanings of a YAML file."""
    content = read_yaml(path)
    unknown = set(content) - {"description", "columns"}
    if unknown:
        raise UserError(f"{path}: unknown key {sorted(map(str, unknown))[0]!r}; use description and columns")
    columns = content.get("columns") or {}
    if not isinstance(columns, dict):
        raise UserError(f"{path}: columns must map names to texts or to {{meaning: ..., unit: ...}}")
    units: dict[str, str] = {}
    meanings: dict[str, str] = {}
    for name, about in columns.items():
        if not isinstance(about, dict):
            meanings[str(name)] = str(about)
            continue
        for key, value in about.items():
            if key not in ("meaning", "unit"):
                raise UserError(f"{path}: column {name} has an unknown key {key!r}; use meaning and unit")
            (meanings if key == "meaning" else units)[str(name)] = str(value)
    return str(content.get("description") or ""), units, meanings


# ---- what the file offers


def _used_names(asked: NewProblem, told: _Told) -> list[str]:
    """The columns to read, in the file's order."""
    names, _ = read_header(asked.csv)
    wanted = [(asked.target, "--target"), *((n, "--inputs") for n in told.inputs)]
    wanted += [(n, "--ignore") for n in told.ignore]
    wanted += [(n, "units") for n in told.units] + [(n, "meanings") for n in told.meanings]
    for name, where in wanted:
        if name not in names:
            raise UserError(f"{asked.csv}: no column {name!r} ({where}); {_nearest(name, names)}")
    inputs = [n for n in names if n != asked.target and n not in told.ignore]
    if told.inputs:
        inputs = [n for n in inputs if n in told.inputs]
    if not inputs:
        raise UserError(f"{asked.csv}: no input column is left beside the target {asked.target}")
    return [n for n in names if n == asked.target or n in inputs]


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if not near:
        near = [other for other in names if other.lower() == name.lower()]
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:12])}"


_TESTS = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}


def _condition(text: str, names: Sequence[str], path: str) -> tuple[int, str, float]:
    """The column's position, the comparison and the bound of a condition such as temp>300."""
    found = re.fullmatch(r"\s*([^<>=]+?)\s*(>=|<=|>|<)\s*([^<>=]+?)\s*", text)
    try:
        bound = float(found[3]) if found else float("nan")
    except ValueError:
        bound = float("nan")
    if not found or not np.isfinite(bound):
        raise UserError(f"--ood {text.strip()!r} is no condition; write it like temp>300")
    if found[1] not in names:
        raise UserError(f"{path}: no column {found[1]!r} (--ood); {_nearest(found[1], names)}")
    return names.index(found[1]), found[2], bound


def _check_cells(table: RawTable, asked: NewProblem) -> None:
    path = table.path
    texts = [column for column in table.columns if column.texts]
    if texts:
        raise UserError(f"{path}: {_text_fault(texts, asked.target)}")
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
    if target.low == target.high:
        raise UserError(f"{path}: the target {target.name} is {target.low:g} in every row")
    for group, rows in ((IN_RANGE, FEWEST_ROWS), (OUT_OF_RANGE, 2)):
        if asked.ood and table.found[group] < rows:
            ranges = ", ".join(f"{c.name} from {c.low:g} to {c.high:g}" for c in table.columns)
            raise UserError(
                f"--ood {asked.ood!r} leaves {table.found[group]} rows {group}, {rows} are needed; "
                f"the data have {ranges}"
            )


def _text_fault(texts: Sequence[Column], target: str) -> str:
    first = texts[0]
    where = first.text_fault
    if re.fullmatch(r"-?\d+,\d+", first.first_text):
        return f"{where}; write decimal points instead of commas"
    if first.name == target:
        return f"{where}; the target must be numbers"
    if len(texts) > 1:
        where = f"columns {', '.join(repr(c.name) for c in texts)} are not numeric; of these {where}"
    ignored = ",".join(column.name for column in texts)
    return f"{where}; give numbers, or leave out what is text with --ignore {ignored!r}"


# ---- what is written


def _write(asked: NewProblem, told: _Told, table: RawTable, folder: Path, spec_path: Path) -> Made:
    notices = []
    constant = [c.name for c in table.columns if c.low == c.high]
    if constant:
        notices.append(f"left out, the same in every row: {', '.join(constant)}")
    labels = [name for name in table.names if name != asked.target and name not in constant]
    if not labels:
        raise UserError(f"{table.path}: every input column is the same in every row")
    positions = [table.names.index(name) for name in (*labels, asked.target)]
    quantities = _quantities([*labels, asked.target], told, notices)
    if table.missing:
        notices.append(f"left out, with a missing value: {table.missing} of {table.rows} rows")
    for group, rows in table.groups.items():
        if len(rows) < table.found[group]:
            notices.append(
                f"of {table.found[group]} rows {group} an even sample of {len(rows)} is used (--max_rows)"
            )
    if len(labels) > MANY_COLUMNS:
        notices.append(f"{len(labels)} inputs are many for a model to read; name the likely ones by --inputs")
    inside = table.groups[IN_RANGE][:, positions]
    tested = np.zeros(len(inside), dtype=bool)
    count = max(2, round(asked.test_share * len(inside)))
    # a generator of its own: another sample of the file must not change who tests
    tested[np.random.default_rng([asked.seed, 1]).permutation(len(inside))[:count]] = True
    splits = {"train": inside[~tested], "test_id": inside[tested]}
    if asked.ood:
        splits["test_ood"] = table.groups[OUT_OF_RANGE][:, positions]
    for name, rows in splits.items():
        if not len(rows) or np.ptp(rows[:, -1]) == 0:
            raise UserError(
                f"{table.path}: the target has one value in all {len(rows)} rows of {name}; "
                "give more rows or another --test_share or --ood"
            )
        fault = variance_fault(rows[:, -1])
        if fault:
            raise UserError(
                f"{table.path}: the variance of the target {asked.target} {fault} in {name}; "
                "rescale the column"
            )
    text = spec_text(quantities[:-1], quantities[-1], told.description, asked.max_params)
    parse_spec(text, str(spec_path))  # before anything that stands there is replaced
    _write_files(folder, spec_path, [q.name for q in quantities], splits, text)
    problem = load_problem(asked.name, spec_path.absolute(), Path(asked.data_dir).absolute())
    return Made(problem, folder, spec_path, tuple(notices))


def _quantities(labels: Sequence[str], told: _Told, notices: list[str]) -> list[Quantity]:
    """The columns as the spec names them; a unit in brackets behind a name is taken for its unit."""
    bare, units = list(labels), {}
    for i, label in enumerate(labels):
        bare[i], unit = without_unit(label)
        if unit:
            units[label] = unit
    # speed (m/s) and speed (km/h) would have one name
    if len(set(bare)) < len(bare):
        bare, units = list(labels), {}
    names = identifiers(bare)
    changed = [f"{label} is {name}" for label, name in zip(labels, names, strict=True) if label != name]
    if changed:
        notices.append(f"names in the spec and in equations: {'; '.join(changed)}")
    made = []
    for label, plain, name in zip(labels, bare, names, strict=True):
        meaning = told.meanings.get(label) or (plain if plain != name else "")
        made.append(Quantity(name, meaning, told.units.get(label) or units.get(label, "")))
    return made


def _write_files(
    folder: Path, spec_path: Path, names: Sequence[str], splits: Mapping[str, np.ndarray], text: str
) -> None:
    import pandas as pd

    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec_path.parent.mkdir(parents=True, exist_ok=True)
        for split in ("train", "test_id", "test_ood"):
            path = folder / f"{split}.csv"
            if split in splits:
                pd.DataFrame(splits[split], columns=list(names)).to_csv(path, index=False)
            else:
                path.unlink(missing_ok=True)  # of an earlier problem of this name
        spec_path.write_text(text, encoding="utf-8")
    except OSError as error:
        if new:  # half a problem would stand in the way of the next try
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None
