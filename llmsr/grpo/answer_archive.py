"""The archive as processes write it that score answers side by side: each answer once, in one numbering.

A process has its own files in the archive. What all share is the file of the numbers, which must lie on a
file system with working `flock` when several nodes write.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmsr.archive import Archive, ArchiveTail
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.files import lock, write_file
from llmsr.grpo.run_record import RunRecord, read_seeds
from llmsr.proposers.known_names import restored
from llmsr.refinement.refiner import Refiner
from llmsr.sample import ANSWER, POLICY, REFINE, VALIDATION, Evaluation, Sample
from llmsr.search.refining import Refining


@dataclass(frozen=True)
class Answer:
    """The text of one answer and the `extra_info` of its row; what is read from there may be a ValueError."""

    text: str
    problem: str
    info: Mapping[str, Any]
    tokens: int

    def whole(self) -> Answer:
        """The answer with what its prompt gave of it, in the columns' names whatever names the prompt had."""
        names = json.loads(self.info.get("names") or "{}")
        text = restored(f"{self.info.get('begun') or ''}{self.text}", names)
        return replace(self, text=text, problem=str(self.info.get("problem") or self.problem))

    @property
    def training(self) -> bool:
        return self.info.get("split") != "validation"

    @property
    def step(self) -> int | None:
        """The step that draws the answer, told by the local trainer; VERL tells the steps of its weights."""
        if "step" in self.info:
            return int(self.info["step"])
        trained = self.info.get("min_global_steps")
        return None if trained is None else int(trained) + 1

    @property
    def prompt(self) -> int:
        return int(self.info.get("index") or 0)

    @property
    def island(self) -> int | None:
        island = self.info.get("island")
        return None if island is None or island < 0 else int(island)

    def told(self, name: str, default: str = "[]") -> Any:
        """What the prompt's row says of its earlier equations: `versions`, `shown` or `parents`."""
        return json.loads(self.info.get(name) or default)


