"""Shapes of fitted equations in a column: even, odd, monotone, bounded, on data and box."""

import numpy as np
import pytest

from llmsr import SymbolicRegressor
from llmsr.cli import main
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.expression import parse
from llmsr.expression.form import Form, shape_fault
from llmsr.problem.columns import Labels, table_problem

X = np.random.default_rng(0).uniform([-2, 0.5], [2, 3], (200, 2))
COLUMNS = ("x", "t")
FOUND = [
    ("x*x + t", "even", True),
    ("x*x + 0.01*x", "even", False),
    ("np.cos(3*x)/t", "even", True),
    ("np.log(x + 3)*t", "even", False),
    ("np.sin(x)*t + x**3", "odd", True),
    ("x + 1e-3", "odd", False),
    ("np.abs(x)**1.5", "even", True),
    ("np.exp(x)*t", "increasing", True),
    ("x**3 + t", "increasing", True),
    ("x**3 - 0.1*x", "increasing", False),
    ("-x*t", "decreasing", True),
    ("1/(x - 1)", "decreasing", False),
    ("np.sqrt(x)", "increasing", False),
    ("np.sin(x)*t", "bounded", True),
    ("x*x/(1 + x*x)", "bounded", True),
    ("np.tanh(x) + 5*t", "bounded", True),
    ("np.exp(-x*x)", "bounded", True),
    ("1/(1 + np.exp(-x))", "bounded", True),
    ("np.log(1 + x*x)", "bounded", False),
    ("np.abs(x)**0.05", "bounded", False),
    ("np.exp(x)", "bounded", False),
    ("x/1000", "bounded", False),
]  # fmt: skip


def fault(text, name, inputs=X):
    return shape_fault([(0, name)], COLUMNS, parse(f"return {text}", COLUMNS), inputs, np.zeros(1))


@pytest.mark.parametrize(("text", "name", "right"), FOUND)
def test_a_shape_is_told_from_another(text, name, right):
    found = fault(text, name)
    assert (found == "") is right, found
    assert right or found.startswith(f"not {name} in x: ")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("text", "name", "right"), [row for row in FOUND if "exp" not in row[0]])
def test_the_unit_of_the_result_does_not_matter(text, name, right, scale):
    assert (fault(f"{scale!r} * ({text})", name) == "") is right


def test_a_positive_column_is_bounded_on_its_side_alone():
    inputs = np.abs(X)
    assert fault("1/(x + 0.1)", "bounded", inputs) == ""
    assert fault("np.exp(-x)", "bounded", inputs) == ""
    assert fault("np.exp(-x)", "bounded")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("x=round", "a shape must be like x=even|odd|increasing|decreasing|bounded; got 'x=round'"),
        ("z=even", "no column 'z' to shape"),
        ("x=even,x=odd", "x is to be even and odd"),
        ("t=increasing,t=decreasing", "t is to be increasing and decreasing"),
    ],
)
def test_a_shape_that_cannot_be_meant_is_one_sentence(asked, sentence, tmp_path, capsys):
    with pytest.raises(UserError) as told:
        Form.of(Declarations(shape=asked), COLUMNS, "spec")
    assert sentence in str(told.value)
    argv = ["run", "--shape", asked.replace("t=", "v="), "--log_path", str(tmp_path / "run")]
    assert main(argv) == 2
    assert not (tmp_path / "run").exists()


def test_every_proposal_is_held_to_it_and_prompts_say_it():
    y = X[:, 0] ** 2 * X[:, 1] + 1e-3 * np.random.default_rng(1).normal(size=len(X))
    problem = table_problem(X, y, Labels(COLUMNS), None, Declarations(shape="x=even,t=increasing"))
    assert problem.spec.form.words == "The equation must be even in x, increasing in t."
    with Evaluator(problem, workers=1) as evaluator:
        good = evaluator.evaluate("return params[0]*x**2*t")
        bad = evaluator.evaluate("return params[0]*x**2*t + params[1]*x")
        falling = evaluator.evaluate("return params[0]*x**2/t")
    assert good.ok
    assert (bad.status, bad.reason[:14]) == ("form", "not even in x:")
    assert (falling.status, falling.reason[:20]) == ("form", "not increasing in t:")


def test_structure_search_finds_what_is_of_the_shape():
    # without the shape a line in x would be on the front
    y = X[:, 0] ** 2 + 0.3 * X[:, 0]
    options = {"proposer": "grammar", "random_state": 0, "search_options": {"structure_seconds": 3}}
    model = SymbolicRegressor(6, problem_options={"shape": "x0=even"}, **options).fit(X, y)
    mirrored = X * [-1, 1]
    for equation in model._front.equations:
        np.testing.assert_allclose(equation.predict(X), equation.predict(mirrored), atol=1e-4)
