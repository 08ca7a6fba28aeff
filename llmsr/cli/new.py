"""`python -m llmsr new`: a problem folder and a spec from one's own CSV file."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.cli.shared import Verb, print_json
from llmsr.config import listed, option
from llmsr.errors import UserError
from llmsr.problem.columns import identifiers, position_of, without_unit
from llmsr.problem.new_problem import Made, NewProblem, make_problem
from llmsr.problem.table_format import doubles
from llmsr.problem.trajectories import rates_of, read_trajectories
from llmsr.report.system import MEASURED


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
    with tempfile.TemporaryDirectory() as folder:
        table, notices = with_rates(asked, Path(folder)) if asked.trajectory else (asked, ())
        made = [replace(one, notices=(*one.notices, *notices)) for one in make_problems(table)]
        for one in made if asked.trajectory else ():
            shutil.copy(Path(folder) / MEASURED, one.folder)
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
    if asked.trajectory:
        log, csv, time = (shlex.quote(one) for one in (f"logs/{asked.name}", asked.csv, asked.trajectory))
        integrate = f"python -m llmsr predict {log} --csv {csv} --trajectory {time} --output integrated.csv"
        command += f" --log_path {log}\nthen: {integrate}"
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


def with_rates(asked: NewProblem, folder: Path) -> tuple[NewProblem, tuple[str, ...]]:
    """The same of a table, written to the folder, of states and of the rates at which they change.

    What comes with it is how the rates were had; the trajectories stand beside the table.
    """
    if not asked.csv:
        raise UserError("--csv must be given; see python -m llmsr new --help")
    told = read_trajectories(asked.csv, asked.trajectory, listed(asked.ignore))
    rates = rates_of(told)
    wanted = listed(asked.target) or list(told.states)
    places = [position_of(name, told.states) for name in wanted]
    if None in places:
        name = wanted[places.index(None)]
        raise UserError(f"{asked.csv}: no state {name!r} (--target); it has {', '.join(told.states)}")
    _write_table(folder / MEASURED, (told.time, *told.states), np.vstack([*map(np.column_stack, told.parts)]))
    time, *units = told.units
    names = [
        f"{name} [{unit}/({time})]" if unit and time else name
        for name, unit in zip(rates.names, units, strict=True)
    ]
    path = folder / "rates.csv"
    _write_table(path, (*told.states, *names), np.hstack([rates.states, rates.rates]))
    meanings = [f"{name}=rate of change of {state}" for name, state in zip(names, told.short, strict=True)]
    targets = [names[place] for place in places if place is not None]
    unwanted = [name for name in names if name not in targets]
    made = replace(
        asked,
        csv=str(path),
        trajectory="",
        target=",".join(targets),
        ignore=",".join(unwanted),
        meanings=",".join([*listed(asked.meanings), *meanings]),
    )
    trajectories = f"{len(told.parts)} {'trajectory' if len(told.parts) == 1 else 'trajectories'}"
    return made, (f"rates of change along {trajectories} by {rates.method}",)


def _write_table(path: Path, names: Sequence[str], rows: np.ndarray) -> None:
    header = ",".join(f'"{name}"' for name in names)
    np.savetxt(path, rows, "%.17g", ",", header=header, comments="")


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
