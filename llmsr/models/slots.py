"""Keys and values of answers under way, in slots that stay where they are, and the step that reads a token.

All answers to a prompt read one copy of its keys and values, as one matrix product, and what all prompts
begin with is read once for everybody; only what an answer wrote itself is kept per answer. On a GPU the step
is one CUDA graph, which needs tensors that stay in their place: token by token a small model costs a GPU less
than its launches cost the processor (20 ms a token of 160 answers launch by launch, a tenth by a graph).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache

from llmsr.models.packing import Attended, Pack

LIKELY_TOKENS = 128  # looked at first; only where they are less likely than top_p all are sorted
FIRST_SLOTS = 64  # of an answer where there is no graph; doubled when full
HALVINGS = 24  # of the range of probabilities in which the least likely token of a nucleus is sought

Layer = tuple[torch.Tensor, torch.Tensor]
"""Keys (heads, tokens, width) and values of the same shape."""


class Table:
    """The slots of `counts[p]` answers to each prompt p, and the step that draws a token for all of them.

    With `prompt_slots` all tensors keep their shapes and places, and on a GPU the step is a graph.
    """

    def __init__(
        self,
        model: Any,
        counts: Sequence[int],
        prompt_slots: int | None,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> None:
        self.model, self.temperature, self.top_p = model, temperature, top_p
        device, rows = model.device, sum(counts)
        self.slots = Slots(model, counts, prompt_slots, max_tokens)
        self.positions = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.logits = torch.zeros(rows, model.config.vocab_size, dtype=model.dtype, device=device)
        self.uniform = torch.zeros(max_tokens, rows, device=device)
        self.drawn = torch.zeros(max_tokens, rows, dtype=torch.int64, device=device)
        self._cache = {cache_argument(model): self.slots}
        self._graph: Any = None
        self._taken = 0
        if prompt_slots is not None and device.type == "cuda":
            self._capture()

    def read(self, packed: Pack, known: Sequence[Layer]) -> list[Layer]:
        """Keys and values of every layer behind `known`, (heads, tokens, width), after reading a pack."""
        self._forward(packed, known)
        return self.slots.read

    def begin(self, packed: Pack, known: Sequence[Layer], uniform: torch.Tensor) -> None:
        """Read the prompts and be ready to draw; `uniform` (tokens, answers) decides over the draws."""
        hidden = self._forward(packed, known)
        last = torch.tensor([own[-1] - packed.known for own in packed.prompt_places], device=hidden.device)
        logits = self.model.get_output_embeddings()(hidden[last])
        counts = torch.tensor(self.slots.counts, device=hidden.device)
        self.logits.copy_(logits.repeat_interleave(counts, 0))
        lengths = torch.tensor([[len(own)] for own in packed.prompt_places], device=hidden.device)
        self.positions.copy_(lengths.repeat_interleave(counts, 0))
        self.uniform.copy_(uniform)
        self._taken = 0
        self.slots.begin(packed.prompt_places)

    def next_tokens(self, count: int) -> list[list[int]]:
        """The next `count` tokens of every answer, the ended ones included."""
        for _ in range(count):
            if self._graph is None:
                self._step()
            else:
                self._graph.replay()
        self._taken += count
        return self.drawn[self._taken - count : self._taken].tolist()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these answers only; not where shapes are fixed."""
        chosen = torch.tensor(rows, device=self.logits.device)
        self.positions, self.logits = self.positions[chosen], self.logits[chosen]
        self.uniform, self.drawn = self.uniform[:, chosen], self.drawn[:, chosen]
        self.slots.keep(chosen)

    def _forward(self, packed: Pack, known: Sequence[Layer]) -> torch.Tensor:
        """The last hidden states (tokens, width) of a pack, whose keys and values `slots.read` has."""
        packed = packed.to(self.model.device, self.model.dtype)
        self.slots.begin_reading(known)
        return self.model.get_decoder()(
            packed.tokens[None], position_ids=packed.positions[None], packed=packed, use_cache=True,
            **self._cache,
        ).last_hidden_state[0]  # fmt: skip

    def _step(self) -> None:
        """Draw a token for every row and read it."""
        uniform = self.uniform.index_select(0, self.slots.time)[0]
        tokens = draw(self.logits, uniform, self.temperature, self.top_p)
        self.drawn.index_copy_(0, self.slots.time, tokens[None])
        self.slots.open()
        hidden = self.model.get_decoder()(
            tokens[:, None],
            position_ids=self.positions,
            # a ready mask of four dimensions keeps the model from building one that nobody looks at
            attention_mask=self.slots.hidden,
            use_cache=True,
            **self._cache,
        ).last_hidden_state
        self.logits.copy_(self.model.get_output_embeddings()(hidden[:, 0]))
        self.positions += 1
        self.slots.close()

    def _capture(self) -> None:
        """Record `_step`, after two rounds in which libraries choose their kernels."""
        self.slots.begin([[0]] * len(self.slots.counts))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step()
                self.slots.time.zero_()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self._graph = graph


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """One token per row of logits (rows, vocabulary), by inversion of the distribution function at `uniform`.

    With top_p only the likeliest tokens that sum to it are drawn. Shapes do not depend on values on a GPU.
    """
    if temperature == 0:
        return logits.argmax(-1)
    probability = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        least = _least_by_halving if probability.is_cuda else _least_by_sorting
        probability = probability.masked_fill(probability < least(probability, top_p), 0.0)
    distribution = probability.cumsum(-1)
    level = uniform[:, None] * distribution[:, -1:]
    place = torch.searchsorted(distribution, level, right=True)[:, 0]
    return place.clamp_(max=probability.shape[-1] - 1)


