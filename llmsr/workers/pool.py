"""Warm worker processes with hard deadlines: a hang or a crash costs one task, never the run.

`WorkerPool(n, setup)` starts n Python processes that load a state once and then answer tasks from a queue.
A task that passes its deadline is ended by SIGKILL and its worker replaced; the caller gets a `WorkerFailure`
and no exception. Workers run one BLAS/OpenMP thread each, die with their parent together with all that they
started, are the first to go where memory runs out, do not know the keys of services, and cannot write into
the parent's standard output. They limit damage by accident; they are no sandbox against code, which is why
nothing that a model wrote is ever executed in them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

from llmsr.files import import_path

START_SECONDS = 120.0  # importing numpy and scipy on a busy machine
END_SECONDS = 10.0  # for a worker to end what it has started
RETRY_SECONDS = 5.0  # between two tries to start a worker while others are at work
TRANSFER_SECONDS = 60.0  # without a byte moving between the processes, while one is being sent a message
LONGEST_WAIT = 2_000_000.0  # seconds; poll counts milliseconds in 32 bits
SECRET = re.compile(r"(?:API_?KEY|TOKEN|SECRET|PASSWORD)(?:_|$)", re.IGNORECASE)
"""Names of environment variables that a fit has no use for."""


@dataclass(frozen=True)
class WorkerFailure:
    """Why a task has no result: kind is `timeout` (killed at its deadline) or `crash` (the process died).

    Two kinds never leave the pool: `raised`, by the task, which becomes a `TaskError`; and `lost`, a worker
    that died, which becomes a `crash` unless another worker may try.
    """

    kind: str
    reason: str

    @classmethod
    def raised(cls, error: BaseException) -> WorkerFailure:
        """An exception as text, since its class may be unknown to who receives it."""
        return cls("raised", f"{type(error).__name__}: {error}")


class TaskError(Exception):
    """A task raised in its worker: a fault of this program, with the original's type and text."""


class Setup(NamedTuple):
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
        self.running = self.running or self.future.set_running_or_notify_cancel()
        return self.running

    def finish(self, outcome: Any) -> None:
        """Hand over what the function returned or why there is nothing."""
        if isinstance(outcome, WorkerFailure) and outcome.kind == "raised":
            self.future.set_exception(TaskError(outcome.reason))
        else:
            self.future.set_result(outcome)

    def drop(self) -> None:
        """End it, since nobody will work on it any more."""
        if self.running:
            self.finish(WorkerFailure("crash", "the worker pool was closed"))
        else:
            self.future.cancel()


class Worker(ABC):
    """One worker as its pool sees it: it has a state and answers one task after the other."""

    _setup: Setup | None = None  # by which the state was made

    def make(self, setup: Setup) -> Any:
        """True once the worker has the state that `setup` makes, else a `WorkerFailure`."""
        made = self._setup is setup or self._make(setup)
        self._setup = setup if made is True else None
        return made

    @abstractmethod
    def _make(self, setup: Setup) -> Any: ...

    def is_alive(self, task: Task) -> bool:
        """Whether the idle worker can be given the task."""
        return True

    @abstractmethod
    def run(self, task: Task) -> Any:
        """The task's value or a `WorkerFailure`, at its deadline at the latest."""

    @abstractmethod
    def kill(self) -> None:
        """Begin to end it, without waiting."""

    def end(self) -> None:
        """End it with all that it started."""
        self.kill()


