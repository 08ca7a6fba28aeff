"""Where each answer stands in its run: its number and step, and what the run has seen like it."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmsr.archive_tail import ArchiveTail
from llmsr.grpo.memory.seeds import read_seeds
from llmsr.grpo.run_record import RunRecord
from llmsr.grpo.scoring.answer import Answer
from llmsr.grpo.scoring.evaluators import Evaluators
from llmsr.grpo.scoring.novelty import Seen
from llmsr.grpo.scoring.numbering import next_numbers
from llmsr.sample import POLICY, VALIDATION, Evaluation, Sample


@dataclass(frozen=True)
class Place:
    """Where an answer stands in its run: `step` is None in validation, `alike` counts its likes.

    They are among the group's earlier answers. `archived` is the record of an answer that was drawn again.
    """

    number: int
    step: int | None = None
    duplicate_of: int | None = None
    alike: int = 0
    archived: Sample | None = None


class Places:
    """Numbers the answers of a run and compares those of training with what it has seen; thread-safe.

    `tail` is the run's archive, of which `earlier` was read before. `drawn_again` says that a resumed run
    draws the answers of the steps that were not saved as it did before.
    """

    def __init__(
        self,
        run_dir: Path,
        record: RunRecord,
        evaluators: Evaluators,
        tail: ArchiveTail,
        earlier: Sequence[Sample],
        drawn_again: bool,
    ) -> None:
        self._run_dir = run_dir
        self._answers_per_step = record.answers_per_step
        self._diversity = record.settings.diversity
        self._evaluators = evaluators
        self._tail = tail
        self._step = record.finished_steps
        self._seen = Seen(_known(run_dir, record))
        # later ones are of steps that were not saved, which are trained again
        self._seen.take(s for s in earlier if (s.step or 0) <= self._step)
        self._unsaved = unsaved(earlier, self._step) if drawn_again else {}
        self._again: list[Sample] = []
        self._lock = threading.Lock()

    def again(self) -> list[Sample]:
        """The archived answers of training that were drawn again since the last look."""
        with self._lock:
            again, self._again = self._again, []
        return again

    def of(self, answer: Answer, evaluation: Evaluation) -> Place:
        """The place of an answer, which takes the next number unless it is archived already."""
        with self._lock:
            archived = self._take_unsaved(answer)
            number, trained = next_numbers(self._run_dir, answer.training, archived is None)
            number = number if archived is None else archived.number
            if not answer.training:
                return Place(number, archived=archived)
            step = (trained - 1) // self._answers_per_step + 1
            if step != self._step:  # look what other processes scored
                self._step = step
                self._seen.take(self._tail.new())
            first = self._seen.first(answer.problem, evaluation, number)
        return Place(number, step, first, self._alike(answer, step, evaluation), archived)

    def _take_unsaved(self, answer: Answer) -> Sample | None:
        again = self._unsaved.get((answer.training, answer.problem, answer.prompt, answer.text))
        if not again:
            return None
        sample = again.popleft()
        if answer.training:
            self._again.append(sample)
        return sample

    def _alike(self, answer: Answer, step: int, evaluation: Evaluation) -> int:
        if not (self._diversity and evaluation.ok):
            return 0
        spec = self._evaluators[answer.problem].problem.spec
        with self._lock:
            return self._seen.alike(spec, answer.problem, step, answer.prompt, evaluation)


def unsaved(samples: Sequence[Sample], finished: int) -> dict[tuple[bool, str, int, str], deque[Sample]]:
    """What was archived since the last saved step, by kind, problem, prompt and text, in order."""
    begun = min((s.number for s in samples if (s.step or 0) > finished), default=math.inf)
    found: dict[tuple[bool, str, int, str], deque[Sample]] = {}
    for sample in samples:
        if sample.number >= begun and sample.proposer in (POLICY, VALIDATION):
            key = (sample.proposer == POLICY, sample.problem, sample.prompt, sample.completion)
            found.setdefault(key, deque()).append(sample)
    return found


def _known(run_dir: Path, record: RunRecord) -> dict[str, list[str]]:
    """The canonical forms by problem that the run's memory begins with."""
    if record.settings.memory == "none":
        return {}
    return {name: [member.canonical for member in members] for name, members in read_seeds(run_dir).items()}
