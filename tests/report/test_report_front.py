"""The front and what is picked from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import SPEC, fake_sample, make_problem, make_sample

from llmsr.errors import UserError
from llmsr.problem.spec import parse_spec
from llmsr.report.front import Front, PickedFront, lengths
from llmsr.sample import Evaluation, Sample

WEIGHTED = SPEC.replace("np.mean((predicted - outputs) ** 2)", "np.mean(np.abs(predicted - outputs))")
pairs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 30)), max_size=60)


def front_of(points):
    front = Front()
    for number, (size, loss) in enumerate(points, start=1):
        front.add(fake_sample(number, size, float(loss)))
    return front


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pairs)
def test_the_front_is_what_nothing_beats(points):
    members = [(m.evaluation.complexity, m.evaluation.train_mse) for m in front_of(points).members]
    beaten = {p for p in points if any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    assert members == sorted(set(points) - beaten)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pairs)
def test_of_equal_members_the_first_stays(points):
    for member in front_of(points).members:
        point = (member.evaluation.complexity, member.evaluation.train_mse)
        assert member.number == points.index(point) + 1


def test_an_equation_stands_once_in_its_shortest_spelling():
    for order in ((0, 1), (1, 0)):
        spellings = [fake_sample(1, 9, 1.0, "same"), fake_sample(2, 14, 0.9999, "same")]
        front = Front()
        for i in order:
            front.add(spellings[i])
        assert [m.number for m in front.members] == [1]


def test_a_longer_spelling_that_was_fitted_better_stays():
    front = Front()
    front.add(fake_sample(1, 9, 1.0, "same"))
    front.add(fake_sample(2, 14, 0.5, "same"))
    assert [m.number for m in front.members] == [1, 2]


def test_failures_and_losses_that_are_not_finite_stay_out():
    front = Front()
    assert not front.add(Sample(1, "", Evaluation(status="syntax")))
    assert not front.add(fake_sample(2, 3, math.nan))
    assert not front.add(fake_sample(3, 3, math.inf))
    assert front.members == []


def test_fifty_thousand_samples_take_less_than_two_seconds():
    import random
    import time

    generator = random.Random(0)
    samples = [
        fake_sample(i, generator.randint(1, 80), math.exp(generator.uniform(-20, 0))) for i in range(50_000)
    ]
    front = Front()
    began = time.process_time()
    for sample in samples:
        front.add(sample)
    assert time.process_time() - began < 2


def test_the_front_ends_where_only_rounding_is_left():
    members = front_of([(5, 1e-2), (20, 3e-27), (30, 1e-29), (31, 0.9e-29)]).members
    assert [m.evaluation.complexity for m in members] == [5, 20]


def test_losses_of_another_kind_may_be_negative():
    """A log-likelihood has no logarithm; the order of the losses stays that of the lengths."""
    problem = replace(make_problem(), spec=parse_spec(WEIGHTED, "mine.txt"))
    bodies = ["return params[0]*x", "return params[0]*x + v", "return params[0]*x + v + t"]
    samples = [make_sample(problem, body, (1.0,), number) for number, body in enumerate(bodies, start=1)]
    told = [
        replace(s, evaluation=replace(s.evaluation, score=score))
        for s, score in zip(samples, (1.0, 40.0, 40.1), strict=True)
    ]
    assert not problem.spec.least_squares
    shortest = lengths(told, problem)
    assert shortest.index(min(shortest)) == 1


def front_over(problem, *bodies):
    """The picked front of samples with these bodies and constants."""
    front = Front()
    for number, (body, params) in enumerate(bodies, start=1):
        front.add(make_sample(problem, body, params, number))
    return PickedFront.of(front.members, problem)


def noisy(rows, share=0.05):
    """The law 2*x*v with noise."""

    def truth(inputs):
        clean = 2 * inputs[:, 0] * inputs[:, 1]
        return clean + share * clean.std() * np.random.default_rng(3).standard_normal(len(clean))

    return make_problem(truth, rows=rows)


LAW = ("return params[0]*x*v", (2.0,))
PADDED = ("return params[0]*x*v + params[1]*np.sin(t)", (2.0, 1e-3))


def test_the_law_is_picked_and_the_lowest_error_can_be():
    problem = noisy(80)
    front = front_over(problem, LAW, PADDED)
    assert front.pick.text() == "a = 2*x*v"
    lowest = front.equations[front.position("accuracy")]
    assert lowest.nmse["train"] == min(e.nmse["train"] for e in front.equations)
    assert lowest is not front.pick
    assert front.lengths[front.picked] == 0 == min(front.lengths)


def test_rows_of_the_front_are_in_ascending_size_and_can_be_picked():
    front = front_over(noisy(80), LAW, PADDED)
    sizes = [e.complexity for e in front.equations]
    assert sizes == sorted(sizes)
    assert [front.position(str(row)) for row in range(1, len(sizes) + 1)] == list(range(len(sizes)))
    for wrong in ("0", str(len(sizes) + 1), "simplest", "-1", "1.5"):
        with pytest.raises(UserError, match="or a row of the front, 1 to"):
            front.position(wrong)


def test_a_term_that_many_rows_bear_out_stays():
    def truth(inputs):
        rest = 0.02 * np.random.default_rng(3).standard_normal(len(inputs))
        return 2 * inputs[:, 0] * inputs[:, 1] + 0.05 * np.sin(inputs[:, 2]) + rest

    assert "t" in front_over(make_problem(truth, rows=400), LAW, PADDED).pick.text().split("=")[1]


def test_a_law_at_the_floor_of_rounding_is_the_smallest_there():
    problem = make_problem(lambda i: 2 * i[:, 0] * i[:, 1])
    front = front_over(problem, LAW, ("return params[0]*x*v + params[1]*t**9", (2.0, 1e-17)))
    assert front.pick.text() == "a = 2*x*v"
    assert front.pick.complexity == 5


def test_few_rows_are_said():
    assert front_over(noisy(13), LAW).warning.startswith("13 rows are few: equations of more than 3 fitted")
    assert front_over(noisy(80), LAW).warning == ""


def test_an_empty_front_has_no_pick():
    assert PickedFront.of([], make_problem()).pick is None
