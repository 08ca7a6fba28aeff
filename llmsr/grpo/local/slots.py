"""Answers drawn on a GPU: keys and values lie in fixed slots, so that one CUDA graph makes every token.

Token by token a small model costs a GPU less than its launches cost the processor: with transformers' own
loop a token of 160 answers takes 20 ms, replayed from a graph a tenth of it. A graph needs tensors that stay
where they are: a row an answer, the prompt's tokens in its first slots, its own behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache

from llmsr.grpo import packing
from llmsr.proposers.sampling import Drawing, Prompt, Sampled
from llmsr.proposers.shared_prefix import cache_argument

LOOK_EVERY = 8  # tokens between two looks at what was drawn: each look waits for the GPU
PROMPT_STEP = 64  # slots for prompts come in steps, so that a graph serves prompts of about its length


class SlotSampler:
    """Draws answers from a model that packed passes can read; a `Sampler` for GPUs.

    The answers depend on the prompts' seeds and the weights, not on what was drawn before. Weights may
    change in place between two calls.
    """

    def __init__(self, model: Any, drawing: Drawing) -> None:
        if drawing.top_p != 1:
            raise ValueError("a graph draws from the whole distribution")
        self.model = model
        self.drawing = drawing
        self._tables: dict[tuple[int, int], _Table] = {}

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Prompt]) -> list[list[Sampled]]:
        """The continuations of each prompt."""
        if self.model.config._attn_implementation != packing.ATTENTION:
            self.model.set_attn_implementation(packing.ATTENTION)
        samples = [[Sampled() for _ in range(prompt.n)] for prompt in prompts]
        flat = [one for group in samples for one in group]
        longest = max(len(prompt.tokens) for prompt in prompts)
        table = self._table(len(flat), -(-longest // PROMPT_STEP) * PROMPT_STEP)
        table.read(prompts)
        drawn = 0
        while drawn < self.drawing.max_tokens:
            count = min(LOOK_EVERY, self.drawing.max_tokens - drawn)
            for _ in range(count):
                table.next_token()
            for tokens in table.drawn[drawn : drawn + count].tolist():
                for sample, token in zip(flat, tokens, strict=True):
                    self._take(sample, token)
            drawn += count
            if all(sample.reason == "stop" for sample in flat):
                break
        return samples

    def _take(self, sample: Sampled, token: int) -> None:
        """Add a token to an answer that has not ended."""
        if sample.reason == "stop":
            return
        if token in self.drawing.end_tokens:
            sample.reason, sample.end = "stop", token
            return
        sample.tokens.append(token)
        if self.drawing.is_over(sample.tokens):
            sample.reason = "stop"

    def _table(self, rows: int, prompt_slots: int) -> _Table:
        if (rows, prompt_slots) not in self._tables:
            # validation draws fewer answers than training: two tables serve a run
            while len(self._tables) > 1:
                del self._tables[next(iter(self._tables))]
            self._tables[rows, prompt_slots] = _Table(
                self.model, rows, prompt_slots, self.drawing.max_tokens, self.drawing.temperature
            )
        return self._tables[rows, prompt_slots]


class _Table:
    """The slots of some answers and the graph that draws a token for all of them."""

    def __init__(self, model: Any, rows: int, prompt_slots: int, max_tokens: int, temperature: float) -> None:
        self.model, self.temperature, self.prompt_slots = model, temperature, prompt_slots
        device = model.device
        self.cache = _Slots(model, rows, prompt_slots, prompt_slots + max_tokens)
        self.positions = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.logits = torch.zeros(rows, model.config.vocab_size, dtype=model.dtype, device=device)
        self.uniform = torch.zeros(max_tokens, rows, device=device)
        self.drawn = torch.zeros(max_tokens, rows, dtype=torch.int64, device=device)
        self.time = torch.zeros(1, dtype=torch.int64, device=device)
        self._cache = {cache_argument(model): self.cache}
        self._graph: Any = None
        if device.type == "cuda":
            self._capture()

    def read(self, prompts: Sequence[Prompt]) -> None:
        """Read the prompts, each in a row for each of its answers."""
        device = self.model.device
        packed = packing.pack([prompt.tokens for prompt in prompts], [[] for _ in prompts]).to(device)
        counts = [prompt.n for prompt in prompts]
        places = torch.zeros(len(prompts), self.prompt_slots, dtype=torch.int64)
        hidden = torch.full((len(prompts), self.prompt_slots), float("-inf"))
        for i, own in enumerate(packed.prompt_places):
            places[i, : len(own)] = torch.tensor(own)
            hidden[i, : len(own)] = 0
        repeats = torch.tensor(counts)
        self.cache.begin(places.repeat_interleave(repeats, 0), hidden.repeat_interleave(repeats, 0))
        out = self.model.get_decoder()(
            packed.tokens[None], position_ids=packed.positions[None], packed=packed, use_cache=True,
            **self._cache,
        ).last_hidden_state[0]  # fmt: skip
        self.cache.reading = None
        last = torch.tensor([own[-1] for own in packed.prompt_places], device=device)
        logits = self.model.get_output_embeddings()(out[last])
        self.logits.copy_(logits.repeat_interleave(repeats.to(device), 0))
        lengths = torch.tensor([[len(prompt.tokens)] for prompt in prompts])
        self.positions.copy_(lengths.repeat_interleave(repeats, 0))
        self.time.zero_()
        uniform = []
        for prompt in prompts:
            generator = torch.Generator().manual_seed(prompt.seed)
            # number by number, as `Sampler` draws them
            uniform.append(
                torch.stack([torch.rand(prompt.n, generator=generator) for _ in range(len(self.uniform))])
            )
        self.uniform.copy_(torch.cat(uniform, 1))

    def next_token(self) -> None:
        """Draw the next token of every answer, the ended ones included, and read it."""
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()

    def _step(self) -> None:
        probability = torch.softmax(self.logits.float() / self.temperature, -1)
        distribution = probability.cumsum(-1)
        level = self.uniform.index_select(0, self.time).T * distribution[:, -1:]
        tokens = torch.searchsorted(distribution, level, right=True)
        tokens = tokens.clamp_(max=distribution.shape[-1] - 1)
        self.drawn.index_copy_(0, self.time, tokens.T)
        self.cache.show()
        hidden = self.model.get_decoder()(
            tokens,
            position_ids=self.positions,
            # a ready mask of four dimensions keeps the model from building one that nobody looks at
            attention_mask=self.cache.hidden,
            use_cache=True,
            **self._cache,
        ).last_hidden_state
        self.logits.copy_(self.model.get_output_embeddings()(hidden[:, 0]))
        self.positions += 1
        self.time += 1
        self.cache.slot += 1

    def _capture(self) -> None:
        """Record `_step`, after two rounds in which libraries choose their kernels."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step()
                self.time.zero_()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self._graph = graph


