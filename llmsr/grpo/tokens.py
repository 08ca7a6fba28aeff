"""Prompts as a model's tokens: its own chat template, or the bare text for a model that has none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from llmsr.proposers.proposer import STOPS, estimated_tokens
from llmsr.proposers.transformers_model import end_tokens, is_chat, preface_end

__all__ = ["PromptTokens", "end_tokens", "stop_test"]

PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TAIL_TOKENS = 12  # enough for the longest of STOPS, one character a token

Messages = Sequence[dict[str, str]]


class PromptTokens:
    """Turns messages into tokens; `plain` tells that the model sees the bare texts, one after the other."""

    def __init__(self, tokenizer: Any, chat_template: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.plain = chat_template == "plain" or (chat_template == "auto" and not is_chat(tokenizer))
        self._begins = self.plain and _adds_first_token(tokenizer)

    @property
    def template(self) -> str | None:
        """A chat template that says the same as `encode`; None where it is the model's own."""
        if not self.plain:
            return None
        return ("{{ bos_token }}" if self._begins else "") + PLAIN_TEMPLATE

    def text(self, messages: Messages) -> str:
        """What the model reads."""
        if self.plain:
            first = self.tokenizer.bos_token if self._begins else ""
            return first + "".join(message["content"] for message in messages)
        return self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)

    def encode(self, messages: Messages) -> tuple[list[int], int]:
        """The tokens, and how many of them the other prompts of the problem begin with too."""
        text = self.text(messages)
        fast = self.tokenizer.is_fast
        # VERL encodes without special tokens as well: a template states its own
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast)
        tokens = list(encoded["input_ids"])
        if not fast:
            return tokens, 0
        boundary = preface_end(text)
        preface = sum(end <= boundary for _, end in encoded["offset_mapping"])
        return tokens, min(preface, len(tokens) - 1)

    def count(self, messages: Messages) -> int:
        """How many tokens the messages come to."""
        return len(self.encode(messages)[0])


def _adds_first_token(tokenizer: Any) -> bool:
    begin = tokenizer.bos_token_id
    return begin is not None and tokenizer("a")["input_ids"][:1] == [begin]


def stop_test(tokenizer: Any) -> Callable[[list[int]], bool]:
    """Whether a raw answer has come to a text behind which no body goes on."""

    def is_over(tokens: list[int]) -> bool:
        text = tokenizer.decode(tokens[-TAIL_TOKENS:], skip_special_tokens=True)
        return any(text.find(stop, 1 if len(tokens) <= TAIL_TOKENS else 0) >= 0 for stop in STOPS)

    return is_over


class AnswerTokens:
    """Counts the tokens of answers where a trainer tells only their text; loads the tokenizer on first use.

    Thread-safe. Without the tokenizer the count is an estimate from the length.
    """

    def __init__(self, model_path: str, trust_remote_code: bool = False) -> None:
        self._model_path = model_path
        self._trust_remote_code = trust_remote_code
        self._tokenizer: Any = None
        self._tried = False
        self._lock = threading.Lock()

    def __call__(self, text: str) -> int:
        with self._lock:  # a fast tokenizer cannot be used by two threads at once
            if not self._tried:
                self._tried = True
                self._tokenizer = self._load()
            if self._tokenizer is None:
                return estimated_tokens(text)
            return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _load(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self._model_path, trust_remote_code=self._trust_remote_code)
        except (OSError, ValueError):
            return None
