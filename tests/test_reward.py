"""Rewards: bounded, graded, monotone, and nothing for copies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsr.errors import UserError
from llmsr.reward import COPY, FAILURES, LOWEST, TERMS, ranked, reward
from llmsr.sample import STATUSES, Evaluation


def valid(nmse: float, complexity: int = 5, variance: float = 1.0) -> Evaluation:
    return Evaluation(status="ok", nmse={"train": nmse}, train_mse=nmse * variance, complexity=complexity)


def test_every_failure_has_a_value_and_no_unknown_one_is_higher():
    assert set(FAILURES) == set(STATUSES) - {"ok"}
    assert reward(Evaluation(status="something new")) == LOWEST


@pytest.mark.parametrize("shape", TERMS)
@given(nmse=st.floats(min_value=0, allow_nan=False), weight=st.floats(0.001, 1), size=st.integers(0, 10_000))
def test_any_valid_equation_beats_any_failure(shape, nmse, weight, size):
    value = reward(valid(nmse, size), f"{shape} + {weight}*parsimony")
    assert 0 <= value <= 1
    assert value > max(FAILURES.values())


def test_failures_are_graded_by_how_far_the_answer_came():
    grades = [
        reward(Evaluation(status=s)) for s in ("empty", "syntax", "unsupported", "constant", "nonfinite")
    ]
    assert grades == sorted(set(grades))


@pytest.mark.parametrize("shape", TERMS)
def test_an_empty_answer_is_never_above_a_real_one(shape):
    assert reward(Evaluation(status="empty"), shape) < reward(valid(math.inf, 10_000), shape)


@pytest.mark.parametrize("shape", TERMS)
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


def test_terms_are_weighed_and_keep_the_range():
    small, large = (reward(valid(1e-5, size), "neg_log_nmse + 0.25*parsimony") for size in (0, 50))
    assert small - large == pytest.approx(0.5 * 0.25 / 1.25)
    assert reward(valid(0.0, 0), "neg_log_nmse + r2 + 3 * parsimony") == 1.0


def test_a_function_of_ones_own_is_a_term(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def short(evaluation):\n    return 2.0 if evaluation.complexity < 6 else float('nan')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert reward(valid(1.0, 5), "mine:short") == 1.0  # clipped
    assert reward(valid(1e-9, 7), "mine:short + r2") == COPY  # not a number is worth nothing
    assert reward(valid(0.0, 5), "r2 + mine:short") == 1.0


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("accuracy", "take neg_log_nmse"),
        ("x*r2", "no weight"),
        ("-1*r2", "no weight"),
        ("nan*r2", "no weight"),
        ("r2 +", "no term ''"),
        ("no_such_module:f", "No module named"),
        ("math:no_such_function", "no_such_function"),
    ],
)
def test_what_is_no_reward_is_one_sentence(told, sentence):
    with pytest.raises(UserError, match=sentence):
        reward(valid(0.1), told)


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
