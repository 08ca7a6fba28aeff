"""Who is shown in the next prompt: the contract of every search, and the three without islands or lineage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from llmsr.expression import Expression, Node, Refusal
from llmsr.expression.canonical import canonical_hash, family
from llmsr.problem.spec import Spec, read_body
from llmsr.prompt import Version
from llmsr.sample import Evaluation
from llmsr.search.totals import score_of

NMSE_FLOOR = 1e-26  # below it, differences are rounding


@dataclass(frozen=True)
class Member:
    """An equation that may be shown: its text as a prompt shows it, and how good it is on the training rows.

    `score` orders members, higher is better: minus the mean squared error, or what the spec's own evaluate
    returned. `quality` is -log10 of the training NMSE, floored at `NMSE_FLOOR`. `sample` is 0 for the spec's
    own body.
    """

    sample: int
    body: str
    canonical: str
    score: float
    nmse: float
    complexity: int
    params: tuple[float, ...]

    @property
    def quality(self) -> float:
        return -math.log10(max(self.nmse, NMSE_FLOOR))

    def version(self) -> Version:
        return Version(self.body, self.score, self.sample, self.params, self.nmse)


def member_of(number: int, evaluation: Evaluation) -> Member:
    """The valid sample as a population sees it."""
    if evaluation.params is None:
        raise ValueError("only a valid sample can be a member")
    nmse = evaluation.nmse["train"]
    return Member(
        sample=number,
        body=evaluation.body,
        canonical=evaluation.canonical,
        score=score_of(evaluation),
        nmse=nmse if nmse is not None else math.inf,
        complexity=evaluation.complexity or 0,
        params=evaluation.params,
    )


@dataclass(frozen=True)
class Draw:
    """The members that one prompt shows, worst first, and the island that its offspring return to."""

    members: tuple[Member, ...]
    island: int | None = None


class Population(Protocol):
    """What a search keeps. Its state is a function of the members added, in their order."""

    def draw(self, generator: np.random.Generator) -> Draw:
        """Choose the next prompt's members."""

    def add(self, member: Member, island: int | None) -> None:
        """Take in an offspring."""

    def found(self, members: Sequence[Member]) -> None:
        """Take in equations that belong to no island."""
        for member in members:
            self.add(member, None)

    def end_of_sample(self, number: int) -> None:
        """Note that `number` samples are evaluated, whether they were added or not."""
        return

    def bar(self, island: int | None) -> float:
        """The score of what the offspring of an island build on, where that is one equation; else no bar."""
        return -math.inf


class BestOfN(Population):
    """Independent samples: every prompt shows the spec's own body and nothing else."""

    def __init__(self, seeds: Sequence[Member]) -> None:
        self._draw = Draw(tuple(seeds))

    def draw(self, generator: np.random.Generator) -> Draw:
        return self._draw

    def add(self, member: Member, island: int | None) -> None:
        pass


class SequentialBestOfN(Population):
    """Always improve on the single best: every prompt shows the best equation so far."""

    def __init__(self, seeds: Sequence[Member]) -> None:
        self._best = max(seeds, key=lambda member: member.score, default=None)

    def draw(self, generator: np.random.Generator) -> Draw:
        return Draw((self._best,) if self._best else ())

    def add(self, member: Member, island: int | None) -> None:
        if self._best is None or member.score > self._best.score:
            self._best = member


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
