"""Who is shown in the next prompt: the contract of every search, and all populations without lineage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from llmsr.expression import Expression, Node, Refusal
from llmsr.expression.canonical import canonical_hash, family
from llmsr.problem.spec import Spec, read_body
from llmsr.prompt import Version
from llmsr.sample import Evaluation

NMSE_FLOOR = 1e-26  # below it, differences are rounding
SCORE_TEMPERATURE = 0.1
SCORE_PERIOD = 30_000


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
        score=evaluation.worth,
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


# ---- islands


@dataclass
class _Island:
    """Members by canonical form, and the same ones by cluster of equal loss."""

    members: dict[str, Member] = field(default_factory=dict)
    clusters: dict[str, list[Member]] = field(default_factory=dict)
    best: Member | None = None

    def add(self, member: Member) -> None:
        """Take in a member unless an equal equation is here already."""
        if member.canonical in self.members:
            return
        self.members[member.canonical] = member
        self.clusters.setdefault(_signature(member), []).append(member)
        if self.best is None or member.score > self.best.score:
            self.best = member


def _signature(member: Member) -> str:
    """Equal for losses that agree to about one part in a thousand."""
    return f"{member.score:.2e}"


class Islands(Population):
    """`count` islands that all begin with the same seeds and evolve apart: no early success takes over.

    As in FunSearch (Romera-Paredes et al., 2023) and LLM-SR: a prompt draws one island uniformly, shows two
    of its members and sends the offspring back there; from time to time the weaker half is refilled from
    the best of the stronger half. Members of equal loss form a cluster, of which the simpler ones are
    preferred.

    Three rules choose a cluster:

        rank     softmax of -rank / temperature: pressure that no scale of the data can change (default)
        quality  softmax of -log10 NMSE / temperature
        score    LLM-SR's own: softmax of the score (-MSE) with temperature 0.1 (1 - (n mod 30000) / 30000)

    `shown` members appear in a prompt; `reset_every` samples the weaker half is refilled (0: never).
    """

    def __init__(
        self,
        seeds: Sequence[Member],
        *,
        count: int = 10,
        shown: int = 2,
        rule: str = "rank",
        temperature: float = 1.0,
        reset_every: int = 1000,
        seed: int = 0,
    ) -> None:
        self.islands = [_Island() for _ in range(count)]
        for island in self.islands:
            for member in seeds:
                island.add(member)
        self.shown = shown
        self.rule = rule
        self.temperature = temperature
        self.reset_every = reset_every
        self._seed = seed

    def draw(self, generator: np.random.Generator) -> Draw:
        number = int(generator.integers(len(self.islands)))
        island = self.islands[number]
        clusters = sorted(island.clusters.values(), key=lambda cluster: -cluster[0].score)
        if not clusters:
            return Draw((), number)
        weights = self._weights(clusters, len(island.members))
        count = min(self.shown, len(clusters))
        # at low temperature weights underflow to 0, and fewer than `count` could be drawn
        if np.count_nonzero(weights) < count:
            weights = weights + 1e-12
        chosen = generator.choice(len(clusters), size=count, replace=False, p=weights / weights.sum())
        members = [_pick(clusters[i], generator) for i in chosen]
        return Draw(tuple(sorted(members, key=lambda member: member.score)), number)

    def add(self, member: Member, island: int | None) -> None:
        if island is not None:
            self.islands[island % len(self.islands)].add(member)

    def found(self, members: Sequence[Member]) -> None:
        for island in self.islands:
            for member in members:
                island.add(member)

    def end_of_sample(self, number: int) -> None:
        if self.reset_every and number % self.reset_every == 0:
            self._refill(np.random.default_rng([self._seed, 1, number]))

    def _weights(self, clusters: list[list[Member]], size: int) -> np.ndarray:
        if self.rule == "rank":
            logits = -np.arange(len(clusters), dtype=float) / max(self.temperature, 1e-6)
        elif self.rule == "quality":
            logits = np.array([cluster[0].quality for cluster in clusters]) / max(self.temperature, 1e-6)
        else:
            cooled = SCORE_TEMPERATURE * (1 - (size % SCORE_PERIOD) / SCORE_PERIOD)
            logits = np.array([cluster[0].score for cluster in clusters]) / cooled
        weights = np.exp(logits - np.max(logits))
        return weights / weights.sum()

    def _refill(self, generator: np.random.Generator) -> None:
        """Begin the weaker half anew, each island from the best member of a stronger one."""

        def strength(number: int) -> float:
            best = self.islands[number].best
            return best.score if best else -math.inf

        noise = generator.permutation(len(self.islands))  # breaks ties: at first all islands are alike
        order = sorted(range(len(self.islands)), key=lambda i: (strength(i), noise[i]))
        half = len(order) // 2
        for number in order[:half]:
            founder = self.islands[int(generator.choice(order[half:]))].best
            self.islands[number] = _Island()
            if founder:
                self.islands[number].add(founder)


def _pick(cluster: list[Member], generator: np.random.Generator) -> Member:
    """One member, the simpler the likelier: softmax of minus complexity, scaled to the cluster's range."""
    if len(cluster) == 1:
        return cluster[0]
    sizes = np.array([member.complexity for member in cluster], dtype=float)
    spread = sizes.max() - sizes.min()
    weights = np.exp(-(sizes - sizes.min()) / (spread + 1e-6)) if spread else np.ones(len(cluster))
    return cluster[int(generator.choice(len(cluster), p=weights / weights.sum()))]
