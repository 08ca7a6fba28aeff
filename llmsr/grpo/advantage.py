"""Advantages: how much better each answer is than its group, as plain functions of arrays.

A group is the answers to one prompt. It teaches something if at least one of its answers is valid (a reward
of 0 or more, see `llmsr.reward`) and its rewards differ by `FLOOR` or more; otherwise all its advantages are
zero: a standard deviation would blow up what only the rounding of refits parts.

    grpo           distance from the group's mean, over its standard deviation (Shao et al., 2024)
    drgrpo         the distance alone (Dr.GRPO, Liu et al., 2025)
    rank           as grpo, the positive rewards replaced by their ranks within the group
    best_of_group  as grpo, with 1 for the best and 0 for all others: only the best counts
    entropic       exp(beta r) over the mean of the others' exp(beta r), minus 1: an answer counts by how far
                   it stands out at the top; beta such that the weights' divergence from uniform is a given
                   number of nats (as TTT-Discover has it)
    max_at_k       k times what an answer adds to the best of k, on average over the k - 1 others: unbiased
                   for the gradient of the expected best of k (PKPO, Walder and Karkhanis, 2025)

With drgrpo and max_at_k the loss sums over an answer's tokens and divides by a constant (`SUMMED`): a mean
over tokens would prefer short answers. With the others all tokens of a step weigh alike.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from llmsr.reward import COPY, ranked

SUMMED = ("drgrpo", "max_at_k")
EPSILON = 1e-6
NOISE = 1e-6  # closer rewards are equal: one equation written in two ways is fitted a little apart
FLOOR = 1e-3  # of a group's range of rewards: 3% of a decade of NMSE at most, see `neg_log_nmse`
ENTROPIC_KL = math.log(2)
FEWEST_VALID = 3  # of an entropic group; with fewer, one lucky answer would take all the weight
HIGHEST_WEIGHT = 10.0  # of one entropic answer, where 1 is that of an average one
STEEPEST = 50.0  # beta times the range of rewards at most: exp(-50) is nothing


def batch_advantages(
    rewards: Sequence[float] | np.ndarray,
    groups: Sequence[Hashable],
    kind: str = "grpo",
    k: int = 2,
) -> np.ndarray:
    """Advantages (n,) of answers (n,) whose group is named by `groups` (n,), in any order."""
    rewards = np.asarray(rewards, dtype=np.float64)
    result = np.zeros_like(rewards)
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    for positions in members.values():
        result[positions] = group_advantages(rewards[positions], kind, k)
    return result


def teaches(rewards: np.ndarray) -> bool:
    """Whether a group's rewards (n,) say that one of its answers is better than another."""
    return bool((rewards >= COPY).any() and np.ptp(rewards) >= FLOOR)


def group_advantages(rewards: np.ndarray, kind: str = "grpo", k: int = 2) -> np.ndarray:
    """Advantages (n,) of the answers to one prompt from their rewards (n,); see the module for `kind`."""
    rewards = np.asarray(rewards, dtype=np.float64)
    if not teaches(rewards):
        return np.zeros_like(rewards)
    rewards = _levelled(rewards)
    if kind == "max_at_k":
        return max_at_k(rewards, k)
    if kind == "entropic" and (rewards >= COPY).sum() >= FEWEST_VALID:
        return entropic(rewards)
    if kind == "rank":
        rewards = np.array(ranked(list(rewards)))
    elif kind == "best_of_group":
        rewards = (rewards == rewards.max()).astype(np.float64)
    centred = rewards - rewards.mean()
    return centred if kind == "drgrpo" else centred / (rewards.std(ddof=1) + EPSILON)


def max_at_k(rewards: np.ndarray, k: int) -> np.ndarray:
    """k (max(r_i, m) - m) on average over all m, the best rewards of k - 1 of the others; k is at most n.

    What is taken off does not depend on the answer itself, so the estimate stays unbiased.
    """
    n = len(rewards)
    k = min(k, n)
    order = np.argsort(rewards, kind="stable")
    ascending = rewards[order]
    subsets = math.comb(n - 1, k - 1)
    values = np.zeros(n)
    for place in range(n):
        others = np.delete(ascending, place)
        # others[j] is the best of k - 1 others in as many subsets as choose k - 2 of those below it
        weights = np.array([math.comb(j, k - 2) for j in range(n - 1)]) / subsets
        values[order[place]] = k * (weights * np.maximum(ascending[place] - others, 0.0)).sum()
    return values


def _levelled(rewards: np.ndarray) -> np.ndarray:
    """The rewards, each at the lowest of those that no gap of NOISE parts from it."""
    order = np.argsort(rewards, kind="stable")
    ascending = rewards[order]
    first = np.concatenate([[True], np.diff(ascending) >= NOISE])
    levelled = np.empty_like(rewards)
    levelled[order] = ascending[first][np.cumsum(first) - 1]
    return levelled


def entropic(rewards: np.ndarray, kl: float = ENTROPIC_KL) -> np.ndarray:
    """exp(beta r_i) / mean over the others of exp(beta r_j), at most `HIGHEST_WEIGHT`, minus 1."""
    exponents = _temperature(rewards, kl) * (rewards - rewards.max())
    scaled = np.exp(exponents)
    others = (scaled.sum() - scaled) / (len(rewards) - 1)
    return np.minimum(scaled / others, HIGHEST_WEIGHT) - 1


def _temperature(rewards: np.ndarray, kl: float) -> float:
    """The beta whose softmax of beta * rewards diverges from uniform by `kl`, by bisection.

    Where ties at the top make that impossible it is the steepest.
    """
    low, high = 0.0, STEEPEST / float(np.ptp(rewards))
    if _divergence(high * rewards) <= kl:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(middle * rewards) < kl else (low, middle)
    return low


def _divergence(logits: np.ndarray) -> float:
    """KL(softmax of the logits || uniform) in nats."""
    shifted = logits - logits.max()
    weights = np.exp(shifted)
    total = weights.sum()
    return float((weights * shifted).sum() / total - math.log(total) + math.log(len(logits)))
