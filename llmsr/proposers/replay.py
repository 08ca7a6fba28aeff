"""Completions out of a file, in order: for tests, for re-scoring, and for runs whose model has gone."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from llmsr.errors import UserError
from llmsr.prompt import Prompt
from llmsr.proposers.proposer import Completion, estimated_tokens


class Replay:
    """Hands out the completions of a JSONL file whatever the prompt says, then none.

    A line is an object with the text under "completion"; other keys are ignored, but "tokens" and
    "finish_reason" are used. The file is read line by line, so it may be larger than memory; a faulty
    line raises UserError when it is reached. Order is kept for calls one after the other, which is why
    `parallel_prompts` is 1.
    """

    parallel_prompts = 1

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = f"replay:{self.path.name}"
        # two threads must not take the same line
        self._lock = threading.Lock()
        self._line_number = 0
        try:
            self._file = self.path.open(encoding="utf-8")
            self._lines = enumerate(self._file, start=1)
        except OSError as error:
            raise UserError(f"cannot read --replay_path {self.path}: {error.strerror}") from None

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """The next n completions; fewer or none at the end of the file."""
        with self._lock:
            taken = (self._next() for _ in range(n))
            return [completion for completion in taken if completion is not None]

    def skip(self, n: int) -> None:
        """Leave out the next n completions: a resumed run has them already."""
        with self._lock:
            for _ in range(n):
                if self._next() is None:
                    return

    def close(self) -> None:
        self._file.close()

    def _next(self) -> Completion | None:
        try:
            for number, line in self._lines:
                self._line_number = number
                if line.strip():
                    return self._completion(line)
        except UnicodeDecodeError as error:
            raise UserError(f"{self._place(1)}: not UTF-8 text ({error.reason})") from None
        return None

    def _completion(self, line: str) -> Completion:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            told = f'not JSON ({error}); expected {{"completion": "..."}}'
            raise UserError(f"{self._place()}: {told}") from None
        if not isinstance(record, dict) or not isinstance(record.get("completion"), str):
            raise UserError(f'{self._place()}: no text under "completion"')
        text = record["completion"]
        tokens, reason = record.get("tokens"), record.get("finish_reason")
        reason = reason if isinstance(reason, str) else "replayed"
        if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0:
            return Completion(text, tokens, reason)
        return Completion(text, estimated_tokens(text), reason, tokens_estimated=True)

    def _place(self, ahead: int = 0) -> str:
        return f"{self.path}, line {self._line_number + ahead}"
