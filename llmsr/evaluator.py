"""The one door: completion text in, `Evaluation` out, whichever mode asks.

The way of one completion, every step in a disposable worker process:

    text -> body -> expression -> canonical form -> fitted constants -> errors on every split

The parent keeps the fits by canonical form: equal equations are fitted once.

What is promised: a completion is hostile text of which nothing is executed; it cannot reach files, the
network, the target or other rows, and a hang or crash over it costs one sample. What is not: a spec's own
`evaluate` is the user's code and is trusted. `docs/security.md` has the whole of it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from llmsr.completion import MAX_TEXT
from llmsr.config import parse_workers
from llmsr.evaluator_tasks import Duty, Skeleton, fit_skeleton, load, on_problem, read
from llmsr.problem.loading import Problem
from llmsr.sample import Evaluation
from llmsr.workers.base import Pool, ThisProcess, WorkerFailure
from llmsr.workers.pool import WorkerPool

READ_SECONDS = 10.0  # reading is bounded by design; this is for what we did not foresee
GRACE_SECONDS = 5.0  # between a fit's own deadline and the worker's death
MEMORY_BYTES = 8 * 2**30
CACHED_FITS = 10_000

Steps = Generator[Future[Any], Any, Evaluation]
"""The way of one completion: yields what it waits for, is sent what came of that."""


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
        self.pool = _start_pool(parse_workers(workers), Duty(problem, fitter, fit_timeout))
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

    def submit(self, completion: str, versions: Mapping[str, str] | None = None) -> Future[Evaluation]:
        """A future of the completion's evaluation."""
        result: Future[Evaluation] = Future()
        _go_on(self._steps(completion, dict(versions or {})), None, result)
        return result

    def run(self, task: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        """A future of `task(problem, *args)` in a worker, or of a `WorkerFailure`, see `Pool.submit`."""
        return self.pool.submit(on_problem, task, *args, deadline=deadline)

    def close(self) -> None:
        """End all workers; what has no result yet is cancelled."""
        self.pool.close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _steps(self, completion: str, versions: Mapping[str, str]) -> Steps:
        if len(completion) > MAX_TEXT:
            reason = f"the answer has {len(completion)} characters, more than {MAX_TEXT}"
            return Evaluation(status="too_large", reason=reason)
        skeleton = yield self.pool.submit(read, completion, versions, deadline=READ_SECONDS)
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
            own = [1.0] * self.problem.spec.max_params
            for position, index in enumerate(skeleton.param_order):
                own[index] = fitted.params[position]
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
            asked = self._fits[skeleton.key] = self.pool.submit(fit_skeleton, skeleton, deadline=deadline)
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


def _start_pool(workers: int | str, state: Duty) -> Pool:
    if workers == "ray":
        from llmsr.workers.ray_pool import RayPool

        return RayPool(None, load, (state,), memory_bytes=MEMORY_BYTES)
    if os.name != "posix":
        return ThisProcess(1, load, (state,))
    return WorkerPool(int(workers) or os.cpu_count() or 1, load, (state,), memory_bytes=MEMORY_BYTES)
