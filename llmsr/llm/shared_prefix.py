"""Attention in which all samples of a prompt read one copy of the prompt's keys and values.

Sampling n completions of a prompt the plain way copies its key-value cache n times and reads every copy
at every token. Here a prompt is read once, as one matrix product for all of its samples, and only what
each sample wrote itself is kept per sample. Several prompts of different lengths decode together
without padding.

It plugs into transformers' attention interface, so the model's own code runs unchanged. It is exact for
full causal attention; `serves` names the architectures that it is tested on.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
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


@dataclass(frozen=True)
class _Layer:
    """What a layer attends to: prompts, read by samples `first` to `last`, and the samples' own."""

    # first, last, keys (heads, d, tokens), values (heads, tokens, d)
    prompts: list[tuple[int, int, torch.Tensor, torch.Tensor]]
    keys: torch.Tensor  # (samples, heads, tokens, d)
    values: torch.Tensor


class SharedPrefixCache(Cache):
    """Key-value cache of `counts[i]` samples for each of several prompts, from the prompts' own caches."""

    def __init__(self, prompts: Sequence[DynamicCache], counts: Sequence[int]) -> None:
        super().__init__(layers=[])
        self._prompts = [
            [
                (keys[0].transpose(1, 2).contiguous(), values[0].contiguous())
                for keys, values in layers_of(cache)
            ]
            for cache in prompts
        ]
        self._counts = list(counts)
        self._own: list[tuple[torch.Tensor, torch.Tensor]] = []  # per layer, with room to grow
        self._written = [0] * len(self._prompts[0])

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Keep one more token per sample; what comes back is for `attention` only."""
        written = self._written[layer_idx]
        if layer_idx == len(self._own):
            shape = (*key_states.shape[:2], FIRST_CAPACITY, key_states.shape[3])
            self._own.append((key_states.new_empty(shape), value_states.new_empty(shape)))
        keys, values = self._own[layer_idx]
        if written == keys.shape[2]:
            keys, values = (torch.cat([x, torch.empty_like(x)], 2) for x in (keys, values))
            self._own[layer_idx] = keys, values
        keys[:, :, written] = key_states[:, :, 0]
        values[:, :, written] = value_states[:, :, 0]
        self._written[layer_idx] = written + 1
        prompts, first = [], 0
        for prompt, count in zip(self._prompts, self._counts, strict=True):
            if count:
                prompts.append((first, first + count, *prompt[layer_idx]))
            first += count
        layer = _Layer(prompts, keys[:, :, : written + 1], values[:, :, : written + 1])
        return layer, layer

    def keep(self, rows: torch.Tensor, counts: Sequence[int]) -> None:
        """Go on with these samples only; `counts` is how many of them belong to each prompt."""
        self._counts = list(counts)
        self._own = [(keys[rows], values[rows]) for keys, values in self._own]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._written[layer_idx]


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
    """Scaled dot-product attention; over a SharedPrefixCache for a step of one token, plain otherwise."""
    if not isinstance(key, _Layer):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    samples, n_heads, _, width = query.shape
    heads = key.keys.shape[1]
    group = n_heads // heads
    query = (query * (width**-0.5 if scaling is None else scaling)).view(samples, heads, group, width)
    own = torch.matmul(query, key.keys.transpose(2, 3))  # (samples, heads, group, tokens)
    out = torch.empty_like(query)
    for first, last, keys, values in key.prompts:
        n = last - first
        rows = query[first:last].transpose(0, 1).reshape(heads, n * group, width)
        scores = torch.bmm(rows, keys).view(heads, n, group, -1)
        length = scores.shape[-1]
        weights = torch.cat([scores, own[first:last].transpose(0, 1)], -1).softmax(-1, dtype=torch.float32)
        weights = weights.to(query.dtype)
        read = torch.bmm(weights[..., :length].reshape(heads, n * group, length), values)
        out[first:last] = read.view(heads, n, group, width).transpose(0, 1)
        out[first:last] += torch.matmul(weights[..., length:].transpose(0, 1), key.values[first:last])
    return out.view(samples, 1, n_heads, width), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
