"""What a user says of a table's columns: which are used, and in words what they are and in which units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmsr.config import listed, read_yaml
from llmsr.errors import UserError

if TYPE_CHECKING:
    from llmsr.problem.new_problem import NewProblem


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
