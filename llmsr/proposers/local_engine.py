"""Completions from LLM-SR's local engine: `POST /completions` with {prompt, repeat_prompt, params}."""

from __future__ import annotations

import time

from llmsr.errors import UserError
from llmsr.prompt import Prompt, cut_at_stops
from llmsr.proposers.proposer import Completion, estimated_tokens
from llmsr.proposers.service import Refusal, Service, Transient
from llmsr.settings import ProposerConfig


class LocalEngine:
    """Asks the engine at 127.0.0.1:`port`, which answers {"content": [text, ...]}.

    The protocol counts no tokens, so theirs are guesses. Faults are retried as for other servers; an
    engine that never answered is a UserError.
    """

    def __init__(self, config: ProposerConfig) -> None:
        if config.port is None or not 0 < config.port < 65536:
            raise UserError(f"--port must be the port of the local engine, 1 to 65535, it is {config.port}")
        self.config = config
        self.name = f"local-engine:{config.port}"
        self.parallel_prompts = config.parallel_prompts or 1
        self._service = Service(config, f"http://127.0.0.1:{config.port}", "engine", "--port")

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions of one request."""
        return self._service.retried(lambda: self._request(prompt.text, n, seed), seed)

    def close(self) -> None:
        self._service.close()

    def _request(self, prompt: str, n: int, seed: int) -> list[Completion]:
        params = {
            "do_sample": self.config.temperature > 0,
            # the engine hands this to transformers, which refuses a temperature of 0
            "temperature": self.config.temperature or None,
            "top_p": self.config.top_p,
            "top_k": None,
            "max_new_tokens": self.config.max_tokens,
            "seed": seed,
            "add_special_tokens": False,
            "skip_special_tokens": True,
        }
        started = time.monotonic()
        try:
            body = {"prompt": prompt, "repeat_prompt": n, "params": params}
            answer = self._service.request("/completions", body)
        except Refusal as refusal:
            told = f"refuses the request (status {refusal.status}: {refusal}): is it LLM-SR's engine?"
            raise UserError(f"{self._service.shown} {told}") from None
        content = answer.get("content") if isinstance(answer, dict) else None
        content = [content] if isinstance(content, str) else content
        if not isinstance(content, list) or not content or not all(isinstance(text, str) for text in content):
            raise Transient("answer", "the answer holds no completions under content")
        seconds = (time.monotonic() - started) / len(content)
        texts = [cut_at_stops(text) for text in content[:n]]
        return [Completion(text, estimated_tokens(text), "stop", seconds, True) for text in texts]
