"""Prompts and their answers as one row of tokens, in which an answer sees its prompt and itself.

Nothing is read twice and nothing is padded. Attention goes through the row in pieces, each with the keys that
it may see, so that it does not pay for the square of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llmsr.proposers import shared_prefix

PIECE_TOKENS = 64  # answers are attended to together up to so many


class Preface:
    """Leading tokens of several prompts, read once; `backward` takes the gradients of all of them on.

    What is computed behind them stops at their keys and values, so that a graph may be freed group by group.
    """

    def __init__(self, model: Any, tokens: Sequence[int]) -> None:
        cache = DynamicCache()
        if tokens and shared_prefix.plug_in(model):
            ids = torch.tensor([list(tokens)], device=model.device)
            model.base_model(ids, **{shared_prefix.cache_argument(model): cache}, use_cache=True)
        self.length = cache.get_seq_length()
        self._read = [tensor for layer in shared_prefix.layers_of(cache) for tensor in layer]
        given = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in self._read]
        self.layers = list(zip(given[::2], given[1::2], strict=True))

    def backward(self) -> None:
        """Add the preface's part to the gradients of the model's weights."""
        given = (tensor for layer in self.layers for tensor in layer)
        pairs = zip(self._read, given, strict=True)
        used = [(read, leaf.grad) for read, leaf in pairs if leaf.grad is not None]
        if used:
            torch.autograd.backward([read for read, _ in used], [gradient for _, gradient in used])


@dataclass(frozen=True)
class Piece:
    """The next `size` tokens of a row: a prompt, or some answers to the last prompt before them.

    They see the preface, the prompt and themselves, less what the mask (1, 1, tokens, seen) hides.
    """

    size: int
    is_prompt: bool
    mask: torch.Tensor


class Row:
    """The tokens of prompts behind a preface, each followed by its answers but for their last tokens.

    `read` are the places after which the answers' tokens come, in the answers' order.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]], preface: int
    ) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.read: list[int] = []
        self._preface = preface
        # lengths of a piece's parts, which do not see one another, and how many tokens all of them see
        self._pieces: list[tuple[list[int], int]] = []
        for prompt, group in zip(prompts, answers, strict=True):
            self._add(prompt[preface:], preface)
            self._pieces.append(([len(prompt) - preface], preface))
            last = len(self.tokens) - 1
            lengths: list[int] = []
            for answer in group:
                if not answer:
                    continue
                behind = len(answer) - 1
                self.read += [last, *range(len(self.tokens), len(self.tokens) + behind)]
                self._add(answer[:-1], len(prompt))
                if not lengths or sum(lengths) + behind > PIECE_TOKENS:
                    lengths = []
                    self._pieces.append((lengths, len(prompt)))
                lengths.append(behind)

    def pieces(self, model: Any) -> list[Piece]:
        """What attention goes through, with masks as the model adds them."""
        made = []
        for lengths, before in self._pieces:
            size = sum(lengths)
            if not size:
                continue  # answers of one token
            seen = torch.block_diag(*(torch.ones(n, n) for n in lengths)).tril()
            mask = torch.zeros(size, before + size)
            mask[:, before:].masked_fill_(seen == 0, float("-inf"))
            mask = mask.to(model.device, model.dtype)[None, None]
            made.append(Piece(size, before == self._preface, mask))
        return made

    def _add(self, tokens: Sequence[int], position: int) -> None:
        self.tokens += tokens
        self.positions += range(position, position + len(tokens))


def row_logits(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]], preface: Preface
) -> torch.Tensor:
    """The logits before every token of the answers to each prompt, (tokens, vocabulary), in order."""
    row = Row(prompts, answers, preface.length)
    device = model.device
    hidden = model.base_model(
        torch.tensor([row.tokens], device=device),
        # a mask of four dimensions goes through as it is; attention has its own
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),
        position_ids=torch.tensor([row.positions], device=device),
        **{shared_prefix.cache_argument(model): _RowCache(preface, row.pieces(model))},
        use_cache=True,
    )[0]
    return model.get_output_embeddings()(hidden[0, torch.tensor(row.read, device=device)])


class _RowCache(Cache):
    """Hands the attention of each layer what a row sees."""

    def __init__(self, preface: Preface, pieces: list[Piece]) -> None:
        super().__init__(layers=[])
        self._preface, self._pieces = preface, pieces

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        before = self._preface.layers[layer_idx] if self._preface.length else ()
        layer = _RowLayer(before, key_states, value_states, self._pieces)
        return layer, layer

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._preface.length


@dataclass(frozen=True)
class _RowLayer(shared_prefix.Attended):
    preface: tuple[torch.Tensor, ...]  # keys and values (1, heads, tokens, d), or nothing
    keys: torch.Tensor  # (1, heads, tokens, d)
    values: torch.Tensor
    pieces: list[Piece]

    def attend(self, module: Any, query: torch.Tensor, scaling: float | None) -> torch.Tensor:
        sizes = [piece.size for piece in self.pieces]
        parts = zip(self.pieces, *(x.split(sizes, 2) for x in (query, self.keys, self.values)), strict=True)
        outs = []
        prompt = self.preface
        for piece, asking, keys, values in parts:
            before = self.preface if piece.is_prompt else prompt
            if before:
                keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
            if piece.is_prompt:
                prompt = keys, values
            outs.append(sdpa_attention_forward(module, asking, keys, values, piece.mask, scaling=scaling)[0])
        return torch.cat(outs, 1)
