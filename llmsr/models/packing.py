"""Answers and their prompts as one row of tokens in which every distinct prompt stands once.

The answers of a group share their prompt, and prompts share what they begin with. Read apart, a group of five
with 300 tokens of prompt and 50 of answer costs 1,750 tokens a pass; packed it costs 550, and less where the
prompts of other groups begin alike. An answer attends to its prompt and to itself, which is what it would see
in a row of its own, so the probabilities are the same.

Only torch and transformers are needed: the module works and is tested without VERL and without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby
from typing import Any

import torch
from transformers import AttentionInterface

ATTENTION = "llmsr_packed"

Tokens = Sequence[int]


@dataclass(frozen=True)
class Segment:
    """Tokens `begin` to `begin + size` of a row, which attend to the places `before` and to themselves.

    The answers to one prompt have one list `before`.
    """

    begin: int
    size: int
    before: list[int]


@dataclass(frozen=True)
class Kernel:
    """A pack as one call of a kernel for runs of different lengths reads it.

    `key_places` (K,) picks the keys of all segments out of the row; segment i has the queries query_bounds[i]
    to query_bounds[i + 1] and the keys between the same of `key_bounds`.
    """

    key_places: torch.Tensor
    query_bounds: torch.Tensor
    key_bounds: torch.Tensor
    most_queries: int
    most_keys: int


@dataclass(frozen=True)
class Block:
    """Queries of a row with the places of their keys and what they see of them, (queries, keys)."""

    queries: slice
    key_places: torch.Tensor
    seen: torch.Tensor


@dataclass(frozen=True)
class Pack:
    """A row of T tokens made of segments, in which what prompts begin with in common stands once.

    `rows` (A,) are the places after which the A answer tokens `labels` come, in the order of the sequences.
    `answer_places` (A,) is where each stands among all prompts and answers laid end to end, one place to
    the left, which is how VERL lays out log-probabilities. `prompt_places` are the places of each prompt's
    tokens, one list a sequence. The first `known` places are those of tokens that were read before, which the
    row has no more. `attention` is what a device needs to attend, see `to`.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor
    answer_places: torch.Tensor
    prompt_places: list[list[int]]
    segments: list[Segment]
    known: int = 0
    attention: Kernel | list[Block] | None = None

    def to(self, device: Any, dtype: torch.dtype) -> Pack:
        """The same pack on a device, ready to be attended to by a model that computes in `dtype`."""
        tensors: dict[str, Any] = {n: x.to(device) for n, x in vars(self).items() if torch.is_tensor(x)}
        lay_out = _kernel if _has_kernel(torch.device(device), dtype) else _blocks
        return replace(self, **tensors, attention=lay_out(self.segments, self.known, device))


