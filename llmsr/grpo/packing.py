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
from transformers.modeling_outputs import ModelOutput

ATTENTION = "llmsr_packed"
CHUNK_ROWS = 1024  # rows of logits held at once: at 150,000 words of vocabulary 0.6 GiB in float32

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
    tokens, one list a sequence. `attention` is what a device needs to attend, see `to`.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor
    answer_places: torch.Tensor
    prompt_places: list[list[int]]
    segments: list[Segment]
    attention: Kernel | list[Block] | None = None

    def to(self, device: Any) -> Pack:
        """The same pack on a device, ready to be attended to."""
        tensors: dict[str, Any] = {n: x.to(device) for n, x in vars(self).items() if torch.is_tensor(x)}
        has_kernel = torch.device(device).type == "cuda" and find_spec("torch.nn.attention.varlen")
        lay_out = _kernel if has_kernel else _blocks
        return replace(self, **tensors, attention=lay_out(self.segments, device))


def pack(prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> Pack:
    """Pack answers, each with the prompt of the same index; what prompts have in common is read once."""
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    rows: list[int] = []
    labels: list[int] = []
    answer_places: list[int] = []
    places: dict[tuple[int, ...], list[int]] = {}  # of the tokens of each prompt
    before = 0  # tokens of the sequences so far, laid end to end

    def read(new: Tokens, seen: list[int]) -> range:
        begin = len(tokens)
        if new:
            segments.append(Segment(begin, len(new), seen))
            tokens.extend(new)
            positions.extend(range(len(seen), len(seen) + len(new)))
        return range(begin, len(tokens))

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
    )


def _common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _kernel(segments: Sequence[Segment], device: Any) -> Kernel:
    keys = [[*s.before, *range(s.begin, s.begin + s.size)] for s in segments]
    return Kernel(
        key_places=torch.tensor([place for places in keys for place in places], device=device),
        query_bounds=_bounds([s.size for s in segments]).to(device),
        key_bounds=_bounds([len(places) for places in keys]).to(device),
        most_queries=max(s.size for s in segments),
        most_keys=max(len(places) for places in keys),
    )


def _blocks(segments: Sequence[Segment], device: Any) -> list[Block]:
    """The segments, those together that follow one another and see the same before them."""
    blocks = []
    for _, group in groupby(segments, key=lambda segment: id(segment.before)):
        parts = list(group)
        begin, end = parts[0].begin, parts[-1].begin + parts[-1].size
        before = parts[0].before
        own = torch.block_diag(*(torch.ones(s.size, s.size, dtype=torch.bool) for s in parts)).tril()
        seen = torch.cat([torch.ones(len(own), len(before), dtype=torch.bool), own.bool()], 1)
        places = torch.tensor([*before, *range(begin, end)])
        blocks.append(Block(slice(begin, end), places.to(device), seen.to(device)))
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


class AnswerLogProbs(torch.autograd.Function):
    """Log-probability and entropy (A,) of answer tokens from hidden states (A, H), in float32.

    Logits (A, vocabulary) are never held whole, neither forwards nor backwards: they are made anew in chunks.
    No gradient flows through the entropy unless `entropy_gradient` asks for it. The gradient of the weights
    (V, H) is summed in float32 over the chunks, since a sum of bfloat16 loses the small ones.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: torch.Tensor,
        weights: torch.Tensor,
        labels: torch.Tensor,
        temperature: float,
        cap: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, entropy, totals = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(3))
        for span in _spans(len(hidden)):
            logged = _logits(hidden[span], weights, temperature, cap)
            totals[span] = logged.logsumexp(-1)
            logged -= totals[span, None]
            chosen[span] = logged.gather(-1, labels[span, None])[:, 0]
            entropy[span] = -(logged.exp() * logged).sum(-1)
        ctx.save_for_backward(hidden, weights, labels, totals, entropy)
        ctx.temperature, ctx.cap = temperature, cap
        ctx.set_materialize_grads(False)
        return chosen, entropy

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, d_chosen: torch.Tensor | None, d_entropy: torch.Tensor | None
    ) -> Any:
        hidden, weights, labels, totals, entropy = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden)
        d_weights = torch.zeros_like(weights, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for span in _spans(len(hidden)):
            z = _logits(hidden[span], weights, ctx.temperature, ctx.cap)
            # dz/dx of z = cap tanh(x / cap) / temperature, but for the temperature
            slope = None if ctx.cap is None else 1 - (z * (ctx.temperature / ctx.cap)) ** 2
            logged = z.sub_(totals[span, None])
            d_z = logged.exp() if d_entropy is not None else logged.exp_()
            if d_entropy is not None:  # dH/dz = -p (log p + H)
                of_entropy = (logged + entropy[span, None]).mul_(d_z).mul_(-d_entropy[span, None])
            d_z *= 0.0 if d_chosen is None else -d_chosen[span, None]
            if d_chosen is not None:  # d log p_y / dz = 1(y) - p
                d_z.scatter_add_(-1, labels[span, None], d_chosen[span, None])
            if d_entropy is not None:
                d_z += of_entropy
            if slope is not None:
                d_z *= slope
            d_z = (d_z if ctx.temperature == 1 else d_z.div_(ctx.temperature)).to(hidden.dtype)
            d_hidden[span] = d_z @ weights
            if d_weights is not None:
                d_weights += d_z.T @ hidden[span]
        return d_hidden, None if d_weights is None else d_weights.to(weights.dtype), None, None, None


def read_answers(
    model: Any,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    packed: Pack,
    temperature: float = 1.0,
    **_: Any,
) -> PackedOutput:
    """A causal model's forward over a pack: log-probability and entropy (A,) of the answers' tokens alone.

    Four fifths of a training row are prompt; their logits, the widest tensor of the pass, are not computed.
    """
    hidden = model.get_decoder()(
        input_ids=input_ids, position_ids=position_ids, use_cache=False, packed=packed
    ).last_hidden_state[0]
    cap = getattr(model.config, "final_logit_softcapping", None)
    weights = model.get_output_embeddings().weight
    chosen, entropy = AnswerLogProbs.apply(hidden[packed.rows], weights, packed.labels, temperature, cap)
    return PackedOutput(log_probs=chosen, entropy=entropy)


@dataclass
class PackedOutput(ModelOutput):
    """What `read_answers` gives."""

    log_probs: torch.Tensor = None  # type: ignore[assignment]  # ModelOutput asks for defaults
    entropy: torch.Tensor = None  # type: ignore[assignment]


def _logits(
    hidden: torch.Tensor, weights: torch.Tensor, temperature: float, cap: float | None
) -> torch.Tensor:
    z = (hidden @ weights.T).float()
    if cap is not None:
        z = cap * torch.tanh(z / cap)
    return z if temperature == 1 else z / temperature


def _spans(n: int) -> list[slice]:
    return [slice(i, min(i + CHUNK_ROWS, n)) for i in range(0, n, CHUNK_ROWS)]


def _bounds(lengths: Sequence[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
