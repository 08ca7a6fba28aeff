"""What every source of completions has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
