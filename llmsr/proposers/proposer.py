"""What every source of completions has in common; and the source that is a file."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from llmsr.errors import UserError
from llmsr.prompt import Prompt


@dataclass(frozen=True)
class Completion:
    """One answer of a model, what it was begun with included.

    `tokens` were generated for it (a guess where `tokens_estimated` says so). `seconds` is this
    completion's share of the time its request took, `prompt_tokens` that of the prompt's tokens, 0 where no
    server counts them.
    """

    text: str
    tokens: int
    finish_reason: str
    seconds: float = 0.0
    tokens_estimated: bool = False
    prompt_tokens: int = 0


class ProposerFailure(Exception):
    """A prompt that got no completions, retries included; `kind` is a word to count by.

    Kinds: "rate_limit", "server", "timeout", "connection", "answer", "prompt_too_long", "closed". The
    search counts it and asks the next prompt.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Proposer(Protocol):
    """A source of completions.

    `propose` may be called by several threads at once; up to `parallel_prompts` calls gain from it. It
    returns at most `n` completions, fewer only when the source has come to its end. It raises
    `ProposerFailure` for a prompt that failed and `UserError` for what no further prompt will mend (a
    wrong key or model).

    A source that reads a fixed list also has `skip(n)`.
    """

    name: str
    parallel_prompts: int

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]: ...

    def close(self) -> None: ...


@runtime_checkable
class BatchProposer(Proposer, Protocol):
    """A source that decodes `batch_prompts` prompts together, for less than one after the other."""

    batch_prompts: int

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        """n completions of one prompt."""
        return self.propose_many([prompt], n, [seed])[0]

    def propose_many(
        self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int]
    ) -> list[list[Completion]]: ...


def estimated_tokens(text: str) -> int:
    """A guess at the tokens of a text: four characters each."""
    return (len(text) + 3) // 4


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
