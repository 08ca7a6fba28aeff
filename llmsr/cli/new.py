"""`python -m llmsr new`: a problem folder and a spec from one's own CSV file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from llmsr.cli.shared import Verb, print_json
from llmsr.config import option
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
class ShownAs:
    """what is printed"""

    json: bool = option(False, "print what was made as JSON")


def new(asked: NewProblem, shown: ShownAs) -> int:
    """Make the problem and say what was made."""
    made = make_problem(asked)
    if shown.json:
        print_json(_described(made))
    else:
        print(_told(made, asked))
    return 0


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


def _told(made: Made, asked: NewProblem) -> str:
    problem = made.problem
    rows = ", ".join(f"{len(split)} {name}" for name, split in problem.splits.items())
    lines = [
        f"{problem.name}: {problem.target} from {', '.join(problem.spec.columns)}; rows: {rows}",
        *(f"note: {notice}" for notice in made.notices),
        f"data in {made.folder}, spec in {made.spec_path}",
    ]
    command = f"python -m llmsr run --problem_name {problem.name}"
    if asked.data_dir != "data":
        command += f" --data_dir {shlex.quote(asked.data_dir)}"
    if asked.spec_dir != "specs":
        command += f" --spec_path {shlex.quote(str(made.spec_path))}"
    return "\n".join([*lines, f"next: {command}"])


NEW = Verb("new", EXAMPLE, (NewProblem, ShownAs), new)
