"""The reward function as VERL imports it: `llmsr_reward.py` of a run's directory asks for it by path."""

from __future__ import annotations

import atexit
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmsr.grpo.scoring.reward_function import RewardFunction
from llmsr.grpo.scoring.score import Score, fault, score_with_flags
from llmsr.reward import LOWEST


def compute_score_of(run_dir: str | Path) -> Callable[..., Score]:
    """A `compute_score` for VERL: made lazily, since VERL imports the file in processes that never score."""
    lock = threading.Lock()
    made: list[RewardFunction] = []

    def compute_score(
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Score:
        try:
            with lock:
                if not made:
                    made.append(RewardFunction(run_dir))
                    atexit.register(made[0].close)
            return made[0].compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)
        except Exception as error:  # noqa: BLE001 - VERL drops an answer whose reward raises
            traceback.print_exc()
            return score_with_flags(fault(error), LOWEST, False)

    return compute_score
