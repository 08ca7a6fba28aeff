"""Parts of equations are candidates; simple numbers cost less than fitted ones; few rows bear few."""

import math

import numpy as np
import pytest
from report_cases import law, make_problem, make_sample

from llmsr.expression import parse
from llmsr.expression.canonical import canonical_hash
from llmsr.expression.graph import evaluate
from llmsr.refinement.unshared import Unshared
from llmsr.report.parts import (
    Parts,
    description_length,
    leaving_one_out,
    lost_digits,
    most_constants,
    price,
)

COLUMNS = ("x", "v", "t")


def noisy(truth, rows=80, share=0.03):
    def measured(inputs):
        clean = truth(inputs)
        return clean + share * clean.std() * np.random.default_rng(7).standard_normal(len(clean))

    return make_problem(measured, rows=rows)


def shortest(problem, body, params):
    """The shortest of a sample and its parts."""
    parts, sample = Parts(problem), make_sample(problem, body, params)
    everything = [sample, *parts.shorter([sample])]
    return min(everything, key=parts.length)


@pytest.mark.parametrize(
    ("law", "body", "params"),
    [
        ("0.5*x*np.abs(v)**2", "params[0]*x*np.abs(v)**params[1]", (0.5, 1.97)),
        ("3*x", "params[0]*x + params[1]*np.sin(v)*t", (3.0, 1e-3)),
        ("3*x", "params[0]*x*np.cos(params[1]*v)", (3.0, 1e-2)),
        ("np.exp(-x**2)", "np.exp(-(x - 0.0013)**2/1.003)", ()),
        ("np.pi*x + v", "params[0]*x + params[1]*v", (3.14, 1.01)),
    ],
)
def test_the_law_is_found_among_the_parts(law, body, params):
    expected = parse(f"return {law}", COLUMNS)
    problem = noisy(lambda inputs: evaluate(expected, inputs, np.empty(0)))
    found = shortest(problem, f"return {body}", params).evaluation
    box = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    said = evaluate(parse(found.body, COLUMNS), box, np.array(found.params))
    # its constants may be fitted, its form is the law's
    assert np.corrcoef(evaluate(expected, box, np.empty(0)), said)[0, 1] > 1 - 1e-12, found.expression


def test_what_is_told_of_a_part_is_what_it_scores():
    problem = noisy(law, rows=300)
    sample = make_sample(
        problem, "return params[0]*np.sin(x) + params[1]*v**3 + params[2]*t", (0.8, -0.5, 0.01)
    )
    for part in Parts(problem).shorter([sample]):
        again = make_sample(problem, part.evaluation.body, part.evaluation.params)
        assert again.evaluation.train_mse == pytest.approx(part.evaluation.train_mse, rel=1e-9)
        assert again.evaluation.nmse["test_ood"] == pytest.approx(part.evaluation.nmse["test_ood"], rel=1e-9)
        assert canonical_hash(parse(part.evaluation.body, COLUMNS)) == part.evaluation.canonical
        assert (part.kind, part.parents) == ("refinement", (sample.number,))


def test_asked_again_the_parts_are_the_same():
    problem = noisy(law)
    samples = [
        make_sample(problem, f"return params[0]*x + params[1]*{b}", (1.0, 1.0), n) for n, b in enumerate("vt")
    ]
    parts = Parts(problem)
    parts.shorter(samples[:1])
    assert parts.shorter(samples) == Parts(problem).shorter(samples)


def test_simple_numbers_cost_less_than_odd_ones():
    assert price(1) < price(2) < price(0.5) < price(7 / 4) < price(12) * 2
    assert price(-2) == price(2)
    assert math.isinf(price(1.99))
    free = parse("return x**params[0]", COLUMNS)
    for rows in (10, 1000):
        odd = description_length(parse("return x**1.99", COLUMNS), (), 0.1, rows)
        assert description_length(parse("return x**2", COLUMNS), (), 0.1, rows) < odd
        assert odd == description_length(free, (1.99,), 0.1, rows)


def test_large_terms_that_cancel_are_longer_than_what_they_say():
    problem = noisy(lambda inputs: inputs[:, 0], rows=200)
    parts = Parts(problem)
    plain = make_sample(problem, "return params[0]*x + params[1]*x", (0.4321, 0.5679), 1)
    large = make_sample(problem, "return params[0]*x - params[1]*x", (5000.123, 4999.123), 2)
    assert large.evaluation.complexity == plain.evaluation.complexity
    assert parts.length(large) - parts.length(plain) == pytest.approx(math.log(5000 / 2), rel=0.01)


def test_terms_of_the_size_of_their_sum_lose_no_digits():
    inputs = np.random.default_rng(0).uniform(1, 2, (100, 3))
    assert lost_digits(parse("return params[0]*x - v", COLUMNS), {0: 3.0}, inputs) == 0.0
    assert lost_digits(parse("return params[0]*x - v/x**0", COLUMNS), {0: np.nan}, inputs) == 0.0


def test_few_rows_bear_few_constants():
    body = "return " + " + ".join(f"params[{i}]*x**{i}" for i in range(5))
    expression = parse(body, COLUMNS)
    assert most_constants(13) == 3
    assert math.isinf(description_length(expression, np.full(5, 1.23), 1e-20, 13))
    assert description_length(expression, np.full(5, 1.23), 1e-20, 40) < 0


def test_what_stands_above_and_below_a_line_cancels():
    tree = Unshared.of(parse("return params[0]*v*np.log(1 + np.abs(v))/v + x", COLUMNS))
    (cancelled,) = tree.cancelled()
    wanted = parse("return params[0]*np.log(1 + np.abs(v)) + x", COLUMNS)
    assert canonical_hash(cancelled) == canonical_hash(wanted)


def test_an_equation_with_a_hole_among_the_rows_is_longer_than_one_without():
    problem = make_problem(lambda inputs: inputs[:, 0] * np.abs(inputs[:, 1]), rows=200)
    whole = make_sample(problem, "return params[0]*x*np.abs(v)", (1.0,))
    hole = make_sample(problem, "return params[0]*x*v*v/np.abs(v)", (1.0,))
    parts = Parts(problem)
    assert parts.length(whole) + 50 < parts.length(hole) < math.inf


def test_each_part_is_left_out_once():
    expression = parse("return params[0]*np.sin(x) + v", COLUMNS)
    texts = {canonical_hash(e) for e in leaving_one_out(Unshared.of(expression))}
    wanted = ("v", "params[0]*np.sin(x)", "np.sin(x) + v", "params[0]*x + v", "params[0] + v")
    assert texts == {canonical_hash(parse(f"return {w}", COLUMNS)) for w in wanted}
