"""Completions from a model in this process: a hub id, a local directory, or the embedded skeleton-lm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from llmsr.models.chat_template import ChatTemplate, end_tokens, stop_test
from llmsr.models.loading import load_model
from llmsr.prompt import Chat, Prompt, cut_at_stops
from llmsr.proposers.proposer import BatchProposer, Completion, ProposerFailure
from llmsr.settings import ProposerConfig

BATCH_PROMPTS = 8
FEWEST_TOKENS = 16  # of an answer
TEMPLATE_MODES = {"auto": "auto", "chat": "model", "completion": "plain"}


class TransformersModel(BatchProposer):
    """Samples from a model that transformers loads, on CPU or GPU.

    Weights come from safetensors files only, and code that comes with a model is not run unless asked.
    Chat models get the prompt as a chat whose answer is begun, base models the bare text; `api_mode`
    overrules that. On a
    CPU the same prompts and seeds give the same texts again, on the same machine with the same number
    of threads. `propose_many` decodes several prompts together, which costs less than one after the
    other; calls from several threads wait for one another.
    """

    parallel_prompts = 1

    def __init__(self, config: ProposerConfig, path: str, name: str | None = None) -> None:
        self.name = name or f"transformers:{Path(path).name if Path(path).exists() else path}"
        self.batch_prompts = config.parallel_prompts or BATCH_PROMPTS
        self._lock = threading.Lock()
        self._tokenizer, model = load_model(config, path)
        self._room = getattr(model.config, "max_position_embeddings", None) or 2**31
        self._template = ChatTemplate(self._tokenizer, TEMPLATE_MODES[config.api_mode])
        self._over: dict[tuple[str, ...], Callable[[list[int]], bool]] = {}
        self._max_tokens = config.max_tokens

        from llmsr.models.sampler import Drawing, Sampler

        drawing = Drawing(
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            end_tokens=end_tokens(model, self._tokenizer),
            top_p=config.top_p,
        )
        self._sampler = Sampler(model, drawing)

    def propose_many(self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Completion]]:
        """n completions of each prompt; `seeds[i]` alone decides over prompt i, but for rounding."""
        from llmsr.models import sampler

        chats, tokenised = zip(*(self._fitting(prompt) for prompt in prompts), strict=True)
        room = self._room - max(len(tokens) for tokens, _ in tokenised)
        asked = [
            sampler.Prompt(tokens, n, seed % 2**63, preface)
            for (tokens, preface), seed in zip(tokenised, seeds, strict=True)
        ]
        stops = chats[0].stops
        with self._lock:
            if stops not in self._over:
                self._over[stops] = stop_test(self._tokenizer, stops)
            self._sampler.drawing = replace(
                self._sampler.drawing,
                is_over=self._over[stops],
                max_tokens=min(self._max_tokens + chats[0].thinking, room),
            )
            started = time.monotonic()
            sampled = self._sampler.sample(asked)
            seconds = (time.monotonic() - started) / (len(asked) * n)

        def read(chat: Chat, one: sampler.Sampled) -> Completion:
            plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
            text = cut_at_stops(self._tokenizer.decode(one.tokens, **plain), chat.stops)
            return Completion(chat.begun + text, len(one.tokens), one.reason, seconds)

        return [[read(chat, one) for one in samples] for chat, samples in zip(chats, sampled, strict=True)]

    def _fitting(self, prompt: Prompt) -> tuple[Chat, tuple[list[int], int]]:
        """A prompt and its tokens, made shorter until the context has room for an answer."""
        chat = prompt.form(not self._template.plain)
        tokens, preface = self._template.encode(chat)
        if self._room - len(tokens) >= min(self._max_tokens, FEWEST_TOKENS):
            return chat, (tokens, preface)
        if prompt.shorten is not None:
            return self._fitting(prompt.shorten())
        raise ProposerFailure(
            "prompt_too_long",
            f"the prompt has {len(tokens)} tokens and {self.name} takes {self._room} in all",
        )

    def close(self) -> None:
        """Nothing to stop."""
