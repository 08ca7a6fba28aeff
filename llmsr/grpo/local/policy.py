"""A language model as a policy: answers drawn from it, and their log-probabilities with a gradient.

Both read each prompt once for all of its answers, and what several prompts begin with once for all of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmsr.grpo import packing
from llmsr.grpo.local.slots import SlotSampler
from llmsr.proposers.sampling import Drawing, Prompt, Sampler
from llmsr.proposers.shared_prefix import serves


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


class Policy:
    """Draws answers from `model`."""

    def __init__(self, model: Any, drawing: Drawing) -> None:
        self.model = model
        self.drawing = drawing
        self._slots: SlotSampler | None = None
        if model.device.type == "cuda" and serves(model.config):
            self._slots = SlotSampler(model, drawing)

    def draw(self, prompts: Sequence[Asked], n: int, seeds: Sequence[int]) -> list[Answer]:
        """n answers to each prompt, those of one prompt together; `seeds[i]` decides over prompt i."""
        asked = [Prompt(p.tokens, n, seed, p.preface) for p, seed in zip(prompts, seeds, strict=True)]
        self.model.eval()
        # elsewhere a new sampler at each call: the one before read its prefaces with other weights
        sampler = self._slots or Sampler(self.model, self.drawing)
        answers: list[Answer] = []
        for number, samples in enumerate(sampler.sample(asked)):
            for one in samples:
                tokens = one.tokens if one.end is None else [*one.tokens, one.end]
                answers.append(Answer(tokens, number, one.reason == "stop"))
        return answers


@dataclass(frozen=True)
class Logged:
    """Figures of all tokens of some answers, one after the other: `answers[i]` tells whose token i is."""

    chosen: torch.Tensor
    entropy: torch.Tensor
    answers: torch.Tensor


def log_probabilities(
    model: Any, prompts: Sequence[list[int]], answers: Sequence[Answer], temperature: float
) -> Logged:
    """Log-probability and entropy of every token of answers, each to the prompt of the same index.

    Only log-probabilities have a gradient.
    """
    tokens = [answer.tokens for answer in answers]
    if serves(model.config):
        if model.config._attn_implementation != packing.ATTENTION:
            model.set_attn_implementation(packing.ATTENTION)
        packed = packing.pack(prompts, tokens).to(model.device)
        read = packing.read_answers(model, packed.tokens[None], packed.positions[None], packed, temperature)
        chosen, entropy = read.log_probs, read.entropy
    else:
        hidden = _hidden_apart(model, prompts, tokens)
        weights = model.get_output_embeddings().weight
        labels = torch.tensor([token for answer in tokens for token in answer], device=model.device)
        cap = getattr(model.config, "final_logit_softcapping", None)
        chosen, entropy = packing.AnswerLogProbs.apply(hidden, weights, labels, temperature, cap)
    counts = torch.tensor([len(answer) for answer in tokens], device=model.device)
    which = torch.arange(len(answers), device=model.device).repeat_interleave(counts)
    return Logged(chosen, entropy, which)


def _hidden_apart(model: Any, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> torch.Tensor:
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
