"""The one door: what becomes of a completion, whatever it holds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.sample import Sample

TRUTH = """    # a whole law, every constant free
    return params[0]*np.sin(x) - params[1]*v**3 - params[2]*x**3 - params[3]*x*v - x*np.cos(params[4]*x)
"""


@pytest.fixture(scope="module")
def evaluator():
    with Evaluator(load_problem("oscillator1"), workers=1) as evaluator:
        yield evaluator


def test_the_true_law_is_found_exact_on_every_split(evaluator):
    evaluation = evaluator.evaluate(TRUTH)
    assert evaluation.ok
    assert evaluation.fitter == "best"
    assert set(evaluation.nmse) == {"train", "test_id", "test_ood"}
    assert max(evaluation.nmse.values()) < 1e-12
    assert np.allclose(evaluation.params[:4], [0.8, 0.5, 0.2, 0.5], atol=1e-6)
    assert evaluation.params[5:] == (1.0,) * 5


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "empty"),
        ("I would rather talk about the weather.", "empty"),
        ("    return params[0] * (x +", "syntax"),
        ("    y = params[0] * x\n", "unsupported"),
        ("    return params[0]", "constant"),
        ("    return x - x + params[1]", "constant"),
        ("    return np.gradient(v)", "unsupported"),
        ("    return np.mean(x) * x", "unsupported"),
        ("    return open('/etc/passwd')", "unsupported"),
        ("    return params[0] * y", "unsupported"),
        ("    return np.log(-1 - x**2) * params[0]", "nonfinite"),
        ("    return " + "+".join(["x * params[0] ** 1.5 / v"] * 20_000), "too_large"),
    ],
)
def test_every_failure_is_a_value_with_a_reason(evaluator, text, status):
    evaluation = evaluator.evaluate(text)
    assert evaluation.status == status
    assert evaluation.reason
    assert evaluation.reason.isprintable()
    assert evaluation.score is None


def test_a_whole_function_with_its_own_argument_names_is_understood(evaluator):
    text = "Sure!\n```python\ndef equation_v2(pos, vel, p):\n    return p[2] * pos + p[0] * vel\n```\nDone."
    evaluation = evaluator.evaluate(text)
    assert evaluation.ok
    again = evaluator.evaluate(evaluation.body)
    assert again.canonical == evaluation.canonical, "what later prompts show must mean the same there"


@pytest.mark.parametrize("columns", [("θ", "ω"), ("special", "float"), ("x", "v")])
@pytest.mark.parametrize("params_name", ["params", "p"])
def test_what_later_prompts_show_is_read_again_whatever_the_columns_are_called(columns, params_name):
    known = load_problem("oscillator1")
    problem = replace(known, spec=replace(known.spec, columns=columns, params_name=params_name))
    text = (
        "def equation(q, w, k):\n    from scipy import special\n"
        "    return k[1]*np.sin(q) + k[3]*special.expit(w)\n"
    )
    with Evaluator(problem, workers=1) as evaluator:
        evaluation = evaluator.evaluate(text)
        assert evaluation.ok
        assert evaluator.evaluate(evaluation.body).canonical == evaluation.canonical


def test_a_call_of_an_earlier_version_is_inlined_and_shown_without_it(evaluator):
    versions = {"equation_v0": "return params[0] * x"}
    evaluation = evaluator.evaluate("    return equation_v0(x, v, params) + params[1] * v", versions)
    assert evaluation.ok
    assert "equation_v0" not in evaluation.body
    plain = evaluator.evaluate("return params[0] * x + params[1] * v")
    assert plain.canonical == evaluation.canonical


def test_a_slip_is_read_as_meant_said_in_the_record_and_put_right_in_what_is_shown(evaluator):
    evaluation = evaluator.evaluate(" params[12] * x + Params[3] * exp(-v^2)\n```\n".join(["    return", ""]))
    assert evaluation.ok
    assert evaluation.body == "return params[0] * x + params[3] * np.exp(-v**2)\n"
    assert len(evaluation.repaired) == 4
    assert evaluation.params[1:3] == (1.0, 1.0) != evaluation.params[::3][:2]
    record = json.loads(json.dumps(Sample(1, "", evaluation).to_record()))
    assert Sample.from_record(record).evaluation == evaluation
    assert evaluator.evaluate(evaluation.body) == replace(
        evaluation, repaired=(), evaluations=0, fit_seconds=0.0, cpu_seconds=0.0
    )


def test_equal_equations_are_fitted_once_and_score_equally(evaluator):
    first = evaluator.evaluate("return params[4] * np.tanh(v) + params[2] * x")
    second = evaluator.evaluate("t = np.tanh(v)\nreturn params[0] * x + t * params[1]")
    assert (first.evaluations > 0, second.evaluations) == (True, 0)
    assert second.train_mse == first.train_mse
    assert (second.params[0], second.params[1]) == (first.params[2], first.params[4])


def test_reference_mode_fits_what_was_written_with_the_specs_own_evaluate():
    with Evaluator(load_problem("oscillator1"), fitter="reference", workers=1) as evaluator:
        evaluation = evaluator.evaluate("return params[0]*x + params[1]*v + params[2]")
    assert evaluation.ok
    assert evaluation.fitter == "reference"
    assert evaluation.score == -evaluation.train_mse
