"""What a run has come to so far."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from llmsr.sample import REFINE, Evaluation, Sample


@dataclass
class Totals:
    """What a run has come to; `distinct` counts canonical forms among the valid samples.

    Refinements are counted apart; `best` is the best of all, whoever wrote it.
    """

    samples: int = 0
    valid: int = 0
    tokens: int = 0
    failed_prompts: int = 0
    refinements: int = 0
    best: Sample | None = None
    first_with: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def distinct(self) -> int:
        return len(self.first_with)

    def add(self, sample: Sample) -> None:
        evaluation = sample.evaluation
        if sample.proposer == REFINE:
            self.refinements += 1
        else:
            self._count(sample)
        if not evaluation.ok:
            return
        if self.best is None or score_of(evaluation) > score_of(self.best.evaluation):
            self.best = sample

    def _count(self, sample: Sample) -> None:
        evaluation = sample.evaluation
        self.samples += 1
        self.tokens += sample.tokens
        if not evaluation.ok:
            self.failures[evaluation.status] += 1
            return
        self.valid += 1
        self.first_with.setdefault(evaluation.canonical, sample.number)


def score_of(evaluation: Evaluation) -> float:
    """The score to maximise; minus infinity for a failure."""
    return evaluation.score if evaluation.score is not None else -math.inf
