"""Warm worker processes with hard deadlines: a hang or a crash costs one task, never the run.

A pool of `WorkerPool(n)` starts n Python processes that load a state once and then answer tasks. A task that
passes its deadline is ended by SIGKILL and its worker replaced; the caller gets a `WorkerFailure`, not an
exception. Workers run one BLAS/OpenMP thread each, die with their parent, and cannot write into its standard
output. They limit damage by accident; they are no sandbox against code, which is why nothing that a model
wrote is ever executed in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START_SECONDS = 120.0  # importing numpy and scipy on a busy machine


@dataclass(frozen=True)
class WorkerFailure:
    """Why a task has no result: kind is `timeout` (killed at its deadline) or `crash` (the process died)."""

    kind: str
    reason: str


@dataclass(frozen=True)
class _Raised:
    """An exception that a task raised in its worker, as text."""

    kind: str
    text: str


@dataclass
class _Task:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    deadline: float
    future: Future[Any]


class TaskError(Exception):
    """A task raised in its worker: a fault of this program, with the original's type and text."""


def single_thread_environment() -> dict[str, str]:
    """This process's environment with one thread for every numeric library, and the package importable."""
    environment = dict(os.environ)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM"):
        environment[f"{name}_NUM_THREADS"] = "1"
    package_parent = str(Path(__file__).resolve().parent.parent)
    paths = [package_parent, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


class WorkerPool:
    """`size` processes that run `function(state, *args)`; each makes `state = setup(*setup_args)` once.

    Functions must be importable (module level) and arguments picklable. Thread-safe. Use as a context
    manager, or call `close`.
    """

    def __init__(
        self,
        size: int,
        setup: Callable[..., Any],
        setup_args: tuple[Any, ...] = (),
        *,
        memory_bytes: int | None = None,
    ) -> None:
        self.size = max(1, size)
        self.replaced = 0
        self._setup = (setup, setup_args, memory_bytes)
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{i}", daemon=True) for i in range(self.size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], *args: Any, deadline: float) -> Future[Any]:
        """A future of the function's value or of a `WorkerFailure`; `deadline` in seconds from its start.

        The future raises `TaskError` if the function raised, and is cancelled when the pool closes first.
        """
        if self._closed.is_set():
            raise RuntimeError("the worker pool is closed")
        future: Future[Any] = Future()
        self._tasks.put(_Task(function, args, deadline, future))
        return future

    def close(self) -> None:
        """Kill all workers, cancel what waits; safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        for process in list(self._running):
            _kill(process)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # one thread per worker: it starts the process, feeds it, and replaces it when it is lost

    def _serve(self) -> None:
        worker: _Worker | None = None
        while True:
            if worker is None and not self._closed.is_set():
                worker = self._start()
            task = self._tasks.get()
            if task is None or self._closed.is_set():
                if task is not None:
                    task.future.cancel()
                    continue
                break
            if not task.future.set_running_or_notify_cancel():
                continue
            if worker is None or worker.process.poll() is not None:
                worker = self._replace(worker)
            outcome = worker.run(task) if worker is not None else _start_failure()
            if isinstance(outcome, WorkerFailure):
                worker = self._discard(worker)
            if isinstance(outcome, _Raised):
                task.future.set_exception(TaskError(f"{outcome.kind}: {outcome.text}"))
            else:
                task.future.set_result(outcome)
        self._discard(worker)

    def _start(self) -> _Worker | None:
        worker = _Worker(*self._setup)
        self._running.add(worker.process)
        if self._closed.is_set() or not worker.ready():
            self._discard(worker)
            return None
        return worker

    def _replace(self, worker: _Worker | None) -> _Worker | None:
        self._discard(worker)
        self.replaced += 1
        return self._start()

    def _discard(self, worker: _Worker | None) -> None:
        if worker is not None:
            worker.end()
            self._running.discard(worker.process)


def _start_failure() -> WorkerFailure:
    return WorkerFailure("crash", "a worker process could not be started")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, setup: Callable[..., Any], setup_args: tuple[Any, ...], memory: int | None) -> None:
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmsr.workers", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=single_thread_environment(),
            start_new_session=True,
        )
        theirs.close()
        self.connection = Connection(ours.detach())
        self._hello = (setup, setup_args, memory)

    def ready(self) -> bool:
        """Whether the process came up and made its state."""
        return self._exchange(self._hello, START_SECONDS) is True

    def run(self, task: _Task) -> Any:
        return self._exchange((task.function, task.args), task.deadline)

    def _exchange(self, message: Any, seconds: float) -> Any:
        try:
            self.connection.send(message)
            if not self.connection.poll(seconds):
                return WorkerFailure("timeout", f"no result within {seconds:g} s")
            return self.connection.recv()
        except (EOFError, OSError):
            return WorkerFailure("crash", f"the worker process died ({self._exit_reason()})")

    def _exit_reason(self) -> str:
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "no exit code"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        _kill(self.process)
        self.process.wait()
        self.connection.close()


# the worker's own side


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _limit_memory(limit: int | None) -> None:
    if limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _work(connection: Connection) -> None:
    setup, setup_args, memory = connection.recv()
    state = setup(*setup_args)
    _limit_memory(memory)
    connection.send(True)
    while True:
        try:
            function, args = connection.recv()
        except EOFError:
            return
        try:
            answer = function(state, *args)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            answer = _Raised(type(error).__name__, str(error))
        connection.send(answer)


def main() -> None:
    """Serve tasks on the inherited socket until the parent closes it."""
    _die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    # Under its real name, so that what a worker sends unpickles in the parent.
    from llmsr import workers

    workers.main()
