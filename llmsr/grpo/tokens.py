"""How many tokens answers have, where a trainer tells only their text."""

from __future__ import annotations

import threading
from typing import Any

from llmsr.proposers.proposer import estimated_tokens


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
