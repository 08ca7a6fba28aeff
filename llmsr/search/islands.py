"""Islands: populations that evolve apart, so that one early success does not take over the search.

As in FunSearch (Romera-Paredes et al., 2023) and LLM-SR: a prompt draws one island uniformly, shows two of
its members and sends the offspring back there; from time to time the weaker half is refilled from the best of
the stronger half. Members of equal loss form a cluster, of which the simpler ones are preferred.

Three rules choose a cluster:

    rank     softmax of -rank / temperature: pressure that no scale of the data can change (default)
    quality  softmax of -log10 NMSE / temperature
    score    LLM-SR's own: softmax of the score (-MSE) with temperature 0.1 (1 - (n mod 30000) / 30000)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llmsr.search.population import Draw, Member, Population

SCORE_TEMPERATURE = 0.1
SCORE_PERIOD = 30_000


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
    """`count` islands that all begin with the same seeds.

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
