"""What a prompt tells beside the earlier equations: lines about their errors, the data and past refusals.

Each kind is a pure function from what is known when a prompt is drawn to lines of text; `notes` joins the
kinds that are asked for. LLM-SR's prompts have none of them, which is the default for raw completions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmsr.expression import Expression, Refusal
from llmsr.expression.graph import evaluate
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec, read_body

if TYPE_CHECKING:
    from llmsr.prompt import Version

ROWS = 512  # of the training rows, at equal distances, that residuals and ranges are taken from
QUARTERS = 4
CLEAR_SHARE = 0.4  # of the squared error in a quarter of the rows; evenly spread it were 0.25
SHOWN_ROWS = 5
MOST_PLACES = 3
MOST_REFUSALS = 4
MOST_COLUMNS = 30
WIDEST = 160


@dataclass(frozen=True)
class Known:
    """What is known when a prompt is drawn.

    `names[i]` is what the prompt calls `versions[i]`, worst first; `refusals` are the reasons of recent
    failures, oldest first.
    """

    problem: Problem
    names: Sequence[str]
    versions: Sequence[Version]
    refusals: Sequence[str] = ()


def scores(known: Known) -> list[str]:
    """How well every version fits: its NMSE, or the score that the spec's own evaluate gives it."""
    told = []
    for name, version in zip(known.names, known.versions, strict=True):
        nmse = version_nmse(known.problem, version)
        if known.problem.spec.least_squares and np.isfinite(nmse):
            told.append(f"{name}: mean squared error {nmse:.2e} of the target's variance")
        else:
            told.append(f"{name}: score {version.score:.4g}, higher is better")
    return told


def version_nmse(problem: Problem, version: Version) -> float:
    """The version's error on the training rows over their variance; nan where the rows do not vary."""
    if version.nmse is not None:
        return version.nmse
    # an archive of an earlier version has scores alone
    variance = problem.train.spread
    return -version.score / variance if variance > 0 else float("nan")


def constants(known: Known) -> list[str]:
    """The fitted constants that every version uses."""
    told = []
    for name, version in zip(known.names, known.versions, strict=True):
        expression = equation_of(known.problem.spec, version)
        if expression is None or version.params is None:
            continue
        params = known.problem.spec.params_name
        fitted = [f"{params}[{i}] = {version.params[i]:.4g}" for i in expression.params]
        if fitted:
            told.append(f"{name} fitted: {', '.join(fitted)}")
    return told


def residuals(known: Known) -> list[str]:
    """Where the last, best version is wrong: the quarters of a column's range that hold most of its error."""
    if not known.versions:
        return []
    name, version = known.names[-1], known.versions[-1]
    expression = equation_of(known.problem.spec, version)
    if expression is None or version.params is None:
        return []
    inputs, target = some_rows(known.problem)
    with np.errstate(all="ignore"):
        residual = evaluate(expression, inputs, np.asarray(version.params)) - target
        squares = residual**2
        total = float(squares.sum())
    # nothing can be said of errors that are rounding
    if not np.isfinite(total) or total <= 1e-20 * float(target @ target):
        return []
    places = []
    for index, column in enumerate(known.problem.spec.columns[:MOST_COLUMNS]):
        values = inputs[:, index]
        bounds = np.quantile(values, np.linspace(0, 1, QUARTERS + 1))
        for quarter in range(QUARTERS):
            low, high = bounds[quarter], bounds[quarter + 1]
            inside = (values >= low) & (values <= high)
            share, of_rows = float(squares[inside].sum()) / total, float(inside.mean())
            # many equal values crowd into one quarter, whose share of the error is then no news
            if share < CLEAR_SHARE or share < 1.5 * of_rows:
                continue
            bias = float(residual[inside].mean())
            sign = "above" if bias > 0 else "below"
            where = f"{column} from {low:.3g} to {high:.3g}"
            places.append(
                (
                    -share,
                    f"{name}: {share:.0%} of its squared error lies at {where} ({of_rows:.0%} of the rows), "
                    f"there it is {abs(bias):.2g} {sign} the data on average",
                )
            )
    return [line for _, line in sorted(places)[:MOST_PLACES]]


def columns(known: Known) -> list[str]:
    """The range of every column, with what the spec says that it means, units included."""
    spec = known.problem.spec
    inputs, target = some_rows(known.problem)
    told = []
    for index, name in enumerate(spec.columns[:MOST_COLUMNS]):
        words = meaning(spec, name)
        told.append(f"{name}{f' ({words})' if words else ''}: {_range(inputs[:, index])}")
    return [*told, f"to be found, {known.problem.target}: {_range(target)}"]


def meaning(spec: Spec, column: str) -> str:
    """What the evolved function's docstring says of a column, its unit included; empty if it says nothing."""
    found = re.search(rf"^\s*{re.escape(column)}\s*:\s*(\S.*)$", spec.docstring, re.MULTILINE)
    words = found[1].removesuffix(", one number per row.").rstrip(". ") if found else ""
    return "" if words == column else words


def rows(known: Known) -> list[str]:
    """A few rows of the data, at equal distances."""
    inputs, target = some_rows(known.problem, SHOWN_ROWS)
    names = (*known.problem.spec.columns, known.problem.target)
    told = [", ".join(f"{value:.4g}" for value in (*row, y)) for row, y in zip(inputs, target, strict=True)]
    return [f"some rows of the data: {', '.join(names)}", *told]


def refusals(known: Known) -> list[str]:
    """Why recent answers were worth nothing, the most frequent reasons first."""
    # the same mistake is made over and over: told once with its count, it takes one line
    counts = Counter(known.refusals)
    return [
        f"{count} recent answer{'s were' if count > 1 else ' was'} refused: {reason}"
        for reason, count in counts.most_common(MOST_REFUSALS)
        if reason
    ]


CONTEXTS: dict[str, Callable[[Known], list[str]]] = {
    "scores": scores,
    "constants": constants,
    "residuals": residuals,
    "columns": columns,
    "rows": rows,
    "refusals": refusals,
}


def notes(kinds: Sequence[str], known: Known) -> tuple[str, ...]:
    """The lines of all kinds, each one line of printable text of at most 160 characters."""
    return tuple(_plain(line) for kind in kinds for line in CONTEXTS[kind](known))


def _plain(line: str) -> str:
    printable = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    return printable if len(printable) <= WIDEST else printable[: WIDEST - 3] + "..."


def some_rows(problem: Problem, count: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Training rows at equal distances: inputs (rows, columns) and target (rows,)."""
    train = problem.train
    chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), count)).astype(int))
    return train.inputs[chosen], train.target[chosen]


def _range(values: np.ndarray) -> str:
    return f"{values.min():.3g} to {values.max():.3g}, median {np.median(values):.3g}"


def equation_of(spec: Spec, version: Version) -> Expression | None:
    """The version's graph; None where its body calls others or cannot be read."""
    found = read_body(spec, version.body)
    return None if isinstance(found, Refusal) else found