class AnswerArchive:
    """Numbers a run's answers, tells which equations it has seen, and keeps each answer once; thread-safe.

    `evaluators` of a problem's name refine its records, where the run asks for it. `again` says that a
    resumed run draws the answers of the steps that were not saved as it did before.
    """

    def __init__(self, run_dir: Path, evaluators: Callable[[str], Evaluator], again: bool = False) -> None:
        record = RunRecord.read(run_dir)
        self._run_dir = run_dir
        self._evaluators = evaluators
        self._settings = record.settings
        self._finished = self._step = record.finished_steps
        self._tail = ArchiveTail(run_dir)
        earlier = self._tail.new()
        self._first: dict[tuple[str, str], int] = {}  # of each equation of a problem, its first number
        if record.settings.memory != "none":
            seeds = read_seeds(run_dir)
            self._first = {(name, m.canonical): 0 for name, members in seeds.items() for m in members}
        # later ones are of steps that were not saved, which are trained again
        self._see(sample for sample in earlier if (sample.step or 0) <= self._finished)
        self._unsaved = _unsaved(earlier, self._finished) if again else {}
        self._again: list[Sample] = []
        self._began, self._latest = record.began, 0.0
        self._files: dict[str, Archive] = {}
        # machines may share a host's name and a process's number; in time's order ties are read as written
        self._writer = f"{socket.gethostname()}-{time.time_ns()}-{os.getpid()}"
        self._lock = threading.Lock()
        # of steps that are trained again only the refinements, since their answers come again
        self._behind = [
            s for s in earlier
            if s.step is not None and (s.step <= self._finished or s.proposer == REFINE)
        ]  # fmt: skip
        self._refining: dict[str, Refining] = {}
        self._refining_lock = threading.Lock()

    def place(self, answer: Answer, evaluation: Evaluation) -> Sample:
        """The sample that an answer is: with the next number, its step (None in validation), what it repeats.

        An answer that is drawn again has the number that it has in the archive, and its reward; new ones have
        none yet.
        """
        with self._lock:
            archived = self._take_unsaved(answer)
            number = next_number(self._run_dir) if archived is None else archived.number
            step, first = None, number
            if answer.training:
                step = answer.step or self._finished + 1
                if step != self._step:  # look what other processes scored
                    self._step = step
                    self._see(self._tail.new())
                if evaluation.ok:
                    first = self._first.setdefault((answer.problem, evaluation.canonical), number)
        duplicate_of = None if first == number else first
        if archived is not None:
            return replace(archived, duplicate_of=duplicate_of)
        return Sample(
            number=number,
            completion=answer.text,
            evaluation=evaluation,
            prompt=answer.prompt,
            island=answer.island,
            parents=tuple(answer.told("parents")),
            proposer=POLICY if answer.training else VALIDATION,
            kind=ANSWER if answer.training else VALIDATION,
            tokens=answer.tokens,
            duplicate_of=duplicate_of,
            step=step,
            problem=answer.problem,
        )

    def keep(self, sample: Sample, evaluation: Evaluation, value: float) -> None:
        """Archive a sample with its reward unless it is there already; refine it if it is a record."""
        if sample.reward is None:
            sample = replace(sample, evaluation=evaluation, reward=value, elapsed=self._elapsed())
            self._append("reward", sample)
        if self._settings.refine != "off" and sample.proposer == POLICY:
            with self._refining_lock:
                self._refine(sample)

    def again(self) -> list[Sample]:
        """The archived answers that were drawn again since the last look."""
        with self._lock:
            again, self._again = self._again, []
        return again

    def close(self) -> None:
        """Close the files; what is archived stays."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files = {}

    def _see(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            if sample.proposer == POLICY and sample.evaluation.ok:
                self._first.setdefault((sample.problem, sample.evaluation.canonical), sample.number)

    def _take_unsaved(self, answer: Answer) -> Sample | None:
        same = self._unsaved.get((answer.training, answer.problem, answer.prompt, answer.text))
        if not same:
            return None
        sample = same.popleft()
        if answer.training:
            self._again.append(sample)
        return sample

    def _refine(self, sample: Sample) -> None:
        """Archive the refinements of a record; what a resumed run has behind it is looked at first."""
        problem, before = sample.problem, []
        if problem not in self._refining:
            before = [s for s in self._behind if s.problem == problem]
            refiner = Refiner(self._evaluators(problem), self._settings.refine_fits)
            self._refining[problem] = Refining(refiner, earlier=before)
        for one in (*(s for s in before if s.proposer == POLICY), sample):
            found, archived = self._refining[problem].of(one)
            for refinement in found[archived:]:
                self._append(REFINE, replace(refinement, elapsed=self._elapsed()))

    def _append(self, kind: str, sample: Sample) -> None:
        """Write to this process's file of that kind: answers and refinements lie apart."""
        with self._lock:
            if kind not in self._files:
                self._files[kind] = Archive(self._run_dir, f"{kind}-{self._writer}")
            file = self._files[kind]
        file.append(sample)

    def _elapsed(self) -> float:
        """Seconds since the run began, on all its machines; they stand while a clock is set back."""
        self._latest = max(self._latest, round(time.time() - self._began, 3))
        return self._latest


def _unsaved(samples: Sequence[Sample], finished: int) -> dict[tuple[bool, str, int, str], deque[Sample]]:
    """What was archived since the last saved step, by kind, problem, prompt and text, in order."""
    begun = min((s.number for s in samples if (s.step or 0) > finished), default=math.inf)
    found: dict[tuple[bool, str, int, str], deque[Sample]] = {}
    for sample in samples:
        if sample.number >= begun and sample.proposer in (POLICY, VALIDATION):
            key = (sample.proposer == POLICY, sample.problem, sample.prompt, sample.completion)
            found.setdefault(key, deque()).append(sample)
    return found


def next_number(run_dir: Path) -> int:
    """The next sample number of a run, counted for all its processes through a locked file.

    The file keeps its width and is written in one call, so that no moment finds it empty.
    """
    path = Path(run_dir) / "archive" / "counter"
    path.parent.mkdir(exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not lock(file, wait=True):
            raise UserError(f"{path} cannot be locked; write the run to a file system with locks")
        number = int((os.pread(file, 64, 0) or b"0").split()[0]) + 1
        os.pwrite(file, f"{number:020d}".encode(), 0)
    finally:
        os.close(file)
    return number


def set_number(run_dir: Path, number: int) -> None:
    """Continue the numbering after sample `number`."""
    (Path(run_dir) / "archive").mkdir(parents=True, exist_ok=True)
    write_file(Path(run_dir) / "archive" / "counter", f"{number:020d}")
