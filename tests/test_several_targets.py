"""Several targets in one call: equations for each, one budget, a list where one target has one answer."""

import json

import numpy as np
import pandas as pd
import pytest

from llmsr import SymbolicRegressor
from llmsr.cli import main

QUICK = {"proposer": "grammar", "random_state": 0, "search_options": {"refine": "off"}}


@pytest.fixture(scope="module")
def rows():
    X = pd.DataFrame(np.random.default_rng(0).uniform(0.5, 2, (60, 2)), columns=["x", "t"])
    return X, pd.DataFrame({"area": 1.7 * X.x**2, "rate": 0.3 * X.t - 1})


@pytest.fixture(scope="module")
def fitted(rows):
    return SymbolicRegressor(9, guesses=["a*x^2", "a*t + b"], **QUICK).fit(*rows, y_units=["m^2", "1/s"])


def test_every_target_has_its_equation(fitted, rows):
    X, y = rows
    assert fitted.predict(X).shape == (60, 2)
    np.testing.assert_allclose(fitted.predict(X), y, rtol=1e-9)
    assert fitted.score(X, y) == pytest.approx(1)
    first, second = fitted.text()
    assert (first.split(" = ")[0], second.split(" = ")[0]) == ("area", "rate")
    assert len(fitted.equations_) == len(fitted.latex()) == len(fitted.sympy()) == 2
    values, low, high = fitted.predict(X[:3], interval=0.9)
    assert values.shape == low.shape == high.shape == (3, 2)
    fitted.refit(X, 2 * y)
    np.testing.assert_allclose(fitted.predict(X), 2 * y, rtol=1e-9)


def test_the_budget_is_shared(fitted):
    assert fitted.n_samples_ == sum(model.n_samples_ for model in fitted.estimators_) <= 9
    with pytest.raises(ValueError, match="cannot be shared by 2 targets"):
        SymbolicRegressor(1, **QUICK).fit(np.ones((4, 1)), np.eye(4)[:, :2])


def test_one_target_after_several_is_one_again(rows, tmp_path):
    X, y = rows
    model = SymbolicRegressor(4, output_dir=tmp_path, **QUICK).fit(X, y)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["area", "rate"]
    model.set_params(output_dir=None).fit(X, y.area)
    assert model.predict(X).shape == (60,)


def test_a_target_twice_is_an_error(rows, tmp_path, monkeypatch, capsys):
    X, y = rows
    with pytest.raises(ValueError, match="the target 'area' stands twice"):
        SymbolicRegressor(4, **QUICK).fit(X, np.asarray(y), target_name=["area", "area"])
    monkeypatch.chdir(tmp_path)
    X.assign(**y).to_csv("rows.csv", index=False)
    assert main(["new", "--name", "two", "--csv", "rows.csv", "--target", "area,area"]) == 2
    assert "--target names 'area' twice" in capsys.readouterr().err
    assert main(["new", "--name", "two", "--csv", "rows.csv", "--target", "area,nothing"]) == 2
    assert not (tmp_path / "data" / "two_area").exists(), "all are made or none"
    assert main(["run", "--problem_name", "two_area,two_area"]) == 2


def test_several_problems_share_a_budget_on_the_command_line(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y = rows
    X.assign(**y).to_csv("rows.csv", index=False)
    assert main(["new", "--name", "two", "--csv", "rows.csv", "--target", "area,rate"]) == 0
    assert "run --problem_name two_area,two_rate" in capsys.readouterr().out
    argv = ["run", "--problem_name", "two_area,two_rate", "--proposer", "grammar", "--log_path", "logs"]
    assert main([*argv, "--budget", "7", "--structure_seconds", "2", "--stop_at_floor", "false"]) == 0
    folders = [tmp_path / "logs" / name for name in ("two_area", "two_rate")]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert [result["samples"] for result in results] == [3, 4]
    assert [result["pick"]["equation"].split(" = ")[0] for result in results] == ["area", "rate"]
    columns = pd.read_csv(tmp_path / "data" / "two_area" / "train.csv").columns
    assert list(columns) == ["x", "t", "area"]
    assert main([*argv, "--budget", "1"]) == 2
    assert "--budget of one for each" in capsys.readouterr().err
