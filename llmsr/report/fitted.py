"""How an equation fits: predicted against true values on every split, and what is left over."""

from __future__ import annotations

import numpy as np

from llmsr.fitting.metrics import predict
from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.equation import Equation

POINTS = 450  # of each cloud, at equal distances in the file
MAX_INPUTS = 6  # columns against which residuals are drawn


def fit_section(equation: Equation) -> str:
    """Clouds of predicted over true value and of residual over true value, one of each per split."""
    target = equation.target
    clouds, leftovers, hidden = [], [], []
    for name, split in equation.problem.splits.items():
        tone = markup.SPLIT_TONES.get(name, 6)
        predicted = predict(equation.expression, equation.params, split)
        rows = _spread(len(split))
        true, found = split.target[rows], predicted[rows]
        lost = int(np.count_nonzero(~np.isfinite(predicted)))
        small = f"{len(split):,} rows" + (f", {lost:,} predictions not finite" if lost else "")
        pairs = list(zip(true.tolist(), found.tolist(), strict=True))
        drawing = chart(
            [Series("", pairs, tone, "dots")], f"{target} in the data", f"{target} predicted", diagonal=True
        )
        clouds.append(markup.figure(name, drawing, small))
        with np.errstate(all="ignore"):
            rest = (found - true).tolist()
        pairs = list(zip(true.tolist(), rest, strict=True))
        drawing = chart([Series("", pairs, tone, "dots")], f"{target} in the data", "residual", zero=True)
        leftovers.append(markup.figure(f"residuals, {name}", drawing))
    train = equation.problem.train
    rows = _spread(len(train))
    with np.errstate(all="ignore"):
        rest = (predict(equation.expression, equation.params, train) - train.target)[rows].tolist()
    for index, column in enumerate(equation.problem.spec.columns[:MAX_INPUTS]):
        pairs = list(zip(train.inputs[rows, index].tolist(), rest, strict=True))
        drawing = chart([Series("", pairs, 1, "dots")], column, "residual", zero=True)
        hidden.append(markup.figure(f"residuals over {column}, train", drawing))
    return markup.section(
        "Fit",
        markup.grid(*clouds, *leftovers),
        markup.details("Residuals over each input", markup.grid(*hidden)),
        hint=f"Up to {POINTS} rows of each split, at equal distances in the file. The residual is predicted "
        "minus true; a pattern in it is law that the equation misses.",
    )


def _spread(rows: int) -> np.ndarray:
    """Up to `POINTS` row numbers, spread evenly."""
    return np.unique(np.linspace(0, rows - 1, min(rows, POINTS)).astype(int))
