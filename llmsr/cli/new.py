"""`python -m llmsr new`: a problem folder and a spec from one's own CSV file."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, replace
from typing import Any

from llmsr.cli.shared import Verb, print_json
from llmsr.config import listed, option
from llmsr.errors import UserError
from llmsr.problem.columns import identifiers, without_unit
from llmsr.problem.new_problem import Made, NewProblem, make_problem
from llmsr.problem.table_format import doubles


@dataclass(frozen=True)
class ShownAs:
    """what is printed"""

    json: bool = option(False, "print what was made as JSON")


@Verb
def new(asked: NewProblem, shown: ShownAs) -> int:
    """Make a problem of a table, or one for each target, and say what was made.

    example:
      python -m llmsr new --name mine --csv data.csv --target y --description "what the data are"
      python main.py --problem_name mine

    A YAML file for --about holds what the model should know, all of it optional:
      description: Cooling of a cup of coffee in still air
      columns:
        t: {meaning: time since pouring, unit: min}
        temp: {meaning: temperature of the coffee, unit: K}
    """
    made = make_problems(asked)
    if shown.json:
        described = [_described(one) for one in made]
        print_json(described if len(made) > 1 else described[0])
        return 0
    for one in made:
        print(_told(one))
    names = ",".join(one.problem.name for one in made)
    command = f"python -m llmsr run --problem_name {names}"
    if asked.data_dir != "data":
        command += f" --data_dir {shlex.quote(asked.data_dir)}"
    if asked.spec_dir != "specs" and len(made) == 1:
        command += f" --spec_path {shlex.quote(str(made[0].spec_path))}"
    print(f"next: {command}")
    return 0


def make_problems(asked: NewProblem) -> list[Made]:
    """The problem, or of several targets one for each, called NAME_TARGET, the others left out of its inputs.

    All are made or none; `UserError` for a target that stands twice.
    """
    targets = listed(asked.target)
    if twice := doubles(targets):
        raise UserError(f"--target names {twice[0]!r} twice; name every target once")
    if len(targets) < 2:
        return [make_problem(asked)]
    made: list[Made] = []
    for target, short in zip(targets, identifiers([without_unit(one)[0] for one in targets]), strict=True):
        others = ",".join([*listed(asked.ignore), *(one for one in targets if one != target)])
        try:
            made.append(
                make_problem(replace(asked, name=f"{asked.name}_{short}", target=target, ignore=others))
            )
        except UserError:
            for one in made:
                shutil.rmtree(one.folder, ignore_errors=True)
                one.spec_path.unlink(missing_ok=True)
            raise
    return made


def _described(made: Made) -> dict[str, Any]:
    problem = made.problem
    return {
        "problem": problem.name, "target": problem.target, "columns": list(problem.spec.columns),
        "rows": {name: len(split) for name, split in problem.splits.items()},
        "data": str(made.folder), "spec": str(made.spec_path), "notices": list(made.notices),
    }  # fmt: skip


def _told(made: Made) -> str:
    problem = made.problem
    rows = ", ".join(f"{len(split)} {name}" for name, split in problem.splits.items())
    lines = [
        f"{problem.name}: {problem.target} from {', '.join(problem.spec.columns)}; rows: {rows}",
        *(f"note: {notice}" for notice in made.notices),
        f"data in {made.folder}, spec in {made.spec_path}",
    ]
    return "\n".join(lines)
