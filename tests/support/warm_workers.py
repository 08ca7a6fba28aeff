"""Worker processes that outlive their pool, since one takes longer to start than most tests take.

They are processes as `WorkerPool` starts them, with the same limits, deadlines and environment. A pool that
is closed hands back those that are idle and in order, and the next pool takes them over with a new state.
"""

from __future__ import annotations

import threading
from typing import Any

from llmsr.workers.pool import Task, Worker, WorkerFailure, WorkerPool


class Warm:
    """Idle worker processes, `most` of them at most, and pools that use them before they start others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: list[Worker] = []
        self._lock = threading.Lock()

    def pool(self, *args: Any, **options: Any) -> WorkerPool:
        return _Pool(self, *args, **options)

    def taken(self, start: Any) -> Worker:
        """An idle worker that is alive, else a new one."""
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:  # type: ignore[attr-defined]
                    return worker
                worker.end()
        return start()

    def handed_back(self, worker: Worker) -> bool:
        """Whether there was room for it."""
        with self._lock:
            if len(self._idle) < self.most:
                self._idle.append(worker)
                return True
        return False

    def release(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop().end()


class _Pool(WorkerPool):
    def __init__(self, warm: Warm, *args: Any, **options: Any) -> None:
        self._warm = warm
        super().__init__(*args, **options)

    def _new_worker(self) -> Worker:
        return _Lent(self._warm, self._warm.taken(super()._new_worker))


class _Lent(Worker):
    """A worker of one pool, whose process may be another's before and after."""

    def __init__(self, warm: Warm, worker: Worker) -> None:
        self._warm, self._worker = warm, worker
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
        if self._busy or self._lost or not self._warm.handed_back(self._worker):
            self._worker.end()
