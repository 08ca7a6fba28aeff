"""`python -m llmsr plot DIR`: figures of a run for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmsr.cli.runs import ShownSettings
from llmsr.cli.shared import Verb
from llmsr.config import names_or_none, option
from llmsr.report.figures import FORMATS, write_figures


@dataclass(frozen=True)
class PlotSettings:
    """what is written"""

    output: str | None = option(None, "folder of the figures (default: DIR/figures)", metavar="DIR")
    formats: str = option(",".join(FORMATS), "comma-separated: " + ", ".join(FORMATS))


def plot(shown: ShownSettings, given: PlotSettings) -> int:
    """Write the figures of a run, and name the files."""
    formats = names_or_none("formats", given.formats, FORMATS)
    for run in shown.outputs():
        folder = Path(given.output) if given.output else run.output / "figures"
        several = given.output and run.output != Path(shown.directory)
        for path in write_figures(run, folder / run.problem.name if several else folder, formats):
            print(path)
    return 0


PLOT = Verb(
    "plot",
    "Write front, prediction, residual and convergence of a run as figures for a paper.",
    (ShownSettings, PlotSettings),
    plot,
    "DIR [--flag value ...]",
)
