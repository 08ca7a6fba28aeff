"""The archive of the processes that score: every answer, and the refinements of those that are records."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmsr.archive import Archive
from llmsr.grpo.run_record import RunRecord
from llmsr.grpo.scoring.answer import Answer
from llmsr.grpo.scoring.evaluators import Evaluators
from llmsr.grpo.scoring.places import Place
from llmsr.refinement.refiner import Refiner
from llmsr.sample import ANSWER, POLICY, REFINE, VALIDATION, Evaluation, Sample
from llmsr.search.refining import Refining


class Records:
    """Writes this process's files of a run's archive; thread-safe.

    `earlier` are the samples of a run that is resumed.
    """

    def __init__(
        self, run_dir: Path, record: RunRecord, evaluators: Evaluators, earlier: Sequence[Sample]
    ) -> None:
        self._run_dir = run_dir
        self._began = record.began
        self._latest = 0.0
        self._archives: dict[str, Archive] = {}
        # machines may share a host's name and a process's number; in time's order ties are read as written
        self._writer = f"{socket.gethostname()}-{time.time_ns()}-{os.getpid()}"
        self._lock = threading.Lock()
        settings = record.settings
        self._refines = settings.refine != "off"
        self._refine_fits = settings.refine_fits
        self._evaluators = evaluators
        finished = record.finished_steps
        # of steps that are trained again only the refinements, since their answers come again
        self._earlier = [
            s for s in earlier
            if self._refines and s.step is not None and (s.step <= finished or s.proposer == REFINE)
        ]  # fmt: skip
        self._refining: dict[str, Refining] = {}
        self._refining_lock = threading.Lock()

    def keep(self, answer: Answer, evaluation: Evaluation, value: float, place: Place) -> None:
        """Archive an answer unless it is there already, and refine it if it is a record of training."""
        sample = place.archived or self._append_answer(answer, evaluation, value, place)
        if self._refines and sample.proposer == POLICY:
            with self._refining_lock:
                self._refine(sample)

    def close(self) -> None:
        with self._lock:
            for archive in self._archives.values():
                archive.close()
            self._archives = {}

    def _append_answer(self, answer: Answer, evaluation: Evaluation, value: float, place: Place) -> Sample:
        sample = Sample(
            number=place.number,
            completion=answer.text,
            evaluation=evaluation,
            prompt=answer.prompt,
            island=answer.island,
            parents=answer.parents,
            proposer=POLICY if place.step is not None else VALIDATION,
            kind=ANSWER if place.step is not None else VALIDATION,
            tokens=answer.tokens,
            elapsed=self._elapsed(),
            duplicate_of=place.duplicate_of,
            step=place.step,
            reward=value,
            problem=answer.problem,
        )
        self._archive("reward").append(sample)
        return sample

    def _refine(self, sample: Sample) -> None:
        if sample.problem not in self._refining:
            self._begin_refining(sample.problem)
        self._append_refinements(sample)

    def _begin_refining(self, problem: str) -> None:
        """Look at the records that a resumed run has behind it as at new ones."""
        earlier = [s for s in self._earlier if s.problem == problem]
        refiner = Refiner(self._evaluators[problem], self._refine_fits)
        self._refining[problem] = Refining(refiner, earlier=earlier)
        for sample in earlier:
            if sample.proposer == POLICY:
                self._append_refinements(sample)

    def _append_refinements(self, sample: Sample) -> None:
        found, archived = self._refining[sample.problem].of(sample)
        for refinement in found[archived:]:
            self._archive(REFINE).append(replace(refinement, elapsed=self._elapsed()))

    def _archive(self, kind: str) -> Archive:
        with self._lock:
            if kind not in self._archives:
                self._archives[kind] = Archive(self._run_dir, f"{kind}-{self._writer}")
            return self._archives[kind]

    def _elapsed(self) -> float:
        """Seconds since the run began, on all its machines; they stand while a clock is set back."""
        self._latest = max(self._latest, round(time.time() - self._began, 3))
        return self._latest