class Pool(ABC):
    """`size` workers that run `function(state, *args)`; each makes `state = setup(*setup_args)` once.

    Functions must be importable (module level) and arguments picklable. Thread-safe. Use as a context
    manager, or call `close`. `replaced` counts the workers that took the place of lost ones; a task may lose
    `attempts` workers before it is a `crash`.
    """

    attempts = 1

    def __init__(
        self,
        size: int,
        setup: Callable[..., Any],
        setup_args: tuple[Any, ...] = (),
        *,
        memory_bytes: int | None = None,
    ) -> None:
        self.size = size
        self.replaced = 0
        self._setup = Setup(setup, self._stored(setup_args), memory_bytes)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._start_failure = WorkerFailure("crash", "a worker process could not be started")
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{i}", daemon=True) for i in range(size)
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
        self._tasks.put(Task(function, args, deadline, future))
        if self._closed.is_set():  # closed in between, when nobody may look at the queue any more
            future.cancel()
        return future

    def renew(self, *setup_args: Any) -> None:
        """Every worker makes a new state, `setup(*setup_args)`, before its next task, in the same process."""
        self._setup = self._setup._replace(args=self._stored(setup_args))

    def close(self) -> None:
        """End all workers, cancel what waits; safe to call twice."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            workers = list(self._workers)
        for worker in workers:
            worker.kill()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=END_SECONDS)
        with contextlib.suppress(queue.Empty):
            while True:
                if (task := self._tasks.get_nowait()) is not None:
                    task.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def _new_worker(self) -> Worker:
        """A worker without a state; OSError where there is no room for one."""

    def _stored(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a setup in the form in which they travel to the workers."""
        return args

    def _serve(self) -> None:
        """The thread of one worker: starts it, feeds it, and replaces it when it is lost."""
        worker = self._start()
        while (task := self._tasks.get()) is not None and not self._closed.is_set():
            if not task.begin():
                continue
            worker = worker or self._start()
            if worker is None:
                task.finish(self._start_failure)
            elif not self._answered(worker, task):
                self._discard(worker)
                self.replaced += 1
                worker = self._start()
            # a thread without a worker leaves the tasks to those that have one
            while worker is None and self._workers and not self._closed.wait(RETRY_SECONDS):
                worker = self._start()
        if task is not None:
            task.drop()
        self._discard(worker)

    def _answered(self, worker: Worker, task: Task) -> bool:
        """Whether the worker is fit for another task; one that it could not answer goes back to the queue."""
        try:
            ready = worker.is_alive(task) and worker.make(self._setup) is True
            outcome = worker.run(task) if ready else None
        except Exception as error:  # noqa: BLE001 - else the task would be waited for without end
            ready, why = True, WorkerFailure.raised(error).reason
            outcome = WorkerFailure("crash", f"the task could not be handed over ({why})")
        if not ready:
            self._tasks.put(task)
            return False
        if isinstance(outcome, WorkerFailure) and outcome.kind == "lost":
            task.lost += 1
            if task.lost < self.attempts and not self._closed.is_set():
                self._tasks.put(task)
                return False
            times = f", the last of {task.lost}" if task.lost > 1 else ""
            outcome = WorkerFailure("crash", f"the worker process died ({outcome.reason}{times})")
        task.finish(outcome)
        return not isinstance(outcome, WorkerFailure) or outcome.kind == "raised"

    def _start(self) -> Worker | None:
        """A worker with the pool's state; None where there is none to be had, see `_start_failure`."""
        worker: Worker | None = None
        failure: Any
        try:
            worker = self._new_worker()
            with self._lock:
                self._workers.add(worker)
                closed = self._closed.is_set()
            failure = WorkerFailure("lost", "the pool is closed") if closed else worker.make(self._setup)
        except OSError as error:
            failure = WorkerFailure("lost", error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - a setup that cannot be pickled, in whatever way
            failure = WorkerFailure.raised(error)
        if failure is True:
            return worker
        self._discard(worker)
        why = f"a worker process could not be started ({failure.reason})"
        self._start_failure = WorkerFailure("crash", why)
        return None

    def _discard(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.end()
            with self._lock:
                self._workers.discard(worker)


class ThisProcess(Pool):
    """A pool of one worker, a thread of this process, for systems without process groups.

    What is not promised: deadlines are not kept, memory is not limited, and a crash ends the run.
    """

    def _new_worker(self) -> Worker:
        return _Thread()


class _Thread(Worker):
    def _make(self, setup: Setup) -> Any:
        self._state = setup.function(*setup.args)
        return True

    def run(self, task: Task) -> Any:
        try:
            return task.function(self._state, *task.args)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            return WorkerFailure.raised(error)

    def kill(self) -> None:
        pass


class WorkerPool(Pool):
    """A pool of processes on this machine; a task whose process dies is a `crash` at once."""

    def _new_worker(self) -> Worker:
        return _WorkerProcess()


class _WorkerProcess(Worker):
    """The parent's end of one worker process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:  # both are closed where no process can be had
            limit = struct.pack("ll", int(TRANSFER_SECONDS), 0)  # a stopped process takes and sends no bytes
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "llmsr.workers.process", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=single_thread_environment(),
                start_new_session=True,
            )
            self.connection = Connection(ours.detach())

    def _make(self, setup: Setup) -> Any:
        return self._exchange(("make", setup.function, setup.args, setup.memory), START_SECONDS)

    def is_alive(self, task: Task) -> bool:
        return self.process.poll() is None

    def run(self, task: Task) -> Any:
        return self._exchange(("run", task.function, task.args, None), task.deadline)

    def _exchange(self, message: Any, seconds: float) -> Any:
        try:
            self.connection.send(message)
            if not self.connection.poll(min(seconds, LONGEST_WAIT)):
                return WorkerFailure("timeout", f"no result within {seconds:g} s")
            return self.connection.recv()
        except BlockingIOError:
            return WorkerFailure("timeout", f"the worker process took no data for {TRANSFER_SECONDS:g} s")
        except (EOFError, OSError):
            return WorkerFailure("lost", self._exit_reason())

    def _exit_reason(self) -> str:
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "no exit code"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        for number in (signal.SIGTERM, signal.SIGCONT):  # the second for a process that somebody has stopped
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self.process.send_signal(number)

    def end(self) -> None:
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=END_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()


def single_thread_environment() -> dict[str, str]:
    """This process's environment with one thread for every numeric library, and the package importable.

    Keys and tokens of services stay out of it.
    """
    environment = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM"):
        environment[f"{name}_NUM_THREADS"] = "1"
    return environment | {"PYTHONPATH": import_path(environment)}