@dataclass(frozen=True)
class _Layer(packing.Attended):
    """What a layer attends to while a token is read."""

    keys: torch.Tensor  # (rows, heads, slots, width)
    values: torch.Tensor
    hidden: torch.Tensor  # (rows, 1, 1, slots): minus infinity where nothing is to be seen

    def attend(self, query: torch.Tensor, scaling: float | None) -> torch.Tensor:
        rows, n_heads, _, width = query.shape
        query = query * (width**-0.5 if scaling is None else scaling)
        grouped = query.view(rows, self.keys.shape[1], -1, width)
        scores = torch.matmul(grouped, self.keys.transpose(2, 3)) + self.hidden
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        return torch.matmul(weights, self.values).view(rows, 1, n_heads, width)


class _Slots(Cache):
    """Keys and values of all layers, (rows, heads, slots, width) each."""

    def __init__(self, model: Any, rows: int, prompt_slots: int, slots: int) -> None:
        super().__init__(layers=[])
        config = model.config
        heads = config.num_key_value_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        make = {"dtype": model.dtype, "device": model.device}
        self._layers = [
            (torch.zeros(rows, heads, slots, width, **make), torch.zeros(rows, heads, slots, width, **make))
            for _ in range(config.num_hidden_layers)
        ]
        self.hidden = torch.full((rows, 1, 1, slots), float("-inf"), **make)
        self.slot = torch.tensor([prompt_slots], device=model.device)
        self._first = prompt_slots
        self.reading: torch.Tensor | None = None

    def begin(self, places: torch.Tensor, hidden: torch.Tensor) -> None:
        """Take the next tokens that are read as prompts: `places` (rows, slots) of a row's tokens."""
        self.reading = places.to(self.slot.device)
        self.hidden.fill_(float("-inf"))
        self.hidden[:, 0, 0, : self._first] = hidden.to(self.hidden)
        self.slot.fill_(self._first)

    def show(self) -> None:
        """Let every row see the slot that is written next."""
        self.hidden.index_fill_(3, self.slot, 0.0)

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Keep what is read; what comes back is for `packing.attend` only."""
        keys, values = self._layers[layer_idx]
        if self.reading is not None:
            for slots, states in ((keys, key_states), (values, value_states)):
                slots[:, :, : self._first] = states[0][:, self.reading].transpose(0, 1)
            return key_states, value_states
        keys.index_copy_(2, self.slot, key_states)
        values.index_copy_(2, self.slot, value_states)
        layer = _Layer(keys, values, self.hidden)
        return layer, layer

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