def pack(prompts: Sequence[Tokens], answers: Sequence[Tokens], known: Tokens = ()) -> Pack:
    """Pack answers, each with the prompt of the same index; what prompts have in common is read once.

    `known` are tokens that prompts may begin with and that were read before.
    """
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    rows: list[int] = []
    labels: list[int] = []
    answer_places: list[int] = []
    places: dict[tuple[int, ...], list[int]] = {}  # of the tokens of each prompt
    if known:
        places[tuple(known)] = list(range(len(known)))
    before = 0  # tokens of the sequences so far, laid end to end

    def read(new: Tokens, seen: list[int]) -> range:
        begin = len(known) + len(tokens)
        if new:
            segments.append(Segment(begin, len(new), seen))
            tokens.extend(new)
            positions.extend(range(len(seen), len(seen) + len(new)))
        return range(begin, begin + len(new))

    for prompt, answer in zip(map(tuple, prompts), answers, strict=True):
        if prompt not in places:
            nearest = max(places, key=lambda known, p=prompt: _common(known, p), default=())  # type: ignore[misc]
            shared = places[nearest][: _common(nearest, prompt)] if nearest else []
            places[prompt] = shared + list(read(prompt[len(shared) :], shared))
        own = places[prompt]
        behind = read(answer[:-1], own)  # nothing is asked behind an answer's last token
        if answer:
            rows += [own[-1], *behind]
            labels += answer
            answer_places += range(before + len(prompt) - 1, before + len(prompt) - 1 + len(answer))
        before += len(prompt) + len(answer)
    return Pack(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        rows=torch.tensor(rows, dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
        answer_places=torch.tensor(answer_places, dtype=torch.int64),
        prompt_places=[places[tuple(prompt)] for prompt in prompts],
        segments=segments,
        known=len(known),
    )


def _common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch attends to runs of different lengths in one call: Ampere GPUs and later, in 16 bits."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0) and bool(find_spec("torch.nn.attention.varlen"))


def _kernel(segments: Sequence[Segment], known: int, device: Any) -> Kernel:
    keys = [[*s.before, *range(s.begin, s.begin + s.size)] for s in segments]
    return Kernel(
        key_places=torch.tensor([place for places in keys for place in places], device=device),
        query_bounds=_bounds([s.size for s in segments]).to(device),
        key_bounds=_bounds([len(places) for places in keys]).to(device),
        most_queries=max(s.size for s in segments),
        most_keys=max(len(places) for places in keys),
    )


def _blocks(segments: Sequence[Segment], known: int, device: Any) -> list[Block]:
    """The segments, those together that follow one another and see the same before them."""
    blocks = []
    for _, group in groupby(segments, key=lambda segment: id(segment.before)):
        parts = list(group)
        begin, end = parts[0].begin, parts[-1].begin + parts[-1].size
        before = parts[0].before
        own = torch.block_diag(*(torch.ones(s.size, s.size, dtype=torch.bool) for s in parts)).tril()
        seen = torch.cat([torch.ones(len(own), len(before), dtype=torch.bool), own.bool()], 1)
        places = torch.tensor([*before, *range(begin, end)])
        blocks.append(Block(slice(begin - known, end - known), places.to(device), seen.to(device)))
    return blocks


def split_passes(prompts: Sequence[Tokens], answers: Sequence[Tokens], n_passes: int) -> list[list[int]]:
    """The indices of sequences shared among n passes of about equal tokens.

    The answers to one prompt stay together where they fit. No pass is empty while there are enough sequences.
    """
    first: dict[tuple[int, ...], int] = {}
    for i, prompt in enumerate(map(tuple, prompts)):
        first.setdefault(prompt, i)
    order = sorted(range(len(prompts)), key=lambda i: (first[tuple(prompts[i])], i))
    costs = [len(answers[i]) + (len(prompts[i]) if first[tuple(prompts[i])] == i else 0) for i in order]
    total, spent = sum(costs), 0
    passes: list[list[int]] = [[] for _ in range(n_passes)]
    current = 0
    for position, (i, cost) in enumerate(zip(order, costs, strict=True)):
        left = len(order) - position
        behind = n_passes - 1 - current
        if passes[current] and behind and (spent >= (current + 1) * total / n_passes or left <= behind):
            current += 1
        passes[current].append(i)
        spent += cost
    return passes


def packed_tokens(prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> int:
    """The tokens that a pack of these would have, last tokens of answers counted."""
    return sum(map(len, set(map(tuple, prompts)))) + sum(map(len, answers))


class Attended:
    """What a cache may hand to `attend` in place of keys, and how it is attended to."""

    def attend(self, query: torch.Tensor, scaling: float | None) -> torch.Tensor:
        """The values (samples, tokens, heads, width) of queries (samples, heads, tokens, width)."""
        raise NotImplementedError


def attend(
    module: Any,
    query: torch.Tensor,
    key: Any,
    value: Any,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    packed: Pack | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a pack, as transformers calls it.

    `query` (1, heads, T, width), `key` and `value` (1, fewer heads, T, width) give (1, T, heads, width).
    """
    if isinstance(key, Attended):
        return key.attend(query, scaling), None
    if packed is None:
        raise ValueError(f"{type(module).__name__} does not hand `packed` to its attention")
    if isinstance(packed.attention, list):
        outs = [
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, block.queries],
                key[:, :, block.key_places],
                value[:, :, block.key_places],
                attn_mask=block.seen,
                scale=scaling,
                enable_gqa=True,
            )
            for block in packed.attention
        ]
        return torch.cat(outs, 2).transpose(1, 2), None
    from torch.nn.attention.varlen import varlen_attn

    kernel = packed.attention
    assert kernel is not None  # `Pack.to` was called
    # causal and aligned at the end: the i-th of n queries sees all but the last n - i keys
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    out = varlen_attn(
        q.contiguous(), k[kernel.key_places], v[kernel.key_places], kernel.query_bounds, kernel.key_bounds,
        kernel.most_queries, kernel.most_keys, scale=scaling, window_size=(-1, 0),
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)  # and no statistics, which were not asked for
    return out[None], None


AttentionInterface.register(ATTENTION, attend)


def _bounds(lengths: Sequence[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
