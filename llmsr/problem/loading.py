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
from llmsr.problem.groups import GroupReader, codes_of, groups_of
from llmsr.problem.loss import SQUARES, Loss
from llmsr.problem.spec import Spec, load_spec
from llmsr.problem.table import read_table

SPLITS = ("train", "test_id", "test_ood")
STAND_IN = "synthetic"
LEAST_VARIANCE = 1e-280  # of a target: an error of 1e-26 of it is then still a number with all its digits
_PACKAGE = Path(__file__).resolve().parents[1]
_HOMES = (_PACKAGE / "shipped", _PACKAGE.parent)  # of data/ and specs/: in an installed package, in a clone


@dataclass(frozen=True)
class Split:
    """Rows of one file: `inputs` (rows, columns) and `target` (rows,), float64 and contiguous.

    `weights` (rows,) are positive, None where all rows count alike; `loss` is how residuals are judged.
    `group` (rows,) are the places of the rows' groups among the names `groups`; None without groups.
    """

    inputs: np.ndarray
    target: np.ndarray
    weights: np.ndarray | None = None
    loss: Loss = SQUARES
    group: np.ndarray | None = None
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """All that its rows hold, an array each."""
        further = (part for part in (self.weights, self.group) if part is not None)
        return (self.inputs, self.target, *further)

    @cached_property
    def with_group(self) -> np.ndarray:
        """The inputs, and as one more column the places of the rows' groups where there are groups."""
        return self.inputs if self.group is None else np.column_stack([self.inputs, self.group])

    def equals(self, other: Split) -> bool:
        """Whether both hold the same rows in the same order."""
        ours, theirs = self.columns, other.columns
        return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))

    def taken(self, rows: np.ndarray | slice) -> Split:
        """Some of the rows."""
        weights, group = (None if part is None else part[rows] for part in (self.weights, self.group))
        return Split(self.inputs[rows], self.target[rows], weights, self.loss, group, self.groups)

    @cached_property
    def spread(self) -> float:
        """The mean loss of the best constant; of squares the (weighted) variance of the target, ddof 0."""
        return self.loss.spread(self.target, self.weights)

    def mean_loss(self, prediction: np.ndarray) -> float:
        """The mean loss of predictions of shape (rows,), in squared units of the target for squares.

        A prediction that is not finite gives nan and is never dropped; a square that overflows gives inf.
        """
        if not np.isfinite(prediction).all():
            return float("nan")
        with np.errstate(over="ignore"):
            return self.loss.mean(self.target - prediction, self.weights)

    def nmse(self, prediction: np.ndarray) -> float:
        """The mean loss over that of the best constant: for squares the (weighted) NMSE."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.float64(self.mean_loss(prediction)) / self.spread)


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
    header: tuple[str, ...] | None = None
    reader = GroupReader()
    for split in SPLITS:
        path = source / f"{split}.csv"
        if path.is_file():
            names, rows = read_table(path, {spec.asked.group: reader})
            if header is None:
                _match_header(_without_roles(names, spec, path), spec, path)
                header = names
            elif names != header:
                raise UserError(
                    f"{path}: its columns are {', '.join(names)} but train.csv has {', '.join(header)}; "
                    "give all files the same header."
                )
            splits[split] = _split(rows, names, spec, path, splits, reader)
    assert header is not None
    note = (
        f"{name}: these rows are a synthetic stand-in, not the measured data; "
        f"put the measured CSV files into {folder} to use them."
    )
    target = _without_roles(header, spec, source)[-1]
    return Problem(name, spec, target, splits, synthetic, note if synthetic else "")


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


def variance_fault(target: np.ndarray) -> str:
    """What is wrong with the variance of a target that varies, such as `is inf`; empty where nothing is."""
    # a column in odd units may overflow when squared: that is said in a sentence
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        variance = np.var(target)
    if not variance < np.inf:
        return "is inf"
    return "" if variance >= LEAST_VARIANCE else f"is {variance:g}, below {LEAST_VARIANCE:g}"


def nmse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean squared error over the variance (ddof 0) of `target`, both of shape (rows,), see `Split.nmse`."""
    return Split(np.empty((len(target), 0)), target).nmse(np.asarray(prediction, dtype=np.float64))


def row_weights(
    asked: Declarations, columns: Mapping[str, np.ndarray], where: str
) -> tuple[np.ndarray | None, np.ndarray]:
    """(weights of the rows, which rows count): `columns` are those of `asked.roles`, of shape (rows,).

    Rows of weight 0 do not count. `UserError` for errors that are not positive and weights that are negative,
    not finite or 0 in every row; None without weights.
    """
    role = next((role for role in ("sigma", "weights") if role in columns), None)
    if role is None:
        return None, np.ones(0, bool)
    values, name, positive = columns[role], asked.roles[role], role == "sigma"
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        weights = 1.0 / values**2 if positive else values
    bad = ~(np.isfinite(values) & (values > 0 if positive else values >= 0) & np.isfinite(weights))
    if bad.any():
        first = int(np.argmax(bad))
        raise UserError(
            f"{where}{name} is {values[first]:g} in row {first + 1} (and in {bad.sum() - 1} others); "
            f"{role} must be finite and {'positive' if positive else '0 or positive'} numbers."
        )
    if not weights.any():
        raise UserError(f"{where}{name} is 0 in every row; give some rows a weight.")
    return weights, weights > 0


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


def _split(
    rows: np.ndarray,
    names: tuple[str, ...],
    spec: Spec,
    path: Path,
    earlier: Mapping[str, Split],
    reader: GroupReader,
) -> Split:
    own = [names.index(name) for name in _without_roles(names, spec, path)]
    columns = {role: rows[:, names.index(column)] for role, column in spec.asked.roles.items()}
    if "group" in columns:
        columns["group"] = reader.texts(columns["group"])
    inputs, target, what = rows[:, own[:-1]], rows[:, own[-1]], f"the target {names[own[-1]]}"
    return make_split(inputs, target, spec.asked, columns, f"{path}: ", what, earlier.get("train"))


def make_split(
    inputs: np.ndarray,
    target: np.ndarray,
    asked: Declarations,
    columns: Mapping[str, np.ndarray],
    where: str,
    what: str = "the target",
    train: Split | None = None,
) -> Split:
    """The rows that count, with their weights; loss and groups are those of `train`, None for these rows.

    `columns` are those of `asked.roles`, of groups their names. `UserError`, beginning with `where`, for
    weights that are none, for a group of one row or an unknown one, and for a target, called `what`, that
    does not vary or cannot be squared.
    """
    texts = columns.get("group")
    weights, counts = row_weights(asked, columns, where)
    if weights is not None:
        inputs, target, weights = inputs[counts], target[counts], np.ascontiguousarray(weights[counts])
        texts = None if texts is None else texts[counts]
    if target.min() == target.max():
        raise UserError(f"{where}{what} is {target[0]:g} in every row; give data in which it varies.")
    if fault := variance_fault(target):
        raise UserError(f"{where}the variance of {what} {fault}; rescale {what}.")
    loss = train.loss if train else Loss.of(asked, target, weights)
    made = Split(np.ascontiguousarray(inputs), np.ascontiguousarray(target), weights, loss)
    if texts is None:
        return made
    groups = train.groups if train else groups_of(texts, f"{where}{asked.group}")
    return replace(made, group=codes_of(texts, groups, f"{where}{asked.group}"), groups=groups)


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
