"""A language model as a policy: answers drawn from it, and their log-probabilities with a gradient.

Both read each prompt once for all of its answers, which is most of the work when prompts are long and
answers short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from llmsr.llm.sampling import Prompt, Sampler
from llmsr.llm.shared_prefix import cache_argument


@dataclass(frozen=True)
class Answer:
    """The tokens of one answer, its end token included where it has one."""

    tokens: list[int]
    prompt: int
    finished: bool


def draw_answers(
    model: Any,
    prompts: Sequence[list[int]],
    n: int,
    seeds: Sequence[int],
    *,
    temperature: float,
    max_tokens: int,
    end_tokens: frozenset[int],
    is_over: Callable[[list[int]], bool] | None = None,
    prefaces: Sequence[int] | None = None,
) -> list[Answer]:
    """n answers to each prompt, those of one prompt together; `seeds[i]` decides over prompt i.

    `prefaces[i]` leading tokens of prompt i are common to several prompts and read once.
    """
    over = is_over or (lambda tokens: False)
    # a new sampler at each call: the one before read its prefaces with other weights
    sampler = Sampler(
        model, temperature=temperature, top_p=1.0, max_tokens=max_tokens, end_tokens=end_tokens, is_over=over
    )
    asked = [
        Prompt(tokens, n, seed, preface)
        for tokens, seed, preface in zip(prompts, seeds, prefaces or [0] * len(prompts), strict=True)
    ]
    end = min(end_tokens) if end_tokens else None
    answers: list[Answer] = []
    for number, samples in enumerate(sampler.sample(asked)):
        for one in samples:
            finished = one.reason == "stop"
            tokens = list(one.tokens)
            if finished and end is not None and not over(tokens):
                tokens.append(end)
            answers.append(Answer(tokens, number, finished))
    return answers


def log_probabilities(
    model: Any, prompts: Sequence[list[int]], answers: Sequence[Answer], n: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability, entropy and mask, each (answers, tokens), of answers as `draw_answers` gives them.

    Prompts are padded on the right and their padding is masked out behind them, so that no row attends to
    nothing.
    """
    device = model.device
    lengths = torch.tensor([len(tokens) for tokens in prompts], device=device)
    ids = _padded([list(tokens) for tokens in prompts], device)
    seen = torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]
    cache = DynamicCache()
    ends, where = torch.unique(lengths - 1, return_inverse=True)
    kept = {cache_argument(model): cache}
    out = model(ids, attention_mask=seen.long(), **kept, use_cache=True, logits_to_keep=ends)
    first = out.logits[torch.arange(len(prompts), device=device), where]

    cache.batch_repeat_interleave(n)
    tokens = _padded([answer.tokens for answer in answers], device)
    counts = torch.tensor([len(answer.tokens) for answer in answers], device=device)
    mask = torch.arange(tokens.shape[1], device=device)[None] < counts[:, None]
    logits = first.repeat_interleave(n, 0)[:, None]
    if tokens.shape[1] > 1:
        steps = torch.arange(tokens.shape[1] - 1, device=device)
        out = model(
            tokens[:, :-1],
            attention_mask=torch.cat([seen.repeat_interleave(n, 0), mask[:, :-1]], 1).long(),
            position_ids=lengths.repeat_interleave(n)[:, None] + steps[None],
            **kept,
            use_cache=True,
        )
        logits = torch.cat([logits, out.logits], 1)
    logged = (logits.float() / temperature).log_softmax(-1)
    chosen = logged.gather(-1, tokens[..., None])[..., 0]
    entropy = -(logged.exp() * logged).sum(-1)
    return chosen, entropy, mask


def _padded(rows: Sequence[list[int]], device: Any) -> torch.Tensor:
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
