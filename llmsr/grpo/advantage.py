"""Advantages: how much better each answer is than its group, as plain functions of arrays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from llmsr.reward import ranked

EPSILON = 1e-6


def group_advantages(rewards: np.ndarray, kind: str = "grpo") -> np.ndarray:
    """Advantages (n,) of the answers to one prompt from their rewards (n,).

    The group's mean is the baseline; `grpo` divides by the group's standard deviation (ddof 1), `drgrpo`
    does not. A group of equal rewards, or of one answer, teaches nothing: zeros.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    if len(rewards) < 2 or np.ptp(rewards) == 0:
        return np.zeros_like(rewards)
    centred = rewards - rewards.mean()
    return centred if kind == "drgrpo" else centred / (rewards.std(ddof=1) + EPSILON)


def batch_advantages(
    rewards: Sequence[float] | np.ndarray, groups: Sequence[Hashable], kind: str = "grpo", rank: bool = False
) -> np.ndarray:
    """Advantages (n,) of answers (n,) whose group is named by `groups` (n,), in any order.

    `rank` replaces the positive rewards of a group by their ranks first.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    result = np.zeros_like(rewards)
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    for positions in members.values():
        values = rewards[positions]
        result[positions] = group_advantages(np.array(ranked(list(values))) if rank else values, kind)
    return result
