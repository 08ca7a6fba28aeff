"""What a vision model is shown: the target against every column, and what the best equation leaves of it.

Above each column stands the target, below it the residual of the last equation that the prompt shows. Of two
columns and more a last panel has both as colours over the first two. Equal prompts have equal pictures.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmsr.context import equation_of, some_rows
from llmsr.errors import UserError
from llmsr.expression.graph import evaluate
from llmsr.problem.loading import Problem
from llmsr.prompt import Picture, Version

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 5  # columns that have one
PANEL = 1.8  # inches
DOTS_PER_INCH = 80  # small: what a vision model reads of it costs about as much as the prompt
FONT_SIZE = 7


def check_pictures() -> None:
    """`UserError` where pictures cannot be drawn here."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("--vision needs a package: pip install 'llmsr[report]'") from None


def picture_of(problem: Problem, versions: Sequence[Version]) -> Picture:
    """The picture of a problem and of the last of `versions`, with words for who does not see it."""
    from matplotlib.figure import Figure

    inputs, target = some_rows(problem)
    names = problem.spec.columns[:MOST_PANELS]
    left = _residual(problem, versions[-1], inputs, target) if versions else None
    shown = [(problem.target, target), *([("residual", left)] if left is not None else [])]
    surface = len(names) > 1
    size = PANEL * (len(names) + surface), PANEL * len(shown)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(len(shown), len(names) + surface, squeeze=False)
    for row, (label, values) in zip(panels, shown, strict=True):
        for index, name in enumerate(names):
            row[index].scatter(inputs[:, index], values, s=2, linewidths=0)
            _finish(row[index], name, label)
        if surface:
            row[-1].scatter(inputs[:, 0], inputs[:, 1], c=values, s=4, linewidths=0)
            _finish(row[-1], *names[:2])
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    told = f"The picture shows {problem.target} against {', '.join(names)}"
    told += f", and as a colour over {names[0]} and {names[1]}" if surface else ""
    below = "; the lower row shows what the last equation above leaves of it" if left is not None else ""
    return Picture(file.getvalue(), f"{told}{below}.")


def _finish(panel: Axes, x: str, y: str) -> None:
    # each by itself: matplotlib's own settings are the whole process's, and prompts are put in threads
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=FONT_SIZE)
    panel.set_xlabel(x, fontsize=FONT_SIZE)
    panel.set_ylabel(y, fontsize=FONT_SIZE)


def _residual(
    problem: Problem, version: Version, inputs: np.ndarray, target: np.ndarray
) -> np.ndarray | None:
    """Measured minus fitted in every row; None where that is not known or not finite."""
    equation = equation_of(problem.spec, version)
    if equation is None or version.params is None:
        return None
    with np.errstate(all="ignore"):
        left = target - evaluate(equation, inputs, np.asarray(version.params))
    return left if np.isfinite(left).all() else None