def _least_by_sorting(probability: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probability (rows, 1) of the last token with which the likeliest ones come to top_p."""
    # sorting a whole vocabulary at every token would take longer than a small model
    likely = probability.topk(min(LIKELY_TOKENS, probability.shape[-1])).values
    flat = likely.sum(-1) < top_p
    least = _last_of_nucleus(likely, top_p)
    if flat.any():
        least[flat] = _last_of_nucleus(probability[flat].sort(-1, descending=True).values, top_p)
    return least


def _last_of_nucleus(descending: torch.Tensor, top_p: float) -> torch.Tensor:
    before = descending.cumsum(-1) - descending
    return descending.masked_fill(before >= top_p, 2.0).amin(-1, keepdim=True)


def _least_by_halving(probability: torch.Tensor, top_p: float) -> torch.Tensor:
    """The same by bisection, which a CUDA graph can hold; tokens within 1e-6 of one another count alike.

    It lies below the likeliest token and above what the whole vocabulary together would need to miss top_p.
    """
    high = probability.amax(-1, keepdim=True).log()
    low = torch.full_like(high, (1 - top_p) / probability.shape[-1]).log().minimum(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        mass = probability.masked_fill(probability < middle.exp(), 0.0).sum(-1, keepdim=True)
        enough = mass >= top_p
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low.exp().minimum(probability.amax(-1, keepdim=True))


class Slots(Cache):
    """The keys and values of all layers: of what prompts have in common, of their rests, and of the answers.

    `prompt_slots` is fixed for a graph, whose prompts then have nothing in common, and None elsewhere.
    `time` counts the tokens that every answer has.
    """

    def __init__(self, model: Any, counts: Sequence[int], prompt_slots: int | None, own_slots: int) -> None:
        super().__init__(layers=[])
        config = model.config
        self.counts, self.n_layers = list(counts), config.num_hidden_layers
        self.heads = config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.make: dict[str, Any] = {"dtype": model.dtype, "device": model.device}
        self.read: list[Layer] = []
        self.known: Sequence[Layer] = ()
        self._is_reading = False
        self.time = torch.zeros(1, dtype=torch.int64, device=model.device)
        self._fixed = prompt_slots is not None
        own = (sum(counts), self.heads, own_slots if self._fixed else FIRST_SLOTS, self.width)
        # zeros only where slots are attended to before they are written, with no weight
        room = torch.zeros if self._fixed else torch.empty
        self.own = [(room(own, **self.make), room(own, **self.make)) for _ in range(self.n_layers)]
        self.common: list[Layer] = []
        self.rest: list[Layer] = []
        self.hidden = torch.empty(0)
        self.ahead = torch.zeros(own_slots, **self.make)  # minus infinity where an answer has written nothing
        self.written = 0
        self._place([p for p, n in enumerate(counts) for _ in range(n)])
        if prompt_slots is not None:
            shape = (len(counts), self.heads, prompt_slots, self.width)
            self.rest = [
                (torch.zeros(shape, **self.make).transpose(2, 3), torch.zeros(shape, **self.make))
                for _ in range(self.n_layers)
            ]
            self.hidden = torch.zeros(len(counts), 1, 1, prompt_slots, **self.make)

    def begin_reading(self, known: Sequence[Layer]) -> None:
        """Take the next tokens for prompts; they stand behind `known` ones, which were read before."""
        self.read, self.known, self._is_reading = [], known, True

    def begin(self, places: Sequence[Sequence[int]]) -> None:
        """Lay out what was read: `places` are those of each prompt's tokens among the tokens read."""
        common = 0
        if not self._fixed and len(places) > 1:
            shortest = min(map(len, places)) - 1
            common = next((i for i in range(shortest) if len({own[i] for own in places}) > 1), shortest)
        width = self.hidden.shape[-1] if self._fixed else max(map(len, places)) - common
        chosen = torch.zeros(len(places), width, dtype=torch.int64)
        hidden = torch.full((len(places), 1, 1, width), float("-inf"))
        for i, own in enumerate(places):
            chosen[i, : len(own) - common] = torch.tensor(own[common:])
            hidden[i, ..., : len(own) - common] = 0
        chosen, hidden = chosen.to(self.time.device), hidden.to(**self.make)
        rest = [(k[:, chosen].permute(1, 0, 3, 2), v[:, chosen].transpose(0, 1)) for k, v in self.read]
        if self._fixed:
            self.hidden.copy_(hidden)
            for layer, new in zip(self.rest, rest, strict=False):  # nothing is read for a graph's first steps
                for slots, states in zip(layer, new, strict=True):
                    slots.copy_(states)
            self.ahead.fill_(float("-inf"))
        else:
            first = torch.tensor(places[0][:common], dtype=torch.int64, device=self.time.device)
            self.hidden = hidden
            self.rest = [(keys.contiguous(), values.contiguous()) for keys, values in rest]
            self.common = [(k[:, first].transpose(1, 2).contiguous(), v[:, first]) for k, v in self.read]
        self.read, self.known, self._is_reading = [], (), False
        self.time.zero_()
        self.written = 0

    def open(self) -> None:
        """Let every answer see the slot that is written next."""
        self.ahead.index_fill_(0, self.time, 0.0)
        # doubling keeps the copying linear in the length of an answer
        if not self._fixed and self.written == self.own[0][0].shape[2]:
            doubled = [[torch.cat([x, torch.empty_like(x)], 2) for x in layer] for layer in self.own]
            self.own = [(keys, values) for keys, values in doubled]

    def close(self) -> None:
        """One token more is written."""
        self.time += 1
        self.written += 1

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these answers only, and with the prompts that they answer."""
        for keys, values in self.own:
            for slots in (keys, values):
                slots[: len(rows), :, : self.written] = slots[rows, :, : self.written]
        self.own = [(keys[: len(rows)], values[: len(rows)]) for keys, values in self.own]
        answered = [self.answered[row] for row in rows.tolist()]
        going = sorted(set(answered))
        if len(going) < self.hidden.shape[0]:
            chosen = torch.tensor(going, device=rows.device)
            self.rest = [(keys[chosen], values[chosen]) for keys, values in self.rest]
            self.hidden = self.hidden[chosen]
        self._place([going.index(prompt) for prompt in answered])

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Keep what is read; what comes back is for `packing.attend` only."""
        if self._is_reading:
            states = [key_states, value_states]
            if self.known:
                states = [
                    torch.cat([old[None], new], 2)
                    for old, new in zip(self.known[layer_idx], states, strict=True)
                ]
            self.read.append((states[0][0], states[1][0]))
            return states[0], states[1]
        for slots, states in zip(self.own[layer_idx], (key_states, value_states), strict=True):
            if self._fixed:
                slots.index_copy_(2, self.time, states)
            else:
                slots[:, :, self.written] = states[:, :, 0]
        layer = _Attending(self, layer_idx)
        return layer, layer

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def by_prompt(self, rows: torch.Tensor) -> torch.Tensor:
        """(answers, ...) as (prompts, most answers, ...), with zeros where a prompt has fewer answers."""
        if self._places is not None:
            room = rows.new_zeros(self._prompts * self._most, *rows.shape[1:])
            rows = room.index_copy_(0, self._places, rows)
        return rows.view(self._prompts, self._most, *rows.shape[1:])

    def by_answer(self, groups: torch.Tensor) -> torch.Tensor:
        """What `by_prompt` undid."""
        rows = groups.flatten(0, 1)
        return rows if self._places is None else rows.index_select(0, self._places)

    def _place(self, answered: list[int]) -> None:
        """Note which prompt each answer is to; the answers to one prompt stand together."""
        self.answered = answered
        counts = [answered.count(p) for p in range(max(answered) + 1)]
        self._prompts, self._most = len(counts), max(counts)
        places = [p * self._most + i for p, count in enumerate(counts) for i in range(count)]
        full = len(places) == self._prompts * self._most
        self._places = None if full else torch.tensor(places, device=self.time.device)


class _Attending(Attended):
    """What a layer's tokens attend to: the common beginning, their prompt's rest, and their own answer."""

    def __init__(self, slots: Slots, layer: int) -> None:
        self.slots, self.layer = slots, layer

    def attend(self, query: torch.Tensor, scaling: float | None) -> torch.Tensor:
        slots = self.slots
        answers, n_heads, _, width = query.shape
        heads, group = slots.heads, n_heads // slots.heads
        # scaled once here in place of three times on the scores
        query = (query * (width**-0.5 if scaling is None else scaling)).view(answers, heads, group, width)
        rest_keys, rest_values = slots.rest[self.layer]
        keys, values = slots.own[self.layer]
        # (prompts, heads, most answers * group, width)
        by_prompt = slots.by_prompt(query).transpose(1, 2).flatten(2, 3)
        rest = torch.matmul(by_prompt, rest_keys) + slots.hidden
        scores = [slots.by_answer(rest.unflatten(2, (-1, group)).transpose(1, 2))]
        if slots._fixed:
            scores.append(torch.matmul(query, keys.transpose(2, 3)) + slots.ahead)
        else:
            keys, values = keys[:, :, : slots.written + 1], values[:, :, : slots.written + 1]
            scores.append(torch.matmul(query, keys.transpose(2, 3)))
        if slots.common:
            common_keys, common_values = slots.common[self.layer]
            flat = query.transpose(0, 1).reshape(heads, -1, width)  # all answers as rows of one product
            common = torch.bmm(flat, common_keys).view(heads, answers, group, -1).transpose(0, 1)
            scores.append(common)
        weights = torch.cat(scores, -1).softmax(-1, dtype=torch.float32).to(query.dtype)
        parts = weights.split([part.shape[-1] for part in scores], -1)
        out = torch.matmul(parts[1], values)
        by_prompt = slots.by_prompt(parts[0]).transpose(1, 2).flatten(2, 3)
        read = torch.matmul(by_prompt, rest_values).unflatten(2, (-1, group)).transpose(1, 2)
        out = out + slots.by_answer(read)
        if slots.common:
            flat = parts[2].transpose(0, 1).reshape(heads, answers * group, -1)
            out += torch.bmm(flat, common_values).view(heads, answers, group, width).transpose(0, 1)
        return out.view(answers, 1, n_heads, width)


def cache_argument(model: torch.nn.Module) -> str:
    """What a model's forward calls its cache: `cache`, or `past_key_values` in older transformers."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
