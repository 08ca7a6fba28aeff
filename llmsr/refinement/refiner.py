"""The refiner: fits what is proposed for an equation, goes on from the best, stops where nothing gains."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from llmsr.evaluator import Evaluator
from llmsr.problem.spec import Spec
from llmsr.refinement.floor import at_floor
from llmsr.refinement.linearization import Proposal, penalised_loss
from llmsr.refinement.proposals import hole_proposals, hole_structures, in_turn, proposals
from llmsr.sample import REFINE, REFINEMENT, STRUCTURE, Evaluation, Sample
from llmsr.workers.pool import TaskError, WorkerFailure

log = logging.getLogger(__name__)

LEVEL = 3.0  # times the error of an equation at the floor, up to which errors are equal
ROUND = 16  # fits before the best are looked at again
STRUCTURES = 36  # equations of structure search that are fitted
LONGEST = 120.0  # seconds beyond 20 times its CPU seconds for a structure search, which may compile first
DEADLINE = 30.0  # seconds for the proposals of one equation, which take tens of milliseconds


@dataclass(frozen=True)
class Refiner:
    """Refines fitted samples of an evaluator's problem, without a language model.

    At most `fits` candidates are fitted per sample, from the `beam` best equations at a time. What comes out
    depends on the sample and on these numbers alone, neither on the clock nor on the number of workers
    (a worker that is lost, or a fit at its deadline, is the exception, as everywhere).
    """

    evaluator: Evaluator
    fits: int = 48
    beam: int = 2

    def refine(self, sample: Sample) -> list[Sample]:
        """Every candidate that was fitted, failures too, in their order; none for a failed sample.

        Each is a sample of its own, of kind REFINEMENT, with the number of the sample that it refines, that
        number as its parent, and no tokens.
        """
        if not sample.evaluation.ok:
            return []
        known = {sample.evaluation.canonical}
        # at the data's floor errors of its order are equal, so that the smaller equation is worth more
        error = sample.evaluation.nmse.get("train") or 0.0
        level = LEVEL * error if at_floor(self.evaluator.problem, sample.evaluation) else 0.0
        found: list[Evaluation] = []
        opened: set[str] = set()
        while len(found) < self.fits:
            ranked = sorted(
                [sample.evaluation, *(e for e in found if e.ok)], key=lambda e: self._worth(e, level)
            )
            beam = [e for e in ranked[: self.beam] if e.canonical not in opened]
            if not beam:
                break
            opened |= {e.canonical for e in beam}
            count = min(ROUND, self.fits - len(found))
            new = self._proposals(beam, known, count)
            known |= {p.canonical for p in new}
            found += [future.result() for future in [self.evaluator.submit(p.body) for p in new]]
        return [_refinement(sample, evaluation, k) for k, evaluation in enumerate(found, start=1)]

    def structures(self, seconds: float) -> list[Sample]:
        """What structure search finds in so many CPU seconds, fitted, then what refines the best of it.

        Samples of kind REFINEMENT with the number 0, since no completion was needed for them.
        """
        # imported late: it compiles with numba, for which `--help` need not wait
        from llmsr.refinement.structure import structures

        task = hole_structures if self.evaluator.problem.spec.template else structures
        # the search counts CPU seconds; on a busy machine they take many times as long
        deadline = 20 * seconds + LONGEST
        asked = _answer(self.evaluator.run(task, seconds, STRUCTURES, deadline=deadline))
        futures = [self.evaluator.submit(proposal.body) for proposal in asked]
        nothing = Sample(0, "", Evaluation("empty"))
        found = [
            replace(_refinement(nothing, future.result(), k), proposer=STRUCTURE, parents=())
            for k, future in enumerate(futures, start=1)
        ]
        best = self.ranked(found)[:1]
        further = self.refine(best[0]) if best else []
        return [*found, *(replace(s, refinement=k) for k, s in enumerate(further, start=len(found) + 1))]

    def best(self, sample: Sample, refinements: Iterable[Sample]) -> Sample | None:
        """The refinement that is worth more than the sample and all others; None if there is none."""
        return best_refinement(self.evaluator.problem.spec, sample, refinements)

    def ranked(self, samples: Iterable[Sample]) -> list[Sample]:
        """The valid samples: at the data's floor the smallest first, then those that are worth most."""
        problem = self.evaluator.problem

        def key(sample: Sample) -> tuple[bool, float, float]:
            done, worth = at_floor(problem, sample.evaluation), self._worth(sample.evaluation)
            return not done, float(sample.evaluation.complexity or 0) if done else worth, worth

        return sorted((s for s in samples if s.evaluation.ok), key=key)

    def _worth(self, evaluation: Evaluation, level: float = 0.0) -> float:
        return loss_and_size(self.evaluator.problem.spec, evaluation, level)

    def _proposals(self, beam: Sequence[Evaluation], known: set[str], count: int) -> list[Proposal]:
        """Up to `count` new proposals for the equations of the beam, taken from them in turn."""
        task = hole_proposals if self.evaluator.problem.spec.template else proposals
        asked = [self.evaluator.run(task, e.body, e.params, ROUND, deadline=DEADLINE) for e in beam]
        answers = [_answer(future) for future in asked]
        taken: dict[str, Proposal] = {}
        for proposal in in_turn(answers):
            if proposal.canonical not in known and len(taken) < count:
                taken.setdefault(proposal.canonical, proposal)
        return list(taken.values())


def best_refinement(spec: Spec, sample: Sample, refinements: Iterable[Sample]) -> Sample | None:
    """The refinement that is worth more than the sample and all others; None if there is none."""
    valid = (r for r in refinements if r.evaluation.ok)
    best = min(valid, key=lambda r: loss_and_size(spec, r.evaluation), default=None)
    if best is None or loss_and_size(spec, best.evaluation) >= loss_and_size(spec, sample.evaluation):
        return None
    return best


def loss_and_size(spec: Spec, evaluation: Evaluation, level: float = 0.0) -> float:
    """What refinement minimises: decades of training NMSE and the price of size; else minus the score.

    Errors below `level` count as equal.
    """
    if not spec.least_squares:
        return -evaluation.score if evaluation.score is not None else math.inf
    nmse = evaluation.nmse.get("train")
    return penalised_loss(max(nmse, level) if nmse is not None else math.inf, evaluation.complexity or 0)


def _answer(future: Future[list[Proposal] | WorkerFailure]) -> list[Proposal]:
    """What a worker proposes; nothing where it failed, since a run can go on without a refinement."""
    try:
        answer = future.result()
    except TaskError as error:
        log.warning("an equation is not refined further: %s", error)
        return []
    return [] if isinstance(answer, WorkerFailure) else answer


def _refinement(sample: Sample, evaluation: Evaluation, number: int) -> Sample:
    return replace(
        sample,
        completion=evaluation.body,
        evaluation=evaluation,
        parents=(sample.number,),
        proposer=REFINE,
        kind=REFINEMENT,
        refinement=number,
        tokens=0,
        seconds=0.0,
        seed=0,
        duplicate_of=None,
        reward=None,
    )
