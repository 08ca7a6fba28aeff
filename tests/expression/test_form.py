"""The form that equations are held to: every limit refuses with its reason, on proposals of every kind."""

import numpy as np
import pytest
from small_spec import spec_of, spec_text

from llmsr.declarations import Declarations, with_declarations
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.expression.form import Form
from llmsr.expression.graph import complexity
from llmsr.problem.loading import Problem
from llmsr.problem.spec import parse_spec, read_body
from llmsr.problem.split import Split
from llmsr.prompt import make_prompt
from llmsr.refinement.refiner import Refiner
from llmsr.sample import Sample
from llmsr.settings import PromptSettings

SPEC = parse_spec(spec_text())


def form(**asked):
    return Form.of(Declarations(**asked), ("x", "v"), "here")


def fault(body, **asked):
    return form(**asked).fault(read_body(SPEC, f"return {body}"))


@pytest.mark.parametrize(
    ("asked", "allowed", "refused", "reason"),
    [
        (
            {"operators": "+,*"},
            "params[0]*x + v*v",
            "np.sin(x)",
            "sin is not among the allowed",
        ),
        ({"operators": "+,*"}, "x**2 + v", "x**2.5", "** is not among"),
        ({"operators": "-,/"}, "x/v - (-x)", "x + v", "+ is not among"),
        ({"operators": "where,+"}, "np.where(x > 0, x, v)", "np.maximum(x, v)", "maximum is not among"),
        ({"operators": "**,np.exp"}, "np.exp(x)**params[0]", "-x", "- is not among"),
        ({"max_complexity": 3}, "x + v", "x + v + x", "its complexity is 5, more than 3"),
        ({"max_complexity": 4, "complexities": "sin=4"}, "np.cos(x)", "np.sin(x)", "its complexity is 5"),
        ({"max_complexity": 5, "complexities": "constant=4"}, "x*v", "x*params[0]", "its complexity is 6"),
        ({"max_depth": 2}, "x + v", "x + v*v", "its depth is 3, more than 2"),
        ({"required": "v"}, "x*v", "x + 1", "the column v is required"),
        ({"forbidden": "v"}, "x + 1", "x*v", "the column v is forbidden"),
        ({"nesting": "sin=0"}, "np.sin(x) + np.sin(v)", "np.sin(x + np.sin(v))", "more than 0 of sin"),
        (
            {"nesting": "sin/exp=1"},
            "np.sin(np.exp(x))",
            "np.sin(np.exp(np.sin(x)))",
            "more than 1 of",
        ),
    ],
)
def test_a_limit_lets_pass_and_refuses_with_its_reason(asked, allowed, refused, reason):
    assert fault(allowed, **asked) == ""
    assert reason in fault(refused, **asked)


def test_without_limits_nothing_is_refused_and_the_size_is_the_complexity():
    free = form()
    for body in ("np.sin(x)*params[0] + 3", "x", "np.where(x > v, x, v)**2"):
        expression = read_body(SPEC, f"return {body}")
        assert free.fault(expression) == ""
        assert free.size(expression) == complexity(expression)
    assert free.words == ""


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"operators": "+,sine"}, "no operator is called 'sine'; did you mean sin"),
        ({"nesting": "foo=1"}, "no operator is called 'foo'"),
        ({"nesting": "sin"}, "nesting must be like sin=0"),
        ({"complexities": "sin=0"}, "complexities must be like sin=1"),
        ({"complexities": "sin=1.5"}, "complexities must be like sin=1"),
        ({"required": "z"}, "no column 'z' to require or forbid; there are x, v"),
        ({"required": "x", "forbidden": "x,v"}, "x is both required and forbidden"),
        ({"forbidden": "x,v"}, "all columns are forbidden"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_one_sentence(asked, said):
    with pytest.raises(UserError, match=said) as told:
        form(**asked)
    assert str(told.value).startswith("here: ")


@pytest.mark.parametrize("asked", [{"max_complexity": 0}, {"max_depth": -1}])
def test_a_size_below_one_is_one_sentence(asked):
    with pytest.raises(UserError, match="must be at least 1"):
        Declarations(**asked)


def test_answers_and_refinements_are_held_to_the_form_and_prompts_say_it():
    asked = Declarations(operators="+,-,*,sin", max_complexity=12, forbidden="v")
    spec = parse_spec(with_declarations(spec_of(["x", "v"], "A task.", "y"), asked))
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-2, 2, (80, 2))
    target = np.exp(inputs[:, 0]) + 0.3 * inputs[:, 1]
    problem = Problem("small", spec, "y", {"train": Split(inputs, target)})
    with Evaluator(problem, workers=1) as evaluator:
        refused = evaluator.evaluate("return params[0]*np.exp(x)")
        assert (refused.status, refused.reason) == (
            "form",
            "exp is not among the allowed operators +, -, *, sin",
        )
        begun = evaluator.evaluate("return params[0]*x + params[1]")
        found = Refiner(evaluator, fits=24).refine(Sample(1, "", begun))
        structures = Refiner(evaluator, fits=8).structures(1.0)
    assert any(sample.evaluation.ok for sample in found)
    for sample in [*found, *structures]:
        if sample.evaluation.ok:
            assert spec.form.fault(read_body(spec, sample.evaluation.body)) == ""
    prompt = make_prompt(problem, [], PromptSettings())
    for text in (prompt.text, prompt.chat.messages[-1]["content"]):
        assert "Use only the operators +, -, *, sin. Complexity (operators, columns and constants)" in text
        assert "Do not use v." in text
