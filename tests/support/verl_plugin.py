"""Our plugin as VERL's trainer loads it, once in a process: VERL registers a name only once."""

from __future__ import annotations

from functools import cache
from typing import Any

from llmsr.grpo.verl.config import PLUGIN


@cache
def loaded_plugin() -> Any:
    """The replay buffer of the plugin, whose advantages are registered with VERL from now on."""
    from verl.utils.import_utils import load_extern_object

    return load_extern_object(str(PLUGIN), "PromptReplayBuffer")
