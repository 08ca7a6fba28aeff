"""What people see of a run: in a terminal its progress, front, pick and tables; figures on dashboards.

`--logger tensorboard,wandb` asks for the latter: both are optional packages and write into the run's
directory. W&B goes to the network only where WANDB_MODE is `online`; what it wrote offline can be sent
later, by `wandb sync`.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmsr.errors import UserError
from llmsr.problem.loading import Problem
from llmsr.report.front import NMSE_FLOOR, Front, lengths
from llmsr.report.markup import duration, plain
from llmsr.sample import GUESS, REFINE, Sample, is_llm_sample
from llmsr.search.totals import Totals, score_of

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


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 1)] + "..."


def number(value: float | None) -> str:
    return f"{value:.3e}" if value is not None else "not finite"


def origin(entry: Mapping[str, Any]) -> str:
    """The number of the sample; r12 is a refinement of sample 12, made without the model."""
    if entry.get("proposer") == GUESS:
        return GUESS
    return f"{'r' * (entry.get('proposer') == REFINE)}{entry['sample']}"


def is_exact(entry: Mapping[str, Any]) -> bool:
    """Whether nothing could fit better: what is left over is rounding."""
    nmse = entry["nmse"].get("train")
    return nmse is not None and nmse < NMSE_FLOOR


def format_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    words: Collection[str] = (),
) -> str:
    """Columns aligned: the first and those named in `words` to the left, all others to the right.

    Every cell stands on one line. Lines longer than `width` are cut, so the longest column stands last.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(head):
        justify: Any = "left" if not index or name in words else "right"
        table.add_column(Text(plain(name)), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    text = io.StringIO()
    # as wide as it needs to be: rich would shorten every column where the lines do not fit
    Console(file=text, width=100_000, color_system=None, legacy_windows=False).print(table)
    return "\n".join(cut(line.rstrip(), width or 100_000) for line in text.getvalue().splitlines())


def format_front(result: Mapping[str, Any], width: int | None = None) -> str:
    """One line per row of the front, `>` before the pick; constants are rounded as the loss allows.

    `beyond` are the nats by which a description is longer than the shortest.
    """
    picked = result.get("pick")
    rows = []
    for row, entry in enumerate(result.get("front") or [], start=1):
        beyond = "-" if entry["length"] is None else f"{entry['length']:.1f}"
        rows.append(
            [f"{'>' if entry == picked else ' '} {row}", str(entry["complexity"]),
             number(entry["nmse"].get("train")), beyond, origin(entry), entry["rounded"]["equation"]]
        )  # fmt: skip
    head = ["row", "complexity", "train NMSE", "beyond", "sample", "equation"]
    return format_table(head, rows, width or line_width(), words=("equation",))


def format_result(result: Mapping[str, Any], width: int | None = None) -> str:
    """The whole result, as `result.json` has it; without a front, what is known of the best sample."""
    counts = (
        f"{plain(result['problem'])}: {result['samples']} samples, {result['valid']} valid, "
        f"{result['distinct']} distinct equations"
    )
    if result.get("refinements"):
        counts += f"; {result['refinements']} refinements without the model (r12: of sample 12)"
    lines = [counts]
    if result["note"]:
        lines.append(f"note: {plain(result['note'])}")
    if result.get("warning"):
        lines.append(f"warning: {result['warning']}")
    for told in result.get("guesses", []):
        error = f"NMSE {number(told['nmse'].get('train'))}, {told['equation']}"
        lines.append(f"guess {plain(told['guess'])}: {plain(error if told['ok'] else told['reason'])}")
    best, shown = result["best"], result.get("pick") or result["best"]
    if best is None:
        reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(result["failures"].items()))
        return "\n".join([*lines, f"no valid equation was found ({reasons or 'no samples'})"])
    if result.get("front"):
        lines += ["", format_front(result, width)]
    rounded = shown.get("rounded")
    lines += [
        "",
        f"best equation (sample {origin(shown)}, complexity {shown['complexity']}):",
        f"  {plain(rounded['equation'] if rounded else shown['equation'])}",
    ]
    lines += [f"  where {call} = {plain(text)}" for call, text in shown.get("parts", {}).items()]
    if rounded and rounded["recognised"]:
        told = ", ".join(f"{r['number']:g} may be {r['name']}" for r in rounded["recognised"])
        lines.append(f"  perhaps: {plain(told)}")
    if shown["sample"] != best["sample"] and not is_exact(shown):
        lines.append(
            f"  (the lowest training error, NMSE {number(best['nmse'].get('train'))}, has sample "
            f"{origin(best)} of complexity {best['complexity']})"
        )
    lines += ["", "constants:", *(f"  {entry}" for entry in _constants(shown) or ["none"])]
    lines += ["", "errors (NMSE: mean squared error / variance of the target):", *_errors(shown)]
    return "\n".join(lines)


def _errors(entry: Mapping[str, Any]) -> list[str]:
    """A table of an equation's errors on every split, and of what rounding makes of them."""
    kinds = {"NMSE": entry["nmse"], "R2": entry.get("r2"), "RMSE": entry.get("rmse")}
    kinds["NMSE, rounded"] = entry["rounded"]["nmse"] if "rounded" in entry else None
    told = {name: errors for name, errors in kinds.items() if errors}
    rows = []
    for split in entry["nmse"]:
        cells = [f"{e.get(split):.6g}" if n == "R2" and e.get(split) is not None else number(e.get(split))
                 for n, e in told.items()]  # fmt: skip
        rows.append([f"  {split}", *cells])
    return format_table(["  rows", *told], rows).splitlines()


def _constants(entry: Mapping[str, Any]) -> list[str]:
    """The fitted constants that the equation uses; of an entry without a graph, those its body spells out.

    Of groups a table, a line for each.
    """
    if groups := entry.get("groups"):
        names = list(next(iter(groups.values())))
        rows = [[group, *(f"{own[name]:.7g}" for name in names)] for group, own in groups.items()]
        return format_table(["group", *names], rows).splitlines()
    named = entry.get("constants")
    if named is None:
        named = {f"params[{i}]": value for i, value in enumerate(entry["params"])}
        named = {name: value for name, value in named.items() if name in entry["body"]}
    errors = (entry.get("uncertainty") or {}).get("constants", {})
    return [f"{plain(name)} = {value:.10g}{_error(errors.get(name))}" for name, value in named.items()]


def _error(known: Mapping[str, Any] | None) -> str:
    """What stands behind a constant whose errors are known."""
    if known is None:
        return ""
    if known["standard_error"] is None:
        return "  (the rows do not determine it)"
    return f" +- {known['standard_error']:.2g}  (95%: {known['low']:.6g} to {known['high']:.6g})"


def format_curve(points: Sequence[Mapping[str, Any]]) -> str:
    """A training's curve as a table of at most SHOWN_STEPS lines, the last step among them."""
    if not points:
        return "no step was finished"
    stride = max(1, math.ceil(len(points) / SHOWN_STEPS))
    rows = []
    for point in points[(len(points) - 1) % stride :: stride]:
        reward, nmse = point["reward"], point["best_nmse_train"]
        rows.append(
            [
                str(point["step"]), f"{point['samples']:,}", "-" if reward is None else f"{reward:+.3f}",
                f"{point['valid']:.0%}", f"{point['distinct']:.0%}", "-" if nmse is None else f"{nmse:.2e}",
            ]
        )  # fmt: skip
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
        improved = self._leading is not before
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._line(totals, now))
        elif improved or now - self._last_line >= PLAIN_SECONDS or totals.samples == self.budget:
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
            f"{totals.tokens} tokens",
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
