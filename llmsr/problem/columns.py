"""The columns of a table as people call and describe them, as a spec names them; and the spec of them."""

from __future__ import annotations

import itertools
import keyword
import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmsr.config import listed, read_yaml
from llmsr.declarations import Declarations, with_declarations
from llmsr.errors import UserError
from llmsr.problem.loading import Problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.split import make_split
from llmsr.problem.table_format import doubles

if TYPE_CHECKING:
    from llmsr.problem.new_problem import NewProblem

LONGEST_NAME = 40
RESERVED = frozenset(
    {
        *keyword.kwlist,
        *("np", "minimize", "params", "evaluate", "equation", "data", "inputs", "outputs", "loss"),
        *("predicted", "result", "error", "MAX_NPARAMS", "PRAMS_INIT"),
        *("abs", "float", "int", "len", "max", "min", "pow", "range", "round", "sum"),
    }
)
"""Names that mean something else in a spec or in the body of an equation."""

MAX_PARAMS = 10  # LLM-SR's number of constants; a linear equation of many columns needs more
MOST_PARAMS = 30
WIDTH = 112
LONGEST_TEXT = 2000  # characters of a description

Words = Mapping[str, str] | Sequence[str] | None


# ---- names


def identifiers(names: Sequence[object]) -> tuple[str, ...]:
    """One identifier per name, all different: the name itself where it is a plain ASCII identifier.

    Others keep what letters and digits they have: `Temp (K)` becomes Temp_K, `2nd` c_2nd, Greek letters their
    Latin names, what has none of these column1, column2, ... by position. A reserved name gets a `_`
    behind it, an equal one `_2`.
    """
    texts = [str(name).strip() for name in names]
    # names that stay have the right of way, wherever they stand
    plain = {text for text in texts if _is_plain(text)}
    made: list[str] = []
    for position, text in enumerate(texts, start=1):
        if _is_plain(text) and text not in made:
            made.append(text)
            continue
        root = name = _readable(text) or f"column{position}"
        count = 2
        while name in made or name in plain:
            name, count = f"{root}_{count}", count + 1
        made.append(name)
    return tuple(made)


def without_unit(label: str) -> tuple[str, str]:
    """A label without the unit in brackets behind it, and the unit; empty where it has none."""
    found = re.fullmatch(r"(.*\S)\s*(?:\[([^\[\]]+)\]|\(([^()]+)\))", label)
    return (found[1], (found[2] or found[3]).strip()) if found else (label, "")


