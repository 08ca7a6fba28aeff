"""Answers and their prompts as one row of tokens in which every distinct prompt stands once.

The answers of a group share their prompt. Read apart, a group of five with 300 tokens of prompt and 50 of
answer costs 1,750 tokens a pass; packed it costs 550. An answer attends to its prompt and to itself, which is
what it would see in a row of its own, so the probabilities are the same.

Only torch and transformers are needed: the module works and is tested without VERL and without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.modeling_outputs import ModelOutput

ATTENTION = "llmsr_packed"
CHUNK_ROWS = 1024  # rows of logits held at once: at 150,000 words of vocabulary 0.6 GiB in float32

Tokens = Sequence[int]


@dataclass(frozen=True)
class Pack:
    """A row of T tokens, made of segments that attend each to a run of keys, K in all.

    `rows` (A,) are the places after which the A answer tokens `labels` come, in the order of the sequences.
    `answer_places` (A,) is where each stands among all prompts and answers laid end to end, one place to
    the left, which is how VERL lays out log-probabilities. `key_places` (K,) picks the keys of all segments
    out of the row; segment i has the queries query_bounds[i] to query_bounds[i + 1] of the row and the keys
    between the same of `key_bounds`.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor
    answer_places: torch.Tensor
    key_places: torch.Tensor
    query_bounds: torch.Tensor
    key_bounds: torch.Tensor
    most_queries: int
    most_keys: int

    def to(self, device: Any) -> Pack:
        """The same pack on a device."""
        tensors: dict[str, Any] = {n: x.to(device) for n, x in vars(self).items() if torch.is_tensor(x)}
        return replace(self, **tensors)


def pack(prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> Pack:
    """Pack answers, each with the prompt of the same index; equal prompts are read once."""
    tokens: list[int] = []
    positions: list[int] = []
    key_places: list[int] = []
    query_lengths: list[int] = []
    key_lengths: list[int] = []
    rows: list[int] = []
    labels: list[int] = []
    answer_places: list[int] = []
    begins: dict[tuple[int, ...], int] = {}
    before = 0  # tokens of the sequences so far, laid end to end
    for prompt, answer in zip(map(tuple, prompts), answers, strict=True):
        if prompt not in begins:
            begins[prompt] = len(tokens)
            key_places += range(len(tokens), len(tokens) + len(prompt))
            query_lengths.append(len(prompt))
            key_lengths.append(len(prompt))
            tokens += prompt
            positions += range(len(prompt))
        begin, read = begins[prompt], list(answer[:-1])  # nothing is asked behind an answer's last token
        if answer:
            rows += [begin + len(prompt) - 1, *range(len(tokens), len(tokens) + len(read))]
            labels += answer
            answer_places += range(before + len(prompt) - 1, before + len(prompt) - 1 + len(answer))
        if read:
            key_places += range(begin, begin + len(prompt))
            key_places += range(len(tokens), len(tokens) + len(read))
            query_lengths.append(len(read))
            key_lengths.append(len(prompt) + len(read))
            tokens += read
            positions += range(len(prompt), len(prompt) + len(read))
        before += len(prompt) + len(answer)
    return Pack(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        rows=torch.tensor(rows),
        labels=torch.tensor(labels),
        answer_places=torch.tensor(answer_places),
        key_places=torch.tensor(key_places),
        query_bounds=_bounds(query_lengths),
        key_bounds=_bounds(key_lengths),
        most_queries=max(query_lengths),
        most_keys=max(key_lengths),
    )


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


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    packed: Pack | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a pack, as transformers calls it.

    `query` (1, heads, T, width), `key` and `value` (1, fewer heads, T, width) give (1, T, heads, width).
    """
    if packed is None:
        raise ValueError(f"{type(module).__name__} does not hand `packed` to its attention")
    q = query[0].transpose(0, 1)
    keys, values = (x[0].transpose(0, 1)[packed.key_places] for x in (key, value))
    if not query.is_cuda:
        return _attend_by_segment(q, keys, values, packed, scaling)[None], None
    from torch.nn.attention.varlen import varlen_attn

    # causal and aligned at the end: the i-th of n queries sees all but the last n - i keys
    out = varlen_attn(
        q.contiguous(), keys, values, packed.query_bounds, packed.key_bounds,
        packed.most_queries, packed.most_keys, scale=scaling, window_size=(-1, 0),
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)  # and no statistics, which were not asked for
    return out[None], None


def _attend_by_segment(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, packed: Pack, scaling: float | None
) -> torch.Tensor:
    """The same by plain operations, for processors that have no kernel for it."""
    outs = []
    spans = zip(pairwise(packed.query_bounds.tolist()), pairwise(packed.key_bounds.tolist()), strict=True)
    for (q0, q1), (k0, k1) in spans:
        seen = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool, device=q.device).tril(k1 - k0 - (q1 - q0))
        out = torch.nn.functional.scaled_dot_product_attention(
            q[None, q0:q1].transpose(1, 2),
            keys[None, k0:k1].transpose(1, 2),
            values[None, k0:k1].transpose(1, 2),
            attn_mask=seen,
            scale=scaling,
            enable_gqa=True,
        )
        outs.append(out[0].transpose(0, 1))
    return torch.cat(outs)


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

    log_probs: torch.Tensor | None = None
    entropy: torch.Tensor | None = None


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
