"""What a person sees of a training run: one line per step, from the trainer's metrics and the answers."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO

from llmsr.sample import POLICY, Sample


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


class Progress:
    """Prints a line per step; `steps` is how many there will be, `first` the first that this process
    trains."""

    def __init__(self, steps: int, first: int = 1, stream: IO[str] | None = None) -> None:
        self.steps = steps
        self.first = first
        self.stream = stream or sys.stderr
        self._best: Sample | None = None
        self._least = math.inf
        self._waiting: list[Sample] = []
        self._seconds: list[float] = []

    def __call__(self, metrics: StepMetrics, samples: Iterable[Sample]) -> None:
        """Report a finished step; `samples` are those that came to the archive since the last one."""
        self._seconds.append(metrics.seconds)
        for sample in samples:
            self._take(sample)
        answers = [s for s in self._waiting if (s.step or 0) <= metrics.step]
        self._waiting = [s for s in self._waiting if (s.step or 0) > metrics.step]
        print(self._line(metrics, answers), file=self.stream, flush=True)

    def _take(self, sample: Sample) -> None:
        value = sample.evaluation.nmse.get("train") if sample.evaluation.ok else None
        if value is not None and value < self._least:
            self._least, self._best = value, sample
        if sample.proposer == POLICY and (sample.step or 0) >= self.first:
            self._waiting.append(sample)

    def _line(self, metrics: StepMetrics, answers: list[Sample]) -> str:
        valid = [s for s in answers if s.evaluation.ok]
        distinct = {s.evaluation.canonical for s in valid}
        parts = [f"step {metrics.step}/{self.steps}", f"reward {metrics.reward:+.3f}"]
        if answers:
            parts.append(f"valid {len(valid) / len(answers):.0%}")
            parts.append(f"distinct {len(distinct) / len(answers):.0%}")
        parts += [f"{name} {value:.3g}" for name, value in metrics.extra.items()]
        phases = " + ".join(f"{name} {seconds:.1f}" for name, seconds in metrics.phases.items())
        parts.append(f"{metrics.seconds:.1f} s" + (f" ({phases})" if phases else ""))
        left = statistics.median(self._seconds) * (self.steps - metrics.step)  # the first step compiles
        parts.append(f"{_duration(left)} left")
        if self._best is not None:
            evaluation = self._best.evaluation
            parts.append(f"best NMSE {evaluation.nmse['train']:.3g}: {_short(evaluation.expression)}")
        return " | ".join(parts)


def say(sentence: str) -> None:
    """A sentence to the person who watches."""
    print(f"llmsr: {sentence}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _short(text: str, width: int = 80) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
