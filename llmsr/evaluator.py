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
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmsr.completion.answer import MAX_TEXT
from llmsr.expression.graph import Expression
from llmsr.problem.loading import Problem
from llmsr.sample import Evaluation, finite_or_none
from llmsr.workers.base import WorkerFailure
from llmsr.workers.pool import WorkerPool, parse_workers

if TYPE_CHECKING:
    from llmsr.workers.ray_pool import RayPool

READ_SECONDS = 10.0  # reading is bounded by design; this is for what we did not foresee
GRACE_SECONDS = 5.0  # between a fit's own deadline and the worker's death
MEMORY_BYTES = 8 * 2**30
CACHED_FITS = 10_000
SHOWN_CHARACTERS = 2_000  # a longer body is shown to later prompts as our own regenerated source


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


@dataclass(frozen=True)
class _State:
    """What a worker holds for all its tasks."""

    problem: Problem
    fitter: str
    fit_timeout: float

    @property
    def as_written(self) -> bool:
        """Whether the spec's own evaluate does the fitting, as it stands."""
        return self.fitter == "reference" or not self.problem.spec.least_squares


def read(state: _State, completion: str, versions: Mapping[str, str]) -> Skeleton | Evaluation:
    """The skeleton that a completion holds, or the failure that it is."""
    from llmsr.completion.answer import NoBody, read_completion
    from llmsr.expression import Refusal
    from llmsr.expression.canonical import canonicalize
    from llmsr.expression.complexity import complexity
    from llmsr.expression.printing.source import to_numpy_body
    from llmsr.problem.bodies import read_as_meant

    spec = state.problem.spec
    found = read_completion(completion, spec.function_name)
    if isinstance(found, NoBody):
        return Evaluation(status=found.kind, reason=found.reason)
    own = (*spec.columns, spec.params_name)
    renamed = found.arguments is not None and len(found.arguments) == len(own)
    arguments = found.arguments if renamed else own
    expression, text, repairs = read_as_meant(spec, found.text, arguments, versions)
    if isinstance(expression, Refusal):
        return Evaluation(status=expression.kind, reason=expression.reason, line=expression.line, body=text)
    form = canonicalize(expression)
    if not form.expression.inputs:
        return Evaluation(status="constant", reason="the inputs cancel out", body=text, repaired=repairs)
    calls_versions = any(name in text for name in versions)
    plain = arguments == own and not calls_versions and len(text) <= SHOWN_CHARACTERS
    body = text if plain else to_numpy_body(expression, spec.params_name)
    size = complexity(expression)
    if state.as_written:
        # the spec's own optimiser sees the operations in the order that the author wrote
        order = tuple(range(spec.max_params))
        key = hashlib.sha256(repr(expression.nodes).encode()).hexdigest()
        return Skeleton(body, expression, order, form.hash, size, key, repairs)
    return Skeleton(body, form.expression, form.params, form.hash, size, form.hash, repairs)


def fit_skeleton(state: _State, skeleton: Skeleton) -> Evaluation:
    """The skeleton's fitted constants and its errors on every split."""
    from llmsr.expression.canonical import Canonical
    from llmsr.expression.printing.latex import to_latex
    from llmsr.expression.printing.line import to_text
    from llmsr.fitting import fit
    from llmsr.fitting.metrics import split_nmse, split_nmse_by_engine

    cpu = time.process_time()
    equation = skeleton.expression
    form = equation if state.as_written else Canonical(equation, equation.params)
    found = fit(form, state.problem, mode=state.fitter, deadline=state.fit_timeout)
    status, reason, score = found.status, found.reason, found.score
    if status == "ok" and score is None:
        if state.problem.spec.least_squares:
            score = -found.loss if found.loss is not None else None
        else:
            status = "timeout"
    ok = status == "ok"
    params = found.params if ok else None
    errors = split_nmse if found.engine == "callable" else split_nmse_by_engine
    return Evaluation(
        status=status,
        reason=reason,
        expression=to_text(skeleton.expression, params),
        latex=to_latex(skeleton.expression, params),
        params=params,
        score=score if ok else None,
        train_mse=finite_or_none(found.loss) if ok else None,
        nmse=errors(skeleton.expression, found.params, state.problem) if ok else {},
        fitter=found.mode,
        engine=found.engine,
        evaluations=found.evaluations,
        deadline_reached=found.deadline_reached,
        fit_seconds=found.seconds,
        cpu_seconds=time.process_time() - cpu,
    )


