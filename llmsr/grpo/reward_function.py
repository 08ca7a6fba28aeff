"""The reward as a trainer calls it: the text of one answer in; a number, flags and an archived sample out.

    begin      the text is read and fitted as a sample of the search is
    place      it gets its number and step, and the run tells whether it has seen the equation before
    reward     that of `llmsr.reward`
    keep       it is archived once, and refined where it is a record of the run

Thread-safe, and never an exception: whatever goes wrong is the lowest reward with a status that says why.
Each process that scores has its own workers, one pool for all problems of the run, and its own file in the
archive.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from llmsr.errors import UserError
from llmsr.evaluator import Duty, Evaluator, load, start_pool
from llmsr.grpo.answer_archive import Answer, AnswerArchive
from llmsr.grpo.run_record import RunRecord, load_run_problem
from llmsr.models.loading import load_tokenizer
from llmsr.proposers.proposer import estimated_tokens
from llmsr.refinement.floor import Floor
from llmsr.reward import LOWEST, NMSE_CEILING, NMSE_FLOOR, reward
from llmsr.sample import Evaluation
from llmsr.workers.pool import Pool

ANSWER_SECONDS = 120.0  # after which an answer counts as failed, waiting for a worker included
RESERVED_CORES = 2  # for the trainer beside the workers that fit
KEPT_PROBLEMS = 64  # in a worker, so that a run over many takes no more memory than one over these

Score = dict[str, float | str]
T = TypeVar("T")


@dataclass(frozen=True)
class Pending:
    """An answer whose evaluation was begun."""

    answer: Answer
    waiting: Future[Evaluation] | Evaluation


class RewardFunction:
    """Scores answers of one run's problems; `run_dir` holds what `write_run_files` wrote.

    `drawn_again` says that a resumed run draws the answers of the steps that were not saved as it did before:
    those that are in the archive are not archived a second time. Given `evaluators` are used, and closed with
    it.
    """

    def __init__(
        self,
        run_dir: str | Path,
        evaluators: Evaluators | None = None,
        *,
        drawn_again: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._run_dir = Path(run_dir).resolve()
        record = RunRecord.read(self._run_dir)
        self._settings = record.settings
        self._answer_seconds = answer_seconds
        self._count_tokens = AnswerTokens(record.model_path, self._settings.trust_remote_code)
        self._evaluators = evaluators or Evaluators(self._run_dir)
        self._archive = AnswerArchive(self._run_dir, self._evaluators, drawn_again)
        self.again = self._archive.again

    def compute_score(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Score:
        """The score of one answer and its flags, always the same keys; see `score_of`."""
        tokens = self._count_tokens(solution_str) if isinstance(solution_str, str) else 0
        return self.finish(self.begin(solution_str, ground_truth, extra_info, tokens))

    def begin(
        self,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        tokens: int = 0,
    ) -> Pending:
        """Start the evaluation of one answer of `tokens` tokens; `finish` waits for it."""
        answer = Answer(str(solution_str), str(ground_truth), dict(extra_info or {}), tokens)
        try:
            answer = answer.whole()
            versions = answer.told("versions", "{}")
            return Pending(answer, self._evaluators(answer.problem).submit(answer.text, versions))
        except Exception as error:  # noqa: BLE001 - a trainer drops an answer whose reward raises
            return Pending(answer, fault(error))

    def finish(self, pending: Pending) -> Score:
        """The score of an answer that was begun, once it is in the archive."""
        answer = pending.answer
        evaluation = self._evaluation(pending.waiting)
        sample = _attempt(
            "an answer could not be numbered, so it is not archived",
            lambda: self._archive.place(answer, evaluation),
        )
        try:
            copy = bool(evaluation.canonical) and evaluation.canonical in answer.told("shown")
            repeated = self._settings.novelty and sample is not None and sample.duplicate_of is not None
            value = reward(
                evaluation,
                self._settings.reward,
                copy=copy or repeated,
                floor=self._floor(answer.problem) if evaluation.ok else NMSE_FLOOR,
            )
        except Exception as error:  # noqa: BLE001 - as above
            evaluation, value, copy = fault(error), LOWEST, False
        if sample is not None:
            _attempt(  # a full disk must not cost the step its answer
                "an answer could not be written to the archive",
                lambda: self._archive.keep(sample, evaluation, value),
            )
        return score_of(evaluation, value, copy)

    def close(self) -> None:
        """End the workers and close the archive; what was scored stays."""
        self._evaluators.close()
        self._archive.close()

    def __enter__(self) -> RewardFunction:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _floor(self, problem: str) -> float:
        """The NMSE below which a problem's rows tell equations apart by rounding or noise alone."""
        return Floor.of(self._evaluators(problem).problem.train).least

    def _evaluation(self, waiting: Future[Evaluation] | Evaluation) -> Evaluation:
        if isinstance(waiting, Evaluation):
            return waiting
        try:
            return waiting.result(timeout=self._answer_seconds)
        except TimeoutError:
            reason = f"no result within {self._answer_seconds:g} seconds, waiting included"
            return Evaluation(status="timeout", reason=reason)
        except Exception as error:  # noqa: BLE001 - as above
            return fault(error)


