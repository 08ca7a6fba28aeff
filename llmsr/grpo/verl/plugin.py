"""What VERL loads from us into its trainer process: a replay buffer that polls faster, and our advantages.

VERL imports this file by its path (`trainer.v1.sampler.custom_sampler`); it needs verl, so nothing else
imports it. LLMSR_RUN_DIR names the run.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from llmsr.grpo.advantage import batch_advantages
from llmsr.grpo.plan import SAVE_SECONDS
from llmsr.grpo.run_record import RunRecord
from llmsr.grpo.settings import ADVANTAGES
from llmsr.grpo.verl.config import NEVER

POLL_SECONDS = 0.1  # VERL's own 2 s are a floor under every generation


class PromptReplayBuffer(ReplayBuffer):
    """VERL's replay buffer, asked ten times a second whether a step's answers are complete.

    Once a step it also says whether the step is saved, since VERL counts steps alone and a step may take a
    second or a minute.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "poll_interval": POLL_SECONDS})
        self._settings = kwargs["refill_fn"].__self__.config.trainer  # the trainer's method refills
        self._by_time = self._settings.save_freq >= NEVER
        self._saved = time.monotonic()

    def sample(self, *arguments: Any, **keywords: Any) -> Any:
        batch = super().sample(*arguments, **keywords)
        if self._by_time:
            due = time.monotonic() - self._saved > SAVE_SECONDS
            self._settings.save_freq = 1 if due else NEVER
            self._saved = time.monotonic() if due else self._saved
        return batch


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
        values = batch_advantages(rewards.double().cpu().numpy(), list(index), kind, settings.k)
        advantages = torch.as_tensor(values, dtype=rewards.dtype, device=rewards.device)
        advantages = advantages.unsqueeze(-1) * response_mask
        return advantages, advantages

    return estimate


for _kind in ADVANTAGES:
    register_adv_est(f"llmsr_{_kind}")(_estimator(_kind))
