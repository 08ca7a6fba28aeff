"""The finals of a run: a few equations of different structure, of which a scientist may know the law."""

from __future__ import annotations

from collections.abc import Iterable

from llmsr.problem.loading import Problem
from llmsr.refinement.floor import at_floor
from llmsr.sample import Sample
from llmsr.search.population import structure

COUNT = 5
POOL = 64  # samples that are kept, since of one structure many may lead


class Finals:
    """The samples of a run that are worth most, by training error and size."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._pool: dict[str, tuple[float, Sample]] = {}

    def add(self, sample: Sample) -> None:
        """Take in a sample; failures are passed over."""
        from llmsr.refinement.refiner import loss_and_size  # late: it waits for a compiler

        evaluation = sample.evaluation
        if not evaluation.ok:
            return
        worth = loss_and_size(self._problem.spec, evaluation)
        known = self._pool.get(evaluation.canonical)
        if known is None or worth < known[0]:
            self._pool[evaluation.canonical] = worth, sample
        if len(self._pool) > 2 * POOL:
            best = sorted(self._pool.items(), key=lambda item: item[1][0])[:POOL]
            self._pool = dict(best)

    def behind(self, first: Iterable[Sample] = (), count: int = COUNT) -> list[Sample]:
        """At most `count` samples, with `first` counted in but not among them, no two of one structure.

        At the data's floor the smallest come first, then those that are worth most.
        """
        spec = self._problem.spec

        def order(entry: tuple[float, Sample]) -> tuple[bool, float]:
            worth, sample = entry
            done = at_floor(self._problem, sample.evaluation)
            return not done, float(sample.evaluation.complexity or 0) if done else worth

        seen = {structure(spec, sample.evaluation.body) for sample in first}
        left = count - len(seen)
        found: list[Sample] = []
        for _, sample in sorted(self._pool.values(), key=order):
            name = structure(spec, sample.evaluation.body)
            if name not in seen and len(found) < left:
                seen.add(name)
                found.append(sample)
        return found
