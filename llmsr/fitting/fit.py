"""The fit of one expression to a problem's train split, in one of three modes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from llmsr.expression.canonical import Canonical, canonicalize
from llmsr.expression.graph import Expression, Graph, evaluate
from llmsr.expression.reader import Refusal
from llmsr.fitting.result import Fit
from llmsr.problem.loading import Problem, Split
from llmsr.problem.spec import read_body

if TYPE_CHECKING:
    from llmsr.fitting.dataset import Dataset

MODES = ("best", "bfgs", "reference")
_ROWS_AT_ONCE = 65536


def fit(
    equation: Expression | Canonical, problem: Problem, mode: str = "best", deadline: float = 10.0
) -> Fit:
    """The constants of `equation` that fit the train split of `problem`, within `deadline` seconds.

    A `Canonical` is taken as it is, parameters in its own numbering; an expression is brought into that form
    first.
    "best" and "bfgs" need a spec whose `evaluate` is the standard least-squares form; for any other spec
    "reference" is used, and the result says so. Equal canonical forms get equal results. Raises ValueError
    for an unknown mode; everything that the data or the expression can do to a fit is told by its status.
    """
    if mode not in MODES:
        raise ValueError(f"unknown fit mode {mode!r}; choose one of {', '.join(MODES)}")
    expression = equation.expression if isinstance(equation, Canonical) else equation
    if mode == "reference" or not problem.spec.least_squares:
        from llmsr.fitting.reference import fit_reference

        return fit_reference(expression, problem, deadline)
    from llmsr.fitting.dataset import dataset_of
    from llmsr.fitting.multistart import Search, search_best

    engine = warm_up()
    began, cpu_began, limit = time.perf_counter(), time.thread_time(), time.monotonic() + deadline
    form = canonicalize(expression) if equation is expression else Canonical(expression, expression.params)
    data = dataset_of(problem.splits["train"])
    with np.errstate(all="ignore"):
        search = Search(form.expression, data, limit)
        if mode == "best":
            search_best(search)
        else:
            search.bfgs()
    chosen = search.choose()
    params = np.ones(max(problem.spec.max_params, max(expression.params, default=-1) + 1))
    loss = np.nan
    if chosen is not None:
        params[[form.params[p] for p in search.tape.params]] = chosen.theta
        loss = chosen.squares / data.full.rows
        # an overflow on the way can part two forms of one equation: then the text as written decides
        same = form.expression.nodes == expression.nodes
        if not same and not _same_values(expression, params, form.expression, chosen.theta, data):
            loss = plain_loss(expression, params, data)
    late = search.full.was_late
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
        engine=engine,
    )


@lru_cache(maxsize=1)
def warm_up() -> str:
    """Compiles the engine, or loads it from its on-disk cache, by a fit of nothing; returns its name.

    Seconds on a machine that never ran it, a fraction of a second afterwards. Call it once per worker, so
    that no fit's deadline pays for it.
    """
    from llmsr.expression.engine import chosen as engine
    from llmsr.fitting.dataset import lay_out
    from llmsr.fitting.multistart import Search, search_best

    graph = Graph()
    x = graph.column(0)
    inner = graph.add("add", graph.add("mul", graph.param(1), x), graph.param(2))
    root = graph.add("mul", graph.param(0), graph.add("exp", inner))
    columns = np.linspace(-1.0, 1.0, 300)[None, :]
    data = lay_out(Split(columns.T.copy(), np.abs(columns[0])))
    with engine.first_use(), np.errstate(all="ignore"):
        search_best(Search(graph.expression(root, ("x",)), data, np.inf))
    return engine.NAME


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


def fit_many(
    problem: Problem, bodies: Sequence[str], mode: str = "best", deadline: float = 10.0
) -> list[Fit | Refusal]:
    """The fit, or the refusal, of every body text, in order; equal canonical forms are fitted once.

    Parameters are in each author's numbering.
    """
    results: list[Fit | Refusal] = []
    known: dict[str, Fit] = {}
    for body in bodies:
        expression = read_body(problem.spec, body)
        if isinstance(expression, Refusal):
            results.append(expression)
            continue
        if mode == "reference" or not problem.spec.least_squares:
            # the spec's own optimiser sees the operations in the order that the author wrote
            results.append(fit(expression, problem, mode, deadline))
            continue
        form = canonicalize(expression)
        found = known.get(form.hash)
        if found is None:
            found = known[form.hash] = fit(form, problem, mode, deadline)
        params = np.ones(problem.spec.max_params)
        params[list(form.params)] = found.params[: len(form.params)]
        results.append(replace(found, params=tuple(params.tolist())))
    return results