class Evaluator:
    """Evaluates completions of one problem in a pool of warm workers; thread-safe.

    `fitter` is a fit mode, `fit_timeout` the seconds that one fit may take, `workers` the number of
    processes (0: one per core) or "ray" for all CPUs of a Ray cluster. Nothing that a completion contains
    raises here or harms this process.
    """

    def __init__(
        self, problem: Problem, fitter: str = "best", fit_timeout: float = 10.0, workers: int | str = 0
    ) -> None:
        self.problem = problem
        self.fit_timeout = fit_timeout
        state = _State(problem, fitter, fit_timeout)
        self.pool = _start_pool(parse_workers(workers), state)
        self._fits: OrderedDict[str, Future[Evaluation | WorkerFailure] | Evaluation] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, problem: Problem, fitter: str = "best", fit_timeout: float = 10.0) -> None:
        """Go on with another problem in the same warm workers; nothing may be in flight."""
        self.problem = problem
        self.fit_timeout = fit_timeout
        self._fits.clear()
        self.pool.renew(_State(problem, fitter, fit_timeout))

    def evaluate(self, completion: str, versions: Mapping[str, str] | None = None) -> Evaluation:
        """The evaluation of one completion; waits for it. `versions`: name to body of what it may call."""
        return self.submit(completion, versions).result()

    def submit(self, completion: str, versions: Mapping[str, str] | None = None) -> Future[Evaluation]:
        """A future of the completion's evaluation."""
        result: Future[Evaluation] = Future()
        if len(completion) > MAX_TEXT:
            reason = f"the answer has {len(completion)} characters, more than {MAX_TEXT}"
            result.set_result(Evaluation(status="too_large", reason=reason))
            return result
        reading = self.pool.submit(read, completion, dict(versions or {}), deadline=READ_SECONDS)
        reading.add_done_callback(lambda done: _chain(done, result, lambda value: self._fit(value, result)))
        return result

    def close(self) -> None:
        """End all workers; what has no result yet is cancelled."""
        self.pool.close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _fit(self, skeleton: Skeleton | Evaluation | WorkerFailure, result: Future[Evaluation]) -> None:
        if isinstance(skeleton, WorkerFailure):
            result.set_result(Evaluation(status=skeleton.kind, reason=skeleton.reason))
            return
        if isinstance(skeleton, Evaluation):
            result.set_result(skeleton)
            return
        with self._lock:
            fitting = self._fits.get(skeleton.key)
            first = fitting is None
            if fitting is None:
                deadline = self.fit_timeout + GRACE_SECONDS
                fitting = self._fits[skeleton.key] = self.pool.submit(
                    fit_skeleton, skeleton, deadline=deadline
                )
                if len(self._fits) > CACHED_FITS:
                    self._fits.popitem(last=False)
            else:
                self._fits.move_to_end(skeleton.key)
        if isinstance(fitting, Evaluation):
            self._finish(skeleton, fitting, first, result)
            return
        fitting.add_done_callback(
            lambda done: _chain(done, result, lambda value: self._finish(skeleton, value, first, result))
        )

    def _finish(
        self,
        skeleton: Skeleton,
        fitted: Evaluation | WorkerFailure,
        first: bool,
        result: Future[Evaluation],
    ) -> None:
        if isinstance(fitted, WorkerFailure):
            with self._lock:  # a worker's death may be no fault of the skeleton's: the next one tries again
                if first:
                    self._fits.pop(skeleton.key, None)
            if fitted.kind == "crash" and not first:
                self._fit(skeleton, result)
                return
            fitted = Evaluation(status=fitted.kind, reason=fitted.reason)
        elif first:
            with self._lock:  # a future would keep alive all that waited for it
                if skeleton.key in self._fits:
                    self._fits[skeleton.key] = fitted
        params = fitted.params
        if params is not None:
            own = [1.0] * self.problem.spec.max_params
            for position, index in enumerate(skeleton.param_order):
                own[index] = params[position]
            params = tuple(own)
        evaluation = replace(
            fitted,
            body=skeleton.body,
            canonical=skeleton.canonical,
            complexity=skeleton.complexity,
            params=params,
            repaired=skeleton.repaired,
        )
        if not first:
            evaluation = replace(evaluation, evaluations=0, fit_seconds=0.0, cpu_seconds=0.0)
        result.set_result(evaluation)


def _start_pool(workers: int | str, state: _State) -> WorkerPool | RayPool:
    if workers == "ray":
        from llmsr.workers.ray_pool import RayPool

        return RayPool(None, _load, (state,), memory_bytes=MEMORY_BYTES)
    return WorkerPool(int(workers) or os.cpu_count() or 1, _load, (state,), memory_bytes=MEMORY_BYTES)


def _load(state: _State) -> _State:
    """Import and compile in the worker, before its first deadline runs, all that a task needs."""
    import llmsr.completion.answer
    import llmsr.expression.printing.latex
    import llmsr.fitting.metrics  # noqa: F401

    if state.as_written:
        from llmsr.fitting.reference import prepare

        prepare(state.problem.spec)
    else:
        from llmsr.fitting.search import warm_up

        warm_up()
    return state


def _chain(done: Future[Any], result: Future[Evaluation], then: Callable[[Any], None]) -> None:
    """Go on with a finished future's value; a cancelled one cancels the result, a raised one fails it."""
    if done.cancelled():
        result.cancel()
        return
    error = done.exception()
    if error is not None:
        result.set_result(Evaluation(status="error", reason=_one_line(str(error))))
        return
    try:
        then(done.result())
    except RuntimeError:  # the pool was closed between two steps
        result.cancel()


def _one_line(text: str) -> str:
    return " ".join(ascii(text).strip("'\"").split())[:300]
