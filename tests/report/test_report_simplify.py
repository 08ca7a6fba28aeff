"""Constants as short as the loss allows; recognised values are only offered."""

import math
from random import Random

import numpy as np
import pytest
from report_cases import law, make_problem

from llmsr.expression import parse
from llmsr.expression.graph import Expression, evaluate
from llmsr.expression.printing import to_text
from llmsr.problem.split import Split, nmse
from llmsr.proposers.grammar import random_body
from llmsr.report.simplify import ABSOLUTE, RELATIVE, simplify

COLUMNS = ("x", "v", "t")


def simplified(body, params, truth=law, **given):
    expression = parse(body, COLUMNS)
    assert isinstance(expression, Expression)
    return simplify(expression, params, make_problem(truth, **given).train)


def text(body, params, truth=law):
    return to_text(simplified(body, params, truth).expression, digits=None)


def test_noise_in_the_digits_goes():
    body = "return params[0]*np.sin(x) - params[1]*v**params[3] + params[2]*x*v"
    found = text(body, [0.79999998, 0.5000000003, 1.5707963, 3.0])
    assert found.startswith("0.8*sin(x) - 0.5*v**3 + 1.5708")


def test_a_rounded_power_of_a_half_is_a_root():
    assert text("return (x + 3)**params[0]", [0.5000001], lambda i: np.sqrt(i[:, 0] + 3)) == "sqrt(x + 3)"


def test_a_small_term_that_matters_stays():
    def truth(inputs):
        return inputs[:, 0] + 1e-3 * inputs[:, 1] ** 2

    assert text("return params[0]*x + params[1]*v**2", [1.0, 1e-3], truth) == "x + 0.001*v**2"


def test_equal_terms_are_collected():
    assert text("return params[0]*x + params[1]*x", [0.3, 0.5], lambda i: 0.8 * i[:, 0]) == "0.8*x"


@pytest.mark.parametrize(
    ("value", "name"),
    [(math.pi / 2, "π/2"), (1 / 3, "1/3"), (-math.sqrt(2), "-√2"), (math.pi, "π")],
)
def test_known_values_are_offered_and_not_imposed(value, name):
    found = simplified("return params[0]*x", [value * (1 + 1e-7)], lambda i: value * i[:, 0])
    assert [r.name for r in found.recognised] == [name]
    assert str(value)[:5] in to_text(found.expression, digits=None)


def test_a_value_that_the_rows_rule_out_is_not_offered():
    draw = np.random.default_rng(0)
    # 8 standard errors from pi/2, although it costs less than 1 % of the error
    inputs = draw.uniform(-1, 1, (10_000, 3))
    rows = Split(inputs, 1.5695 * inputs[:, 0] + draw.normal(0, 0.01, 10_000))
    expression = parse("return params[0]*x", ("x", "v", "t"))
    assert simplify(expression, [1.5695], rows).recognised == ()
    near = Split(inputs, 1.5708 * inputs[:, 0] + draw.normal(0, 0.01, 10_000))
    assert [r.name for r in simplify(expression, [1.5708], near).recognised] == ["π/2"]


def test_numbers_that_are_short_already_get_no_offer():
    assert simplified("return params[0]*x", [0.25], lambda i: 0.25 * i[:, 0]).recognised == ()


def test_the_tolerance_holds_for_random_equations():
    random = Random(5)
    problem = make_problem()
    for _ in range(60):
        expression = parse(random_body(random, COLUMNS, 10), COLUMNS)
        assert isinstance(expression, Expression)
        params = [random.gauss(0, 2) for _ in range(10)]
        before = nmse(evaluate(expression, problem.train.inputs, np.array(params)), problem.train.target)
        found = simplify(expression, params, problem.train)
        if not math.isfinite(before):
            assert found.exact
            continue
        after = nmse(evaluate(found.expression, problem.train.inputs, np.zeros(0)), problem.train.target)
        assert after <= before + max(RELATIVE * before, ABSOLUTE) * (1 + 1e-9)
        assert after == pytest.approx(found.train_nmse, rel=1e-6, abs=1e-12)
        assert found.expression.params == ()


def test_it_is_bounded_for_a_large_equation():
    import time

    body = "return " + " + ".join(f"params[{i % 10}]*np.sin({i}.5*x*v)**2" for i in range(95))
    expression = parse(body, COLUMNS)
    assert isinstance(expression, Expression)
    began = time.process_time()
    found = simplify(expression, [1.1234567] * 10, make_problem(rows=10_000).train)
    assert time.process_time() - began < 10
    assert found.train_nmse > 0
