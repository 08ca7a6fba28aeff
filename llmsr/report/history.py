"""How a run went: counted as it goes, a few numbers per sample, and told step by step."""

from __future__ import annotations

import csv
import io
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmsr.report.front import SPLITS, loss_of
from llmsr.sample import REFINEMENT, Sample

FAILED, REPEATED, NEW = 0, 1, 2
KINDS_OF_REASONS = 2000  # counted apart; what comes later is counted by its status alone
REASON_CHARACTERS = 100


@dataclass(frozen=True)
class Improvement:
    """A sample that was better than all before it: when, and its NMSE on every split."""

    samples: int
    seconds: float
    tokens: int
    number: int
    nmse: dict[str, float | None]
    island: int | None = None


@dataclass
class Step:
    """The samples of one training step; `best_so_far` is the run's best at its end, by the run's own loss."""

    samples: int = 0
    valid: int = 0
    new: int = 0
    reward: float = 0.0
    rewarded: int = 0
    best_nmse: float | None = None
    best_so_far: Improvement | None = None

    @property
    def mean_reward(self) -> float | None:
        return self.reward / self.rewarded if self.rewarded else None

    def add(self, reward: float | None, kind: int, nmse: float | None) -> None:
        """Count an answer by its kind, reward and training NMSE."""
        self.samples += 1
        self.valid += kind != FAILED
        self.new += kind == NEW
        if reward is not None:
            self.reward += reward
            self.rewarded += 1
        if nmse is not None and (self.best_nmse is None or nmse < self.best_nmse):
            self.best_nmse = nmse


@dataclass
class History:
    """What became of a run's samples.

    `kinds` has one entry per sample: failed, valid but known, or a new equation.

    Refinements are no samples: of them only fits, times and improvements are kept; `best_of_answers` is
    without them.
    `sizes` and `errors` are complexity and training NMSE of every new equation.
    """

    kinds: bytearray = field(default_factory=bytearray)
    elapsed: array[float] = field(default_factory=lambda: array("d"))
    best: list[Improvement] = field(default_factory=list)
    best_of_answers: list[Improvement] = field(default_factory=list)
    # four bytes each: a run of a million samples keeps them all
    sizes: array[float] = field(default_factory=lambda: array("f"))
    errors: array[float] = field(default_factory=lambda: array("f"))
    islands: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    steps: dict[int, Step] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: int = 0
    generation_seconds: float = 0.0
    fit_seconds: float = 0.0
    cpu_seconds: float = 0.0
    fits: int = 0
    refinement_fits: int = 0
    proposer: str = ""
    deadlines: int = 0
    _known: set[str] = field(default_factory=set)
    _lowest: float = float("inf")
    _lowest_of_answers: float = float("inf")

    @property
    def samples(self) -> int:
        return len(self.kinds)

    @property
    def seconds(self) -> float:
        """The seconds that the run took so far; 0 where its records do not tell."""
        return max(self.elapsed, default=0.0)

    def add(self, sample: Sample) -> None:
        evaluation = sample.evaluation
        nmse = evaluation.nmse.get("train") if evaluation.ok else None
        self.fit_seconds += evaluation.fit_seconds
        self.cpu_seconds += evaluation.cpu_seconds
        self.deadlines += evaluation.deadline_reached
        kind = None
        if sample.kind == REFINEMENT:
            self.refinement_fits += evaluation.evaluations > 0
        else:
            kind = self._add_answer(sample, nmse)
        loss = loss_of(sample) if evaluation.ok else None
        if loss is not None:
            self._note_improvement(sample, loss)
        if sample.island is not None and nmse is not None:
            records = self.islands.setdefault(sample.island, [])
            if not records or nmse < records[-1][1]:
                records.append((self.samples, nmse))
        if sample.step is not None:
            step = self.steps.setdefault(sample.step, Step())
            if kind is not None:
                step.add(sample.reward, kind, nmse)
            step.best_so_far = self.best[-1] if self.best else None

    def _add_answer(self, sample: Sample, nmse: float | None) -> int:
        """Count an answer of a model; what kind it is."""
        evaluation, kind = sample.evaluation, FAILED
        if evaluation.ok:
            kind = REPEATED if evaluation.canonical in self._known else NEW
            self._known.add(evaluation.canonical)
        else:
            self._count_reason(evaluation.status, evaluation.reason)
        if kind == NEW and nmse is not None:
            self.sizes.append(evaluation.complexity or 0)
            self.errors.append(nmse)
        self.kinds.append(kind)
        self.proposer = self.proposer or sample.proposer
        self.elapsed.append(sample.elapsed)
        self.tokens += sample.tokens
        self.generation_seconds += sample.seconds
        self.fits += evaluation.evaluations > 0
        return kind

    def _note_improvement(self, sample: Sample, loss: float) -> None:
        made = Improvement(
            self.samples,
            sample.elapsed,
            self.tokens,
            sample.number,
            dict(sample.evaluation.nmse),
            sample.island,
        )
        if loss < self._lowest:
            self._lowest = loss
            self.best.append(made)
        if loss < self._lowest_of_answers and sample.kind != REFINEMENT:
            self._lowest_of_answers = loss
            self.best_of_answers.append(made)

    def rewards(self) -> list[tuple[float, float]]:
        """(step, mean reward of its answers) of a training, ascending."""
        return [(float(n), s.reward / s.rewarded) for n, s in sorted(self.steps.items()) if s.rewarded]

    def shares(self, parts: int) -> list[tuple[int, float, float]]:
        """(samples so far, valid share, share of new equations) for up to `parts` stretches of the run."""
        size = max(1, -(-self.samples // parts))
        found = []
        for begin in range(0, self.samples, size):
            stretch = self.kinds[begin : begin + size]
            n = len(stretch)
            found.append((begin + n, 1 - stretch.count(FAILED) / n, stretch.count(NEW) / n))
        return found

    def _count_reason(self, status: str, reason: str) -> None:
        key = (status, reason[:REASON_CHARACTERS])
        if key not in self.reasons and len(self.reasons) >= KINDS_OF_REASONS:
            key = (status, "other reasons")
        self.reasons[key] += 1


def history_of(samples: Sequence[Sample]) -> History:
    """The history of samples in their order."""
    history = History()
    for sample in samples:
        history.add(sample)
    return history


def learning_curve(histories: Sequence[History]) -> list[dict[str, Any]]:
    """One point per step: answers so far, mean reward, shares of valid and of new ones, best error so far.

    `distinct` is the share of answers with an equation that no earlier answer had. Several histories are
    those of a run's problems: their answers are counted together, and there is no one best error.
    """
    points: list[dict[str, Any]] = []
    samples = 0
    for number in sorted({number for history in histories for number in history.steps}):
        steps = [history.steps[number] for history in histories if number in history.steps]
        answers, rewarded = sum(s.samples for s in steps), sum(s.rewarded for s in steps)
        samples += answers
        best = steps[0].best_so_far if len(histories) == 1 else None
        points.append(
            {
                "step": number,
                "samples": samples,
                "reward": sum(s.reward for s in steps) / rewarded if rewarded else None,
                "valid": sum(s.valid for s in steps) / answers,
                "distinct": sum(s.new for s in steps) / answers,
                **{f"best_nmse_{split}": best.nmse.get(split) if best else None for split in SPLITS},
            }
        )
    return points


def curve_csv(points: Sequence[Mapping[str, Any]]) -> str:
    """The curve as CSV; a cell is empty where there was no valid equation yet."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(points[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(points)
    return text.getvalue()
