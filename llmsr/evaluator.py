"""The one door: completion text in, `Evaluation` out, whichever mode asks.

The way of one completion, every step in a disposable worker process:

    text -> body -> expression -> canonical form -> fitted constants -> errors on every split

The parent keeps the fits by canonical form: equal equations are fitted once.

What is promised: a completion is hostile text of which nothing is executed; it cannot reach files, the
network, the target or other rows, and a hang or crash over it costs one sample. What is not: a spec's own
`evaluate` is the user's code and is trusted. `docs/security.md` has the whole of it.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from llmsr.completion import MAX_TEXT, NoBody, read_completion
from llmsr.config import parse_workers
from llmsr.errors import UserError
from llmsr.expression import Refusal
from llmsr.expression.canonical import Canonical, canonicalize
from llmsr.expression.graph import Expression
from llmsr.expression.printing import to_latex, to_numpy_body, to_text
from llmsr.fitting import fit, split_nmse, split_nmse_by_engine, warm_up
from llmsr.problem.holes import hole_spec, read_hole, read_whole
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_as_meant
from llmsr.sample import Evaluation, finite_or_none
from llmsr.workers.pool import Pool, ThisProcess, WorkerFailure, WorkerPool

READ_SECONDS = 10.0  # reading is bounded by design; this is for what we did not foresee
GRACE_SECONDS = 5.0  # between a fit's own deadline and the worker's death
MEMORY_BYTES = 8 * 2**30
CACHED_FITS = 10_000
SHOWN_CHARACTERS = 2_000  # a longer body is shown to later prompts as our own regenerated source


@dataclass(frozen=True)
class Duty:
    """What a worker holds for all its tasks."""

    problem: Problem
    fitter: str
    fit_timeout: float

    def __post_init__(self) -> None:
        asked = self.problem.spec.asked
        told = [*asked.roles, *(["loss"] if asked.loss not in ("", "mse") else [])]
        if self.fitter == "reference" and told:
            raise UserError(
                f"--fitter reference lets the spec's own evaluate fit, which knows no {told[0]}; "
                "choose best or bfgs"
            )

    @property
    def as_written(self) -> bool:
        """Whether the spec's own evaluate does the fitting, as it stands."""
        return self.fitter == "reference" or not self.problem.spec.least_squares


@dataclass(frozen=True)
class Skeleton:
    """A completion that was understood; `expression` is what will be fitted.

    `param_order[i]` is the index that the expression's parameter i has in `body`; `repaired` says what was
    read otherwise than written.
    """

    body: str
    expression: Expression
    param_order: tuple[int, ...]
    canonical: str
    complexity: int
    key: str
    repaired: tuple[str, ...] = ()


class Hole(NamedTuple):
    """A hole of a spec's template, and the body whose other holes stay as they are."""

    name: str
    body: str


Steps = Generator[Future[Any], Any, Evaluation]
"""The way of one completion: yields what it waits for, is sent what came of that."""


