"""Who is shown in the next prompt: the contract of every search, and the two simplest ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from llmsr.prompt import Version

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
        return Version(self.body, self.score, self.sample, self.params)


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
