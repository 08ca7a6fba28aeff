"""The workers that fit for a training run: one pool for all its problems."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from llmsr.evaluator import Duty, Evaluator, load, start_pool
from llmsr.grpo.plan import Settled
from llmsr.grpo.run_record import RunRecord, load_run_problem
from llmsr.problem.loading import Problem
from llmsr.problem.units import with_units
from llmsr.workers.pool import Pool

RESERVED_CORES = 2  # for the trainer beside the workers that fit
KEPT_PROBLEMS = 64  # in a worker, so that a run over many takes no more memory than one over these


class Evaluators:
    """An evaluator for each problem of a run, made when it is first asked for; thread-safe.

    They share `workers` processes that fit, by default as many as the run's settings say.
    """

    def __init__(self, run_dir: str | Path, workers: int | None = None) -> None:
        self._run_dir = Path(run_dir).resolve()
        self._settings = RunRecord.read(self._run_dir).settings
        cores = max(1, (os.cpu_count() or 1) - RESERVED_CORES)
        self._workers = workers or self._settings.workers or cores
        self._pool: Pool | None = None
        self._made: dict[str, Evaluator] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Evaluator:
        """The evaluator of the problem of that name, as it was when the run began."""
        with self._lock:
            if name not in self._made:
                problem = _problem(self._run_dir, name, self._settings)
                if self._pool is None:
                    self._pool = start_pool(self._workers, Duties, self._run_dir)
                timeout = self._settings.fit_timeout
                self._made[name] = _OfMany(problem, self._settings.fitter, timeout, pool=self._pool)
            return self._made[name]

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool, self._made = None, {}


class _OfMany(Evaluator):
    """The evaluator of one problem, whose workers are asked about others too."""

    def _ask(self, task: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        return self.pool.submit(on_problem_of_run, self.problem.name, task, *args, deadline=deadline)

    def close(self) -> None:
        """Nothing: the workers are the run's."""


class Duties:
    """What a worker holds: the problems of the run that it was asked about last."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        record = RunRecord.read(run_dir)
        self._settings = record.settings
        self._kept: OrderedDict[str, Duty] = OrderedDict()
        for name in record.problems[:KEPT_PROBLEMS]:
            self.of(name)

    def of(self, name: str) -> Duty:
        """The duty of one problem of the run."""
        if name not in self._kept:
            problem = _problem(self._run_dir, name, self._settings)
            self._kept[name] = load(Duty(problem, self._settings.fitter, self._settings.fit_timeout))
            if len(self._kept) > KEPT_PROBLEMS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]


def on_problem_of_run(duties: Duties, name: str, task: Callable[..., Any], *args: Any) -> Any:
    """`task(duty, *args)` for one problem of the run."""
    return task(duties.of(name), *args)


def _problem(run_dir: Path, name: str, settings: Settled) -> Problem:
    """The problem as it was when the run began, held to its units as the run asks."""
    return with_units(load_run_problem(run_dir, name), settings.units)
