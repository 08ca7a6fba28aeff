"""Worker processes that outlive their pool, since one takes longer to start than most tests take.

They are processes as `WorkerPool` starts them, with the same limits and deadlines. A pool that is closed
hands back those that are idle and in order, and the next pool takes them over with a new state, if they were
started in the environment that it has.
"""

from __future__ import annotations

import threading
from typing import Any

from llmsr.workers.pool import Task, Worker, WorkerFailure, WorkerPool, single_thread_environment

Environment = dict[str, str]


def environment() -> Environment:
    """What a worker process that is started here would find, but for the name of the test."""
    return {name: value for name, value in single_thread_environment().items() if "PYTEST" not in name}


class Warm:
    """Idle worker processes, `most` of them at most, and pools that use them before they start others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: list[tuple[Environment, Worker]] = []
        self._lock = threading.Lock()

    def pool(self, *args: Any, **options: Any) -> WorkerPool:
        return _Pool(self, *args, **options)

    def taken(self, asked: Environment, start: Any) -> Worker:
        """An idle worker of that environment that is alive, else a new one."""
        with self._lock:
            for entry in [entry for entry in self._idle if entry[0] == asked]:
                self._idle.remove(entry)
                worker = entry[1]
                if worker.process.poll() is None:  # type: ignore[attr-defined]
                    return worker
                worker.end()
        return start()

    def handed_back(self, known: Environment, worker: Worker) -> bool:
        """Whether there was room for it; another one of another environment makes room."""
        with self._lock:
            if len(self._idle) >= self.most and self._idle and self._idle[0][0] != known:
                self._idle.pop(0)[1].end()
            if len(self._idle) < self.most:
                self._idle.append((known, worker))
                return True
        return False

    def release(self) -> None:
        """End all idle workers."""
        with self._lock:
            while self._idle:
                self._idle.pop()[1].end()


class _Pool(WorkerPool):
    def __init__(self, warm: Warm, *args: Any, **options: Any) -> None:
        self._warm = warm
        super().__init__(*args, **options)

    def _new_worker(self) -> Worker:
        known = environment()
        return _Lent(self._warm, known, self._warm.taken(known, super()._new_worker))


class _Lent(Worker):
    """A worker of one pool, whose process may be another's before and after."""

    def __init__(self, warm: Warm, known: Environment, worker: Worker) -> None:
        self._warm, self._known, self._worker = warm, known, worker
        self._busy = self._lost = self._ended = False
        self._lock = threading.Lock()

    def _make(self, setup: Any) -> Any:
        return self._exchanged(self._worker._make, setup)

    def is_alive(self, task: Task) -> bool:
        return self._worker.is_alive(task)

    def run(self, task: Task) -> Any:
        return self._exchanged(self._worker.run, task)

    def _exchanged(self, exchange: Any, message: Any) -> Any:
        with self._lock:
            if self._ended:
                return WorkerFailure("lost", "the pool is closed")
            self._busy = True
        answer = exchange(message)
        failed = isinstance(answer, WorkerFailure) and answer.kind != "raised"
        with self._lock:
            self._busy, self._lost = False, self._lost or failed
        return answer

    def kill(self) -> None:
        with self._lock:
            self._ended = True
            if self._busy or self._lost:
                self._worker.kill()

    def end(self) -> None:
        self.kill()
        if self._busy or self._lost or not self._warm.handed_back(self._known, self._worker):
            self._worker.end()
