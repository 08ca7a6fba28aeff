"""A system of differential equations: rates of change that runs found, integrated beside measured states."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsr.errors import UserError
from llmsr.expression.graph import Expression, evaluate
from llmsr.problem.loading import Problem, locate
from llmsr.problem.spec import read_body
from llmsr.problem.split import nmse
from llmsr.problem.trajectories import Trajectories, integrate, rate_name, read_trajectories
from llmsr.sample import finite_or_none

if TYPE_CHECKING:
    from llmsr.report.equation import Equation

MEASURED = "trajectories.csv"  # of a problem of rates, beside its rows; the first column is the time


def measured_of(problem_name: str, data_dir: str | None) -> Path:
    """Where the measured trajectories of a problem are, if it is of rates."""
    return locate(Path(data_dir or "data") / problem_name) / MEASURED


def integrated(
    rates: Mapping[str, tuple[Expression, Any]], trajectories: Trajectories
) -> tuple[list[np.ndarray], dict[str, float | None]]:
    """The states that rates give along each trajectory, and the NMSE of each; None where one is lost.

    `rates` maps a state to the equation of its rate and its constants.
    """

    def of(expression: Expression, params: Any) -> Any:
        return lambda inputs: evaluate(expression, inputs, np.asarray(params))

    columns = {state: expression.columns for state, (expression, _) in rates.items()}
    reached = integrate({state: of(*rate) for state, rate in rates.items()}, columns, trajectories)
    found, true = np.vstack(reached), np.vstack([x for _, x in trajectories.parts])
    each = zip(trajectories.short, found.T, true.T, strict=True)
    return reached, {state: finite_or_none(nmse(said, x)) for state, said, x in each}


def state_errors(
    problem: Problem, settings: Mapping[str, Any], output: Path, pick: Equation | None
) -> dict[str, float | None]:
    """The NMSE of every state that this run's pick gives with those of the runs of the other rates.

    Empty where the problem is of no system, or one of the rates has no equation yet. A run of another rate
    is in the folder beside this one's that is called like it but for the rate.
    """
    measured = measured_of(problem.name, settings.get("data_dir"))
    if pick is None or not measured.is_file():
        return {}
    try:
        with open(measured, encoding="utf-8", newline="") as file:
            time = next(csv.reader(file))[0]
        trajectories = read_trajectories(measured, time)
    except (OSError, ValueError, IndexError, StopIteration, UserError):
        return {}  # a file of the user's that is called so
    rates: dict[str, tuple[Expression, Any]] = {}
    for state in trajectories.short:
        if (rate := rate_name(state)) == problem.target:
            rates[state] = pick.expression, pick.params
            continue
        beside = output.parent / f"{output.name.removesuffix(problem.target)}{rate}" / "result.json"
        try:
            other = json.loads(beside.read_text(encoding="utf-8"))["pick"]
            expression = read_body(problem.spec, other["body"])
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return {}
        if not isinstance(expression, Expression):
            return {}
        rates[state] = expression, other["params"]
    return integrated(rates, trajectories)[1]
