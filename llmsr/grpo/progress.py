"""What a person sees of a training run: a line per step, and a sentence where the run has got stuck."""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

import numpy as np

from llmsr.errors import UserError
from llmsr.grpo.advantage import teaches
from llmsr.sample import POLICY, Sample

PATIENCE = 5  # steps in a row that teach nothing, before it is said
WINDOW = 3  # steps over which the valid share is taken, so that one bad step is no collapse
COLLAPSE = 0.5  # of the best valid share so far


@dataclass(frozen=True)
class StepMetrics:
    """One training step as its trainer saw it; `phases` are seconds by name, `seconds` the whole."""

    step: int
    reward: float
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """All of it by tags, for a dashboard."""
        return {
            "train/reward": self.reward,
            **{f"train/{name}": value for name, value in self.extra.items()},
            "seconds/step": self.seconds,
            **{f"seconds/{name}": seconds for name, seconds in self.phases.items()},
        }


class Stuck(Exception):
    """Ends a training that was to end when it no longer learns; the text says why."""


class Progress:
    """Prints a line per step; `steps` is how many there will be, `first` the first of this process.

    `stop_after` steps in a row without anything to learn from raise `Stuck`; 0: none do.
    """

    def __init__(
        self, steps: int, first: int = 1, stream: IO[str] | None = None, stop_after: int = 0
    ) -> None:
        self.steps = steps
        self.first = first
        self.stream = stream or sys.stderr
        self.outcomes: Counter[str] = Counter()  # of the run's answers, by status
        self._reasons: Counter[str] = Counter()
        self._best: Sample | None = None
        self._least = math.inf
        self._waiting: list[Sample] = []
        self._seconds: list[float] = []
        self._valid: list[float] = []
        self._barren = 0
        self._stop_after = stop_after

    def __call__(self, metrics: StepMetrics, samples: Iterable[Sample]) -> StepMetrics:
        """Report a finished step; `samples` are those that came to the archive since the last one.

        The metrics come back with the shares of valid, distinct and new answers and of teaching groups.
        """
        self._seconds.append(metrics.seconds)
        for sample in samples:
            self.take(sample)
        answers = [s for s in self._waiting if (s.step or 0) <= metrics.step]
        self._waiting = [s for s in self._waiting if (s.step or 0) > metrics.step]
        metrics = replace(metrics, extra={**_shares(answers), **metrics.extra})
        print(self._line(metrics), file=self.stream, flush=True)
        if answers:
            self._watch(metrics.extra["valid"], metrics.extra["teaching"])
        return metrics

    def take(self, sample: Sample) -> None:
        """Take note of a sample of the archive."""
        value = sample.evaluation.nmse.get("train") if sample.evaluation.ok else None
        if value is not None and value < self._least:
            self._least, self._best = value, sample
        if sample.proposer == POLICY:
            self.outcomes[sample.evaluation.status] += 1
            self._reasons[sample.evaluation.reason] += not sample.evaluation.ok
            if (sample.step or 0) >= self.first:
                self._waiting.append(sample)

    def check_learned(self) -> None:
        """`UserError` if the run had answers and none of them was valid: then there was nothing to learn."""
        if not self.outcomes or self.outcomes["ok"]:
            return
        told = ", ".join(f"{status} {count}" for status, count in self.outcomes.most_common())
        reason = self._reasons.most_common(1)[0][0]
        raise UserError(
            f"not one of {self.outcomes.total()} answers was valid ({told}; mostly: {_short(reason, 120)}), "
            "so nothing was learned and no model is exported: look at the answers in archive/, and take "
            "another --model_path, a longer --max_response_length if answers are cut, or --chat_template "
            "plain for a model that completes texts"
        )

    def _watch(self, valid: float, teaching: float) -> None:
        """Say it where the run does not learn any more; raise `Stuck` where it is to end then."""
        self._valid.append(valid)
        shares = [
            statistics.mean(self._valid[max(0, i - WINDOW) : i]) for i in range(1, len(self._valid) + 1)
        ]
        best = max(shares[WINDOW - 1 :], default=0.0)
        collapsed = shares[-1] < COLLAPSE * best
        self._barren = self._barren + 1 if collapsed or not teaching else 0
        why = (
            f"the share of valid answers fell from {best:.0%} to {shares[-1]:.0%}"
            if collapsed
            else f"no group of the last {self._barren} steps teaches anything: its answers earn the same"
        )
        if self._stop_after and self._barren >= self._stop_after:
            raise Stuck(f"{why}: the training ends here (--stop_when_stuck {self._stop_after})")
        if self._barren == (1 if collapsed else PATIENCE):
            advice = (
                "a lower --learning_rate or a --kl_coef" if collapsed else "--memory or a larger --rollout_n"
            )
            print(f"llmsr: {why}; {advice} may help", file=self.stream, flush=True)

    def _line(self, metrics: StepMetrics) -> str:
        parts = [f"step {metrics.step}/{self.steps}", f"reward {metrics.reward:+.3f}"]
        parts += [
            f"{name} {value:.0%}" if name in SHARES else f"{name} {value:.3g}"
            for name, value in metrics.extra.items()
        ]
        phases = " + ".join(f"{name} {seconds:.1f}" for name, seconds in metrics.phases.items())
        parts.append(f"{metrics.seconds:.1f} s" + (f" ({phases})" if phases else ""))
        left = statistics.median(self._seconds) * (self.steps - metrics.step)  # the first step compiles
        parts.append(f"{_duration(left)} left")
        if self._best is not None:
            evaluation = self._best.evaluation
            parts.append(f"best NMSE {evaluation.nmse['train']:.3g}: {_short(evaluation.expression)}")
        return " | ".join(parts)


SHARES = ("valid", "distinct", "new", "teaching", "cut")


def _shares(answers: Sequence[Sample]) -> dict[str, float]:
    """Shares of the answers of a step, and of its groups those that teach; nothing without answers."""
    if not answers:
        return {}
    valid = [s for s in answers if s.evaluation.ok]
    groups: dict[tuple[str, int], list[float]] = defaultdict(list)
    for sample in answers:
        groups[sample.problem, sample.prompt].append(sample.reward or 0.0)
    return {
        "valid": len(valid) / len(answers),
        "distinct": len({s.evaluation.canonical for s in valid}) / len(answers),
        "new": sum(s.duplicate_of is None for s in valid) / len(answers),
        "teaching": sum(teaches(np.array(rewards)) for rewards in groups.values()) / len(groups),
    }


def say(sentence: str) -> None:
    """A sentence to the person who watches."""
    print(f"llmsr: {sentence}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _short(text: str, width: int = 80) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
