"""Advantages: centred in their own group, silent where there is nothing to learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsr.grpo.advantage import batch_advantages, group_advantages


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.sampled_from(["grpo", "drgrpo"]))
def test_a_group_sums_to_zero_and_keeps_its_order(rewards, kind):
    values = group_advantages(np.array(rewards), kind)
    assert abs(values.sum()) < 1e-6 * max(1.0, np.abs(values).max())
    order = np.argsort(rewards, kind="stable")
    assert np.all(np.diff(values[order]) >= 0)


@pytest.mark.parametrize("kind", ["grpo", "drgrpo"])
def test_equal_rewards_teach_nothing(kind):
    assert not group_advantages(np.full(5, 0.3), kind).any()
    assert not group_advantages(np.array([0.7]), kind).any()


def test_grpo_ignores_the_scale_of_rewards_and_drgrpo_does_not():
    rewards = np.array([0.1, 0.2, 0.6])
    assert np.allclose(group_advantages(rewards), group_advantages(10 * rewards), rtol=1e-4)
    assert np.allclose(group_advantages(10 * rewards, "drgrpo"), 10 * group_advantages(rewards, "drgrpo"))


def test_groups_do_not_see_each_other_in_any_order():
    rewards = np.array([0.0, 9.0, 1.0, 8.0])
    mixed = batch_advantages(rewards, ["a", "b", "a", "b"], "drgrpo")
    assert mixed.tolist() == [-0.5, 0.5, 0.5, -0.5]


def test_ranks_are_taken_within_the_group():
    rewards = [0.001, 0.002, 0.8, 0.9]
    values = batch_advantages(rewards, [0, 0, 1, 1], "drgrpo", rank=True)
    assert values[:2].tolist() == values[2:].tolist() == [-0.25, 0.25]
