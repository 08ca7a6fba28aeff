"""Groups: one law over many data sets, constants of each group's own, told as a table."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from llmsr import SymbolicRegressor
from llmsr.cli import main
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.expression.graph import evaluate
from llmsr.fitting import fit, predict
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.loading import load_problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import over_groups
from llmsr.report.equation import Equation
from llmsr.report.parts import description_length
from llmsr.sample import Sample

RATES = {"steel": (1.0, 0.4), "copper": (2.5, 0.1), "0.5": (-0.7, 0.9)}
LAW = "return params[2] * x**2 * np.exp(-params[5] * t)"


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    X = pd.DataFrame({"x": generator.uniform(0.5, 3, 120), "t": generator.uniform(0, 4, 120)})
    group = np.array([*RATES])[generator.integers(0, 3, 120)]
    factor, rate = np.array([RATES[name] for name in group]).T
    y = (factor * X.x**2 * np.exp(-rate * X.t)).to_numpy()
    return X, y, group


@pytest.fixture(scope="module")
def problem(rows):
    X, y, group = rows
    asked = Declarations(group="kind")
    return table_problem(X.to_numpy(), y, Labels(("x", "t")), None, asked, {"group": group.astype(object)})


@pytest.fixture(scope="module")
def evaluation(problem):
    with Evaluator(problem, workers=1) as evaluator:
        return evaluator.evaluate(LAW)


def test_each_group_has_its_own_constants(problem, evaluation):
    assert evaluation.nmse["train"] < 1e-25
    assert evaluation.expression == "p0*x**2*exp(-p1*t)"
    params = np.reshape(evaluation.params, (3, problem.spec.max_params))
    for place, name in enumerate(problem.groups):
        np.testing.assert_allclose(params[place][[2, 5]], RATES[name], rtol=1e-9)


def test_the_largest_group_stands_first(problem, rows):
    counts = [int((rows[2] == name).sum()) for name in problem.groups]
    assert counts == sorted(counts, reverse=True)
    assert [len(own.train) for own in problem.by_group] == counts


def test_groups_are_fitted_as_if_each_were_alone(problem):
    form = read_body(problem.spec, "return params[0] * x + params[1] * t**params[2]")
    whole = fit(form, problem)
    alone = [fit(form, own) for own in problem.by_group]
    share = np.array([len(own.train) for own in problem.by_group]) / len(problem.train)
    assert whole.loss <= float(share @ [found.loss for found in alone]) * (1 + 1e-9)


def test_one_equation_of_all_groups_says_the_same(problem, evaluation):
    law = read_body(problem.spec, evaluation.body)
    whole = over_groups(law, "kind", 3, problem.spec.max_params)
    said = evaluate(whole, problem.train.with_group, np.array(evaluation.params))
    np.testing.assert_allclose(said, predict(law, evaluation.params, problem.train), rtol=1e-12)


def test_the_constants_of_all_groups_cost(problem, evaluation):
    law = read_body(problem.spec, evaluation.body)
    one = description_length(law, evaluation.params[:10], 1e-3, 120)
    three = description_length(law, evaluation.params, 1e-3, 120, 3)
    assert three > one + 5


def test_an_equation_of_groups_is_told_with_errors_and_exported(problem, evaluation, rows):
    equation = Equation.of(Sample(1, "", evaluation), problem)
    assert equation.text() == "y = p2*x**2*exp(-p5*t)"
    assert equation.by_group["copper"] == pytest.approx({"p2": 2.5, "p5": 0.1})
    errors = equation.errors["constants"]
    assert errors["p5 of steel"]["standard_error"] < 1e-9
    assert len(errors) == 6
    names = {"np": np}
    exec(equation.python(), names)
    X, y, group = rows
    codes = np.array([problem.groups.index(name) for name in group])
    np.testing.assert_allclose(names["equation"](X.x.to_numpy(), X.t.to_numpy(), codes), y, rtol=1e-9)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (["a"] * 5 + ["b"], r"the group 'b' has one row"),
        (["a", "b", "c", "d", "e", "f"], "has one row"),
    ],
)
def test_a_group_of_one_row_is_one_sentence(groups, sentence):
    X = np.random.default_rng(0).normal(size=(6, 1))
    with pytest.raises(ValueError, match=sentence):
        SymbolicRegressor().fit(X, X[:, 0] ** 2, group=groups)


def test_groups_that_fit_no_rows_are_one_sentence(rows):
    X, y, group = rows
    with pytest.raises(ValueError, match="one name for each of 120 rows"):
        SymbolicRegressor().fit(X, y, group=group[:5])
    with pytest.raises(UserError, match="no column 'kind'"):
        load_problem("oscillator1", asked=Declarations(group="kind"))


def test_the_estimator_predicts_by_group(rows, tmp_path):
    X, y, group = rows
    options = {"search_options": {"refine": "off"}, "proposer": "grammar", "random_state": 0, "budget": 3}
    model = SymbolicRegressor(guesses=["a*x^2*exp(-b*t)"], output_dir=tmp_path / "run", **options)
    model.fit(X, y, group=group)
    np.testing.assert_allclose(model.predict(X, group=group), y, rtol=1e-8)
    values, low, high = model.predict(X[:4], interval=0.9, group=group[:4])
    assert (low <= values).all()
    assert (values <= high).all()
    with pytest.raises(ValueError, match="the group 'gold' was not fitted; there are"):
        model.predict(X[:1], group=["gold"])
    with pytest.raises(ValueError, match="give predict the group of every row"):
        model.predict(X)
    model.refit(X, 2 * y, group=group)
    np.testing.assert_allclose(model.predict(X, group=group), 2 * y, rtol=1e-8)
    # the files of the run are read as those of any other
    assert main(["show", str(tmp_path / "run")]) == 0


def test_from_the_command_line(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X, y, group = rows
    X.assign(kind=group, y=y).to_csv("rows.csv", index=False)
    assert main(["new", "--name", "metals", "--csv", "rows.csv", "--target", "y", "--group", "kind"]) == 0
    run = ["run", "--problem_name", "metals", "--budget", "4", "--proposer", "grammar"]
    run += ["--structure_seconds", "0"]
    assert main([*run, "--log_path", "out", "--guess", "a*x^2*exp(-b*t)"]) == 0
    shown = capsys.readouterr().out
    assert "y = p0*x**2*exp(-p1*t)" in shown
    assert "copper" in shown
    pick = json.loads((tmp_path / "out/result.json").read_text())["pick"]
    assert pick["groups"]["copper"] == pytest.approx({"p0": 2.5, "p1": 0.1})
    assert "p1 of copper" in (tmp_path / "out/report.html").read_text()
    assert main(["predict", "out", "--csv", "rows.csv", "--interval", "0.9"]) == 0
    told = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    np.testing.assert_allclose([float(row["y_predicted"]) for row in told], y, rtol=1e-8)
    pd.DataFrame({"x": [1.0], "t": [2.0], "kind": ["gold"]}).to_csv("new.csv", index=False)
    assert main(["predict", "out", "--csv", "new.csv"]) == 2
    assert "line 2: the group 'gold' was not fitted; there are" in capsys.readouterr().err
    assert main([*run, "--log_path", "two", "--context", "residuals"]) == 2
