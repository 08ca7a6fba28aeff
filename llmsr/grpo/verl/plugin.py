"""What VERL loads from us into its trainer process: a replay buffer that polls faster, and rank advantages.

VERL imports this file by its path (`trainer.v1.sampler.custom_sampler`); it needs verl, so nothing else
imports it.
"""

from __future__ import annotations

from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from llmsr.grpo.advantage import batch_advantages

POLL_SECONDS = 0.1  # VERL's own 2 s are a floor under every generation


class PromptReplayBuffer(ReplayBuffer):
    """VERL's replay buffer, asked ten times a second whether a step's answers are complete."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "poll_interval": POLL_SECONDS})


def _rank_estimator(kind: str) -> Any:
    def estimate(
        token_level_rewards: torch.Tensor,
        response_mask: torch.Tensor,
        index: Any,
        config: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages (answers, tokens) from rewards ranked within each group; returns are the same."""
        rewards = token_level_rewards.sum(-1)
        values = batch_advantages(rewards.double().cpu().numpy(), list(index), kind, rank=True)
        advantages = torch.as_tensor(values, dtype=rewards.dtype, device=rewards.device)
        advantages = advantages.unsqueeze(-1) * response_mask
        return advantages, advantages

    return estimate


for _kind in ("grpo", "drgrpo"):
    register_adv_est(f"llmsr_rank_{_kind}")(_rank_estimator(_kind))
