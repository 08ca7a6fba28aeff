"""Templates: a fixed form with holes; whatever is proposed, by whom ever, is of that form."""

import json

import numpy as np
import pandas as pd
import pytest

from llmsr.archive import read_archive
from llmsr.cli import main
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator, Hole
from llmsr.expression import Expression, Refusal
from llmsr.expression.graph import evaluate
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.holes import guess_bodies, hole_spec, read_whole, with_holes
from llmsr.problem.spec import read_body
from llmsr.problem.template import Template
from llmsr.proposers.proposer import Replay
from llmsr.refinement.proposals import hole_problem, hole_proposals, hole_structures
from llmsr.search.search import Search
from llmsr.settings import SearchSettings

FORM = "f(x)*exp(-g(t)) + p0"
COLUMNS = ("x", "t")


def of(text, columns=COLUMNS):
    return Template.of(text, columns, "params", "spec")


@pytest.fixture(scope="module")
def problem():
    generator = np.random.default_rng(1)
    X = generator.uniform(0.5, 3, (200, 2))
    y = (X[:, 0] ** 2 + 0.7) * np.exp(-0.4 * X[:, 1] ** 1.5) + 2
    return table_problem(X, y, Labels(COLUMNS), None, Declarations(template=FORM))


@pytest.fixture(scope="module")
def evaluator(problem):
    with Evaluator(problem, workers=1) as evaluator:
        yield evaluator


