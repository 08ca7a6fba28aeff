"""Advantages: centred in their own group, silent where there is nothing to learn, bounded at the top."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsr.grpo.advantage import FEWEST_VALID, HIGHEST_WEIGHT, batch_advantages, entropic, group_advantages
from llmsr.grpo.settings import ADVANTAGES
from llmsr.reward import FAILURES, LOWEST

GROUP = np.array([0.1, 0.2, 0.25, 0.3, 0.9, -0.8])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.sampled_from(ADVANTAGES))
def test_better_answers_never_get_less_and_all_are_finite(rewards, kind):
    values = group_advantages(np.array(rewards), kind)
    order = np.argsort(rewards, kind="stable")
    assert np.all(np.diff(values[order]) >= -1e-9)
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= max(HIGHEST_WEIGHT, math.sqrt(len(rewards)))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.sampled_from(["grpo", "drgrpo"]))
def test_a_group_sums_to_zero(rewards, kind):
    values = group_advantages(np.array(rewards), kind)
    assert abs(values.sum()) < 1e-6 * max(1.0, np.abs(values).max())


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_equal_rewards_teach_nothing(kind):
    assert not group_advantages(np.full(5, 0.3), kind).any()
    assert not group_advantages(np.array([0.7]), kind).any()


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_noise_of_fits_teaches_nothing(kind):
    assert not group_advantages(0.3 + np.array([0.0, 9e-4, 4e-4]), kind).any()
    noise = np.array([0.0, 3.7e-8, 1e-8, 2e-8, 5e-9, 3e-8])
    assert not group_advantages(0.3 + noise, kind).any()
    best = group_advantages(np.append(0.3 + noise, 0.6), kind)
    assert np.allclose(best, group_advantages(np.append(np.full(6, 0.3), 0.6), kind))
    assert np.ptp(best[:-1]) == 0


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_a_group_without_a_valid_answer_teaches_nothing_however_its_failures_differ(kind):
    assert not group_advantages(np.array(sorted(set(FAILURES.values()))), kind).any()


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_one_valid_answer_among_failures_stands_out(kind):
    values = group_advantages(np.array([LOWEST, 0.2, LOWEST, LOWEST]), kind)
    assert values.argmax() == 1
    assert values[1] > 0 >= values[0] == values[2] == values[3]
    assert np.abs(values).max() < HIGHEST_WEIGHT


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_a_valid_answer_worth_nothing_still_opens_the_gate(kind):
    assert group_advantages(np.array([0.0, -0.8, -0.8]), kind)[0] > 0


@pytest.mark.parametrize("spread", [1e-9, 1.0, 1e9])
def test_a_huge_or_tiny_spread_leaves_entropic_weights_alike_and_bounded(spread):
    assert np.allclose(entropic(spread * GROUP), entropic(GROUP), atol=1e-6)
    assert entropic(spread * GROUP).max() <= HIGHEST_WEIGHT - 1


def test_entropic_weights_diverge_from_uniform_by_what_is_asked():
    rewards = np.linspace(0, 1, 12)
    for kl in (0.1, 0.3, math.log(2)):
        weights = entropic(rewards, kl) + 1
        # leave-one-out weights w = (n - 1) q / (1 - q), so q is had back where no weight was clamped
        assert weights.max() < HIGHEST_WEIGHT
        q = weights / (len(rewards) - 1 + weights)
        assert (q * np.log(q * len(q))).sum() == pytest.approx(kl, abs=1e-6)


def test_ties_at_the_top_share_and_do_not_overflow():
    values = entropic(np.array([0.1, 0.5, 0.5, 0.5]))
    assert values[1] == values[2] == values[3] > 0
    assert values[0] == pytest.approx(-1)
    best = group_advantages(np.array([0.1, 0.5, 0.5, 0.2]), "best_of_group")
    assert best[1] == best[2] > 0 > best[0] == best[3]


def test_entropic_with_fewer_than_three_valid_answers_is_the_plain_group_baseline():
    few = np.array([0.9, 0.1, -0.4, -1.0])
    assert (few >= 0).sum() < FEWEST_VALID
    assert group_advantages(few, "entropic").tolist() == group_advantages(few, "grpo").tolist()


def test_the_best_counts_more_by_entropic_than_by_grpo_and_alone_by_best_of_group():
    entropic_, grpo = (group_advantages(GROUP, kind) for kind in ("entropic", "grpo"))
    assert entropic_[4] / np.abs(entropic_[3]) > grpo[4] / np.abs(grpo[3])
    best = group_advantages(GROUP, "best_of_group")
    assert len(set(best[[0, 1, 2, 3, 5]])) == 1


def test_grpo_ignores_the_scale_of_rewards_and_drgrpo_does_not():
    rewards = np.array([0.1, 0.2, 0.6])
    assert np.allclose(group_advantages(rewards), group_advantages(10 * rewards), rtol=1e-4)
    assert np.allclose(group_advantages(10 * rewards, "drgrpo"), 10 * group_advantages(rewards, "drgrpo"))


def test_max_at_k_is_the_mean_over_all_groups_of_k_of_what_an_answer_adds():
    rewards = np.array([0.3, 0.9, 0.1, 0.3, -0.5, 0.6])
    for k in (2, 3, 6):
        wanted = [
            k * np.mean([max(r - max(others), 0.0) for others in combinations(np.delete(rewards, i), k - 1)])
            for i, r in enumerate(rewards)
        ]
        assert group_advantages(rewards, "max_at_k", k) == pytest.approx(wanted)


@pytest.mark.parametrize(("n", "k"), [(3, 2), (3, 3), (4, 3)])
def test_max_at_k_is_unbiased_for_the_gradient_of_the_expected_best_of_k(n, k):
    # three answers of these rewards and probabilities; every group of n is enumerated, so nothing is sampled
    values, logits = np.array([0.0, 0.4, 1.0]), np.array([0.5, 0.1, -0.3])
    odds = np.exp(logits) / np.exp(logits).sum()

    def expected_best(odds):
        return sum(odds[list(g)].prod() * values[list(g)].max() for g in product(range(3), repeat=k))

    gradient = np.zeros(3)
    for group in product(range(3), repeat=n):
        advantages = group_advantages(values[list(group)], "max_at_k", k)
        score = np.eye(3)[list(group)] - odds  # the gradient of log p of each answer
        gradient += odds[list(group)].prod() * (advantages[:, None] * score).mean(0)
    exact = np.zeros(3)
    for i in range(3):
        up, down = (np.exp(logits + sign * 1e-6 * np.eye(3)[i]) for sign in (1, -1))
        exact[i] = (expected_best(up / up.sum()) - expected_best(down / down.sum())) / 2e-6
    assert gradient == pytest.approx(exact, abs=1e-8)


def test_groups_do_not_see_each_other_in_any_order():
    rewards = np.array([0.0, 9.0, 1.0, 8.0])
    mixed = batch_advantages(rewards, ["a", "b", "a", "b"], "drgrpo")
    assert mixed.tolist() == [-0.5, 0.5, 0.5, -0.5]


def test_ranks_are_taken_within_the_group():
    rewards = [0.001, 0.002, 0.8, 0.9]
    values = batch_advantages(rewards, [0, 0, 1, 1], "rank")
    assert values[:2].tolist() == values[2:].tolist()
    assert values[0] < 0 < values[1]
