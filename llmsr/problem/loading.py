"""A problem: a spec and the data it is about, read from CSV files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.expression import Expression
from llmsr.expression.dimensions import Dimensions
from llmsr.expression.form import shape_fault
from llmsr.problem.spec import Spec, load_spec
from llmsr.problem.split import Split, make_split
from llmsr.problem.table import Categories, read_table

SPLITS = ("train", "test_id", "test_ood")
STAND_IN = "synthetic"
_PACKAGE = Path(__file__).resolve().parents[1]
_HOMES = (_PACKAGE / "shipped", _PACKAGE.parent)  # of data/ and specs/: in an installed package, in a clone


@dataclass(frozen=True)
class Problem:
    """A spec with its data; `splits` has "train", and "test_id" and "test_ood" where their files exist.

    `synthetic` tells that the rows are a stand-in for measured data that is not there; `note` is then the
    sentence to show beside every result, and empty otherwise. Equations are held to `dimensions` where they
    are known: with `units` "strict" an inconsistent one is refused, with "penalty" it counts less.
    """

    name: str
    spec: Spec
    target: str
    splits: Mapping[str, Split]
    synthetic: bool = False
    note: str = ""
    units: str = "words"
    dimensions: Dimensions | None = None

    def refused(self, expression: Expression) -> tuple[str, str] | None:
        """The status and the reason of an expression that the form or, where strict, the units forbid."""
        if fault := self.spec.form.fault(expression):
            return "form", fault
        if self.dimensions and self.units == "strict" and (fault := self.dimensions.fault(expression)):
            return "units", fault
        return None

    def misshapen(self, expression: Expression, params: Sequence[float] | np.ndarray) -> str:
        """Why a fitted expression is not of the shapes that the form asks for; empty where it is."""
        form = self.spec.form
        if not form.shapes:
            return ""
        theta = np.asarray(params, dtype=np.float64).reshape(len(self.by_group), -1)
        found = (
            shape_fault(form.shapes, form.names, expression, own.train.inputs, constants)
            for own, constants in zip(self.by_group, theta, strict=True)
        )
        return next(filter(None, found), "")

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of groups of rows whose constants are their own, the largest first."""
        return self.train.groups

    @cached_property
    def by_group(self) -> tuple[Problem, ...]:
        """The problem of the train rows of each group alone; itself where there are no groups."""
        group = self.train.group
        if group is None:
            return (self,)
        own = (self.train.taken(group == place) for place in range(len(self.groups)))
        alone = (replace(split, group=None, groups=()) for split in own)
        return tuple(replace(self, splits={"train": split}) for split in alone)


def load_problem(
    name: str,
    spec_path: str | Path | None = None,
    data_dir: str | Path = "data",
    asked: Declarations | None = None,
) -> Problem:
    """The problem called `name`: its spec and `<data_dir>/<name>/{train,test_id,test_ood}.csv`.

    Without `spec_path` the spec is `specs/specification_<name>_numpy.txt`; a problem of a collection is
    called FOLDER/NAME, and its spec is `specs/FOLDER/specification_NAME_numpy.txt`. Relative paths start at
    the working directory, else where the project keeps its own. `asked` is declared beside what the spec
    declares. Columns of weights and the like apart, the last one is the target; the others are the inputs, in
    the order of the equation's arguments. Where `train.csv` is absent and a folder `synthetic`
    holds a stand-in, that one is read and `synthetic` is True. `UserError` on any fault, with the file's name
    and what to do.
    """
    # no part begins with a dot, since that could lead out of the folder
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name):
        raise UserError(f"'{name}' is no problem name; use the name of a folder under {data_dir}.")
    collection, _, own = name.rpartition("/")
    spec_file = Path(collection, f"specification_{own}_numpy.txt")
    folder, default_spec = locate(Path(data_dir) / name), locate(Path("specs") / spec_file)
    if not folder.is_dir() or (spec_path is None and not default_spec.is_file()):
        searched = locate(data_dir), locate("specs") / spec_file
        raise UserError(_unknown(name, *searched, folder.is_dir(), spec_path is not None))
    spec = load_spec(default_spec if spec_path is None else locate(spec_path), asked)

    source, synthetic = _source(folder)
    splits: dict[str, Split] = {}
    header: tuple[str, ...] = ()
    own_names: tuple[str, ...] = ()
    reader = Categories()
    for split in SPLITS:
        path = source / f"{split}.csv"
        if not path.is_file():
            continue
        names, rows = read_table(path, {spec.asked.group: reader})
        if not header:
            header, own_names = names, _without_roles(names, spec, path)
            _match_header(own_names, spec, path)
        if names != header:
            raise UserError(
                f"{path}: its columns are {', '.join(names)} but train.csv has {', '.join(header)}; "
                "give all files the same header."
            )
        columns = {role: rows[:, names.index(column)] for role, column in spec.asked.roles.items()}
        if "group" in columns:
            columns["group"] = reader.texts(columns["group"])
        *inputs, target = (names.index(name) for name in own_names)
        what, train = f"the target {own_names[-1]}", splits.get("train")
        splits[split] = make_split(rows[:, inputs], rows[:, target], spec.asked, columns, path, what, train)
    note = (
        f"{name}: these rows are a synthetic stand-in, not the measured data; "
        f"put the measured CSV files into {folder} to use them."
    )
    return Problem(name, spec, own_names[-1], splits, synthetic, note if synthetic else "")


