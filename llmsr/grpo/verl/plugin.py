"""What VERL loads from us into its trainer process: a replay buffer that polls faster, and our advantages.

VERL imports this file by its path (`trainer.v1.sampler.custom_sampler`); it needs verl, so nothing else
imports it. LLMSR_RUN_DIR names the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from llmsr.grpo.advantage import ADVANTAGES, batch_advantages
from llmsr.grpo.run_record import RunRecord

POLL_SECONDS = 0.1  # VERL's own 2 s are a floor under every generation


class PromptReplayBuffer(ReplayBuffer):
    """VERL's replay buffer, asked ten times a second whether a step's answers are complete."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "poll_interval": POLL_SECONDS})


def _estimator(kind: str) -> Any:
    def estimate(
        token_level_rewards: torch.Tensor,
        response_mask: torch.Tensor,
        index: Any,
        config: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages (answers, tokens), the same for all tokens of an answer; returns are the same."""
        settings = RunRecord.read(Path(os.environ["LLMSR_RUN_DIR"])).settings
        rewards = token_level_rewards.sum(-1)
        values = batch_advantages(
            rewards.double().cpu().numpy(), list(index), kind, entropic_kl=settings.entropic_kl
        )
        advantages = torch.as_tensor(values, dtype=rewards.dtype, device=rewards.device)
        advantages = advantages.unsqueeze(-1) * response_mask
        return advantages, advantages

    return estimate


for _kind in ADVANTAGES:
    register_adv_est(f"llmsr_{_kind}")(_estimator(_kind))
