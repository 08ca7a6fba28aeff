"""Attention in which all samples of a prompt read one copy of the prompt's keys and values.

Sampling n completions of a prompt the plain way copies its key-value cache n times and reads every copy
at every token. Here what all prompts begin with is read once, as one matrix product for all samples, the
rest of a prompt once for its samples, and only what each sample wrote itself is kept per sample. Prompts of
different lengths decode together; only their rests are padded.

It plugs into transformers' attention interface, so the model's own code runs unchanged. It is exact for
full causal attention; `serves` names the architectures that it is tested on.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "llmsr_shared_prefix"
ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3", "mistral"})
FIRST_CAPACITY = 64  # tokens per sample; doubled when full


def serves(config: Any) -> bool:
    """Whether a model of this configuration may be run with NAME as its attention."""
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return config.model_type in ARCHITECTURES and not sliding


class Attended:
    """What a cache hands to `attention` in place of keys and values, and how it is attended to."""

    def attend(self, module: torch.nn.Module, query: torch.Tensor, scaling: float | None) -> torch.Tensor:
        """The attended values of queries (samples, heads, tokens, d), as (samples, tokens, heads, d)."""
        raise NotImplementedError


class _Layout:
    """Which sample belongs to which of several prompts; samples stand in the order of their prompts."""

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        self.prompts, self.width = len(counts), max(counts)
        places = [p * self.width + i for p, count in enumerate(counts) for i in range(count)]
        full = len(places) == self.prompts * self.width
        self._places = None if full else torch.tensor(places, device=device)

    def by_prompt(self, rows: torch.Tensor) -> torch.Tensor:
        """(samples, ...) as (prompts, width, ...), with zeros where a prompt has fewer samples."""
        if self._places is not None:
            room = rows.new_zeros(self.prompts * self.width, *rows.shape[1:])
            rows = room.index_copy_(0, self._places, rows)
        return rows.view(self.prompts, self.width, *rows.shape[1:])

    def by_sample(self, groups: torch.Tensor) -> torch.Tensor:
        """What `by_prompt` undid."""
        rows = groups.flatten(0, 1)
        return rows if self._places is None else rows.index_select(0, self._places)


@dataclass(frozen=True)
class _Layer(Attended):
    """What a layer attends to: what all prompts begin with, their rests, and the samples' own tokens."""

    common: tuple[torch.Tensor, torch.Tensor]  # keys (heads, d, tokens), values (heads, tokens, d)
    rest: tuple[torch.Tensor, torch.Tensor]  # keys (prompts, heads, d, tokens), values (..., tokens, d)
    hidden: torch.Tensor  # (prompts, 1, 1, tokens), minus infinity at the padding of a rest
    layout: _Layout
    keys: torch.Tensor  # (samples, heads, tokens, d)
    values: torch.Tensor

    def attend(self, module: torch.nn.Module, query: torch.Tensor, scaling: float | None) -> torch.Tensor:
        samples, n_heads, _, width = query.shape
        heads = self.keys.shape[1]
        group = n_heads // heads
        # scaled once here in place of three times on the scores
        query = (query * (width**-0.5 if scaling is None else scaling)).view(samples, heads, group, width)
        flat = query.transpose(0, 1).reshape(heads, -1, width)  # all samples as rows of one product
        common = torch.bmm(flat, self.common[0]).view(heads, samples, group, -1).transpose(0, 1)
        # (prompts, heads, width * group, d)
        by_prompt = self.layout.by_prompt(query).transpose(1, 2).flatten(2, 3)
        rest = (torch.matmul(by_prompt, self.rest[0]) + self.hidden).unflatten(2, (-1, group)).transpose(1, 2)
        own = torch.matmul(query, self.keys.transpose(2, 3))  # (samples, heads, group, tokens)
        scores = torch.cat([common, self.layout.by_sample(rest), own], -1)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        common, rest, own = weights.split([common.shape[-1], rest.shape[-1], own.shape[-1]], -1)
        out = torch.matmul(own, self.values)
        by_prompt = self.layout.by_prompt(rest).transpose(1, 2).flatten(2, 3)
        read = torch.matmul(by_prompt, self.rest[1]).unflatten(2, (-1, group)).transpose(1, 2)
        out += self.layout.by_sample(read)
        flat = common.transpose(0, 1).reshape(heads, samples * group, -1)
        out += torch.bmm(flat, self.common[1]).view(heads, samples, group, width).transpose(0, 1)
        return out.view(samples, 1, n_heads, width)


