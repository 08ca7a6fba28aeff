"""Which samples of a run are refined: new records; and what an archive already holds of their refinements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from llmsr.evolution.totals import score_of
from llmsr.refinement.refiner import Refiner, at_floor
from llmsr.sample import REFINE, Evaluation, Sample, is_llm_sample


class Refining:
    """Refines each sample that beats all samples before it, of the run or of its island.

    Refinements do not raise that bar, so that what is found later gets its turn; once one leaves nothing to
    explain, none follow.
    `begun` is what every island begins with, `earlier` are the archived samples of the run to be continued.
    The refinements of an archived sample are taken from there, unless it is the last one: then the run may
    have ended in their midst, and they are made again.
    """

    def __init__(
        self,
        refiner: Refiner,
        by_island: bool,
        begun: Iterable[Evaluation] = (),
        earlier: Sequence[Sample] = (),
    ) -> None:
        self.refiner = refiner
        self._by_island = by_island
        self._begun = max(begun, key=score_of, default=None)
        self._best: dict[int | None, Evaluation] = {}
        self._finished = False
        self._earlier: dict[int, list[Sample]] = defaultdict(list)
        for sample in earlier:
            if sample.proposer == REFINE:
                self._earlier[sample.number].append(sample)
        self._last = max((s.number for s in earlier if is_llm_sample(s)), default=0)

    def of(self, sample: Sample) -> tuple[list[Sample], int]:
        """The refinements of a sample, none unless it is a record; and how many are archived already."""
        if not self._is_record(sample):
            return [], 0
        found = self._earlier.pop(sample.number, [])
        archived = len(found)
        if sample.number >= self._last:
            found = found + self.refiner.refine(sample)[archived:]
        self._finished = any(r.evaluation.ok and at_floor(r.evaluation) for r in [sample, *found])
        return found, archived

    def _is_record(self, sample: Sample) -> bool:
        """Whether the sample is to be refined; takes note of it."""
        key = sample.island if self._by_island else None
        best = self._best.get(key, self._begun)
        if self._finished or not sample.evaluation.ok:
            return False
        if best is not None and score_of(sample.evaluation) <= score_of(best):
            return False
        self._best[key] = sample.evaluation
        return True
