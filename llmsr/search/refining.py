"""Which samples of a run are refined: new records; and what an archive already holds of their refinements."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from llmsr.refinement.floor import at_floor
from llmsr.refinement.refiner import Refiner
from llmsr.sample import REFINEMENT, Evaluation, Sample, is_llm_sample


class Refining:
    """Refines each sample that beats all samples before it.

    With `patience`, once so many samples have passed without a refinement, a sample that beats those of its
    island before it is refined as well; with 0 each of these is. A state of PUCT counts as an island of what
    builds on it, so that the state itself is the first to be beaten.
    Refinements do not raise that bar, so that what is found later gets its turn; once one leaves nothing to
    explain, none follow.
    `begun` is what every island begins with, `earlier` are the archived samples of the run that is resumed.
    The refinements of an archived sample are taken from there, unless it is the last one: then the run may
    have ended in their midst, and they are made again.
    """

    def __init__(
        self,
        refiner: Refiner,
        patience: int | None = None,
        begun: Iterable[Evaluation] = (),
        earlier: Sequence[Sample] = (),
    ) -> None:
        self.refiner = refiner
        self._patience = patience
        self._begun = max((one.worth for one in begun), default=-math.inf)
        self._best: dict[int | str | None, float] = {}
        self._refined = 0
        self._finished = False
        self._earlier: dict[int, list[Sample]] = defaultdict(list)
        for sample in earlier:
            if sample.kind == REFINEMENT:
                self._earlier[sample.number].append(sample)
        self._last = max((s.number for s in earlier if is_llm_sample(s)), default=0)

    def of(self, sample: Sample, bar: float = -math.inf) -> tuple[list[Sample], int]:
        """The refinements of a sample, none unless it is a record; and how many are archived already.

        `bar` is the score that an island's record must beat beside those of its island, see `Population.bar`.
        """
        if not self._is_record(sample, bar):
            return [], 0
        found = self._earlier.pop(sample.number, [])
        archived = len(found)
        if sample.number >= self._last:
            found = found + self.refiner.refine(sample)[archived:]
        self._note_floor([sample, *found])
        return found, archived

    def begin(
        self, seconds: float, guesses: Sequence[Sample] = (), numbered: int = 0
    ) -> tuple[list[Sample], int]:
        """What refines the guesses and what structure search finds; how many of these are archived already.

        It is made again where the archive ends before the first completion. All have the number 0, and their
        refinements are counted on from what is `numbered` already.
        """
        found = self._earlier.pop(0, [])
        archived = len(found)
        self._note_floor(guesses)
        if not self._last:
            made = [refined for guess in guesses for refined in self.refiner.refine(guess)]
            self._note_floor(made)
            made += self.refiner.structures(seconds) if seconds > 0 and not self._finished else []
            counted = [replace(s, refinement=k, parents=()) for k, s in enumerate(made, start=numbered + 1)]
            found = found + counted[archived:]
        self._note_floor(found)
        return found, archived

    def _note_floor(self, samples: Sequence[Sample]) -> None:
        problem = self.refiner.evaluator.problem
        self._finished = self._finished or any(at_floor(problem, sample.evaluation) for sample in samples)

    @property
    def finished(self) -> bool:
        """Whether an equation leaves nothing to explain."""
        return self._finished

    def _is_record(self, sample: Sample, bar: float) -> bool:
        """Whether the sample is to be refined; takes note of it."""
        if self._finished or not sample.evaluation.ok:
            return False
        score = sample.evaluation.worth
        of_island = self._raises(sample.island, score, max(self._begun, bar))
        of_run = self._raises("run", score, self._begun)
        waited = self._patience is not None and sample.number - self._refined >= self._patience
        if not of_run and not (of_island and waited):
            return False
        self._refined = sample.number
        return True

    def _raises(self, key: int | str | None, score: float, begun: float) -> bool:
        """Whether a score is the best so far of an island, or of the run, that began with another; noted."""
        if score <= self._best.get(key, begun):
            return False
        self._best[key] = score
        return True
