"""What people see of a run: in a terminal its progress, front, pick and tables; figures on dashboards.

`--logger tensorboard,wandb` asks for the latter: both are optional packages and write into the run's
directory. W&B goes to the network only where WANDB_MODE is `online`; what it wrote offline can be sent
later, by `wandb sync`.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmsr.errors import UserError
from llmsr.problem.loading import Problem
from llmsr.report.front import NMSE_FLOOR, Front, lengths
from llmsr.report.markup import cut, duration, format_table, render
from llmsr.sample import GUESS, REFINE, Sample, is_llm_sample
from llmsr.search.totals import Totals

if TYPE_CHECKING:
    from rich.live import Live

WIDEST = 400  # characters of a line that is not for a terminal
NARROWEST = 60
PLAIN_SECONDS = 10.0  # between two plain lines that report no new best
SHOWN_STEPS = 12  # of a training's curve


def line_width() -> int:
    """The characters of a line: the terminal's, or many where standard output is no terminal."""
    if not sys.stdout.isatty():
        return WIDEST
    return max(NARROWEST, shutil.get_terminal_size().columns)


def origin(entry: Mapping[str, Any]) -> str:
    """The number of the sample; r12 is a refinement of sample 12, made without the model."""
    if entry.get("proposer") == GUESS:
        return GUESS
    return f"{'r' * (entry.get('proposer') == REFINE)}{entry['sample']}"


def is_exact(entry: Mapping[str, Any]) -> bool:
    """Whether nothing could fit better: what is left over is rounding."""
    nmse = entry["nmse"].get("train")
    return nmse is not None and nmse < NMSE_FLOOR


def format_result(result: Mapping[str, Any], width: int | None = None) -> str:
    """The whole result, as `result.json` has it; without a front, what is known of the best sample."""
    best, shown = result["best"], result.get("pick") or result["best"]
    # of an entry without a graph, the constants that its body spells out
    named = {f"params[{i}]": value for i, value in enumerate(shown["params"])} if shown else {}
    spelled = {name: value for name, value in named.items() if name in shown["body"]}
    other = shown is not None and shown["sample"] != best["sample"] and not is_exact(shown)
    return render(
        "result.txt", result=result, shown=shown, origin=origin, spelled=spelled,
        lowest=best if other else None, width=width or line_width(),
    ).rstrip("\n")  # fmt: skip


def format_curve(points: Sequence[Mapping[str, Any]]) -> str:
    """A training's curve as a table of at most SHOWN_STEPS lines, the last step among them."""
    if not points:
        return "no step was finished"
    stride = max(1, math.ceil(len(points) / SHOWN_STEPS))
    forms = {"step": "d", "samples": ",d", "reward": "+.3f", "valid": ".0%", "distinct": ".0%",
             "best_nmse_train": ".2e"}  # fmt: skip
    rows = [
        ["-" if point[name] is None else format(point[name], form) for name, form in forms.items()]
        for point in points[(len(points) - 1) % stride :: stride]
    ]
    return format_table(["step", "samples", "reward", "valid", "new", "best NMSE"], rows)


class SearchProgress(contextlib.ExitStack):
    """Observes a search and tells its state on standard error: one live line in a terminal, else plain lines.

    Use as a context manager so that the terminal is left in order.
    """

    def __init__(self, budget: int, problem: Problem, stream: IO[str] | None = None) -> None:
        super().__init__()
        self.budget = budget
        self._problem = problem
        self._front = Front()
        self._leading: Sample | None = None
        self.stream = stream or sys.stderr
        self._started = self._last_line = time.monotonic()
        self._first_number: int | None = None
        self._live: Live | None = None
        if self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = self.enter_context(Live(console=Console(file=self.stream), refresh_per_second=4))
            self._live.update("starting: workers and model are loaded, the data are looked at")

    def __call__(self, sample: Sample, totals: Totals) -> None:
        if self._first_number is None:
            self._first_number = totals.samples
        before = self._leading
        if self._front.add(sample):
            told = lengths(self._front.members, self._problem)
            self._leading = self._front.members[told.index(min(told))]
        now = time.monotonic()
        due = now - self._last_line >= PLAIN_SECONDS or totals.samples == self.budget
        if self._live is not None:
            self._live.update(self._line(totals, now))
        elif due or self._leading is not before:
            self._last_line = now
            with contextlib.suppress(OSError):  # a log that cannot be written must not end the run
                print(self._line(totals, now), file=self.stream, flush=True)

    def _line(self, totals: Totals, now: float) -> str:
        done = totals.samples - (self._first_number or 0) + 1
        elapsed = now - self._started
        # before the first answer nothing is known of the pace
        left = elapsed / done * (self.budget - totals.samples) if totals.samples else 0.0
        parts = [
            f"{totals.samples}/{self.budget} samples",
            f"{duration(elapsed)}, about {duration(left)} left" if left else duration(elapsed),
            f"{totals.valid / max(totals.samples, 1):.0%} valid",
            f"{totals.distinct / max(totals.valid, 1):.0%} distinct",
            f"{totals.tokens} tokens" + (f", cost {totals.cost:.3g}" if totals.cost else ""),
            f"{done / max(elapsed, 1e-9):.1f}/s",
        ]
        if self._leading is not None:
            evaluation = self._leading.evaluation
            parts.append(f"best NMSE {evaluation.nmse['train']:.3g}: {cut(evaluation.expression, 90)}")
        return " | ".join(parts)


# ---- dashboards

Log = Callable[[Mapping[str, float], int], None]


def figures(sample: Sample, totals: Totals) -> dict[str, float]:
    """What is logged when a sample has come: of itself, of the best one, and of all so far.

    Figures that are not finite are left out, NMSE is of the split that its tag names.
    """
    evaluation = sample.evaluation
    found: dict[str, float | None] = {
        "samples/valid_share": totals.valid / max(totals.samples, 1),
        "samples/distinct": totals.distinct,
        "samples/tokens": totals.tokens,
        "samples/cost": totals.cost,
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
        found |= {"best/score": best.worth, "best/complexity": best.complexity}
        found |= {f"best/nmse_{split}": value for split, value in best.nmse.items()}
    return {tag: float(value) for tag, value in found.items() if value is not None and math.isfinite(value)}


class Dashboards(contextlib.ExitStack):
    """Observes a search, or is told a training's figures; use as a context manager.

    A dashboard that fails is told once on standard error and left alone: it must not end the run.
    """

    def __init__(self, names: Sequence[str], run_dir: Path, settings: Mapping[str, Any]) -> None:
        super().__init__()
        openers = {"tensorboard": _tensorboard, "wandb": _wandb}
        self._logs: dict[str, Log] = {name: openers[name](run_dir, settings, self) for name in names}

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
        where = run_dir / "wandb"
        print(f"llmsr: W&B logs offline into {where}; WANDB_MODE=online sends it", file=sys.stderr)
    named: Any = {"project": "llmsr", "name": run_dir.name, "dir": str(run_dir)}
    try:
        run = wandb.init(**named, config=dict(settings), mode=mode)
    except wandb.Error as error:
        told = f"W&B cannot be reached: {error}; WANDB_MODE=offline keeps the figures here"
        raise UserError(told) from None
    stack.callback(run.finish)
    return lambda scalars, step: run.log(dict(scalars), step=step)
