"""VERL's way to one answer, whose beginning the prompt gives and which ends at the row's stops.

VERL makes this loop in its agent workers (`rollout.agent.default_agent_loop`); it needs verl, so nothing else
imports it. What the answer is begun with counts as prompt: it carries no gradient.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from llmsr.models.chat_template import ChatTemplate
from llmsr.prompt import Chat


class BegunAnswerLoop(SingleTurnAgentLoop):
    """One turn; the row's `extra_info` holds the begun text and, as JSON, the stops."""

    _begun = ""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        info = row["extra_info"]
        self._begun = info["begun"]
        if stops := json.loads(info["stops"]):
            # the token that holds a stop is kept, so that the model learns to end there
            sampling_params = {**sampling_params, "stop": stops}
        return await super().run(sampling_params, **row)

    async def ct_build_initial_tokens(self, messages: list[dict], *_: Any, **__: Any) -> list[int]:
        """The prompt's tokens as the local trainer and the search have them."""
        thinking = bool(self.apply_chat_template_kwargs.get("enable_thinking"))
        chat = Chat(tuple(messages), self._begun, thinking=int(thinking))
        return self._cap_text_prompt_length(_template(self.tokenizer).encode(chat)[0])


@lru_cache(maxsize=4)
def _template(tokenizer: Any) -> ChatTemplate:
    return ChatTemplate(tokenizer)  # VERL has put another template in place where the model's own is not used
