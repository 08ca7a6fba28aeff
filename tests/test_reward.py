"""Rewards: bounded, graded, monotone, and nothing for copies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsr.reward import COPY, FAILURES, LOWEST, SHAPES, group_rewards, ranked, reward
from llmsr.sample import STATUSES, Evaluation


def valid(nmse: float, complexity: int = 5, variance: float = 1.0) -> Evaluation:
    return Evaluation(status="ok", nmse={"train": nmse}, train_mse=nmse * variance, complexity=complexity)


def test_every_failure_has_a_value_and_no_unknown_one_is_higher():
    assert set(FAILURES) == set(STATUSES) - {"ok"}
    assert reward(Evaluation(status="something new")) == LOWEST


@pytest.mark.parametrize("shape", SHAPES)
@given(nmse=st.floats(min_value=0, allow_nan=False), weight=st.floats(0, 1), size=st.integers(0, 10_000))
def test_any_valid_equation_beats_any_failure(shape, nmse, weight, size):
    value = reward(valid(nmse, size), shape, complexity_weight=weight)
    assert 0 <= value <= 1
    assert value > max(FAILURES.values())


def test_failures_are_graded_by_how_far_the_answer_came():
    grades = [
        reward(Evaluation(status=s)) for s in ("empty", "syntax", "unsupported", "constant", "nonfinite")
    ]
    assert grades == sorted(set(grades))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_empty_answer_is_never_above_a_real_one(shape):
    assert reward(Evaluation(status="empty"), shape) < reward(
        valid(math.inf, 10_000), shape, complexity_weight=1.0
    )


@pytest.mark.parametrize("shape", SHAPES)
@given(a=st.floats(0, 1e6), b=st.floats(0, 1e6))
def test_a_smaller_error_is_never_worth_less(shape, a, b):
    low, high = sorted((a, b))
    assert reward(valid(low), shape) >= reward(valid(high), shape)


def test_the_default_shape_tells_apart_what_r2_cannot():
    assert reward(valid(1e-9)) - reward(valid(1e-6)) > 0.1
    assert reward(valid(1e-9), "r2") - reward(valid(1e-6), "r2") < 1e-5


def test_the_floor_makes_rounding_differences_equal():
    assert reward(valid(1e-29)) == reward(valid(1e-28)) == reward(valid(0.0)) == 1.0


def test_a_split_that_is_not_train_changes_nothing():
    one = Evaluation(status="ok", nmse={"train": 0.1, "test_ood": 1e-9}, train_mse=0.1, complexity=3)
    other = Evaluation(status="ok", nmse={"train": 0.1, "test_ood": 1e9}, train_mse=0.1, complexity=3)
    assert reward(one) == reward(other)


def test_a_copy_of_a_shown_equation_earns_nothing_and_is_no_failure():
    assert max(FAILURES.values()) < reward(valid(1e-9), copy=True) == COPY < reward(valid(1.0))


def test_complexity_costs_what_it_says():
    assert reward(valid(1e-5, 0)) - reward(valid(1e-5, 50), complexity_weight=0.2) == pytest.approx(0.1)


def test_rank_spreads_a_group_whatever_the_errors_are():
    group = [valid(1e-3), valid(1.1e-3), valid(1.2e-3), Evaluation(status="syntax"), valid(0.5)]
    values = group_rewards(group, [False] * 5, "rank")
    assert values == [1.0, 0.75, 0.5, FAILURES["syntax"], 0.25]


def test_equal_answers_of_a_group_rank_alike_and_copies_stay_at_nothing():
    values = group_rewards([valid(0.1), valid(0.1), valid(0.2)], [False, False, True], "rank")
    assert values[0] == values[1] > values[2] == COPY


@given(st.lists(st.sampled_from([-1.0, -0.4, 0.0, 0.1, 0.5, 0.9])))
def test_ranks_keep_the_order_and_the_range(rewards):
    values = ranked(rewards)
    assert all(-1 <= value <= 1 for value in values)
    for a, x in zip(rewards, values, strict=True):
        for b, y in zip(rewards, values, strict=True):
            assert (a < b) == (x < y)


def test_a_digit_counts_down_to_what_the_numbers_of_the_data_allow():
    assert reward(valid(1e-20)) < reward(valid(1e-27)) < reward(valid(1e-31)) == 1
    assert reward(valid(1e-14), floor=1e-12) == reward(valid(1e-12), floor=1e-12) == 1
    assert reward(valid(1e-6), floor=1e-12) > reward(valid(1e-6))
