"""The front and what is picked from it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import fake_sample

from llmsr.report.front import RULES, Front, pick, scores
from llmsr.sample import Evaluation, Sample

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


CURVE = [(3, 1.0), (7, 0.5), (10, 1e-3), (20, 0.95e-3), (40, 0.94e-3)]


def picked(rule, points=CURVE, **given):
    return points[pick(front_of(points).members, rule, **given)]


def test_best_is_the_knee_and_accuracy_the_end():
    assert picked("best") == (10, 1e-3)
    assert picked("accuracy") == (40, 0.94e-3)


def test_the_first_of_a_front_gains_on_the_mean():
    """Fake samples have their loss for an NMSE: a law, then one with a term that fits noise."""
    points = [(7, 3.8e-4), (9, 3.65e-4), (18, 3.3e-4)]
    assert pick(front_of(points).members, "best", rows=80) == 0


def test_of_few_rows_the_best_may_be_further_from_the_lowest_loss():
    points = [(3, 1.0), (10, 1.2e-3), (40, 1.0e-3)]
    assert picked("best", points, rows=100) == (10, 1.2e-3)
    assert picked("best", points, rows=10_000) == (40, 1.0e-3)


def test_simplest_obeys_its_share():
    assert picked("simplest", within=0.01) == (40, 0.94e-3)
    assert picked("simplest", within=0.05) == (20, 0.95e-3)
    assert picked("simplest", within=0.5) == (10, 1e-3)
    assert picked("simplest", within=1e6) == (3, 1.0)


def test_aic_and_mdl_ask_more_of_a_constant_where_rows_are_few():
    counts = [1, 2, 3, 8, 9]
    for rule in ("aic", "mdl"):
        assert picked(rule, rows=30, constants=counts) == (10, 1e-3)
        assert picked(rule, rows=10**6, constants=counts) == (40, 0.94e-3)


def test_losses_below_rounding_count_as_equal():
    points = [(5, 1e-2), (20, 1e-27), (30, 1e-29)]
    for rule in RULES:
        assert picked(rule, points, rows=1000, constants=[1, 4, 7]) == (20, 1e-27), rule


def test_the_score_is_the_gain_in_log_loss_per_complexity():
    assert scores(front_of(CURVE).members)[:3] == [0.0, math.log(2) / 4, math.log(500) / 3]


def test_the_front_ends_where_only_rounding_is_left():
    members = front_of([(5, 1e-2), (20, 3e-27), (30, 1e-29), (31, 0.9e-29)]).members
    assert [m.evaluation.complexity for m in members] == [5, 20]


def test_losses_of_another_kind_may_be_negative():
    points = [(3, -1.0), (6, -4.0), (9, -4.1)]
    members = front_of(points).members
    assert len(members) == 3
    assert all(s >= 0 for s in scores(members))
    assert picked("accuracy", points) == (9, -4.1)


def test_a_perfect_zero_can_be_picked():
    points = [(3, 1.0), (6, 0.0)]
    assert picked("best", points) == (6, 0.0)


def test_an_empty_front_has_no_pick():
    with pytest.raises(ValueError, match="empty"):
        pick([])