@pytest.mark.parametrize(
    ("text", "holes", "last"),
    [
        (FORM, {"f": ("x",), "g": ("t",)}, "return f(x) * np.exp(-g(t)) + params[0]"),
        ("f(x, t)^2 - 1.5", {"f": ("x", "t")}, "return f(x, t) ** 2 - 1.5"),
        ("f(x) - f(t)", {"f": ("u",)}, "return f(x) - f(t)"),
        ("g(x*t)/f(x)", {"g": ("u",), "f": ("x",)}, "return g(x * t) / f(x)"),
        ("f(g(x)) + pi*t", {"g": ("x",), "f": ("u",)}, "return f(g(x)) + np.pi * t"),
    ],
)
def test_a_template_names_its_holes_and_constants(text, holes, last):
    found = of(text)
    assert (found.holes, found.last) == (holes, last)
    assert found.parts(found.seed).keys() == holes.keys()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x + exp(t)", "has no hole"),
        ("f(x", "cannot be read"),
        ("f() + x", "no argument"),
        ("f(x) + f(x, t)", "that number"),
        ("x(t)", "which is no function"),
    ],
)
def test_a_template_that_is_none_is_one_sentence(text, sentence, tmp_path, capsys):
    with pytest.raises(UserError, match=sentence):
        of(text)
    form = text.replace("t", "v")
    assert main(["run", "--template", form, "--log_path", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_template_is_refused_where_it_does_not_belong(tmp_path, capsys):
    assert main(["train", "--template", "f(x)*g(v)", "--output_dir", str(tmp_path / "out"), "--dry_run"]) == 2
    assert "--template belongs to the search" in capsys.readouterr().err
    argv = ["run", "--template", "f(x)*g(v)", "--context", "residuals", "--log_path", str(tmp_path / "run")]
    assert main(argv) == 2
    assert "speaks of whole equations and of all rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "body",
    [
        "return x*np.exp(-t)",
        "def f(x):\n    return x\ndef g(t):\n    return t\nreturn f(x) + g(t)",
        "def f(x):\n    return x*t\ndef g(t):\n    return t\nreturn f(x) * np.exp(-g(t)) + params[0]",
        "def f(x):\n    return x\nreturn f(x) * np.exp(-g(t)) + params[0]",
        "def f(x, t=2):\n    return x\ndef g(t):\n    return t\nreturn f(x) * np.exp(-g(t)) + params[0]",
        "def f(x):\n    return x\ndef g(t):\n    return t\nx = t\nreturn f(x) * np.exp(-g(t)) + params[0]",
    ],
)
def test_no_other_form_is_scored(problem, evaluator, body):
    assert isinstance(read_whole(problem.spec, body).expression, Refusal)
    found = evaluator.evaluate(body)
    assert not found.ok
    assert found.reason


def test_an_answer_fills_one_hole_and_the_others_stay(problem, evaluator):
    seed = problem.spec.seed_body
    found = evaluator.submit("    return params[0]*x**2 + params[1]\n", {}, Hole("f", seed)).result()
    parts = problem.spec.template.parts(found.body)
    assert parts["f"] == "return params[1] * x ** 2 + params[2]"
    assert parts["g"] == "return params[3] * t + params[4]"
    refused = evaluator.submit("    return params[0]*t\n", {}, Hole("f", seed)).result()
    assert (refused.status, "t" in refused.reason) == ("unsupported", True)
    again = evaluator.evaluate(found.body)
    assert (again.body, again.params) == (found.body, found.params)


def test_a_hole_s_problem_is_what_would_explain_the_target(problem):
    """With the law in g the hole f has the law's f as its target, up to the factor that both share."""
    body = problem.spec.template.body(
        {"f": read_body(hole_spec(problem.spec, "f"), "return params[0]*x"),
         "g": read_body(hole_spec(problem.spec, "g"), "return params[0]*t**1.5")}
    )  # fmt: skip
    params = np.array([2.0, 1.0, 0.4])
    own = hole_problem(problem, body, params, "f")
    x = own.train.inputs[:, 0]
    np.testing.assert_allclose(own.train.target, x**2 + 0.7, rtol=1e-9)
    inner = hole_problem(problem, body.replace("* x", "* (x + 0.7/x)"), params, "g")
    t = inner.train.inputs[:, 0]
    truth = 0.4 * t**1.5 - np.log(
        (problem.train.inputs[:, 0] ** 2 + 0.7)
        / (problem.train.inputs[:, 0] + 0.7 / problem.train.inputs[:, 0])
    )
    np.testing.assert_allclose(inner.train.target, truth, rtol=1e-5, atol=1e-7)


def test_structure_search_and_refinement_stay_in_the_holes(problem):
    found = hole_structures(problem, 6.0, 12)
    assert found
    refined = hole_proposals(problem, problem.spec.seed_body, [1.0] * 10, 12)
    assert refined
    for proposal in [*found, *refined]:
        assert problem.spec.template.parts(proposal.body)
        assert isinstance(read_whole(problem.spec, proposal.body).expression, Expression)


def test_a_hole_that_stands_twice_is_one_function():
    generator = np.random.default_rng(2)
    X = generator.uniform(0.5, 3, (60, 2))
    problem = table_problem(
        X, X[:, 0] ** 2 - X[:, 1] ** 2, Labels(COLUMNS), None, Declarations(template="f(x) - f(t)")
    )
    spec = problem.spec
    square = read_body(hole_spec(spec, "f"), "return params[0]*u**2")
    whole, body, _ = with_holes(spec, spec.seed_body, {"f": square})
    np.testing.assert_allclose(evaluate(whole, X, np.array([1.0])), problem.train.target)
    assert hole_problem(problem, body, [1.0], "f") is None


def test_a_guess_fills_the_holes(problem, evaluator):
    body = guess_bodies(problem, "f = a*x^2 + b | g = 0.3*t^1.5")["f = a*x^2 + b | g = 0.3*t^1.5"]
    assert evaluator.evaluate(body).nmse["train"] < 1e-20
    with pytest.raises(UserError, match="fills no hole"):
        guess_bodies(problem, "a*x")


def test_a_search_asks_for_one_hole_after_the_other(problem, evaluator, tmp_path):
    texts = tmp_path / "texts.jsonl"
    bodies = ["    return params[0]*x**2 + params[1]", "    return params[0]*t**1.5"] * 4
    texts.write_text("".join(json.dumps({"completion": body}) + "\n" for body in bodies))
    asked = []

    class Watching(Replay):
        def propose(self, prompt, n, seed):
            asked.append(prompt.text)
            return super().propose(prompt, n, seed)

    settings = SearchSettings(budget=8, samples_per_prompt=1, islands=1, lookahead=1, refine="off")
    samples = []
    Search(problem, Watching(texts), evaluator, samples, settings).run()
    assert all(sample.evaluation.ok for sample in samples)
    assert all(problem.spec.template.parts(sample.evaluation.body) for sample in samples)
    assert min(sample.evaluation.nmse["train"] for sample in samples) < 1e-20
    assert "(x: np.ndarray, params: np.ndarray)" in asked[0]
    assert "(t: np.ndarray, params: np.ndarray)" in asked[1]
    assert f"Write f(x) alone, a part of {FORM}" in asked[0]


def test_from_the_command_line_the_parts_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).uniform(0.5, 3, (60, 2))
    rows = pd.DataFrame({"x": X[:, 0], "t": X[:, 1], "y": (X[:, 0] ** 2 + 1) * X[:, 1]})
    rows.to_csv("rows.csv", index=False)
    assert (
        main(["new", "--name", "two", "--csv", "rows.csv", "--target", "y", "--template", "f(x)*g(t)"]) == 0
    )
    run = "run --problem_name two --budget 4 --proposer grammar --structure_seconds 4 --log_path out"
    assert main(run.split()) == 0
    assert "where f(x) = " in capsys.readouterr().out
    assert set(json.loads((tmp_path / "out/result.json").read_text())["pick"]["parts"]) == {"f(x)", "g(t)"}
    assert all("return f(x) * g(t)" in s.evaluation.body for s in read_archive("out") if s.evaluation.ok)
