"""The fit of one expression to a problem's train split: a registry of modes over one tape."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmsr.expression.graph import Expression, evaluate
from llmsr.fitting.result import Fit
from llmsr.problem.loading import Problem

if TYPE_CHECKING:
    from llmsr.fitting.dataset import Dataset

_ROWS_AT_ONCE = 65536


def _searches() -> dict[str, Callable]:
    from llmsr.fitting.search import search_best, search_bfgs

    return {"best": search_best, "bfgs": search_bfgs}


MODES = ("best", "bfgs", "reference")


def fit(expression: Expression, problem: Problem, mode: str = "best", deadline: float = 10.0) -> Fit:
    """The constants of `expression` that fit the train split of `problem`, within `deadline` seconds.

    "best" and "bfgs" need a spec whose `evaluate` is the standard least-squares form; for any other spec
    "reference" is used, and the result says so. Equal canonical forms get equal results. Raises ValueError
    for an unknown mode; everything that the data or the expression can do to a fit is told by its status.
    """
    if mode not in MODES:
        raise ValueError(f"unknown fit mode {mode!r}; choose one of {', '.join(MODES)}")
    if mode == "reference" or not problem.spec.least_squares:
        from llmsr.fitting.reference import fit_reference

        return fit_reference(expression, problem, deadline)
    from llmsr.expression.canonical import canonicalize
    from llmsr.expression.engines import chosen as engine
    from llmsr.fitting.dataset import dataset_of
    from llmsr.fitting.search import Search, warm_up

    warm_up()
    began, cpu_began, limit = time.perf_counter(), time.thread_time(), time.monotonic() + deadline
    form = canonicalize(expression)
    data = dataset_of(problem.splits["train"])
    with np.errstate(all="ignore"):
        search = Search(form.expression, data, limit)
        _searches()[mode](search)
    chosen = search.choose()
    params = np.ones(max(problem.spec.max_params, max(expression.params, default=-1) + 1))
    loss = np.nan
    if chosen is not None:
        params[[form.params[p] for p in search.tape.params]] = chosen.theta
        loss = chosen.squares / data.full.rows
        # an overflow on the way can part two forms of one equation: then the text as written decides
        if not _same_values(expression, params, form.expression, chosen.theta, data):
            loss = plain_loss(expression, params, data)
    late = bool(search.full.counters[1])
    status, reason = "ok", ""
    if not np.isfinite(loss):
        status, reason = "nonfinite", "the equation is not finite on every train row for any parameters tried"
        if chosen is None and late:
            status, reason = "timeout", f"nothing was evaluated within {deadline:g} s"
    return Fit(
        status=status,
        reason=reason,
        mode=mode,
        params=tuple(params.tolist()),
        loss=float(loss) if status == "ok" else None,
        evaluations=search.evaluations,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.thread_time() - cpu_began,
        deadline_reached=late,
        engine=engine.NAME,
    )


def _same_values(
    expression: Expression, params: np.ndarray, form: Expression, form_params: np.ndarray, data: Dataset
) -> bool:
    """Whether the expression as written gives the canonical form's numbers on a sample of rows."""
    rows = data.sample.columns.T
    with np.errstate(all="ignore"):
        ours, theirs = evaluate(form, rows, form_params), evaluate(expression, rows, params)
        size = np.abs(theirs).max() + np.sqrt(data.power / data.full.rows)
        return bool(np.abs(ours - theirs).max() <= 1e-6 * size)


def plain_loss(expression: Expression, params: np.ndarray, data: Dataset) -> float:
    """The mean squared error on all rows by plain numpy, in bounded memory."""
    view, total = data.full, 0.0
    for start in range(0, view.rows, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        with np.errstate(all="ignore"):
            residual = evaluate(expression, view.columns[:, rows].T, params) - view.target[rows]
            total += float(residual @ residual)
    return total / view.rows


def fit_many(problem: Problem, bodies: Sequence[str], mode: str = "best", deadline: float = 10.0) -> list:
    """The fit, or the refusal, of every body text, in order."""
    from llmsr.expression import Refusal, parse

    spec = problem.spec
    results: list = []
    for body in bodies:
        parsed = parse(
            body,
            spec.columns,
            params_name=spec.params_name,
            max_params=spec.max_params,
            constants=spec.constants,
        )
        if isinstance(parsed, Refusal):
            results.append(parsed)
            continue
        results.append(fit(parsed, problem, mode, deadline))
    return results
