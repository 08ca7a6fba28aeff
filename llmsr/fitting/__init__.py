"""Fitting: the constants of an expression from data, in one of three modes, and how well it predicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from llmsr.expression.canonical import Canonical, canonicalize
from llmsr.expression.engine.tape import Derivatives, compile_tape
from llmsr.expression.graph import Expression, Graph, Node, evaluate
from llmsr.expression.reader import Refusal
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import Split

if TYPE_CHECKING:
    from llmsr.fitting.reference import Watch
    from llmsr.fitting.residuals import Dataset


@dataclass(frozen=True)
class Fit:
    """The outcome of fitting one expression to a problem's train split.

    status: "ok"; "nonfinite" (no parameters were found for which every train row is finite); "timeout" (the
    deadline came before anything was evaluated); "error" (the spec's own `evaluate` failed, see `reason`).
    mode: the mode that was really used. params: one number per parameter of the spec, 1.0 where unused.
    loss: mean squared error on train in the target's units, None without one. evaluations: passes over the
    rows of train, passes over a subset counted by its share (rounded up). seconds: wall time; cpu_seconds:
    time of this thread's CPU. engine: what evaluated the tape ("numba", "numpy") or "callable" for the
    reference mode. score: what the spec's own `evaluate` returned, reference mode only.
    """

    status: str
    reason: str
    mode: str
    params: tuple[float, ...]
    loss: float | None
    evaluations: int
    seconds: float
    cpu_seconds: float
    deadline_reached: bool
    engine: str
    score: float | None = None


MODES = ("best", "bfgs", "reference")
_ROWS_AT_ONCE = 65536
GROUP_STARTS = 3  # groups whose constants another one begins from too


def fit(
    equation: Expression | Canonical,
    problem: Problem,
    mode: str = "best",
    deadline: float = 10.0,
    starts: Sequence[Sequence[float]] = (),
) -> Fit:
    """The constants of `equation` with the least mean loss on train, found within `deadline` seconds.

    A `Canonical` is taken as it is, parameters in its own numbering; an expression is brought into that form
    first. Of a problem with groups every group has `max_params` constants of its own, one group's behind
    another's; the loss is that of all rows. `starts` are constants from which one more descent begins each.
    "best" and "bfgs" need a spec whose `evaluate` is the standard least-squares form; for any other spec
    "reference" is used, and the result says so. Equal canonical forms get equal results. Raises ValueError
    for an unknown mode; everything that the data or the expression can do to a fit is told by its status.
    """
    if mode not in MODES:
        raise ValueError(f"unknown fit mode {mode!r}; choose one of {', '.join(MODES)}")
    expression = equation.expression if isinstance(equation, Canonical) else equation
    if problem.groups:
        return _fit_groups(equation, problem, mode, deadline)
    if mode == "reference" or not problem.spec.least_squares:
        return fit_reference(expression, problem, deadline)
    from llmsr.fitting.multistart import Search, search_best
    from llmsr.fitting.residuals import dataset_of

    engine = warm_up()
    began, cpu_began, limit = time.perf_counter(), time.thread_time(), time.monotonic() + deadline
    form = canonicalize(expression) if equation is expression else Canonical(expression, expression.params)
    train = problem.train
    data = dataset_of(train)
    with np.errstate(all="ignore"):
        search = Search(form.expression, data, limit)
        if mode == "best":
            search_best(search)
        else:
            search.bfgs()
        for theta in starts:
            search.polish(np.asarray([theta[form.params[p]] for p in search.tape.params]), 40)
        chosen = search.choose() if train.loss.squares else search.reweighted(train)
    params = np.ones(max(problem.spec.max_params, max(expression.params, default=-1) + 1))
    loss = np.nan
    if chosen is not None:
        params[[form.params[p] for p in search.tape.params]] = chosen.theta
        loss = chosen.squares / data.full.rows if train.loss.squares else chosen.squares
        # an overflow on the way can part two forms of one equation: then the text as written decides
        same = form.expression.nodes == expression.nodes
        if not same and not _same_values(expression, params, form.expression, chosen.theta, data):
            loss = plain_loss(expression, params, train)
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


def _fit_groups(equation: Expression | Canonical, problem: Problem, mode: str, deadline: float) -> Fit:
    """The fits of all groups as one; the first that fails, with its group's name, where one does."""
    found: list[Fit] = []
    for name, own in zip(problem.groups, problem.by_group, strict=True):
        # what explained the groups before may be where this one's descents do not come from
        starts = [known.params for known in found[-GROUP_STARTS:]]
        fitted = fit(equation, own, mode, deadline / len(problem.groups), starts)
        if fitted.loss is None:
            return replace(fitted, reason=f"in group {name}: {fitted.reason}")
        found.append(fitted)
    params = np.concatenate([fitted.params[: problem.spec.max_params] for fitted in found])
    expression = equation.expression if isinstance(equation, Canonical) else equation
    loss = problem.train.mean_loss(predict(expression, params.tolist(), problem.train))
    return replace(
        found[0],
        params=tuple(params.tolist()),
        loss=loss,
        deadline_reached=any(fitted.deadline_reached for fitted in found),
        **{name: sum(getattr(fitted, name) for fitted in found)
           for name in ("evaluations", "seconds", "cpu_seconds")},
    )  # fmt: skip


def fit_reference(expression: Expression, problem: Problem, deadline: float = 10.0) -> Fit:
    """The fit that the spec's own `evaluate` finds on the train split; `score` is what it returned.

    `params` are the result of its call of scipy's `minimize` (of several, the one whose minimum is minus the
    score, else the last), or else those of the call of the equation on all rows with the least squared error,
    or else (it trains on batches) of the last call; 1 where the equation does not use them. `loss` is the
    mean squared error on train there: exactly minus the score where `evaluate` is plain least squares.

    The deadline, in seconds, is checked at every call of the equation: past it the best parameters so far are
    returned with `deadline_reached`, a reason and no score, or status "timeout" where there are none. Code
    that does not call the equation is not interrupted. `evaluations` counts calls of the equation.
    """
    from llmsr.fitting.reference import Watch, load_torch

    began, cpu_began = time.perf_counter(), time.thread_time()
    spec = problem.spec
    if spec.dialect == "torch":
        load_torch()
    watch = Watch(expression, problem)
    score, failure = watch.run(deadline, in_torch=spec.dialect == "torch")
    if failure and watch.calls <= 1 and spec.dialect == "torch":
        # the spec may make its tensors itself, in a way that takes arrays alone
        second = Watch(expression, problem)
        score, other_failure = second.run(deadline, in_torch=False)
        if not other_failure:
            watch, failure = second, ""
    status, reason, params, loss = _outcome(watch, score, failure, deadline)
    padded = np.ones(spec.max_params)
    if len(params):
        padded[watch.used] = params[watch.used]
    return Fit(
        status=status,
        reason=reason,
        mode="reference",
        params=tuple(padded.tolist()),
        loss=loss,
        evaluations=watch.calls,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.thread_time() - cpu_began,
        deadline_reached=watch.late,
        engine="callable",
        score=score if status == "ok" else None,
    )


def _outcome(
    watch: Watch, score: float | None, failure: str, deadline: float
) -> tuple[str, str, np.ndarray, float | None]:
    """Status, reason, parameters and loss of a run that returned this score or failed."""
    spec, none = watch.problem.spec, np.empty(0)
    if failure:
        return "error", failure, none, None
    if score is None and not watch.late:
        return "nonfinite", f"{spec.evaluate_name} found no finite score", none, None
    params, late = watch.params(score), ""
    if watch.late:
        late = f"{spec.evaluate_name} did not end within {deadline:g} s; --fit_timeout gives it longer"
    if not len(params) and late:
        return "timeout", late, none, None
    if not len(params):
        return "error", f"{spec.evaluate_name} never called {spec.function_name}", none, None
    loss = watch.loss(params) if score is None or spec.own_search else -score
    if not np.isfinite(loss):
        return "nonfinite", "the equation is not finite on every train row", params, None
    return "ok", late, params, loss


@lru_cache(maxsize=1)
def warm_up() -> str:
    """Compiles the engine, or loads it from its on-disk cache, by a fit of nothing; returns its name.

    Seconds on a machine that never ran it, a fraction of a second afterwards. Call it once per worker, so
    that no fit's deadline pays for it.
    """
    from llmsr.expression import engine
    from llmsr.fitting.multistart import Search, search_best
    from llmsr.fitting.residuals import lay_out

    graph = Graph()
    x = graph.column(0)
    inner = graph.add("add", graph.add("mul", graph.param(1), x), graph.param(2))
    root = graph.add("mul", graph.param(0), graph.add("exp", inner))
    columns = np.linspace(-1.0, 1.0, 300)[None, :]
    data = lay_out(Split(columns.T.copy(), np.abs(columns[0])))
    with engine.first_use(), np.errstate(all="ignore"):
        search_best(Search(graph.expression(root, ("x",)), data, np.inf))
    return str(engine.NAME)


def _same_values(
    expression: Expression, params: np.ndarray, form: Expression, form_params: np.ndarray, data: Dataset
) -> bool:
    """Whether the expression as written gives the canonical form's numbers on a sample of rows."""
    rows = data.sample.columns.T
    with np.errstate(all="ignore"):
        ours, theirs = evaluate(form, rows, form_params), evaluate(expression, rows, params)
        size = np.abs(theirs).max() + np.sqrt(data.power / data.full.rows)
        return bool(np.abs(ours - theirs).max() <= 1e-6 * size)


def plain_loss(expression: Expression, params: np.ndarray, train: Split) -> float:
    """The mean loss on all rows by plain numpy."""
    predicted = np.concatenate(
        [
            evaluate(expression, train.inputs[start : start + _ROWS_AT_ONCE], params)
            for start in range(0, len(train), _ROWS_AT_ONCE)
        ]
    )
    return train.mean_loss(predicted)


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


# ---- errors


def predict(expression: Expression, params: Sequence[float], split: Split) -> np.ndarray:
    """The prediction for every row of a split, shape (rows,); not finite where the equation is not."""
    theta = np.asarray(params, dtype=np.float64)
    if split.group is not None and theta.size:
        theta = theta.reshape(len(split.groups), -1).T[:, split.group]  # a row's constants are its group's
    return evaluate(expression, split.with_group, theta)


def split_nmse(expression: Expression, params: Sequence[float], problem: Problem) -> dict[str, float | None]:
    """The NMSE of every split of the problem; None where a prediction, or the NMSE itself, is not finite."""
    values = {}
    for name, split in problem.splits.items():
        value = split.nmse(predict(expression, params, split))
        values[name] = value if np.isfinite(value) else None
    return values


def split_nmse_by_engine(
    expression: Expression, params: Sequence[float], problem: Problem
) -> dict[str, float | None]:
    """As `split_nmse`, to rounding, by the engine that fits: several times cheaper."""
    if problem.groups or not problem.train.loss.squares:
        return split_nmse(expression, params, problem)
    from llmsr.expression import engine
    from llmsr.fitting.residuals import dataset_of

    nodes = tuple(
        Node("const", (), float(params[int(n.value)])) if n.op == "param" else n  # type: ignore[arg-type]
        for n in dataset_of(problem.train).rooted(expression).nodes
    )
    tape = compile_tape(Derivatives(nodes, len(nodes) - 1, (), ()), max_features=0)
    values: dict[str, float | None] = {}
    squares, nothing = np.empty((1, 1)), np.empty(0)
    for name, split in problem.splits.items():
        data = dataset_of(split)
        program = engine.bind(tape, tape.features(data.full.columns), data.full.target)
        engine.gram(program.handle, nothing, squares)
        with np.errstate(all="ignore"):
            value = squares[0, 0] / len(split) / data.variance
        values[name] = float(value) if np.isfinite(value) else None
    return values


def within_tolerance(prediction: np.ndarray, target: np.ndarray, tau: float) -> np.ndarray:
    """Which rows have abs(prediction - target) <= tau * abs(target), shape (rows,), bool.

    Acc_tau is their share, or whether they are all. A prediction that is not finite counts as wrong; a target
    of 0 asks for exactly 0.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        # a comparison with nan is False
        return np.asarray(np.abs(prediction - target) <= tau * np.abs(target))
