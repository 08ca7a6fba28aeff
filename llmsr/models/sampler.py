"""Answers drawn from a causal language model token by token, each prompt read once for all of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, StoppingCriteriaList

from llmsr.models.loading import is_read_packed
from llmsr.models.packing import ATTENTION, pack
from llmsr.models.slots import Table, cache_argument

KEPT_BEGINNINGS = 4
KEPT_TABLES = 2  # a training's answers and those of its validation
WORTH_DROPPING = 0.25  # share of ended answers at which the others go on without them
LOOK_EVERY = 8  # tokens between two looks at what a graph drew: each look waits for the GPU
SLOT_STEP = 64  # slots for prompts come in steps, so that a graph serves prompts of about its length


@dataclass(frozen=True)
class Prompt:
    """Tokens to continue `n` times; the first `preface` of them are common to many prompts."""

    tokens: list[int]
    n: int = 1
    seed: int = 0
    preface: int = 0


@dataclass
class Sampled:
    """The tokens of one answer; `reason` is "stop" or "length", `end` the end token that was drawn."""

    tokens: list[int] = field(default_factory=list)
    reason: str = "length"
    end: int | None = None


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn, and where an answer ends: at an end token, when it is over, or cut off."""

    temperature: float
    max_tokens: int
    end_tokens: frozenset[int] = frozenset()
    is_over: Callable[[list[int]], bool] = lambda tokens: False
    top_p: float = 1.0


class Sampler:
    """Draws answers from `model`, which search and local training share.

    Each prompt has its own random numbers, from its own seed, so its answers do not depend on the prompts
    beside it but by rounding. Where the architecture allows it prompts are decoded together, on a GPU by one
    graph for every token; other models are left to transformers' own loop. After a change of weights `forget`
    what was read with the old ones.
    """

    def __init__(self, model: Any, drawing: Drawing) -> None:
        self.model = model
        self.drawing = drawing
        self.packs = is_read_packed(model.config)
        self.fixed = model.device.type == "cuda"  # slots stay in their place, for a graph
        self._beginnings: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._tables: dict[Any, Table] = {}

    def forget(self) -> None:
        """Read the beginnings of prompts anew."""
        self._beginnings.clear()

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Prompt]) -> list[list[Sampled]]:
        """The answers to each prompt."""
        if not self.packs:
            return [_generated(self.model, prompt, self.drawing) for prompt in prompts]
        if self.model.config._attn_implementation != ATTENTION:
            self.model.set_attn_implementation(ATTENTION)
        table = self._table(prompts)
        self._read(table, prompts)
        samples = [[Sampled() for _ in range(prompt.n)] for prompt in prompts]
        going = [one for group in samples for one in group]
        look, drawn = LOOK_EVERY if self.fixed else 1, 0
        while drawn < self.drawing.max_tokens:
            count = min(look, self.drawing.max_tokens - drawn)
            for tokens in table.next_tokens(count):
                for sample, token in zip(going, tokens, strict=True):
                    _take(sample, token, self.drawing)
            drawn += count
            rows = [row for row, sample in enumerate(going) if sample.reason == "length"]
            if not rows:
                break
            # dropping rows copies the caches, so it waits until it saves more than it costs
            if not self.fixed and len(going) - len(rows) >= WORTH_DROPPING * len(going):
                table.keep(rows)
                going = [going[row] for row in rows]
        return samples

    def _table(self, prompts: Sequence[Prompt]) -> Table:
        """Slots for the answers to these prompts; those of a GPU are kept with their graph."""
        drawing, counts = self.drawing, tuple(prompt.n for prompt in prompts)
        steps = -(-max(len(prompt.tokens) for prompt in prompts) // SLOT_STEP)
        key = (counts, steps, drawing.max_tokens, drawing.temperature, drawing.top_p)
        if key in self._tables:
            return self._tables[key]
        prompt_slots = steps * SLOT_STEP if self.fixed else None
        table = Table(
            self.model, counts, prompt_slots, drawing.max_tokens, drawing.temperature, drawing.top_p
        )
        if self.fixed:
            while len(self._tables) >= KEPT_TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = table
        return table

    def _read(self, table: Table, prompts: Sequence[Prompt]) -> None:
        """Read the prompts into their slots, in one pass behind what they begin with in common.

        A common beginning is always read apart, kept or not: what was asked before changes no bit.
        """
        beginnings = {tuple(prompt.tokens[: prompt.preface]) for prompt in prompts}
        common = beginnings.pop() if len(beginnings) == 1 else ()
        if common and common not in self._beginnings:
            alone = pack([common], [[]])
            read = table.read(alone, [])
            # prefaces of other problems take memory that nobody uses again
            while len(self._beginnings) >= KEPT_BEGINNINGS:
                del self._beginnings[next(iter(self._beginnings))]
            self._beginnings[common] = read
        packed = pack([prompt.tokens for prompt in prompts], [[] for _ in prompts], known=common)
        table.begin(packed, self._beginnings.get(common, []), _uniform(prompts, self.drawing.max_tokens))


def _uniform(prompts: Sequence[Prompt], count: int) -> torch.Tensor:
    """Random numbers in [0, 1), (count, answers): on the CPU, so that a seed means the same everywhere."""
    generators = [(torch.Generator().manual_seed(prompt.seed), prompt.n) for prompt in prompts]
    return torch.cat([torch.rand(count, n, generator=g) for g, n in generators], 1)


def _take(sample: Sampled, token: int, drawing: Drawing) -> None:
    """Add a token to an answer that has not ended."""
    if sample.reason == "stop":
        return
    if token in drawing.end_tokens:
        sample.reason, sample.end = "stop", token
        return
    sample.tokens.append(token)
    if drawing.is_over(sample.tokens):
        sample.reason = "stop"


def _generated(model: Any, prompt: Prompt, drawing: Drawing) -> list[Sampled]:
    """The answers to a prompt by transformers' own loop, the prompt read once."""
    ids = torch.tensor([prompt.tokens], device=model.device)
    cache = DynamicCache(config=model.config)
    if ids.shape[1] > 1:
        model(ids[:, :-1], **{cache_argument(model): cache}, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(prompt.n)
    asked = ids.shape[1]

    def ended(tokens: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        over = [drawing.is_over(row) for row in tokens[:, asked:].tolist()]
        return torch.tensor(over, device=tokens.device)

    ends = sorted(drawing.end_tokens)
    settings = GenerationConfig(
        do_sample=drawing.temperature > 0, temperature=drawing.temperature or 1.0, top_p=drawing.top_p,
        top_k=0, max_new_tokens=drawing.max_tokens, eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(prompt.seed)
        out = model.generate(
            ids.expand(prompt.n, -1),
            attention_mask=torch.ones_like(ids).expand(prompt.n, -1),
            **{cache_argument(model): cache},
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([ended]),
        )
    samples = [Sampled() for _ in range(prompt.n)]
    for sample, tokens in zip(samples, out[:, asked:].tolist(), strict=True):
        for token in tokens:  # behind an end there is only padding
            _take(sample, token, drawing)
    return samples
