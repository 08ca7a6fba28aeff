"""`python -m llmsr new`: a problem folder and a spec from one's own CSV file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from typing import Any

from llmsr.cli.shared import Verb, print_json
from llmsr.config import listed, option, read_yaml
from llmsr.errors import UserError
from llmsr.problem.new_problem import Made, NewProblem, make_problem

EXAMPLE = """example:
  python -m llmsr new --name mine --csv data.csv --target y --description "what the data are"
  python main.py --problem_name mine

A YAML file for --about holds what the model should know, all of it optional:
  description: Cooling of a cup of coffee in still air
  columns:
    t: {meaning: time since pouring, unit: min}
    temp: {meaning: temperature of the coffee, unit: K}
"""


@dataclass(frozen=True)
class NewSettings:
    """the new problem"""

    name: str | None = option(None, "name of the problem, for --problem_name")
    csv: str | None = option(None, "CSV file with a header row; one column is the target")
    target: str | None = option(None, "column to find an equation for")
    description: str = option("", "what the data are, in a sentence that the model reads")
    inputs: str = option("", "columns to use, separated by commas (default: all others)")
    ignore: str = option("", "columns to leave out, separated by commas")
    units: str = option("", 'units, such as "t=min,temp=K"')
    meanings: str = option("", 'what columns mean, such as "t=time since pouring,temp=temperature"')
    about: str | None = option(None, "YAML file with description and columns, see below")
    ood: str = option("", 'rows to test out of range, such as "temp>300"; commas join conditions')
    test_share: float = option(0.2, "share of the rows in range that only test, drawn at random")
    max_rows: int = option(100_000, "rows that are used at most, an even sample of larger files")
    max_params: int | None = option(
        None, "constants of an equation at most (default: 10, more for many columns)"
    )
    drop_missing: bool = option(False, "leave out rows with missing values")
    seed: int = option(0, "seed of the random split and of the sample")
    data_dir: str = option("data", "folder for <name>/{train,test_id,test_ood}.csv")
    spec_dir: str = option("specs", "folder for specification_<name>_numpy.txt")
    force: bool = option(False, "replace an existing problem of this name")
    json: bool = option(False, "print what was made as JSON")


def new(given: NewSettings) -> int:
    """Make the problem and say what was made."""
    made = make_problem(_asked(given))
    if given.json:
        print_json(_described(made))
    else:
        print(_told(made, given))
    return 0


def _asked(given: NewSettings) -> NewProblem:
    if not (given.name and given.csv and given.target):
        lacking = [f"--{key}" for key in ("name", "csv", "target") if not getattr(given, key)]
        raise UserError(f"{' and '.join(lacking)} must be given; see python -m llmsr new --help")
    told, units, meanings = _read_about(given.about) if given.about else ("", {}, {})
    same = {f.name: getattr(given, f.name) for f in fields(NewProblem)}
    return NewProblem(
        **same
        | {
            "description": given.description or told,
            "inputs": listed(given.inputs),
            "ignore": listed(given.ignore),
            "units": units | _pairs(given.units, "--units"),
            "meanings": meanings | _pairs(given.meanings, "--meanings"),
        }
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


def _described(made: Made) -> dict[str, Any]:
    problem = made.problem
    return {
        "problem": problem.name,
        "target": problem.target,
        "columns": list(problem.spec.columns),
        "rows": {name: len(split) for name, split in problem.splits.items()},
        "data": str(made.folder),
        "spec": str(made.spec_path),
        "notices": list(made.notices),
    }


def _told(made: Made, given: NewSettings) -> str:
    problem = made.problem
    rows = ", ".join(f"{len(split)} {name}" for name, split in problem.splits.items())
    lines = [
        f"{problem.name}: {problem.target} from {', '.join(problem.spec.columns)}; rows: {rows}",
        *(f"note: {notice}" for notice in made.notices),
        f"data in {made.folder}, spec in {made.spec_path}",
    ]
    command = f"python -m llmsr run --problem_name {problem.name}"
    if given.data_dir != "data":
        command += f" --data_dir {shlex.quote(given.data_dir)}"
    if given.spec_dir != "specs":
        command += f" --spec_path {shlex.quote(str(made.spec_path))}"
    return "\n".join([*lines, f"next: {command}"])


NEW = Verb("new", EXAMPLE, (NewSettings,), new)
