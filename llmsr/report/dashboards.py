"""A run's figures for TensorBoard and Weights & Biases, on demand: `--logger tensorboard,wandb`.

Both are optional packages and write into the run's directory. W&B goes to the network only where WANDB_MODE
is `online`; what it wrote offline can be sent later, by `wandb sync`.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from llmsr.errors import UserError
from llmsr.sample import Sample, is_llm_sample
from llmsr.search.totals import Totals, score_of

Log = Callable[[Mapping[str, float], int], None]


def figures(sample: Sample, totals: Totals) -> dict[str, float]:
    """What is logged when a sample has come: of itself, of the best one, and of all so far.

    Figures that are not finite are left out, NMSE is of the split that its tag names.
    """
    evaluation = sample.evaluation
    found: dict[str, float | None] = {
        "samples/valid_share": totals.valid / totals.samples,
        "samples/distinct": totals.distinct,
        "samples/tokens": totals.tokens,
        "samples/refinements": totals.refinements,
    }
    if is_llm_sample(sample):
        found |= {
            "sample/valid": evaluation.ok,
            "sample/generation_seconds": sample.seconds,
            "sample/fit_seconds": evaluation.fit_seconds,
            "sample/nmse_train": evaluation.nmse.get("train"),
            "sample/complexity": evaluation.complexity,
        }
    if totals.best is not None:
        best = totals.best.evaluation
        found |= {"best/score": score_of(best), "best/complexity": best.complexity}
        found |= {f"best/nmse_{split}": value for split, value in best.nmse.items()}
    return {tag: float(value) for tag, value in found.items() if value is not None and math.isfinite(value)}


class Dashboards:
    """Observes a search, or is told a training's figures; use as a context manager.

    A dashboard that fails is told once on standard error and left alone: it must not end the run.
    """

    def __init__(self, names: Sequence[str], run_dir: Path, settings: Mapping[str, Any]) -> None:
        self._stack = contextlib.ExitStack()
        openers = {"tensorboard": _tensorboard, "wandb": _wandb}
        self._logs: dict[str, Log] = {n: openers[n](run_dir, settings, self._stack) for n in names}

    def __call__(self, sample: Sample, totals: Totals) -> None:
        if self._logs:
            self.log(figures(sample, totals), totals.samples)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Tell all dashboards the figures of a sample's or a training step's number."""
        for name, log in list(self._logs.items()):
            try:
                log(scalars, step)
            except Exception as error:  # noqa: BLE001 - as above
                print(f"llmsr: {name} gets no more figures: {error}", file=sys.stderr)
                del self._logs[name]

    def __enter__(self) -> Dashboards:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def _tensorboard(run_dir: Path, settings: Mapping[str, Any], stack: contextlib.ExitStack) -> Log:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--logger tensorboard needs a package: pip install tensorboard") from None
    # a resumed run tells its samples again from the first
    writer = stack.enter_context(SummaryWriter(str(run_dir / "tensorboard"), purge_step=0))

    def log(scalars: Mapping[str, float], step: int) -> None:
        for tag, value in scalars.items():
            writer.add_scalar(tag, value, step)

    return log


def _wandb(run_dir: Path, settings: Mapping[str, Any], stack: contextlib.ExitStack) -> Log:
    try:
        import wandb
    except ImportError:
        raise UserError("--logger wandb needs a package: pip install wandb") from None
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    if mode == "offline":
        print(
            f"llmsr: W&B logs offline into {run_dir / 'wandb'}; WANDB_MODE=online sends it", file=sys.stderr
        )
    try:
        run = wandb.init(
            project="llmsr", name=run_dir.name, dir=str(run_dir), config=dict(settings), mode=mode
        )
    except wandb.Error as error:
        raise UserError(
            f"W&B cannot be reached: {error}; WANDB_MODE=offline keeps the figures here"
        ) from None
    stack.callback(run.finish)
    return lambda scalars, step: run.log(dict(scalars), step=step)
