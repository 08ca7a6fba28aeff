"""The best equations of different structure: at most one of each, shown by rank, unlike in size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmsr.expression import Expression, Node, Refusal
from llmsr.expression.canonical import canonical_hash, family
from llmsr.problem.bodies import read_body
from llmsr.problem.spec import Spec
from llmsr.search.population import Draw, Member, Population


class Top(Population):
    """The `size` best members, of each structure the best alone.

    A prompt shows `shown` of them: each is drawn with weight exp(-rank / temperature), and among those left
    the ones whose complexity is not shown yet go first.
    """

    def __init__(
        self,
        seeds: Sequence[Member],
        spec: Spec,
        *,
        size: int = 32,
        shown: int = 2,
        temperature: float = 3.0,
    ) -> None:
        self.spec = spec
        self.size = size
        self.shown = shown
        self.temperature = temperature
        self.members: list[Member] = []  # best first
        self._structures: dict[str, str] = {}  # of members by canonical form
        for member in seeds:
            self.add(member, None)

    def draw(self, generator: np.random.Generator) -> Draw:
        left = list(self.members)
        chosen: list[Member] = []
        while left and len(chosen) < self.shown:
            sizes = {member.complexity for member in chosen}
            ranked = [member for member in left if member.complexity not in sizes] or left
            weights = np.exp(-np.arange(len(ranked)) / max(self.temperature, 1e-6))
            member = ranked[int(generator.choice(len(ranked), p=weights / weights.sum()))]
            chosen.append(member)
            left.remove(member)
        return Draw(tuple(sorted(chosen, key=lambda member: member.score)))

    def add(self, member: Member, island: int | None) -> None:
        if member.canonical in self._structures:
            return
        if len(self.members) == self.size and member.score <= self.members[-1].score:
            return
        found = structure(self.spec, member.body) or member.canonical
        rival = next((m for m in self.members if self._structures[m.canonical] == found), None)
        if rival is not None and rival.score >= member.score:
            return
        if rival is not None:
            self._remove(rival)
        self.members.append(member)
        self.members.sort(key=lambda m: (-m.score, m.sample))
        self._structures[member.canonical] = found
        if len(self.members) > self.size:
            self._remove(self.members[-1])

    def _remove(self, member: Member) -> None:
        self.members.remove(member)
        del self._structures[member.canonical]


def structure(spec: Spec, body: str) -> str:
    """A name for the body's equation with all its numbers freed, so x**2 and x**2.5 share one.

    Empty where the body cannot be read.
    """
    found = read_body(spec, body)
    if isinstance(found, Refusal):
        return ""
    form = family(found).expression
    free = max(form.params, default=-1) + 1
    nodes = []
    for node in form.nodes:
        if node.op == "const":
            node, free = Node("param", (), free), free + 1
        nodes.append(node)
    return canonical_hash(Expression(tuple(nodes), form.columns))
