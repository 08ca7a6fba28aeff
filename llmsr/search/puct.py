"""PUCT over equations: exploit what led to good equations, explore what was seldom built upon.

A state is an equation, named by its canonical form. Its value Q is the best quality (-log10 NMSE) among
itself and all that descends from it: what counts is the best that came of it, not the average. A prompt shows
the states of highest

    Q + c * scale * P * sqrt(1 + T) / (1 + n)

with P the prior, proportional to 1 / rank by quality, n the prompts that built on the state, T the prompts in
all and `scale` the range of quality over the states. n is counted when a prompt is drawn. Of prompts that are
drawn together, before answers come in, no two build on one lineage while there are others: the best state and
its offspring are close to each other, and a batch that builds on them all would be one prompt many times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llmsr.search.population import Draw, Member, Population


@dataclass
class _State:
    """A member with the parents it came from, the best quality that came of it, and its prompts."""

    member: Member
    value: float
    best: float
    parents: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    prompts: int = 0


class Puct(Population):
    """States that are built upon by PUCT, `shown` of them a prompt.

    The first state of a prompt is the one that is built upon: `Draw.island` is its number, so `add` knows the
    parent. `exploration` is c.
    """

    def __init__(self, seeds: Sequence[Member], *, shown: int = 2, exploration: float = 1.0) -> None:
        self.states: list[_State] = []
        self.shown = shown
        self.exploration = exploration
        self._numbers: dict[str, int] = {}
        self._blocked: set[int] = set()
        for member in seeds:
            self.add(member, None)

    def draw(self, generator: np.random.Generator) -> Draw:
        if not self.states:
            return Draw(())
        # equal priorities, which a fresh search has many of, are told apart by the generator
        noise = generator.permutation(len(self.states))
        order = [int(i) for i in np.lexsort((noise, -self.priorities()))]
        first = next((i for i in order if i not in self._blocked), None)
        if first is None:
            self._blocked.clear()
            first = order[0]
        self._blocked |= self._lineage(first)
        self.states[first].prompts += 1
        others = [i for i in order if i != first][: self.shown - 1]
        members = [self.states[i].member for i in (first, *others)]
        return Draw(tuple(sorted(members, key=lambda member: member.score)), first)

    def add(self, member: Member, island: int | None) -> None:
        """Take in an offspring of the state numbered `island`, and tell all that it descends from."""
        number = self._numbers.get(member.canonical)
        if number is None:
            number = self._numbers[member.canonical] = len(self.states)
            value = max(member.quality, 0.0) if math.isfinite(member.nmse) else 0.0
            self.states.append(_State(member, value, value))
        if island is not None and island < len(self.states) and island != number:
            self.states[number].parents.add(island)
            self.states[island].children.add(number)
            self._back_up(number)

    def end_of_sample(self, number: int) -> None:
        """An answer came in: the next draws are of another batch."""
        self._blocked.clear()

    def bar(self, island: int | None) -> float:
        """The score of the state numbered `island`."""
        return self.states[island].member.score if island is not None else -math.inf

    def priorities(self) -> np.ndarray:
        """The priority of every state, in the order in which they came."""
        values = np.array([state.value for state in self.states])
        best = np.array([state.best for state in self.states])
        visits = np.array([state.prompts for state in self.states])
        ranks = np.empty(len(values))
        ranks[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
        prior = (1 / ranks) / (1 / ranks).sum()
        scale = float(np.ptp(values)) or 1.0
        return best + self.exploration * scale * prior * math.sqrt(1 + visits.sum()) / (1 + visits)

    def _lineage(self, number: int) -> set[int]:
        """A state, all that it descends from and all that descends from it."""
        found = {number}
        for kin in ("parents", "children"):
            waiting = [number]
            while waiting:
                new = getattr(self.states[waiting.pop()], kin) - found
                found |= new
                waiting += new
        return found

    def _back_up(self, number: int) -> None:
        """Raise the best of all ancestors; stops where nothing rises, so cycles end."""
        waiting = [number]
        while waiting:
            child = self.states[waiting.pop()]
            for parent in child.parents:
                if self.states[parent].best < child.best:
                    self.states[parent].best = child.best
                    waiting.append(parent)
