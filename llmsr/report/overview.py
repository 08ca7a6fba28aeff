"""A table over all runs below a directory, searches and training runs alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.report.front import lifted
from llmsr.report.recorded import TRAINING, Recorded, is_run, read_run
from llmsr.report.terminal import format_table
from llmsr.sample import is_llm_sample

DEEPEST = 6  # levels of folders that are looked through


@dataclass(frozen=True)
class Row:
    """One run over one problem; `nmse` is of the best sample, `seconds` 0 where the records do not tell."""

    directory: str
    problem: str
    mode: str
    model: str
    seed: int | None
    samples: int
    valid: int
    distinct: int
    tokens: int
    seconds: float
    best_sample: int | None
    complexity: int | None
    nmse: Mapping[str, float | None]
    learning_rate: float | None = None
    batch_size: int | None = None
    rollout_n: int | None = None
    epochs: int | None = None
    reward_first: float | None = None
    reward_last: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


def find_runs(directory: str | Path) -> list[Path]:
    """The directories at or below this one that hold a run, sorted; `UserError` where there is none."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; name one that holds runs, such as logs")
    found = []
    for path, folders, _ in os.walk(directory):
        here = Path(path)
        if is_run(here):
            found.append(here)
            folders[:] = []
        elif len(here.relative_to(directory).parts) >= DEEPEST:
            folders[:] = []
    if not found:
        raise UserError(
            f"there is no run below {directory}; name a directory such as logs or llmsr_grpo_outputs"
        )
    return sorted(found)


def row_of(run: Recorded, name: str) -> Row:
    """The run's line in the table."""
    settings, answers = run.settings, [s for s in run.samples if is_llm_sample(s)]
    valid = [s for s in answers if s.evaluation.ok]
    ranked = [
        (loss, s.evaluation.complexity or 0, s.number, s)
        for s in run.samples
        if s.evaluation.ok and (loss := lifted(s)) is not None
    ]
    best = min(ranked, key=lambda entry: entry[:3])[3] if ranked else None
    rewards = _rewards(run)
    model = settings.get("model_path") or settings.get("api_model") or settings.get("proposer") or ""
    if not settings.get("model_path") and answers and answers[0].proposer not in ("", "policy"):
        model = answers[0].proposer
    training = run.mode == TRAINING
    return Row(
        directory=name,
        problem=run.problem_name,
        mode="grpo" if training else str(settings.get("search") or "search"),
        model=Path(str(model)).name if len(str(model)) > 30 else str(model),
        seed=settings.get("seed"),
        samples=len(answers),
        valid=len(valid),
        distinct=len({s.evaluation.canonical for s in valid}),
        tokens=sum(s.tokens for s in run.samples),
        seconds=max((s.elapsed for s in run.samples), default=0.0),
        best_sample=best.number if best else None,
        complexity=best.evaluation.complexity if best else None,
        nmse=dict(best.evaluation.nmse) if best else {},
        learning_rate=settings.get("learning_rate") if training else None,
        batch_size=settings.get("batch_size") if training else None,
        rollout_n=settings.get("rollout_n") if training else None,
        epochs=settings.get("epochs") if training else None,
        reward_first=rewards[0] if rewards else None,
        reward_last=rewards[-1] if rewards else None,
        settings=settings,
    )


def _rewards(run: Recorded) -> list[float]:
    """The mean reward of every training step."""
    by_step: dict[int, list[float]] = {}
    for sample in run.samples:
        if sample.step is not None and sample.reward is not None:
            by_step.setdefault(sample.step, []).append(sample.reward)
    return [sum(values) / len(values) for _, values in sorted(by_step.items())]


def overview(directory: str | Path) -> tuple[list[Row], list[str]]:
    """The rows of all runs below a directory, and a sentence for each one that cannot be read."""
    rows, faults = [], []
    base = Path(directory)
    for path in find_runs(base):
        name = str(path.relative_to(base)) if path != base else path.name or str(path)
        try:
            rows += [row_of(run, name) for run in read_run(path)]
        except UserError as error:
            faults.append(str(error))
    return rows, faults


def as_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [{k: v for k, v in asdict(row).items() if k != "settings"} for row in rows]


def format_overview(rows: Sequence[Row]) -> str:
    """The rows as an aligned table; columns of training settings only where a training run is among them."""
    head = [
        "run",
        "problem",
        "mode",
        "seed",
        "samples",
        "valid",
        "distinct",
        "NMSE train",
        "id",
        "ood",
        "size",
    ]
    training = any(row.rollout_n is not None for row in rows)
    if training:
        head += ["lr", "batch", "rollouts", "epochs", "reward"]
    head += ["seconds"]
    lines = []
    for row in rows:
        line = [
            row.directory, row.problem, row.mode, _plain(row.seed), str(row.samples),
            _share(row.valid, row.samples),
            _share(row.distinct, row.samples), *(_error(row, s) for s in ("train", "test_id", "test_ood")),
            _plain(row.complexity),
        ]  # fmt: skip
        if training:
            line += [_plain(v) for v in (row.learning_rate, row.batch_size, row.rollout_n, row.epochs)]
            both = row.reward_first is not None and row.reward_last is not None
            line += [f"{row.reward_first:.2f} to {row.reward_last:.2f}" if both else "-"]
        lines.append([*line, f"{row.seconds:.0f}" if row.seconds else "-"])
    return format_table(head, lines)


def _error(row: Row, split: str) -> str:
    if row.best_sample is None or split not in row.nmse:
        return "-"
    value = row.nmse[split]
    return "not finite" if value is None else f"{value:.2e}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _plain(value: float | int | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