class Evaluator:
    """Evaluates completions of one problem in a pool of warm workers; thread-safe.

    `fitter` is a fit mode, `fit_timeout` the seconds that one fit may take, `workers` the number of
    processes (0: one per core) or "ray" for all CPUs of a Ray cluster. A `pool` takes the place of
    such workers. Nothing that a completion contains raises here or harms this process.
    """

    def __init__(
        self,
        problem: Problem,
        fitter: str = "best",
        fit_timeout: float = 10.0,
        workers: int | str = 0,
        pool: Pool | None = None,
    ) -> None:
        self.problem = problem
        self.fit_timeout = fit_timeout
        self.pool = pool or start_pool(parse_workers(workers), load, Duty(problem, fitter, fit_timeout))
        self._fits: OrderedDict[str, Future[Any] | Evaluation] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, problem: Problem, fitter: str = "best", fit_timeout: float = 10.0) -> None:
        """Go on with another problem in the same warm workers; nothing may be in flight."""
        self.problem = problem
        self.fit_timeout = fit_timeout
        self._fits.clear()
        self.pool.renew(Duty(problem, fitter, fit_timeout))

    def evaluate(self, completion: str, versions: Mapping[str, str] | None = None) -> Evaluation:
        """The evaluation of one completion; waits for it. `versions`: name to body of what it may call."""
        return self.submit(completion, versions).result()

    def submit(
        self, completion: str, versions: Mapping[str, str] | None = None, hole: Hole | None = None
    ) -> Future[Evaluation]:
        """A future of the evaluation of a completion, which fills a `hole` where one is given."""
        result: Future[Evaluation] = Future()
        _go_on(self._steps(completion, dict(versions or {}), hole), None, result)
        return result

    def run(self, task: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        """A future of `task(problem, *args)` in a worker, or of a `WorkerFailure`, see `Pool.submit`."""
        return self._ask(on_problem, task, *args, deadline=deadline)

    def close(self) -> None:
        """End all workers; what has no result yet is cancelled."""
        self.pool.close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(self, task: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        """A future of `task(duty, *args)` in a worker; workers of several problems are told which."""
        return self.pool.submit(task, *args, deadline=deadline)

    def _steps(self, completion: str, versions: Mapping[str, str], hole: Hole | None) -> Steps:
        if len(completion) > MAX_TEXT:
            reason = f"the answer has {len(completion)} characters, more than {MAX_TEXT}"
            return Evaluation(status="too_large", reason=reason)
        skeleton = yield self._ask(read, completion, versions, hole, deadline=READ_SECONDS)
        if isinstance(skeleton, WorkerFailure):
            return Evaluation(status=skeleton.kind, reason=skeleton.reason)
        if isinstance(skeleton, Evaluation):
            return skeleton
        while True:
            known, first = self._look_up(skeleton)
            fitted = (yield known) if isinstance(known, Future) else known
            # a future would keep alive all that waited for it
            self._note(skeleton, known, fitted)
            # a worker's death may be no fault of the skeleton's: who waited for another's fit tries again
            if first or not isinstance(fitted, WorkerFailure) or fitted.kind != "crash":
                break
        if isinstance(fitted, WorkerFailure):
            fitted = Evaluation(status=fitted.kind, reason=fitted.reason)
        if not first:
            fitted = replace(fitted, evaluations=0, fit_seconds=0.0, cpu_seconds=0.0)
        params = None
        if fitted.params is not None:
            own, one = [1.0] * len(fitted.params), self.problem.spec.max_params
            for start in range(0, len(own), one):  # the constants of a group
                for position, index in enumerate(skeleton.param_order):
                    own[start + index] = fitted.params[start + position]
            params = tuple(own)
        return replace(
            fitted,
            body=skeleton.body,
            canonical=skeleton.canonical,
            complexity=skeleton.complexity,
            params=params,
            repaired=skeleton.repaired,
        )

    def _look_up(self, skeleton: Skeleton) -> tuple[Future[Any] | Evaluation, bool]:
        """The skeleton's fit, done or under way, and whether it has only just been asked for."""
        with self._lock:
            known = self._fits.get(skeleton.key)
            if known is not None:
                self._fits.move_to_end(skeleton.key)
                return known, False
            deadline = self.fit_timeout + GRACE_SECONDS
            asked = self._fits[skeleton.key] = self._ask(fit_skeleton, skeleton, deadline=deadline)
            if len(self._fits) > CACHED_FITS:
                self._fits.popitem(last=False)
            return asked, True

    def _note(self, skeleton: Skeleton, known: Any, fitted: Evaluation | WorkerFailure) -> None:
        """Keep a fit that has come, forget one that has failed."""
        with self._lock:
            if self._fits.get(skeleton.key) is not known:
                return
            if isinstance(fitted, Evaluation):
                self._fits[skeleton.key] = fitted
            else:
                del self._fits[skeleton.key]


def _go_on(steps: Steps, value: Any, result: Future[Evaluation]) -> None:
    """Send `value` into the steps; when what they then wait for has come, go on with that."""

    def came(done: Future[Any]) -> None:
        if done.cancelled():  # the pool was closed
            result.cancel()
        elif (error := done.exception()) is not None:
            reason = " ".join(ascii(str(error)).strip("'\"").split())[:300]
            result.set_result(Evaluation(status="error", reason=reason))
        else:
            _go_on(steps, done.result(), result)

    try:
        waited = steps.send(value)
    except StopIteration as end:
        result.set_result(end.value)
    except RuntimeError:  # the pool was closed between two steps
        result.cancel()
    else:
        waited.add_done_callback(came)


def start_pool(workers: int | str, setup: Callable[..., Any], *args: Any) -> Pool:
    """Workers as `Evaluator` takes them, each of which makes its state by `setup(*args)`."""
    if workers == "ray":
        from llmsr.workers.ray_pool import RayPool

        return RayPool(None, setup, args, memory_bytes=MEMORY_BYTES)
    if os.name != "posix":
        return ThisProcess(1, setup, args)
    return WorkerPool(int(workers) or os.cpu_count() or 1, setup, args, memory_bytes=MEMORY_BYTES)


# ---- what a worker does


def read(
    state: Duty, completion: str, versions: Mapping[str, str], hole: Hole | None = None
) -> Skeleton | Evaluation:
    """The skeleton that a completion holds, or the failure that it is."""
    spec = state.problem.spec
    own = (*spec.columns, spec.params_name)
    arguments: Sequence[str] = own
    if spec.template and hole is None:
        expression, text, repairs = read_whole(spec, completion)
    else:
        asked = hole_spec(spec, hole.name) if hole else spec
        found = read_completion(completion, spec.function_name)
        if isinstance(found, NoBody):
            return Evaluation(status=found.kind, reason=found.reason)
        if found.arguments is not None and len(found.arguments) == len(asked.columns) + 1:
            arguments = found.arguments
        elif hole:
            arguments = (*asked.columns, spec.params_name)
        meant = read_as_meant(asked, found.text, arguments, versions)
        expression, text, repairs = read_hole(spec, meant, hole.body, hole.name) if hole else meant
    if isinstance(expression, Refusal):
        return Evaluation(status=expression.kind, reason=expression.reason, line=expression.line, body=text)
    form = canonicalize(expression)
    if not form.expression.inputs:
        return Evaluation(status="constant", reason="the inputs cancel out", body=text, repaired=repairs)
    if refused := state.problem.refused(expression):
        return Evaluation(status=refused[0], reason=refused[1], body=text, repaired=repairs)
    calls_versions = any(name in text for name in versions)
    plain = arguments == own and not calls_versions and len(text) <= SHOWN_CHARACTERS
    body = text if plain or spec.template else to_numpy_body(expression, spec.params_name)
    size = spec.form.size(expression)
    if state.as_written:
        # the spec's own optimiser sees the operations in the order that the author wrote
        order = tuple(range(spec.max_params))
        key = hashlib.sha256(repr(expression.nodes).encode()).hexdigest()
        return Skeleton(body, expression, order, form.hash, size, key, repairs)
    return Skeleton(body, form.expression, form.params, form.hash, size, form.hash, repairs)


def fit_skeleton(state: Duty, skeleton: Skeleton) -> Evaluation:
    """The skeleton's fitted constants and its errors on every split."""
    cpu, equation = time.process_time(), skeleton.expression
    form = equation if state.as_written else Canonical(equation, equation.params)
    found = fit(form, state.problem, mode=state.fitter, deadline=state.fit_timeout)
    status, reason, score = found.status, found.reason, found.score
    if status == "ok" and score is None:
        if state.problem.spec.least_squares:
            score = -found.loss if found.loss is not None else None
        else:
            status = "timeout"
    shown = found.params if status == "ok" and not state.problem.groups else None
    cost = Evaluation(
        status=status,
        reason=reason,
        expression=to_text(equation, shown),
        latex=to_latex(equation, shown),
        fitter=found.mode,
        engine=found.engine,
        evaluations=found.evaluations,
        deadline_reached=found.deadline_reached,
        fit_seconds=found.seconds,
    )
    if status == "ok" and (fault := state.problem.misshapen(equation, found.params)):
        cost = replace(cost, status="form", reason=fault)
    elif status == "ok":
        errors = split_nmse if found.engine == "callable" else split_nmse_by_engine
        nmse = errors(equation, found.params, state.problem)
        mse = finite_or_none(found.loss)
        cost = replace(cost, params=found.params, score=score, train_mse=mse, nmse=nmse)
        dimensions = state.problem.dimensions
        if dimensions and (fault := dimensions.fault(equation)) and score is not None:
            # as much worse as a constant: below every consistent equation that says something
            cost = replace(cost, reason=fault, score=score - float(np.var(state.problem.train.target)))
    return replace(cost, cpu_seconds=time.process_time() - cpu)


def on_problem(state: Duty, task: Callable[..., Any], *args: Any) -> Any:
    return task(state.problem, *args)


def load(state: Duty) -> Duty:
    """Compile in the worker, before its first deadline runs, what a task needs."""
    if not state.as_written:
        warm_up()
    elif state.problem.spec.dialect == "torch":
        from llmsr.fitting.reference import load_torch

        load_torch()
    return state
