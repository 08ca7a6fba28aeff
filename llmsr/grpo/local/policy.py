"""A language model as a policy: answers drawn from it, and their log-probabilities with a gradient.

Both read each prompt once for all of its answers, and what several prompts begin with once for all of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from llmsr.llm.sampling import Prompt, Sampler
from llmsr.llm.shared_prefix import cache_argument, layers_of, serves


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
    over = is_over or (lambda tokens: False)
    # a new sampler at each call: the one before read its prefaces with other weights
    sampler = Sampler(
        model, temperature=temperature, top_p=1.0, max_tokens=max_tokens, end_tokens=end_tokens, is_over=over
    )
    asked = [
        Prompt(prompt.tokens, n, seed, prompt.preface) for prompt, seed in zip(prompts, seeds, strict=True)
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


@dataclass(frozen=True)
class Logged:
    """Figures of all tokens of some answers, one after the other: `answers[i]` tells whose token i is."""

    chosen: torch.Tensor
    entropy: torch.Tensor
    answers: torch.Tensor


class Preface:
    """Leading tokens of several prompts, read once; `backward` takes the gradients of all of them on.

    What is computed behind them stops at their keys and values, so that a graph may be freed group by group.
    """

    def __init__(self, model: Any, tokens: Sequence[int]) -> None:
        cache = DynamicCache()
        if tokens and serves(model.config):
            ids = torch.tensor([list(tokens)], device=model.device)
            model.base_model(ids, **{cache_argument(model): cache}, use_cache=True)
        self.length = cache.get_seq_length()
        self._read = [tensor for layer in layers_of(cache) for tensor in layer]
        self._given = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in self._read]

    def cache(self, rows: int) -> DynamicCache:
        """A cache that begins with the preface in each of `rows` rows."""
        cache = DynamicCache()
        for number, layer in enumerate(zip(self._given[::2], self._given[1::2], strict=True)):
            keys, values = (tensor.expand(rows, -1, -1, -1) for tensor in layer)
            cache.update(keys, values, number)
        return cache

    def backward(self) -> None:
        """Add the preface's part to the gradients of the model's weights."""
        pairs = zip(self._read, self._given, strict=True)
        used = [(read, given.grad) for read, given in pairs if given.grad is not None]
        if used:
            torch.autograd.backward([read for read, _ in used], [gradient for _, gradient in used])


def log_probabilities(
    model: Any,
    prompts: Sequence[list[int]],
    answers: Sequence[Answer],
    n: int,
    temperature: float,
    preface: Preface | None = None,
    *,
    entropy_gradient: bool = True,
) -> Logged:
    """Log-probability and entropy of every token of n answers to each prompt, those of one together.

    `preface` must hold the first tokens of each of these prompts.
    """
    device = model.device
    logits_of = _logits_together if serves(model.config) else _logits_apart
    logits = logits_of(model, prompts, answers, n, preface or Preface(model, []))
    logged = (logits.float() / temperature).log_softmax(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropy = -(logged.exp() * logged).sum(-1)
    chosen = torch.tensor([token for answer in answers for token in answer.tokens], device=device)
    counts = torch.tensor([len(answer.tokens) for answer in answers], device=device)
    return Logged(
        logged.gather(-1, chosen[:, None])[:, 0],
        entropy,
        torch.arange(len(answers), device=device).repeat_interleave(counts),
    )


def _logits_together(
    model: Any, prompts: Sequence[list[int]], answers: Sequence[Answer], n: int, preface: Preface
) -> torch.Tensor:
    """The logits of all tokens of the answers, in order.

    A prompt and its answers are one row, in which an answer sees the prompt and itself: nothing is read
    twice, and only rows are padded.
    """
    device = model.device
    rows, positions, owners, read = [], [], [], []
    for number, prompt in enumerate(prompts):
        row, place = list(prompt[preface.length :]), list(range(preface.length, len(prompt)))
        owner, last = [-1] * len(row), len(row) - 1
        for i, answer in enumerate(answers[number * n : (number + 1) * n]):
            if not answer.tokens:
                continue
            behind = len(answer.tokens) - 1
            read += [(number, last), *((number, len(row) + k) for k in range(behind))]
            row += answer.tokens[:-1]
            place += range(len(prompt), len(prompt) + behind)
            owner += [i] * behind
        rows.append(row)
        positions.append(place)
        owners.append(owner)
    whose = _padded(owners, device, -2)
    seen = ((whose[:, None] == whose[:, :, None]) | (whose == -1)[:, None]).tril()
    hidden = model.base_model(
        _padded(rows, device),
        attention_mask=torch.cat([seen.new_ones(*seen.shape[:2], preface.length), seen], 2)[:, None],
        position_ids=_padded(positions, device),
        **{cache_argument(model): preface.cache(len(rows))},
        use_cache=True,
    )[0]
    which, where = torch.tensor(read, device=device).T
    return model.get_output_embeddings()(hidden[which, where])


def _logits_apart(
    model: Any, prompts: Sequence[list[int]], answers: Sequence[Answer], n: int, preface: Preface
) -> torch.Tensor:
    """The same by a row per answer, for models whose attention takes no mask of ours."""
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
