"""The evaluators of a training run, one per problem, made where and when they are first needed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from llmsr.evaluator import Evaluator
from llmsr.grpo.plan import Settled
from llmsr.grpo.run_record import load_run_problem

RESERVED_CORES = 2


class Evaluators:
    """Evaluators by problem, with the run's settings; thread-safe."""

    def __init__(self, run_dir: Path, settings: Settled, workers: int | None) -> None:
        self._run_dir = run_dir
        self._settings = settings
        cores = max(1, (os.cpu_count() or 1) - RESERVED_CORES)
        self._workers: int = workers or settings.workers or cores
        self._made: dict[str, Evaluator] = {}
        self._lock = threading.Lock()

    def __getitem__(self, problem: str) -> Evaluator:
        with self._lock:
            if problem not in self._made:
                self._made[problem] = Evaluator(
                    load_run_problem(self._run_dir, problem),
                    self._settings.fitter,
                    self._settings.fit_timeout,
                    self._workers,
                )
            return self._made[problem]

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            for evaluator in self._made.values():
                evaluator.close()
            self._made = {}