class SharedPrefixCache(Cache):
    """Key-value cache of `counts[i]` samples for each of several prompts, from the prompts' own caches.

    All prompts begin with the same `common` tokens, which are none by default.
    """

    def __init__(self, prompts: Sequence[DynamicCache], counts: Sequence[int], common: int = 0) -> None:
        super().__init__(layers=[])
        layers = list(zip(*(layers_of(cache) for cache in prompts), strict=True))
        self._common = [
            (keys[0, :, :common].transpose(1, 2).contiguous(), values[0, :, :common].contiguous())
            for keys, values in (layer[0] for layer in layers)
        ]
        self._rest = []
        for layer in layers:
            keys, values = (
                pad_sequence([one[i][0, :, common:].transpose(0, 1) for one in layer], batch_first=True)
                for i in (0, 1)
            )  # (prompts, tokens, heads, d)
            self._rest.append((keys.permute(0, 2, 3, 1).contiguous(), values.transpose(1, 2).contiguous()))
        lengths = [keys.shape[2] - common for keys, _ in layers[0]]
        keys = layers[0][0][0]
        self._hidden = keys.new_zeros(len(prompts), 1, 1, max(lengths))
        for row, length in zip(self._hidden, lengths, strict=True):
            row[..., length:] = float("-inf")
        self._asked = list(range(len(prompts)))
        self._own: list[tuple[torch.Tensor, torch.Tensor]] = []  # per layer, with room to grow
        self._written = [0] * len(layers)
        self._layout = _Layout(counts, keys.device)

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Keep one more token per sample; what comes back is for `attention` only."""
        written = self._written[layer_idx]
        if layer_idx == len(self._own):
            shape = (*key_states.shape[:2], FIRST_CAPACITY, key_states.shape[3])
            self._own.append((key_states.new_empty(shape), value_states.new_empty(shape)))
        keys, values = self._own[layer_idx]
        # doubling keeps the copying linear in the length of the answer
        if written == keys.shape[2]:
            keys, values = (torch.cat([x, torch.empty_like(x)], 2) for x in (keys, values))
            self._own[layer_idx] = keys, values
        keys[:, :, written] = key_states[:, :, 0]
        values[:, :, written] = value_states[:, :, 0]
        self._written[layer_idx] = written + 1
        layer = _Layer(
            self._common[layer_idx], self._rest[layer_idx], self._hidden, self._layout,
            keys[:, :, : written + 1], values[:, :, : written + 1],
        )  # fmt: skip
        return layer, layer

    def keep(self, rows: torch.Tensor, counts: Sequence[int]) -> None:
        """Go on with these samples only; `counts` is how many of them belong to each prompt."""
        self._own = [(keys[rows], values[rows]) for keys, values in self._own]
        going = [place for place, number in enumerate(self._asked) if counts[number]]
        if len(going) < len(self._asked):
            self._asked = [self._asked[place] for place in going]
            chosen = torch.tensor(going, device=rows.device)
            self._rest = [(keys[chosen], values[chosen]) for keys, values in self._rest]
            self._hidden = self._hidden[chosen]
        self._layout = _Layout([counts[number] for number in self._asked], rows.device)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._written[layer_idx]


def plug_in(model: Any) -> bool:
    """Whether the model attends with NAME from now on, which `serves` decides."""
    able = serves(model.config)
    if able and model.config._attn_implementation != NAME:
        model.set_attn_implementation(NAME)
    return able


def cache_argument(model: torch.nn.Module) -> str:
    """What a model's forward calls its cache: `cache`, or `past_key_values` in older transformers."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def layers_of(cache: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of each layer of a DynamicCache, (samples, heads, tokens, d)."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: Any,
    value: Any,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention: of what a cache handed over in its own way, plain otherwise."""
    if isinstance(key, Attended):
        return key.attend(module, query, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
