"""The reward as a trainer calls it: text of one answer in, a number and flags out, and the answer into the
archive.

Thread-safe, and never an exception: whatever goes wrong is the lowest reward with `status` saying why.
Each process that calls it makes one Evaluator per problem on first use, and its own file in the archive.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llmsr.archive_tail import ArchiveTail
from llmsr.grpo.run_record import RunRecord
from llmsr.grpo.scoring.answer import Answer
from llmsr.grpo.scoring.evaluators import Evaluators
from llmsr.grpo.scoring.places import Place, Places
from llmsr.grpo.scoring.records import Records
from llmsr.grpo.scoring.score import Score, fault, score_with_flags
from llmsr.grpo.tokens import AnswerTokens
from llmsr.reward import LOWEST, reward
from llmsr.sample import Evaluation, Sample

T = TypeVar("T")


@dataclass(frozen=True)
class Pending:
    """An answer whose evaluation was begun."""

    answer: Answer
    waiting: Future[Evaluation] | Evaluation


class RewardFunction:
    """Scores answers of one run's problems; `run_dir` holds what `write_run_files` wrote.

    `drawn_again` says that a resumed run draws the answers of the steps that were not saved as it did before:
    those that are in the archive are not archived a second time.
    """

    def __init__(self, run_dir: str | Path, workers: int | None = None, *, drawn_again: bool = False) -> None:
        run_dir = Path(run_dir).resolve()
        record = RunRecord.read(run_dir)
        self._settings = record.settings
        self._count_tokens = AnswerTokens(record.model_path, self._settings.trust_remote_code)
        self._evaluators = Evaluators(run_dir, self._settings, workers)
        tail = ArchiveTail(run_dir)
        earlier = tail.new()
        self._places = Places(run_dir, record, self._evaluators, tail, earlier, drawn_again)
        self._records = Records(run_dir, record, self._evaluators, earlier)

    def compute_score(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Score:
        """The score of one answer and its flags, always the same keys, all floats; see `score_with_flags`."""
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
        info = dict(extra_info or {})
        text = (
            f"{info.get('begun') or ''}{solution_str}"  # what the prompt gave of the answer stands before it
        )
        answer = Answer(text, str(info.get("problem") or ground_truth), info, tokens)
        try:
            evaluator = self._evaluators[answer.problem]
            return Pending(answer, evaluator.submit(answer.text, answer.versions))
        except Exception as error:  # noqa: BLE001 - a trainer drops an answer whose reward raises
            return Pending(answer, fault(error))

    def finish(self, pending: Pending) -> Score:
        """The score of an answer that was begun, once it is in the archive."""
        answer, evaluation = pending.answer, self._evaluation(pending.waiting)
        place = _attempt(
            "an answer could not be numbered, so it is not archived",
            lambda: self._places.of(answer, evaluation),
        )
        new = place is not None and place.duplicate_of is None
        try:
            copy = bool(evaluation.canonical) and evaluation.canonical in answer.shown
            value = self._reward(evaluation, copy, place)
        except Exception as error:  # noqa: BLE001 - as above
            evaluation, value, copy = fault(error), LOWEST, False
        if place is not None:
            _attempt(  # a full disk must not cost the step its answer
                "an answer could not be written to the archive",
                lambda: self._records.keep(answer, evaluation, value, place),
            )
        return score_with_flags(evaluation, value, copy, new)

    def again(self) -> list[Sample]:
        """The archived answers that were drawn again since the last look, see `drawn_again`."""
        return self._places.again()

    def close(self) -> None:
        """End the fitting workers and close the archive; what was scored stays."""
        self._evaluators.close()
        self._records.close()

    def __enter__(self) -> RewardFunction:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _evaluation(self, waiting: Future[Evaluation] | Evaluation) -> Evaluation:
        if isinstance(waiting, Evaluation):
            return waiting
        seconds = self._settings.answer_timeout
        try:
            return waiting.result(timeout=seconds)
        except TimeoutError:
            return Evaluation(
                status="timeout", reason=f"no result within {seconds:g} seconds, waiting included"
            )
        except Exception as error:  # noqa: BLE001 - as above
            return fault(error)

    def _reward(self, evaluation: Evaluation, copy: bool, place: Place | None) -> float:
        settings = self._settings
        repeated = settings.novelty and place is not None and place.duplicate_of is not None
        alike = place.alike if place is not None else 0
        return reward(
            evaluation,
            settings.reward,
            complexity_weight=settings.complexity_weight,
            copy=copy or repeated,
            likeness=settings.diversity * alike / (settings.rollout_n - 1),
            graded_failures=settings.graded_failures,
        )


def _attempt(failure: str, step: Callable[[], T]) -> T | None:
    """What the step returns; None, and a sentence to the person who watches, where it fails."""
    try:
        return step()
    except Exception:  # noqa: BLE001 - an answer has its score whatever becomes of its record
        print(f"llmsr: {failure}", file=sys.stderr)
        traceback.print_exc()
        return None
