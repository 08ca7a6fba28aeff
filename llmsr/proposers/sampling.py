"""Token by token sampling from a causal language model, with one prefill per prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from llmsr.proposers import shared_prefix

KEPT_PREFACES = 4
LIKELY_TOKENS = 128  # looked at first; only where they are less likely than top_p all are sorted
WORTH_DROPPING = 0.25  # share of finished samples at which the others go on without them


@dataclass(frozen=True)
class Prompt:
    """Tokens to continue `n` times; the first `preface` of them are common to many prompts."""

    tokens: list[int]
    n: int
    seed: int
    preface: int = 0


@dataclass
class Sampled:
    """The tokens of one continuation; `reason` is "stop" or "length", `end` the end token that was drawn."""

    tokens: list[int] = field(default_factory=list)
    reason: str = "length"
    end: int | None = None


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn, and where a continuation ends: at an end token, when it is over, or cut off."""

    temperature: float
    max_tokens: int
    end_tokens: frozenset[int] = frozenset()
    is_over: Callable[[list[int]], bool] = lambda tokens: False
    top_p: float = 1.0


class Sampler:
    """Draws continuations from `model`.

    Each prompt has its own random numbers, from its own seed, so its continuations do not depend on the
    prompts beside it but by rounding. Prompts are decoded together where the architecture allows it.
    """

    def __init__(self, model: Any, drawing: Drawing) -> None:
        self.model = model
        self.drawing = drawing
        self._cache_argument = shared_prefix.cache_argument(model)
        self.shares_prefix = shared_prefix.plug_in(model)
        self._prefaces: OrderedDict[tuple[int, ...], DynamicCache] = OrderedDict()

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Prompt]) -> list[list[Sampled]]:
        """The continuations of each prompt."""
        if self.shares_prefix:
            return self._decode(prompts)
        return [self._decode([prompt])[0] for prompt in prompts]

    def _decode(self, prompts: Sequence[Prompt]) -> list[list[Sampled]]:
        read = [self._prefill(prompt) for prompt in prompts]
        counts = [prompt.n for prompt in prompts]
        logits = torch.cat([logits.expand(n, -1) for (logits, _), n in zip(read, counts, strict=True)])
        cache: Any
        if self.shares_prefix:
            cache = shared_prefix.SharedPrefixCache([cache for _, cache in read], counts, _common(prompts))
        else:
            cache = read[0][1]
            cache.batch_repeat_interleave(counts[0])
        # on the CPU, so that a seed means the same draws on every device
        generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        samples = [[Sampled() for _ in range(n)] for n in counts]
        rows = [(p, i) for p, n in enumerate(counts) for i in range(n)]
        device = logits.device
        positions = torch.tensor([[len(prompts[p].tokens)] for p, _ in rows], device=device)
        # a ready mask of four dimensions keeps the model from building one that attention will not look at
        mask = torch.zeros(1, 1, 1, 1, device=device) if self.shares_prefix else None
        finished: set[tuple[int, int]] = set()
        # every row draws at every step, finished or not: no draw depends on when others ended
        for _ in range(self.drawing.max_tokens):
            draws = [torch.rand(n, generator=g).tolist() for n, g in zip(counts, generators, strict=True)]
            tokens = self._draw(logits, torch.tensor([draws[p][i] for p, i in rows], device=device))
            for (p, i), token in zip(rows, tokens.tolist(), strict=True):
                sample = samples[p][i]
                if (p, i) in finished:
                    continue
                if token in self.drawing.end_tokens:
                    sample.reason, sample.end = "stop", token
                    finished.add((p, i))
                    continue
                sample.tokens.append(token)
                if self.drawing.is_over(sample.tokens):
                    sample.reason = "stop"
                    finished.add((p, i))
            going = [row for row, place in enumerate(rows) if place not in finished]
            if not going:
                break
            # dropping rows copies the caches, so it waits until it saves more than it costs
            if len(rows) - len(going) >= WORTH_DROPPING * len(rows):
                chosen = torch.tensor(going, device=device)
                rows = [rows[row] for row in going]
                tokens, positions = tokens[chosen], positions[chosen]
                if self.shares_prefix:
                    cache.keep(chosen, [sum(q == p for q, _ in rows) for p in range(len(prompts))])
                else:
                    cache.batch_select_indices(chosen)
            out = self.model(
                tokens[:, None],
                **{self._cache_argument: cache},
                position_ids=positions,
                attention_mask=mask,
                use_cache=True,
            )
            logits = out.logits[:, -1]
            positions = positions + 1
        return samples

    def _draw(self, logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """One token per row, by inversion of the distribution function at `uniform`."""
        if self.drawing.temperature == 0:
            return logits.argmax(-1)
        probability = torch.softmax(logits.float() / self.drawing.temperature, -1)
        if self.drawing.top_p == 1:
            return _inverse(probability, uniform)
        # sorting a whole vocabulary at every token would take longer than a small model
        likely, order = probability.topk(min(LIKELY_TOKENS, probability.shape[-1]))
        tokens = order.gather(-1, _inverse(self._nucleus(likely), uniform)[:, None])[:, 0]
        flat = likely.sum(-1) < self.drawing.top_p
        if flat.any():
            probability, order = probability[flat].sort(-1, descending=True)
            places = _inverse(self._nucleus(probability), uniform[flat])
            tokens[flat] = order.gather(-1, places[:, None])[:, 0]
        return tokens

    def _nucleus(self, descending: torch.Tensor) -> torch.Tensor:
        """The probabilities up to the one with which they sum to top_p, zeros behind it."""
        before = descending.cumsum(-1) - descending
        return descending.masked_fill(before >= self.drawing.top_p, 0.0)

    def _prefill(self, prompt: Prompt) -> tuple[torch.Tensor, DynamicCache]:
        """The logits after a prompt and its cache.

        A preface is always read apart from the rest, kept or not: what was asked before changes no bit.
        """
        if not 0 < prompt.preface < len(prompt.tokens):
            return self._read(prompt.tokens, DynamicCache())
        key = tuple(prompt.tokens[: prompt.preface])
        if key not in self._prefaces:
            _, self._prefaces[key] = self._read(list(key), DynamicCache())
            # prefaces of other problems take memory that nobody uses again
            if len(self._prefaces) > KEPT_PREFACES:
                self._prefaces.popitem(last=False)
        self._prefaces.move_to_end(key)
        cache = DynamicCache()
        for number, (keys, values) in enumerate(shared_prefix.layers_of(self._prefaces[key])):
            cache.update(keys, values, number)
        return self._read(prompt.tokens[prompt.preface :], cache)

    def _read(self, tokens: list[int], cache: DynamicCache) -> tuple[torch.Tensor, DynamicCache]:
        ids = torch.tensor([tokens], device=self.model.device)
        out = self.model(ids, **{self._cache_argument: cache}, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1], cache


def _inverse(probability: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The place of each row whose share of the distribution function holds `uniform`."""
    distribution = probability.cumsum(-1)
    level = uniform[:, None] * distribution[:, -1:]
    place = torch.searchsorted(distribution, level, right=True)[:, 0]
    return place.clamp_(max=probability.shape[-1] - 1)


def _common(prompts: Sequence[Prompt]) -> int:
    """How many tokens are read once for all the prompts."""
    beginnings = {tuple(prompt.tokens[: prompt.preface]) for prompt in prompts}
    whole = any(prompt.preface >= len(prompt.tokens) for prompt in prompts)
    return prompts[0].preface if len(prompts) > 1 and len(beginnings) == 1 and not whole else 0
