"""The equations of a run as files: equations.csv, best_equation.py and best_equation.tex.

What a model wrote is in none of them: all text is made from the graph. Cells that a spreadsheet would take
for a formula do not occur.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from llmsr.report.equation import Equation

SPLITS = ("train", "test_id", "test_ood")
CSV_COLUMNS = (
    "complexity", "loss", "score", "equation", "sympy", "latex",
    *(f"nmse_{split}" for split in SPLITS), "sample", "picked",
    "rounded_equation", "rounded_latex", *(f"rounded_nmse_{split}" for split in SPLITS),
)  # fmt: skip


def equations_csv(equations: Sequence[Equation], picked: int | None) -> str:
    """The front as CSV, ascending in complexity: exact forms first, rounded ones behind.

    `loss` is the training MSE in squared units of the target. `sympy` stands in parentheses; it is empty
    where sympy cannot say the equation.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for index, equation in enumerate(equations):
        evaluation = equation.sample.evaluation
        cells = [
            evaluation.complexity,
            repr(evaluation.train_mse),
            f"{equation.score:.6g}",
            equation.text,
            f"({equation.sympy})" if equation.sympy else "",
            equation.latex,
            *_nmse_cells(evaluation.nmse),
            equation.sample.number,
            int(index == picked),
            equation.tidy_text,
            equation.tidy_latex,
            *_nmse_cells(equation.tidy_nmse),
        ]
        writer.writerow([_plain(cell) for cell in cells])
    return text.getvalue()


def _nmse_cells(nmse: Mapping[str, float | None]) -> list[str]:
    values = [nmse.get(split) for split in SPLITS]
    return ["" if value is None else repr(value) for value in values]


def _plain(cell: object) -> str:
    """The cell's text, with an apostrophe before what a spreadsheet would run."""
    text = str(cell)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def equation_module(equation: Equation) -> str:
    """The source of best_equation.py: `equation(*columns)` exact, `rounded(*columns)` for reading."""
    columns = ", ".join(equation.expression.columns)
    about = [
        f"An equation for {equation.target} of {columns}, found for the problem {equation.problem.name}.",
        "",
        f"    {equation.tidy_text}",
        "",
        "`equation` has all digits of the fitted constants; `rounded` is the line above.",
        "Both take one number or numpy array per column, in this order, and return the same shape.",
        "",
        "NMSE = mean squared error / variance of the target:",
        f"    {'':<10}{'equation':>12}{'rounded':>12}",
    ]
    for split, value in equation.sample.evaluation.nmse.items():
        about.append(f"    {split:<10}{_short(value):>12}{_short(equation.tidy_nmse.get(split)):>12}")
    if equation.problem.note:
        about += ["", equation.problem.note]
    docstring = "\n".join(_quotable(line) for line in about)
    return f'"""{docstring}\n"""\n\nimport numpy as np\n\n\n{equation.python}\n\n{equation.tidy_python}'


def _quotable(line: str) -> str:
    return line.replace("\\", "\\\\").replace('"', "'").rstrip()


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3e}"


def equation_tex(equation: Equation) -> str:
    """The source of best_equation.tex, to be \\input into a document that uses amsmath."""
    errors = ", ".join(f"{split} {_short(value)}" for split, value in equation.tidy_nmse.items())
    exact = ", ".join(f"{split} {_short(value)}" for split, value in equation.sample.evaluation.nmse.items())
    name = equation.problem.name.replace("\n", " ")
    lines = [
        f"% {name}: sample {equation.sample.number}; needs \\usepackage{{amsmath}}",
        f"% constants rounded as far as the loss allows; NMSE {errors}",
        "\\begin{equation}",
        f"  {equation.tidy_latex}",
        "\\end{equation}",
        f"% all digits of the fitted constants; NMSE {exact}",
        f"% {equation.latex}",
    ]
    return "\n".join(lines) + "\n"