def score_of(evaluation: Evaluation, value: float, copy: bool) -> Score:
    """The reward `value` as `score` and what goes with it: the same keys for every answer.

    `log10_nmse` lies between -28 and 1, the latter also for a failure; `status` is one of
    `llmsr.sample.STATUSES`, all else are floats.
    """
    nmse = evaluation.nmse.get("train") if evaluation.ok else None
    clipped = NMSE_CEILING if nmse is None else min(max(nmse, NMSE_FLOOR), NMSE_CEILING)
    return {
        "score": float(value),
        "valid": float(evaluation.ok),
        "copy": float(copy),
        "status": evaluation.status,
        "log10_nmse": math.log10(clipped),
        "complexity": float(evaluation.complexity or 0),
    }


def fault(error: BaseException) -> Evaluation:
    """The evaluation of an answer on which something broke that is not the answer's doing."""
    return Evaluation(status="error", reason=f"{type(error).__name__}: {error}"[:500])


class AnswerTokens:
    """Counts the tokens of answers where a trainer tells only their text; loads the tokenizer on first use.

    Thread-safe. Without the tokenizer the count is an estimate from the length.
    """

    def __init__(self, model_path: str, trust_remote_code: bool = False) -> None:
        self._model_path = model_path
        self._trust_remote_code = trust_remote_code
        self._count: Callable[[str], int] | None = None
        self._lock = threading.Lock()

    def __call__(self, text: str) -> int:
        with self._lock:  # a fast tokenizer cannot be used by two threads at once
            self._count = self._count or self._load()
            return self._count(text)

    def _load(self) -> Callable[[str], int]:
        try:
            tokenizer = load_tokenizer(self._model_path, self._trust_remote_code)
        except UserError:
            return estimated_tokens
        return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def compute_score_of(run_dir: str | Path) -> Callable[..., Score]:
    """A `compute_score` for VERL: made lazily, since VERL imports the file in processes that never score."""
    lock = threading.Lock()
    made: list[RewardFunction] = []

    def compute_score(*arguments: Any, **keywords: Any) -> Score:
        try:
            with lock:
                if not made:
                    made.append(RewardFunction(run_dir))
                    atexit.register(made[0].close)
            return made[0].compute_score(*arguments, **keywords)
        except Exception as error:  # noqa: BLE001 - VERL drops an answer whose reward raises
            traceback.print_exc()
            return score_of(fault(error), LOWEST, False)

    return compute_score


def _attempt(failure: str, step: Callable[[], T]) -> T | None:
    """What the step returns; None, and a sentence to the person who watches, where it fails."""
    try:
        return step()
    except Exception:  # noqa: BLE001 - an answer has its score whatever becomes of its record
        print(f"llmsr: {failure}", file=sys.stderr)
        traceback.print_exc()
        return None


# ---- the workers that fit


class Evaluators:
    """An evaluator for each problem of a run, made when it is first asked for; thread-safe.

    They share `workers` processes that fit, by default as many as the run's settings say.
    """

    def __init__(self, run_dir: str | Path, workers: int | None = None) -> None:
        self._run_dir = Path(run_dir).resolve()
        self._settings = RunRecord.read(self._run_dir).settings
        cores = max(1, (os.cpu_count() or 1) - RESERVED_CORES)
        self._workers = workers or self._settings.workers or cores
        self._pool: Pool | None = None
        self._made: dict[str, Evaluator] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Evaluator:
        """The evaluator of the problem of that name, as it was when the run began."""
        with self._lock:
            if name not in self._made:
                problem = load_run_problem(self._run_dir, name, self._settings.units)
                if self._pool is None:
                    self._pool = start_pool(self._workers, Duties, self._run_dir)
                timeout = self._settings.fit_timeout
                self._made[name] = _OfMany(problem, self._settings.fitter, timeout, pool=self._pool)
            return self._made[name]

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool, self._made = None, {}


class _OfMany(Evaluator):
    """The evaluator of one problem, whose workers are asked about others too."""

    def _ask(self, task: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        return self.pool.submit(on_problem_of_run, self.problem.name, task, *args, deadline=deadline)

    def close(self) -> None:
        """Nothing: the workers are the run's."""


class Duties:
    """What a worker holds: the problems of the run that it was asked about last."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        record = RunRecord.read(run_dir)
        self._settings = record.settings
        self.of = lru_cache(KEPT_PROBLEMS)(self._duty)
        for name in record.problems[:KEPT_PROBLEMS]:
            self.of(name)

    def _duty(self, name: str) -> Duty:
        """The duty of one problem of the run."""
        problem = load_run_problem(self._run_dir, name, self._settings.units)
        return load(Duty(problem, self._settings.fitter, self._settings.fit_timeout))


def on_problem_of_run(duties: Duties, name: str, task: Callable[..., Any], *args: Any) -> Any:
    """`task(duty, *args)` for one problem of the run."""
    return task(duties.of(name), *args)
