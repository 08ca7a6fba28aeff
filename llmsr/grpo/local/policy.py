"""A language model as a policy: answers drawn from it, and their log-probabilities with a gradient.

Both read each prompt once for all of its answers, and what several prompts begin with once for all of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmsr.grpo.local.packed import Preface, row_logits
from llmsr.proposers.sampling import Prompt, Sampler
from llmsr.proposers.shared_prefix import plug_in


@dataclass(frozen=True)
class Asked:
    """The tokens of a prompt; the first `preface` of them are common to many prompts."""

    tokens: list[int]
    preface: int = 0


@dataclass(frozen=True)
class Answer:
    """The tokens of one answer, its end token included where it has one."""

    tokens: list[int]
    prompt: int
    finished: bool


def draw_answers(
    model: Any,
    prompts: Sequence[Asked],
    n: int,
    seeds: Sequence[int],
    *,
    temperature: float,
    max_tokens: int,
    end_tokens: frozenset[int],
    is_over: Callable[[list[int]], bool] | None = None,
) -> list[Answer]:
    """n answers to each prompt, those of one prompt together; `seeds[i]` decides over prompt i."""
    # a new sampler at each call: the one before read its prefaces with other weights
    sampler = Sampler(
        model,
        temperature=temperature,
        top_p=1.0,
        max_tokens=max_tokens,
        end_tokens=end_tokens,
        is_over=is_over or (lambda tokens: False),
    )
    asked = [
        Prompt(prompt.tokens, n, seed, prompt.preface) for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    answers: list[Answer] = []
    for number, samples in enumerate(sampler.sample(asked)):
        for one in samples:
            tokens = one.tokens if one.end is None else [*one.tokens, one.end]
            answers.append(Answer(tokens, number, one.reason == "stop"))
    return answers


@dataclass(frozen=True)
class Logged:
    """Figures of all tokens of some answers, one after the other: `answers[i]` tells whose token i is."""

    chosen: torch.Tensor
    entropy: torch.Tensor
    answers: torch.Tensor


def log_probabilities(
    model: Any,
    prompts: Sequence[list[int]],
    answers: Sequence[Answer],
    n: int,
    temperature: float,
    preface: Preface | None = None,
) -> Logged:
    """Log-probability and entropy of every token of n answers to each prompt, those of one together.

    Only log-probabilities have a gradient.
    `preface` must hold the first tokens of each of these prompts.
    """
    device = model.device
    if plug_in(model):
        groups = [[a.tokens for a in answers[i * n : (i + 1) * n]] for i in range(len(prompts))]
        logits = row_logits(model, prompts, groups, preface or Preface(model, []))
    else:
        logits = _logits_apart(model, prompts, answers, n)
    logged = (logits.float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy = -(logged.exp() * logged).sum(-1)
    chosen = torch.tensor([token for answer in answers for token in answer.tokens], device=device)
    counts = torch.tensor([len(answer.tokens) for answer in answers], device=device)
    return Logged(
        logged.gather(-1, chosen[:, None])[:, 0],
        entropy,
        torch.arange(len(answers), device=device).repeat_interleave(counts),
    )


def _logits_apart(
    model: Any, prompts: Sequence[list[int]], answers: Sequence[Answer], n: int
) -> torch.Tensor:
    """The logits before every token of the answers, by a row per answer, for models of other attention."""
    rows = [[*prompts[i // n], *answer.tokens[:-1]] for i, answer in enumerate(answers)]
    ids = _padded(rows, model.device)
    seen = torch.arange(ids.shape[1], device=model.device)[None] < ids.new_tensor(
        [[len(row)] for row in rows]
    )
    logits = model(ids, attention_mask=seen.long(), use_cache=False).logits
    first = [len(prompts[i // n]) - 1 for i in range(len(answers))]
    read = [(i, first[i] + k) for i, answer in enumerate(answers) for k in range(len(answer.tokens))]
    which, where = torch.tensor(read, device=model.device).T
    return logits[which, where]


def _padded(rows: Sequence[list[int]], device: Any, filling: int = 0) -> torch.Tensor:
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [filling] * (width - len(row)) for row in rows], device=device)
