"""What pools of workers share: tasks in a queue, their outcomes, and how a worker makes its state."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Self

from llmsr.workers.process import Raised

START_SECONDS = 120.0  # importing numpy and scipy on a busy machine
END_SECONDS = 10.0  # for a worker to end what it has started


@dataclass(frozen=True)
class WorkerFailure:
    """Why a task has no result: kind is `timeout` (killed at its deadline) or `crash` (the process died)."""

    kind: str
    reason: str


class TaskError(Exception):
    """A task raised in its worker: a fault of this program, with the original's type and text."""


@dataclass(frozen=True)
class Setup:
    """How a worker makes its state; `memory` limits its process in bytes from then on."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    memory: int | None


@dataclass
class Task:
    """A call that somebody waits for; `lost` counts the workers that died with it."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    deadline: float
    future: Future[Any]
    lost: int = 0
    running: bool = False

    def begin(self) -> bool:
        """False if nobody waits for it any more."""
        self.running = self.future.set_running_or_notify_cancel()
        return self.running

    def finish(self, outcome: Any) -> None:
        """Hand over what the function returned, or `Raised`, or a `WorkerFailure`."""
        if isinstance(outcome, Raised):
            self.future.set_exception(TaskError(f"{outcome.kind}: {outcome.text}"))
        else:
            self.future.set_result(outcome)


class Pool:
    """`size` workers that run `function(state, *args)`, each fed by a thread that runs `_serve`."""

    def __init__(self, size: int, setup: Setup) -> None:
        self.size = size
        self.replaced = 0
        self._setup = setup
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{i}", daemon=True) for i in range(size)
        ]

    def submit(self, function: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        """A future of the function's value or of a `WorkerFailure`; `deadline` in seconds from its start.

        The future raises `TaskError` if the function raised, and is cancelled when the pool closes first.
        """
        if self._closed.is_set():
            raise RuntimeError("the worker pool is closed")
        future: Future[Any] = Future()
        self._tasks.put(Task(function, args, deadline, future))
        if self._closed.is_set():  # closed in between, when nobody may look at the queue any more
            future.cancel()
        return future

    def renew(self, *setup_args: Any) -> None:
        """Every worker makes a new state, `setup(*setup_args)`, before its next task, in the same process."""
        self._setup = replace(self._setup, args=self._stored(setup_args))

    def close(self) -> None:
        """Kill all workers, cancel what waits; safe to call twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stored(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a setup in the form in which they travel to the workers."""
        return args

    def _start_threads(self) -> None:
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        """Start a worker, feed it, and replace it when it is lost, until the pool closes."""
        raise NotImplementedError
