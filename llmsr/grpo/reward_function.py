"""The reward as a trainer calls it: text of one answer in, a number and flags out, and the answer into the
archive.

Thread-safe, and never an exception: whatever goes wrong is the lowest reward with `status` saying why.
Each process that calls it makes one Evaluator per problem on first use, and its own file in the archive.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmsr.archive import Archive, read_archive
from llmsr.evaluator import Evaluator
from llmsr.evolution.refining import Refining
from llmsr.grpo.memory.seeds import read_seeds
from llmsr.grpo.novelty import Seen
from llmsr.grpo.numbering import next_numbers
from llmsr.grpo.progress import ArchiveTail
from llmsr.grpo.run_files import load_run_problem, read_run
from llmsr.grpo.tokens import AnswerTokens
from llmsr.refinement.refiner import Refiner
from llmsr.reward import LOWEST, NMSE_CEILING, NMSE_FLOOR, reward
from llmsr.sample import POLICY, STATUSES, VALIDATION, Evaluation, Sample

Score = dict[str, float]
RESERVED_CORES = 2


@dataclass(frozen=True)
class Pending:
    """An answer whose evaluation was begun."""

    text: str
    info: Mapping[str, Any]
    tokens: int
    waiting: Future[Evaluation] | Evaluation


@dataclass(frozen=True)
class Place:
    """Where an answer stands in its run: `step` is None in validation, `alike` counts its group's likes.

    `archived` is the record of an answer that was drawn again.
    """

    number: int
    step: int | None = None
    duplicate_of: int | None = None
    alike: int = 0
    archived: Sample | None = None


class RewardFunction:
    """Scores answers of one run's problems; `run_dir` holds what `write_run_files` wrote.

    `drawn_again` says that a resumed run draws the answers of the steps that were not saved as it did before:
    those that are in the archive are not archived a second time.
    """

    def __init__(self, run_dir: str | Path, workers: int | None = None, *, drawn_again: bool = False) -> None:
        self.run_dir = Path(run_dir).resolve()
        self.settings = read_run(self.run_dir)
        self._workers = workers
        self._evaluators: dict[str, Evaluator] = {}
        self._archives: dict[str, Archive] = {}
        self._refining: dict[str, Refining] = {}
        self._refining_lock = threading.Lock()
        self._lock = threading.Lock()
        self._tokens = AnswerTokens(self.settings["model_path"])
        self._tail = ArchiveTail(self.run_dir)
        self._seen = Seen(_known(self.run_dir, self.settings))
        self._step = self.settings["finished_steps"]
        # later ones are of steps that were not saved, which are trained again
        earlier = self._tail.new()
        self._seen.take(s for s in earlier if (s.step or 0) <= self._step)
        self._unsaved = unsaved(earlier, self._step) if drawn_again else {}

    def compute_score(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Score:
        """The score of one answer and its flags, always the same keys, all floats; see `flags`."""
        tokens = self._tokens(solution_str) if isinstance(solution_str, str) else 0
        return self.finish(self.begin(solution_str, ground_truth, extra_info, tokens))

    def begin(
        self,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        tokens: int = 0,
    ) -> Pending:
        """Start the evaluation of one answer of `tokens` tokens; `finish` waits for it."""
        info = dict(extra_info or {})
        text = solution_str if isinstance(solution_str, str) else str(solution_str)
        try:
            evaluator = self.evaluator(str(info.get("problem") or ground_truth))
            return Pending(
                text, info, tokens, evaluator.submit(text, json.loads(info.get("versions") or "{}"))
            )
        except Exception as error:  # noqa: BLE001 - a trainer drops an answer whose reward raises
            return Pending(text, info, tokens, _fault(error))

    def finish(self, pending: Pending) -> Score:
        """The score of an answer that was begun, once it is in the archive."""
        info, settings = pending.info, self.settings["settings"]
        evaluation, copy = self._result(pending.waiting), False
        place = self._place_or_none(pending.text, info, evaluation)
        try:
            shown = json.loads(info.get("shown") or "[]")
            copy = bool(evaluation.canonical) and evaluation.canonical in shown
            value = reward(
                evaluation,
                settings["reward"],
                complexity_weight=settings["complexity_weight"],
                copy=copy or bool(settings["novelty"] and place and place.duplicate_of is not None),
                likeness=settings["diversity"] * place.alike / (settings["rollout_n"] - 1) if place else 0.0,
            )
        except Exception as error:  # noqa: BLE001 - as above
            evaluation, value = _fault(error), LOWEST
        try:
            if place:
                self._refine(self._record(pending, evaluation, value, place))
        except Exception:  # noqa: BLE001 - a full disk must not cost the step its answer
            print("llmsr: an answer could not be written to the archive", file=sys.stderr)
            traceback.print_exc()
        return flags(evaluation, value, copy, bool(place and place.duplicate_of is None))

    def evaluator(self, name: str) -> Evaluator:
        """The evaluator of a problem, made on first use."""
        with self._lock:
            if name not in self._evaluators:
                settings = self.settings["settings"]
                self._evaluators[name] = Evaluator(
                    load_run_problem(self.run_dir, name),
                    settings["fitter"],
                    settings["fit_timeout"],
                    self._workers or settings["workers"] or max(1, (os.cpu_count() or 1) - RESERVED_CORES),
                )
            return self._evaluators[name]

    def close(self) -> None:
        """End the fitting workers and close the archive; what was scored stays."""
        with self._lock:
            for evaluator in self._evaluators.values():
                evaluator.close()
            self._evaluators = {}
            for archive in self._archives.values():
                archive.close()
            self._archives = {}

    def __enter__(self) -> RewardFunction:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _result(self, waiting: Future[Evaluation] | Evaluation) -> Evaluation:
        seconds = self.settings["settings"]["answer_timeout"]
        if isinstance(waiting, Evaluation):
            return waiting
        try:
            return waiting.result(timeout=seconds)
        except TimeoutError:
            return Evaluation(
                status="timeout", reason=f"no result within {seconds:g} seconds, waiting included"
            )
        except Exception as error:  # noqa: BLE001 - as above
            return _fault(error)

    def _place_or_none(self, text: str, info: Mapping[str, Any], evaluation: Evaluation) -> Place | None:
        try:
            return self._place(text, info, evaluation)
        except Exception:  # noqa: BLE001 - without a number an answer is not archived, and still has its score
            print("llmsr: an answer could not be numbered, so it is not archived", file=sys.stderr)
            traceback.print_exc()
            return None

    def _place(self, text: str, info: Mapping[str, Any], evaluation: Evaluation) -> Place:
        """Number the answer, and compare a training answer with what the run has seen."""
        training, name = info.get("split") != "validation", str(info.get("problem") or "")
        with self._lock:
            again = self._unsaved.get((training, name, int(info.get("index") or 0), text))
            archived = again.popleft() if again else None
            number, trained = next_numbers(self.run_dir, training, archived is None)
            number = number if archived is None else archived.number
            if not training:
                return Place(number, archived=archived)
            step = (trained - 1) // self.settings["answers_per_step"] + 1
            if step != self._step:  # look what other processes scored
                self._step = step
                self._seen.take(self._tail.new())
            first = self._seen.first(name, evaluation, number)
        alike = 0
        if self.settings["settings"]["diversity"] and evaluation.ok:
            spec = self.evaluator(name).problem.spec
            with self._lock:
                alike = self._seen.alike(spec, name, step, int(info.get("index") or 0), evaluation)
        return Place(number, step, first, alike, archived)

    def _record(self, pending: Pending, evaluation: Evaluation, value: float, place: Place) -> Sample:
        if place.archived is not None:
            return place.archived
        info = pending.info
        island = info.get("island", -1)
        sample = Sample(
            number=place.number,
            completion=pending.text,
            evaluation=evaluation,
            prompt=int(info.get("index") or 0),
            island=None if island is None or island < 0 else int(island),
            parents=tuple(json.loads(info.get("parents") or "[]")),
            proposer=POLICY if place.step is not None else VALIDATION,
            tokens=pending.tokens,
            elapsed=self._elapsed(),
            duplicate_of=place.duplicate_of,
            step=place.step,
            reward=value,
            problem=str(info.get("problem") or ""),
        )
        self._archive("reward").append(sample)
        return sample

    def _archive(self, kind: str) -> Archive:
        with self._lock:
            if kind not in self._archives:
                self._archives[kind] = Archive(self.run_dir, f"{kind}-{socket.gethostname()}-{os.getpid()}")
            return self._archives[kind]

    def _elapsed(self) -> float:
        return round(time.time() - self.settings["began"], 3)

    def _refine(self, sample: Sample) -> None:
        """Archive the refinements of a training answer that is a record of its problem."""
        if self.settings["settings"]["refine"] == "off" or sample.proposer != POLICY:
            return
        with self._refining_lock:
            refining = self._refining.get(sample.problem) or self._begin_refining(sample.problem)
            self._append_refinements(refining, sample)

    def _begin_refining(self, name: str) -> Refining:
        """The refining of a problem, with the records of the steps that a resumed run has behind it."""
        finished = self.settings["finished_steps"]
        archived = read_archive(self.run_dir)
        earlier = [s for s in archived if s.problem == name and s.step is not None and s.step <= finished]
        refiner = Refiner(self.evaluator(name), self.settings["settings"]["refine_fits"])
        refining = self._refining[name] = Refining(refiner, by_island=False, earlier=earlier)
        for sample in earlier:
            if sample.proposer == POLICY:
                self._append_refinements(refining, sample)
        return refining

    def _append_refinements(self, refining: Refining, sample: Sample) -> None:
        found, archived = refining.of(sample)
        for refinement in found[archived:]:
            self._archive("refine").append(replace(refinement, elapsed=self._elapsed()))


def flags(evaluation: Evaluation, value: float, copy: bool, new: bool = False) -> Score:
    """What a trainer is told beside the score: numbers only, the same keys for every answer.

    `new` tells a valid equation that the run's answers had not shown before.
    `log10_nmse` lies between -10 and 1, the latter also for a failure; `status` is the position in
    `llmsr.sample.STATUSES`.
    """
    nmse = evaluation.nmse.get("train") if evaluation.ok else None
    clipped = NMSE_CEILING if nmse is None else min(max(nmse, NMSE_FLOOR), NMSE_CEILING)
    return {
        "score": float(value),
        "valid": float(evaluation.ok),
        "copy": float(copy),
        "new": float(new and evaluation.ok),
        "status": float(STATUSES.index(evaluation.status)),
        "log10_nmse": math.log10(clipped),
        "complexity": float(evaluation.complexity or 0),
        "fit_seconds": float(evaluation.fit_seconds),
    }


def unsaved(samples: Sequence[Sample], finished: int) -> dict[tuple[bool, str, int, str], deque[Sample]]:
    """What was archived since the last saved step, by kind, problem, prompt and text, in order."""
    begun = min((s.number for s in samples if (s.step or 0) > finished), default=math.inf)
    found: dict[tuple[bool, str, int, str], deque[Sample]] = {}
    for sample in samples:
        if sample.number >= begun and sample.proposer in (POLICY, VALIDATION):
            key = (sample.proposer == POLICY, sample.problem, sample.prompt, sample.completion)
            found.setdefault(key, deque()).append(sample)
    return found


def compute_score_of(run_dir: str | Path) -> Callable[..., Score]:
    """A `compute_score` for VERL: made lazily, since VERL imports the file in processes that never score."""
    lock = threading.Lock()
    made: list[RewardFunction] = []

    def compute_score(
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Score:
        try:
            with lock:
                if not made:
                    made.append(RewardFunction(run_dir))
                    atexit.register(made[0].close)
            return made[0].compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)
        except Exception as error:  # noqa: BLE001 - VERL drops an answer whose reward raises
            traceback.print_exc()
            return flags(_fault(error), LOWEST, False)

    return compute_score


def _known(run_dir: Path, record: Mapping[str, Any]) -> dict[str, list[str]]:
    """The canonical forms by problem that the run's memory begins with."""
    if record["settings"]["memory"] == "none":
        return {}
    return {name: [member.canonical for member in members] for name, members in read_seeds(run_dir).items()}


def _fault(error: BaseException) -> Evaluation:
    return Evaluation(status="error", reason=f"{type(error).__name__}: {error}"[:500])
