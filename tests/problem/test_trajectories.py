"""Trajectories: rates of change, integration, and systems found from what they did."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from llmsr.cli import main
from llmsr.errors import UserError
from llmsr.problem.trajectories import Trajectories, integrate, rates_of, read_trajectories


def write(path, header, *parts):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(np.vstack(parts).tolist())
    return path


def run_of(rate, start, times):
    """Rows of time and states."""
    solved = solve_ivp(rate, times[[0, -1]], start, t_eval=times, rtol=1e-11, atol=1e-12)
    return np.column_stack([times, solved.y.T])


def one(t, x):
    return Trajectories("t", tuple(f"x{i}" for i in range(x.shape[1])), ((t, x),), ("",) * (1 + x.shape[1]))


# ---- rates


@pytest.mark.parametrize("steps", [40, 200])
def test_rates_have_no_digit_that_is_wrong(steps):
    t = np.linspace(0, 6, steps)
    found = rates_of(one(t, np.sin(t)[:, None]))
    error = np.abs(found.rates[:, 0] - np.cos(t[2:-2]))
    unit = 10.0 ** -max(len(repr(float(rate)).partition(".")[2]) for rate in found.rates[:, 0])
    assert error.max() < 3 * unit
    assert unit < 1e-3 * (40 / steps) ** 4
    assert found.method == "splines of degree five"


def test_noisy_states_are_smoothed():
    t = np.linspace(0, 6, 300)
    noisy = np.sin(t) + 0.02 * np.random.default_rng(0).standard_normal(300)
    found = rates_of(one(t, noisy[:, None]))
    assert found.method == "smoothing splines"
    assert np.std(found.states[:, 0] - np.sin(t[2:-2])) < 0.01
    assert np.std(found.rates[:, 0] - np.cos(t[2:-2])) < 0.05


def test_a_state_that_stands_still_has_no_rate():
    t = np.linspace(0, 1, 20)
    assert not rates_of(one(t, np.ones((20, 1)))).rates.any()


def test_a_trajectory_begins_where_time_does_not_grow(tmp_path):
    t = np.linspace(0, 1, 20)
    rows = [np.column_stack([t, t + i]) for i in range(3)]
    told = read_trajectories(write(tmp_path / "three.csv", ["t (s)", "x (m)"], *rows), "t")
    assert [x[0, 0] for _, x in told.parts] == [0, 1, 2]
    assert (told.short, told.units) == (("x",), ("s", "m"))


@pytest.mark.parametrize(
    ("header", "time", "rows", "told"),
    [
        (["t", "x"], "time", 20, r"no column 'time' \(--trajectory\); it has t, x"),
        (["t"], "t", 20, r"only one column \(t\)"),
        (["t", "x"], "t", 8, "a trajectory of 8 rows is too short, 12 are needed"),
    ],
)
def test_what_is_no_trajectory_is_a_sentence(tmp_path, header, time, rows, told):
    t = np.linspace(0, 1, rows)
    path = write(tmp_path / "table.csv", header, np.column_stack([t] * len(header)))
    with pytest.raises(UserError, match=told):
        read_trajectories(path, time)


# ---- integration


def test_a_system_is_integrated_from_the_first_row():
    t = np.linspace(0, 10, 60)
    told = one(t, np.column_stack([np.sin(t), np.cos(t)]))
    equations = {"x0": lambda row: row[:, 0], "x1": lambda row: -row[:, 0]}
    (found,) = integrate(equations, {"x0": ["x1"], "x1": ["x0"]}, told)
    np.testing.assert_allclose(found, told.parts[0][1], atol=1e-5)


def test_the_time_may_stand_in_a_rate():
    t = np.linspace(0, 3, 30)
    (found,) = integrate({"x0": lambda row: row[:, 0]}, {"x0": ["t"]}, one(t, (t**2 / 2)[:, None]))
    np.testing.assert_allclose(found[:, 0], t**2 / 2, atol=1e-6)


def test_what_a_system_that_explodes_does_not_reach_is_missing():
    t = np.linspace(0, 2, 41)
    (found,) = integrate({"x0": lambda row: row[:, 0] ** 2}, {"x0": ["x0"]}, one(t, np.ones((41, 1))))
    reached = np.isfinite(found[:, 0])
    assert reached[: np.searchsorted(t, 0.9)].all()
    assert not reached[t > 1.01].any()


# ---- from a table to a system


def test_a_system_is_found_and_integrated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    t = np.linspace(0, 8, 81)
    logistic = [run_of(lambda _, x: 0.8 * x * (1 - x / 5), [start], t) for start in (0.1, 9.0)]
    write(tmp_path / "growth.csv", ["t (h)", "cells (g)"], *logistic)
    assert main(["new", "--name", "growth", "--csv", "growth.csv", "--trajectory", "t"]) == 0
    told = capsys.readouterr().out
    assert "dcells_dt from cells" in told
    assert "rates of change along 2 trajectories by splines of degree five" in told
    run, predict = (line.partition(": ")[2].split()[3:] for line in told.splitlines()[-2:])
    assert main([*run, "--proposer", "grammar", "--budget", "4", "--workers", "1"]) == 0
    assert "  cells: " in capsys.readouterr().out
    found = json.loads(Path("logs/growth/result.json").read_text())["integrated"]
    assert found["cells"] < 1e-6
    assert main(predict) == 0
    error = capsys.readouterr().err
    assert float(error.partition("NMSE ")[2].partition(";")[0]) < 1e-6
    with open("integrated.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["t (h)", "cells (g)", "cells_integrated"]
    assert len(rows) == 163


def test_every_run_of_a_system_tells_the_error_of_every_state(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    t = np.linspace(0, 6, 61)
    write(tmp_path / "spring.csv", ["t", "x", "v"], run_of(lambda _, s: [s[1], -2 * s[0]], [1.0, 0.5], t))
    assert main(["new", "--name", "spring", "--csv", "spring.csv", "--trajectory", "t"]) == 0
    run = capsys.readouterr().out.splitlines()[-2].partition(": ")[2].split()[3:]
    run += ["--proposer", "grammar", "--budget", "2", "--workers", "1", "--structure_seconds", "2"]
    assert main(run) == 0
    for rate in ("dx_dt", "dv_dt"):
        directory = Path("logs/spring") / f"spring_{rate}"
        found = json.loads((directory / "result.json").read_text())["integrated"]
        assert list(found) == ["x", "v"]
        assert max(found.values()) < 1e-6
        assert "Integrated states" in (directory / "report.html").read_text()
    # without the other rate there is nothing to integrate
    (Path("logs/spring/spring_dx_dt") / "result.json").unlink()
    capsys.readouterr()
    assert main(["show", "logs/spring/spring_dv_dt", "--json"]) == 0
    assert "integrated" not in json.loads(capsys.readouterr().out)


def test_a_state_that_is_not_there_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    t = np.linspace(0, 1, 20)
    write(tmp_path / "rows.csv", ["t", "x"], np.column_stack([t, t**2]))
    asked = ["new", "--name", "rows", "--csv", "rows.csv", "--trajectory", "t", "--target", "y"]
    assert main(asked) == 2
    assert "no state 'y' (--target); it has x" in capsys.readouterr().err


SYSTEMS = {
    "harmonic, damped": (lambda t, s: [s[1], -2 * s[0] - 0.1 * s[1]], [[1, 0], [0, 2]], 12),
    "predator and prey": (
        lambda t, s: [1.1 * s[0] - 0.4 * s[0] * s[1], 0.1 * s[0] * s[1] - 0.4 * s[1]],
        [[2, 1], [1, 3]],
        15,
    ),
    "infection": (
        lambda t, s: [-0.5 * s[0] * s[1], 0.5 * s[0] * s[1] - 0.2 * s[1]],
        [[2, 0.1], [1, 0.5]],
        15,
    ),
    "van der Pol": (lambda t, s: [s[1], 1.5 * (1 - s[0] ** 2) * s[1] - s[0]], [[0.5, 0], [2, 2]], 12),
    "pendulum": (lambda t, s: [s[1], -3 * np.sin(s[0]) - 0.2 * s[1]], [[2.5, 0], [0.5, 1]], 12),
    "convection": (
        lambda t, s: [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]],
        [[1, 1, 20], [-5, 2, 25]],
        4,
    ),
    "nerve": (
        lambda t, s: [s[0] - s[0] ** 3 / 3 - s[1] + 0.5, 0.08 * (s[0] + 0.7 - 0.8 * s[1])],
        [[0, 0], [-1, 1]],
        40,
    ),
    "reaction": (
        lambda t, s: [1 + s[0] ** 2 * s[1] - 3.5 * s[0], 2.5 * s[0] - s[0] ** 2 * s[1]],
        [[1, 1], [2, 2]],
        15,
    ),
    "enzyme": (lambda t, s: [-1.2 * s[0] / (0.7 + s[0])], [[3], [1]], 4),
    "growth with a threshold": (lambda t, s: [0.9 * s[0] * (1 - s[0] / 4) * (s[0] - 0.5)], [[0.6], [0.4]], 4),
}


@pytest.mark.slow
def test_ten_systems_are_found_without_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    errors = {}
    for number, (name, (rate, starts, end)) in enumerate(SYSTEMS.items()):
        t = np.linspace(0, end, 201)
        rows = [run_of(rate, start, t) for start in starts]
        states = [f"s{i}" for i in range(len(starts[0]))]
        write(tmp_path / f"{number}.csv", ["t", *states], *rows)
        assert main(["new", "--name", f"p{number}", "--csv", f"{number}.csv", "--trajectory", "t"]) == 0
        run, predict = (
            line.partition(": ")[2].split()[3:] for line in capsys.readouterr().out.splitlines()[-2:]
        )
        assert main([*run, "--proposer", "grammar", "--budget", "8", "--structure_seconds", "15"]) == 0
        capsys.readouterr()
        assert main(predict) == 0
        told = capsys.readouterr().err
        errors[name] = [line.partition("NMSE ")[2].partition(";")[0] for line in told.splitlines()]
        with capsys.disabled():
            print(f"\n{name}\n{told}")
    found = [name for name, each in errors.items() if all(each) and max(map(float, each)) < 1e-6]
    assert len(found) >= 9, errors