def without_units(labels: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """(the labels without units in brackets, the units by these names); as they are where two become one."""
    bare, units = zip(*map(without_unit, labels), strict=True)
    if len(set(bare)) < len(bare):  # speed (m/s) and speed (km/h)
        return tuple(labels), {}
    return bare, {name: unit for name, unit in zip(bare, units, strict=True) if unit}


def position_of(name: str, labels: Sequence[str]) -> int | None:
    """Where the column stands that a spec made from these labels, or some of them, calls `name`.

    None where no label or more than one gives this name. A label that gives a name by its position alone
    gives none here: the spec may be of other columns.
    """
    if name in labels:
        return labels.index(name)
    # two labels may give one name: then it is not clear which is meant
    found = {
        i
        for i, label in enumerate(labels)
        for text in (label, without_unit(label)[0])
        if (_is_plain(text) or _readable(text)) and identifiers([text])[0] == name
    }
    return found.pop() if len(found) == 1 else None


def _is_plain(text: str) -> bool:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", text)
    return bool(plain) and text not in RESERVED and len(text) <= LONGEST_NAME and not text.startswith("__")


def _readable(text: str) -> str:
    """The letters and digits of a text as an identifier that is not reserved; empty where it has none."""
    # taken apart into letters and marks, so that an accent goes and its letter stays
    spelled = "".join(_latin(letter) for letter in unicodedata.normalize("NFKD", text))
    name = re.sub(r"[^A-Za-z0-9]+", "_", spelled)[:LONGEST_NAME].strip("_")
    if name[:1].isdigit():
        name = f"c_{name}"
    return f"{name}_" if name in RESERVED else name


def _latin(letter: str) -> str:
    """A Greek letter by its name, the combining marks of a letter with accents as nothing."""
    if letter.isascii():
        return letter
    if unicodedata.combining(letter):
        return ""
    greek = re.match(r"GREEK (SMALL|CAPITAL) LETTER (\w+)$", unicodedata.name(letter, ""))
    if not greek:
        return " "
    spelled = {"LAMDA": "LAMBDA"}.get(greek[2], greek[2])
    return spelled.lower() if greek[1] == "SMALL" else spelled.capitalize()


def with_labels(text: str, names: Sequence[str], labels: Sequence[str]) -> str:
    """The text of an equation with every identifier that differs from its label replaced by the label.

    A label that is no identifier stands between backticks, as in pandas' `eval`.
    """
    shown = {
        name: label if label.isidentifier() else f"`{label}`"
        for name, label in zip(names, labels, strict=True)
        if name != label
    }
    if not shown:
        return text
    pattern = "|".join(sorted(map(re.escape, shown), key=len, reverse=True))
    return re.sub(rf"\b({pattern})\b(?!\()", lambda found: shown[found[1]], text)


# ---- what a user says of a new problem's columns


@dataclass(frozen=True)
class Told:
    """What the user says of the columns: which are used, and in words what they are."""

    inputs: tuple[str, ...]
    ignore: tuple[str, ...]
    description: str
    units: Mapping[str, str]
    meanings: Mapping[str, str]


def told_columns(asked: NewProblem, own: Callable[[str], str]) -> Told:
    """What the settings say, before what their YAML file `about` says, of columns by the names of `own`."""
    told, units, meanings = _read_about(asked.about) if asked.about else ("", {}, {})
    units |= _pairs(asked.units, "--units")
    meanings |= _pairs(asked.meanings, "--meanings")
    inputs, ignore = (tuple(map(own, listed(names))) for names in (asked.inputs, asked.ignore))
    own_units, own_meanings = ({own(n): text for n, text in of.items()} for of in (units, meanings))
    return Told(inputs, ignore, asked.description or told, own_units, own_meanings)


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


# ---- the text of a spec


@dataclass(frozen=True)
class Quantity:
    """A column: its identifier, what it means in words, and its unit; the latter two may be empty."""

    name: str
    meaning: str = ""
    unit: str = ""

    @property
    def words(self) -> str:
        return _one_line(self.meaning).rstrip(".") or self.name

    @property
    def described(self) -> str:
        return f"{self.words} in {_one_line(self.unit)}" if _one_line(self.unit) else self.words


def spec_text(
    inputs: Sequence[Quantity], target: Quantity, description: str = "", max_params: int | None = None
) -> str:
    """A spec whose seed equation is linear in the inputs and whose `evaluate` is the mean squared error.

    `description` is what the model should know about the problem, in free words. Without `max_params` it is
    10, or one more than there are inputs, 30 at most; inputs beyond it are not in the seed equation.
    """
    if max_params is None:
        max_params = max(MAX_PARAMS, min(len(inputs) + 1, MOST_PARAMS))
    names = [quantity.name for quantity in inputs]
    # as data, for checks of dimensions
    units = [
        f"{q.name}={_one_line(q.unit).replace(';', ',')}" for q in (*inputs, target) if _one_line(q.unit)
    ]
    linear = [f"params[{i}] * {name}" for i, name in enumerate(names[: max(1, max_params - 1)])]
    if max_params > 1:
        linear.append(f"params[{len(linear)}]")
    template = Path(__file__).with_name("spec_template.txt").read_text(encoding="utf-8")
    return template.format(
        task=_task(inputs, target, description),
        units=f"# llmsr: units {'; '.join(units)}\n" if units else "",
        max_params=max_params,
        unpacking=_unpacking(names),
        names=", ".join(names),
        header=_header(names),
        target=target.words,
        arguments="\n".join(f"        {q.name}: {q.described}, one number per row." for q in inputs),
        returned=target.described,
        seed=" + ".join(linear),
    )


def _task(inputs: Sequence[Quantity], target: Quantity, description: str) -> str:
    # a mere name, and what brings its own article, has no other before it
    articles = ("the ", "a ", "an ")
    the = [q.words if q.words == q.name or q.words.lower().startswith(articles) else f"the {q.words}"
           for q in inputs]  # fmt: skip
    given = the[0] if len(the) == 1 else f"{', '.join(the[:-1])} and {the[-1]}"
    sentence = f"Find an equation for the {target.words}, given {given}."
    told = _one_line(description)
    if told and not told.endswith((".", "!", "?")):
        told += "."
    lines = (textwrap.wrap(text, WIDTH, break_long_words=False) for text in (sentence, told))
    return "\n".join(itertools.chain.from_iterable(lines))


def _unpacking(names: Sequence[str]) -> str:
    columns = [f"inputs[:, {i}]" for i in range(len(names))]
    lines = "\n".join(f"    {name} = {column}" for name, column in zip(names, columns, strict=True))
    line = f"    {', '.join(names)} = {', '.join(columns)}"
    return line if len(line) <= WIDTH else lines


def _header(names: Sequence[str]) -> str:
    typed = [f"{name}: np.ndarray" for name in (*names, "params")]
    lines = "def equation(\n" + "".join(f"    {item},\n" for item in typed) + ") -> np.ndarray:"
    line = f"def equation({', '.join(typed)}) -> np.ndarray:"
    return line if len(line) <= WIDTH else lines


def _one_line(text: str) -> str:
    """The text as it may stand between triple quotes: one line, printable, nothing that ends or escapes."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    told = re.sub(r"\s+", " ", printable)[:LONGEST_TEXT].strip()
    # a backslash or a quote could end the docstring in which the text stands
    return told.replace("\\", "/").replace('"', "'")


# ---- a problem made in memory: no files, the spec written as for a file


@dataclass(frozen=True)
class Labels:
    """What the user calls the columns and the target, and what is known of them in words."""

    columns: tuple[str, ...]
    target: str = "y"
    description: str = ""
    units: Mapping[str, str] | None = None
    meanings: Mapping[str, str] | None = None

    @classmethod
    def of(
        cls, columns: Sequence[object], target: object, description: str, units: Words, meanings: Words
    ) -> Labels:
        """Labels with units and meanings by name, or in the columns' order; UserError for unknown names.

        A unit in brackets behind a name, as in `speed (m/s)`, is its unit and no part of the name.
        """
        given = (*map(str, columns), str(target))
        twice = doubles(given[:-1])
        if twice:
            raise UserError(f"the column name {twice[0]!r} stands twice; give every column its own name")
        names, in_brackets = without_units(given)
        called = dict(zip(given, names, strict=True))
        own_units, own_meanings = (
            {called[label]: text for label, text in _by_name(words, given, kind).items()}
            for words, kind in ((units, "units"), (meanings, "meanings"))
        )
        return cls(names[:-1], names[-1], description or "", in_brackets | own_units, own_meanings)

    def chosen(self, positions: Sequence[int]) -> Labels:
        """The labels of some of the columns."""
        return replace(self, columns=tuple(self.columns[i] for i in positions))

    def quantities(self) -> tuple[list[Quantity], Quantity]:
        """The inputs and the target as a spec names and describes them."""
        units, meanings = self.units or {}, self.meanings or {}
        names = zip((*self.columns, self.target), (*identifiers(self.columns), self.target), strict=True)
        *inputs, target = (
            Quantity(name, meanings.get(label) or (label if label != name else ""), units.get(label, ""))
            for label, name in names
        )
        return inputs, target


def _by_name(words: Words, labels: Sequence[str], kind: str) -> dict[str, str]:
    """Texts by label; a mapping may leave the unit of a label out."""
    if words is None:
        return {}
    if isinstance(words, Mapping):
        whole = dict(zip(without_units(labels)[0], labels, strict=True)) | {label: label for label in labels}
        unknown = [str(key) for key in words if str(key) not in whole]
        if unknown:
            raise UserError(
                f"{kind} names {unknown[0]!r}, which is no column; there are: {', '.join(labels)}"
            )
        return {whole[str(key)]: str(value) for key, value in words.items() if value is not None}
    if isinstance(words, str) or len(words) not in (len(labels) - 1, len(labels)):
        raise UserError(f"{kind} must be a mapping, or one text per column in their order")
    return {label: str(value) for label, value in zip(labels, words, strict=False) if value is not None}


def units_by_name(
    names: Sequence[object], target: str, units: Words, columns: Words, of_target: str | None
) -> Words:
    """The units as they are given: all in one, or of the columns and the target apart; UserError for both."""
    if columns is None and of_target is None:
        return units
    if units is not None:
        raise UserError("give units, or X_units and y_units, not both")
    if columns is not None and not isinstance(columns, Mapping) and len(columns) != len(names):
        raise UserError(f"X_units must have one text per column, {len(names)}")
    made = _by_name(columns, [str(name) for name in names], "X_units")
    return made | ({target: of_target} if of_target else {})


def table_problem(
    inputs: np.ndarray,
    target: np.ndarray,
    labels: Labels,
    max_params: int | None = None,
    asked: Declarations | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> Problem:
    """The problem whose train split is `inputs` (rows, columns) and `target` (rows,), float64 and finite.

    `columns` are those that `asked` declares. `UserError` for a target that does not vary.
    """
    quantities, wanted = labels.quantities()
    text = spec_text(quantities, wanted, labels.description, max_params)
    spec = parse_spec(with_declarations(text, asked or Declarations()), "the generated spec")
    split = make_split(inputs, target, spec.asked, columns or {}, "", "y")
    return Problem("table", spec, labels.target, {"train": split})
