"""Trajectories of a system of differential equations: rates of change to find equations for, and integration.

A table of trajectories has a column of time and columns of states; where time does not grow, another
trajectory begins. The rate of a state is the derivative of a spline through it: of degree five where that
predicts every other row from its neighbours better than a smoothing spline does, whose smoothness is chosen
by generalised cross-validation (Woltring, 1986). Rates are rounded to the digits that a spline of degree five
gets right, so that what is at their floor is known as such.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from llmsr.errors import UserError
from llmsr.problem.columns import identifiers, position_of, without_unit
from llmsr.problem.table import read_raw
from llmsr.problem.table_format import found_format

FEWEST_ROWS = 12  # of a trajectory
ENDS = 2  # rows at each end of a trajectory whose rates are left out, since no neighbours hold them
MOST_CALLS = 200_000  # of the equations, in one integration
PRECISION = 1e-8


@dataclass(frozen=True)
class Trajectories:
    """Times (rows,) and states (rows, states) of each trajectory; `units` are the header's, time's first."""

    time: str
    states: tuple[str, ...]
    parts: tuple[tuple[np.ndarray, np.ndarray], ...]
    units: tuple[str, ...]

    @property
    def short(self) -> tuple[str, ...]:
        """The states' names as equations have them."""
        return tuple(identifiers([without_unit(name)[0] for name in self.states]))


@dataclass(frozen=True)
class Rates:
    """States and their rates of change (rows, states), and how they were had, in words."""

    names: tuple[str, ...]
    states: np.ndarray
    rates: np.ndarray
    method: str


def read_trajectories(path: str | Path, time: str, ignore: Sequence[str] = ()) -> Trajectories:
    """The trajectories of a table, its other columns as states; UserError for what is none."""
    table = read_raw(found_format(path))
    if texts := [column for column in table.columns if column.texts and column.name not in ignore]:
        raise UserError(f"{path}: {texts[0].text_fault}; leave it out with --ignore, or give numbers")
    if table.missing:
        raise UserError(f"{path}: {table.missing} rows have a missing or infinite value; leave them out")
    (rows,) = table.groups.values()
    at = position_of(time, table.names)
    if at is None:
        raise UserError(f"{path}: no column {time!r} (--trajectory); it has {', '.join(table.names[:12])}")
    states = [i for i, name in enumerate(table.names) if i != at and name not in ignore]
    if not states:
        raise UserError(f"{path}: no column of states is left beside the time {table.names[at]}")
    begins = np.flatnonzero(np.diff(rows[:, at]) <= 0) + 1
    parts = [(part[:, at], part[:, states]) for part in np.split(rows, begins)]
    if short := [len(t) for t, _ in parts if len(t) < FEWEST_ROWS]:
        raise UserError(
            f"{path}: a trajectory of {short[0]} rows is too short, {FEWEST_ROWS} are needed; another begins "
            f"where {table.names[at]} does not grow"
        )
    names = [table.names[i] for i in (at, *states)]
    units = tuple(without_unit(name)[1] or table.units.get(name, "") for name in names)
    return Trajectories(names[0], tuple(names[1:]), tuple(parts), units)


def rates_of(trajectories: Trajectories) -> Rates:
    """The rates of all states along all trajectories, without the rows at their ends."""
    every = [[_spline(t, column) for column in x.T] for t, x in trajectories.parts]
    smooth = np.array([[spline.smooths for spline in splines] for splines in every])
    inner = [t[ENDS:-ENDS] for t, _ in trajectories.parts]
    states, rates = (
        np.vstack(
            [np.column_stack([ask(s)(t) for s in splines]) for t, splines in zip(inner, every, strict=True)]
        )
        for ask in (lambda s: s.value, lambda s: s.rate)
    )
    for i in range(rates.shape[1]):
        wrong = max(splines[i].wrong for splines in every)
        if wrong > 0:
            rates[:, i] = np.round(rates[:, i], math.floor(-math.log10(wrong)))
    told = "smoothing splines" if smooth.all() else "splines of degree five"
    if smooth.any() and not smooth.all():
        told = f"smoothing splines where they predict better, in {smooth.mean():.0%}, else of degree five"
    return Rates(tuple(map(rate_name, trajectories.short)), states, rates, told)