def matching_names(patterns: Sequence[str]) -> list[str]:
    """Problem names, with a pattern such as `folder/*` replaced by the names of all specs that it matches.

    `UserError` for a pattern without any.
    """
    names: list[str] = []
    for pattern in patterns:
        if not set(pattern) & set("*?["):
            names.append(pattern)
            continue
        collection, _, own = pattern.rpartition("/")
        home = locate(Path("specs") / collection)
        found = sorted(path.name for path in home.glob(f"specification_{own}_numpy.txt"))
        if not found:
            raise UserError(
                f"no problem is called like {pattern}: {home} has no specification_{own}_numpy.txt "
                "(python -m llmsr benchmark import PATH brings LLM-SRBench's)"
            )
        own_names = (name.removeprefix("specification_").removesuffix("_numpy.txt") for name in found)
        names += [f"{collection}/{name}" if collection else name for name in own_names]
    return list(dict.fromkeys(names))


def locate(path: str | Path) -> Path:
    path = Path(path)
    if path.exists() or path.is_absolute():
        return path
    return next((home / path for home in _HOMES if (home / path).exists()), path)


def _source(folder: Path) -> tuple[Path, bool]:
    """The folder to read and whether it is the stand-in."""
    if (folder / "train.csv").is_file():
        return folder, False
    others = sorted(p.name for p in folder.glob("*.csv"))
    # measured files beside the stand-in are meant to be read, even if train.csv is missing
    if (folder / STAND_IN / "train.csv").is_file() and not set(others) & {f"{s}.csv" for s in SPLITS}:
        return folder / STAND_IN, True
    has = f"the folder has {', '.join(others[:5])}" if others else "the folder has no CSV file"
    raise UserError(
        f"{folder / 'train.csv'}: no such file ({has}); put the training rows there, the inputs "
        "first and the target last."
    )


def _match_header(names: tuple[str, ...], spec: Spec, path: Path) -> None:
    inputs = names[:-1]
    wants = f"{spec.function_name}({', '.join(spec.columns)}, {spec.params_name}) in {spec.path}"
    if len(inputs) != len(spec.columns):
        raise UserError(
            f"{path}: {len(inputs)} input columns and the target ({', '.join(names)}), but {wants} takes "
            f"{len(spec.columns)} inputs; make them match."
        )
    if inputs != spec.columns and set(spec.columns) <= set(names):
        raise UserError(
            f"{path}: its columns are {', '.join(names)} but {wants} wants the inputs in the order "
            f"{', '.join(spec.columns)} and the target last; reorder one of them."
        )


def _without_roles(names: tuple[str, ...], spec: Spec, path: Path) -> tuple[str, ...]:
    """The inputs and the target of a header; `UserError` where a column that is declared is not there."""
    for role, column in spec.asked.roles.items():
        if column not in names:
            near = difflib.get_close_matches(column, names, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names[:12])}."
            raise UserError(f"{path}: no column {column!r} ({role}); {hint}")
        if column in spec.columns:
            raise UserError(f"{path}: {column} ({role}) is an input of {spec.path}; remove it from there.")
    return tuple(name for name in names if name not in spec.asked.roles.values())


def _unknown(name: str, data_dir: Path, spec: Path, has_data: bool, own_spec: bool) -> str:
    collection = "".join(name.rpartition("/")[:2])
    home = data_dir / collection
    if not home.is_dir():
        return f"Problem '{name}' has no data: no folder {home}; give the right one with --data_dir."
    folders = {collection + p.name for p in home.iterdir() if p.is_dir()}
    specs = {
        collection + m[1]
        for p in spec.parent.glob("specification_*")
        if (m := re.match(r"specification_(.+)_(?:numpy|torch)\.txt", p.name))
    }
    hint = f"known: {', '.join(sorted(folders | specs))}."
    if near := difflib.get_close_matches(name, sorted((folders | specs) - {name}), 3, 0.4):
        hint = f"did you mean {' or '.join(near)}?"
    elif not folders | specs:
        hint = "give the folder that holds it with --data_dir."
    if has_data:
        return f"{spec}: no such spec for problem '{name}'; write it, or name one with --spec_path, or {hint}"
    if own_spec or spec.is_file():
        return f"Problem '{name}' has no data: no folder {data_dir / name}; {hint}"
    return f"Unknown problem '{name}': neither {data_dir / name} nor {spec} exists; {hint}"
