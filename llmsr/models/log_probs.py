"""Log-probabilities of answers with a gradient, their logits made in chunks and never held whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_outputs import ModelOutput

from llmsr.models.loading import is_read_packed
from llmsr.models.packing import ATTENTION, Pack, Tokens, pack

CHUNK_ROWS = 1024  # rows of logits held at once: at 150,000 words of vocabulary 0.6 GiB in float32


@dataclass(frozen=True)
class Logged:
    """Figures of all tokens of some answers, one after the other: `answers[i]` tells whose token i is."""

    chosen: torch.Tensor
    entropy: torch.Tensor
    answers: torch.Tensor


def log_probabilities(
    model: Any, prompts: Sequence[Tokens], answers: Sequence[Tokens], temperature: float
) -> Logged:
    """Log-probability and entropy of every token of answers, each to the prompt of the same index.

    Each prompt is read once for all of its answers where the architecture allows it. Only log-probabilities
    have a gradient.
    """
    if is_read_packed(model.config):
        if model.config._attn_implementation != ATTENTION:
            model.set_attn_implementation(ATTENTION)
        packed = pack(prompts, answers).to(model.device, model.dtype)
        read = read_answers(model, packed.tokens[None], packed.positions[None], packed, temperature)
        chosen, entropy = read.log_probs, read.entropy
    else:
        hidden = _hidden_apart(model, prompts, answers)
        weights = model.get_output_embeddings().weight
        labels = torch.tensor([token for answer in answers for token in answer], device=model.device)
        cap = getattr(model.config, "final_logit_softcapping", None)
        chosen, entropy = AnswerLogProbs.apply(hidden, weights, labels, temperature, cap)
    counts = torch.tensor([len(answer) for answer in answers], device=model.device)
    which = torch.arange(len(answers), device=model.device).repeat_interleave(counts)
    return Logged(chosen, entropy, which)


def _hidden_apart(model: Any, prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> torch.Tensor:
    """The last hidden states before every token of the answers, by a row per answer."""
    rows = [[*prompt, *answer[:-1]] for prompt, answer in zip(prompts, answers, strict=True)]
    width = max(1, *(len(row) for row in rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    lengths = torch.tensor([[len(row)] for row in rows], device=model.device)
    seen = torch.arange(width, device=model.device)[None] < lengths
    hidden = model.get_decoder()(ids, attention_mask=seen.long(), use_cache=False).last_hidden_state
    read = [
        (i, len(prompt) - 1 + k)
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        for k in range(len(answer))
    ]
    which, where = torch.tensor(read, device=model.device).T
    return hidden[which, where]


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
