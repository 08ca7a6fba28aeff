"""What a person sees of a training run: one line per step, from the trainer's metrics and the archive."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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


class ArchiveTail:
    """The samples that were appended to a run's archive since the last look."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = Path(run_dir) / "archive"
        self._read: dict[Path, int] = {}

    def new(self) -> list[Sample]:
        """New samples, ascending by number; unfinished lines wait for the next look."""
        samples = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                block = file.read()
            whole = block[: block.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            samples += [Sample.from_record(json.loads(line)) for line in whole.splitlines()]
        return sorted(samples, key=lambda sample: sample.number)


class Progress:
    """Prints a line per step; `steps` is how many there will be, `first` the first that this process
    trains."""

    def __init__(self, run_dir: Path, steps: int, first: int = 1, stream: IO[str] | None = None) -> None:
        self.steps = steps
        self.stream = stream or sys.stderr
        self._tail = ArchiveTail(run_dir)
        self._best: Sample | None = None
        self._least = math.inf
        self._waiting: list[Sample] = [s for s in self._keep_best(self._tail.new()) if (s.step or 0) >= first]
        self._seconds: list[float] = []

    def __call__(self, metrics: StepMetrics) -> None:
        """Report a finished step."""
        self._seconds.append(metrics.seconds)
        self._waiting += self._keep_best(self._tail.new())
        answers = [s for s in self._waiting if s.proposer == POLICY and (s.step or 0) <= metrics.step]
        self._waiting = [s for s in self._waiting if (s.step or 0) > metrics.step]
        print(self._line(metrics, answers), file=self.stream, flush=True)

    def _keep_best(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            value = sample.evaluation.nmse.get("train") if sample.evaluation.ok else None
            if value is not None and value < self._least:
                self._least, self._best = value, sample
        return samples

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


def read_verl_metrics(path: Path, offset: int = 0) -> Iterator[tuple[int, StepMetrics]]:
    """Steps that VERL's file logger wrote behind byte `offset`, each with the offset behind it."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            record = json.loads(line)
            data = record["data"]
            if "critic/score/mean" not in data:
                continue  # validation before the first step
            phases = {
                short: data[f"timing_s/{name}"]
                for name, short in (("gen", "answers"), ("old_log_prob", "old"), ("ref", "ref"),
                                    ("update_actor", "update"), ("update_weights", "sync"),
                                    ("save_checkpoint", "save"), ("testing", "validation"))
                if f"timing_s/{name}" in data
            }  # fmt: skip
            extra = {
                short: data[name]
                for name, short in (("actor/entropy", "entropy"), ("actor/kl_loss", "kl"))
                if name in data
            }
            yield (
                offset,
                StepMetrics(
                    step=int(record["step"]),
                    reward=float(data["critic/score/mean"]),
                    seconds=float(data.get("timing_s/step", 0.0)),
                    phases=phases,
                    extra=extra,
                ),
            )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _short(text: str, width: int = 80) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
