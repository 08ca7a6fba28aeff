"""Figures for a paper: front, prediction, residual and convergence of a run as PDF, SVG and PNG.

They are a column wide (3.4 inches), in colours that colour-blind readers tell apart, with fonts embedded as
text. Equal runs make equal files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsr.errors import UserError
from llmsr.report.chart import LEAST
from llmsr.report.equation import Equation
from llmsr.report.front import SPLITS
from llmsr.report.pages import best_so_far, evenly

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from llmsr.report.runs import Outputs

FORMATS = ("pdf", "svg", "png")
WIDTH, HEIGHT = 3.4, 2.6  # inches
DOTS_PER_INCH = 300  # of PNG, and of clouds of points in PDF and SVG
POINTS = 3000  # of each cloud, at equal distances in the file
COLOURS = dict(zip(SPLITS, ("#0072B2", "#009E73", "#D55E00"), strict=True))  # Okabe and Ito (2008)
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # type 3 fonts are refused by publishers
    "svg.fonttype": "none",
    "svg.hashsalt": "llmsr",
}
# a date in the file would make equal runs differ
METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def write_figures(run: Outputs, directory: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `<figure>.<format>` for each figure into a directory, and return their paths.

    `UserError` where matplotlib is missing, the run has no valid equation, or a file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("figures need a package: pip install 'llmsr[report]'") from None
    if run.picked_front().pick is None:
        raise UserError(f"{run.output} has no valid equation yet; let the run go on")
    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
            draw(figure.add_subplot(), run)
            for kind in formats:
                path = directory / f"{name}.{kind}"
                try:
                    directory.mkdir(parents=True, exist_ok=True)
                    figure.savefig(path, dpi=DOTS_PER_INCH, metadata=METADATA[kind])
                except OSError as error:
                    raise UserError(f"cannot write {path}: {error.strerror}") from None
                written.append(path)
    return written


def _front(axes: Axes, run: Outputs) -> None:
    """NMSE of every equation of the front over its complexity, the pick marked."""
    from matplotlib.ticker import MaxNLocator

    front = run.picked_front()
    for split in run.problem.splits:
        points = [
            (e.complexity, max(v, LEAST)) for e in front.equations if (v := e.nmse.get(split)) is not None
        ]
        x, y = zip(*points, strict=True) if points else ((), ())
        if split == "train":
            axes.step(x, y, where="post", color=COLOURS[split], linewidth=0.8)
        axes.plot(
            x, y, "o", ms=4, color=COLOURS[split], mfc=None if split == "train" else "none", label=split
        )
    pick = front.pick
    if pick is not None and pick.nmse.get("train") is not None:
        level = max(pick.nmse["train"] or 0.0, LEAST)
        axes.plot(pick.complexity, level, "*", ms=11, color="black", label="pick", zorder=5)
    axes.set(xlabel="complexity", ylabel="NMSE", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def _prediction(axes: Axes, run: Outputs) -> None:
    """Predicted over true values of every split, with the diagonal."""
    target = _cloud(axes, run, lambda true, predicted: predicted)
    axes.axline((0, 0), slope=1, color="0.4", linewidth=0.7, linestyle="--", zorder=0)
    axes.set(xlabel=f"{target}, in the data", ylabel=f"{target}, predicted")


def _residual(axes: Axes, run: Outputs) -> None:
    """Predicted minus true over true values of every split."""
    target = _cloud(axes, run, lambda true, predicted: predicted - true)
    axes.axhline(0, color="0.4", linewidth=0.7, linestyle="--", zorder=0)
    axes.set(xlabel=f"{target}, in the data", ylabel="residual")


def _cloud(axes: Axes, run: Outputs, value: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> str:
    pick = run.picked_front().pick
    assert isinstance(pick, Equation)
    for name, split in reversed(list(run.problem.splits.items())):
        rows = evenly(len(split), POINTS)
        with np.errstate(all="ignore"):
            y = value(split.target[rows], pick.predict(split.with_group[rows]))
        kept = np.isfinite(y)
        # thousands of points as shapes would make a file that viewers show slowly
        axes.plot(split.target[rows][kept], y[kept], ".", ms=2, alpha=0.6, color=COLOURS.get(name),
                  label=name, rasterized=True)  # fmt: skip
    axes.legend(markerscale=3)
    return pick.target


def _convergence(axes: Axes, run: Outputs) -> None:
    """NMSE of the best equation so far over samples, on every split."""
    best = run.history.best()
    for split in run.problem.splits:
        points = best_so_far(best, "samples", float(run.history.samples), split)
        if points:
            axes.step(*zip(*points, strict=True), where="post", color=COLOURS.get(split), label=split)
    axes.set(xlabel="samples", ylabel="NMSE of the best so far", yscale="log")
    axes.legend()


FIGURES: dict[str, Callable[[Any, Any], None]] = {
    "front": _front,
    "prediction": _prediction,
    "residual": _residual,
    "convergence": _convergence,
}
"""What is drawn, by the names of the files."""