def rate_name(state: str) -> str:
    """The name of a state's rate."""
    return f"d{state}_dt"


@dataclass(frozen=True)
class _Spline:
    """A state along a trajectory and its rate, as functions of time; `wrong` bounds its error, or is 0."""

    value: Callable[[np.ndarray], np.ndarray]
    rate: Callable[[np.ndarray], np.ndarray]
    smooths: bool
    wrong: float = 0.0


def _spline(t: np.ndarray, x: np.ndarray) -> _Spline:
    """A spline through, or near, the states of a trajectory."""
    exact, smooth = _through(t, x), _near(t, x)
    between = t[1:-1:2]
    exact_half, smooth_half = (make(t[::2], x[::2]) for make in (_through, _near))
    missed = [float(np.mean((half.value(between) - x[1:-1:2]) ** 2)) for half in (exact_half, smooth_half)]
    if missed[1] < missed[0]:
        return smooth
    inner = t[ENDS:-ENDS]
    # through every other row the error of degree five is 32 times larger: an eighth is four times the error
    wrong = float(np.sqrt(np.mean((exact_half.rate(inner) - exact.rate(inner)) ** 2))) / 8
    rounding = 8 * np.finfo(float).eps * float(np.abs(x).max() / np.diff(t).min())
    return replace(exact, wrong=max(wrong, rounding))


def _through(t: np.ndarray, x: np.ndarray) -> _Spline:
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(t, x, k=5)
    return _Spline(spline, spline.derivative(), smooths=False)


def _near(t: np.ndarray, x: np.ndarray) -> _Spline:
    """The smoothing spline, its smoothness sought in units of the trajectory's length and spread."""
    from scipy.interpolate import make_smoothing_spline

    start, span, scale = t[0], t[-1] - t[0], float(np.std(x)) or 1.0
    spline = make_smoothing_spline((t - start) / span, x / scale)
    rate = spline.derivative()
    return _Spline(
        lambda t: spline((t - start) / span) * scale, lambda t: rate((t - start) / span) * scale / span, True
    )


def integrate(
    equations: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    columns: Mapping[str, Sequence[str]],
    trajectories: Trajectories,
) -> list[np.ndarray]:
    """The states (rows, states) that the system gives from the first row of each trajectory.

    `equations[name]` gives the rate of a state from inputs (rows, columns), which are `columns[name]`: names
    of states, or the time. What is not reached, since the system grows without bound or turns too fast, is
    NaN.
    """
    from scipy.integrate import solve_ivp

    places = {name: i for i, name in enumerate((*trajectories.short, identifiers([trajectories.time])[0]))}
    inputs = [[places[column] for column in columns[name]] for name in trajectories.short]
    found = []
    for t, x in trajectories.parts:
        calls = 0

        def rate(time: float, state: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            if calls > MOST_CALLS or not np.isfinite(state).all():
                raise _Lost
            row = np.append(state, time)[None, :]
            rates = zip(trajectories.short, inputs, strict=True)
            return np.array([equations[name](row[:, at])[0] for name, at in rates])

        reached = np.full_like(x, np.nan)
        reached[0] = x[0]
        # step by step over the rows, so that what was reached before the system is lost stays
        try:
            state = x[0]
            for i in range(1, len(t)):
                with np.errstate(all="ignore"):
                    step = solve_ivp(
                        rate, (t[i - 1], t[i]), state, method="LSODA", rtol=PRECISION,
                        atol=PRECISION * np.maximum(np.abs(x).max(0), 1e-300),
                    )  # fmt: skip
                if not step.success:
                    break
                state = step.y[:, -1]
                reached[i] = state
        except _Lost:
            pass
        found.append(reached)
    return found


class _Lost(Exception):
    """The system left all bounds."""
