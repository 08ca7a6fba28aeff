"""What every source of completions has in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from llmsr.config import option
from llmsr.prompt import Prompt

PROPOSERS = ("auto", "skeleton-lm", "grammar", "openai", "transformers", "vllm", "local-engine", "replay")


@dataclass(frozen=True)
class Completion:
    """One answer of a model, what it was begun with included.

    `tokens` were generated for it (a guess where `tokens_estimated` says so). `seconds` is this
    completion's share of the time its request took.
    """

    text: str
    tokens: int
    finish_reason: str
    seconds: float = 0.0
    tokens_estimated: bool = False


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

    def propose_many(
        self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int]
    ) -> list[list[Completion]]: ...


@dataclass(frozen=True)
class ProposerConfig:
    """Where completions come from."""

    proposer: str = option(
        "auto",
        "source of completions; auto: replay with --replay_path, openai with --use_api or --api_base, "
        "local-engine with --port, transformers with --model_path, otherwise the embedded skeleton-lm",
        choices=PROPOSERS,
    )
    use_api: bool = option(False, "ask a hosted model (proposer openai)")
    model_path: str | None = option(None, "model as a hub id or a local directory (transformers, vllm)")
    api_base: str | None = option(
        None, "URL of an OpenAI-compatible server, for example http://127.0.0.1:8000/v1"
    )
    api_model: str | None = option(None, "model name to ask the server for; not needed if it serves just one")
    api_mode: str = option(
        "auto",
        "how to ask: chat, completion (the bare prompt), or auto, which is chat where the model has a chat "
        "template",
        choices=("auto", "chat", "completion"),
    )
    port: int | None = option(None, "port of LLM-SR's local engine at 127.0.0.1")
    replay_path: str | None = option(None, 'JSONL file of completions to replay, lines {"completion": ...}')
    temperature: float = option(1.0, "sampling temperature; 0 is greedy")
    top_p: float = option(0.98, "share of probability that is sampled from, 0 to 1")
    max_tokens: int = option(512, "tokens per completion at most")
    timeout: float = option(120.0, "seconds to wait for an answer of a server")
    retries: int = option(5, "times that a failed request is sent again before its prompt counts as failed")
    parallel_prompts: int | None = option(
        None, "prompts in flight at once; default 8 for servers, 1 in this process"
    )
    device: str = option("auto", "where a local model runs: auto, cpu, cuda, cuda:1, mps")
    dtype: str = option("auto", "numbers of a local model: auto, float32, bfloat16, float16")
    gpu_memory_utilization: float = option(0.9, "share of a GPU's memory that a started vllm may take")
    vllm_args: str = option("", 'more arguments for `vllm serve`, for example "--max-model-len 4096"')
    trust_remote_code: bool = option(
        False, "run Python code that comes with a model; only for models you trust"
    )


def estimated_tokens(text: str) -> int:
    """A guess at the tokens of a text: four characters each."""
    return (len(text) + 3) // 4


def scrubbed(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text without `secrets` and what else looks like a key, on one line of at most 500 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"\b(?:sk|pk|hf|key)[-_][A-Za-z0-9_*-]{6,}", "***", text)
    text = re.sub(r"(?i)\b(bearer|basic)\s+[^\s\"',}]+", r"\1 ***", text)
    text = re.sub(r"(?i)(api[-_]?key[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+", r"\1***", text)
    text = re.sub(r"//[^/\s@]{1,200}@", "//***@", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:497] + "..."
