"""Warm worker processes with hard deadlines: a hang or a crash costs one task, never the run.

A pool of `WorkerPool(n)` starts n Python processes that load a state once and then answer tasks. A task that
passes its deadline is ended by SIGKILL and its worker replaced; the caller gets a `WorkerFailure`, not an
exception. Workers run one BLAS/OpenMP thread each, die with their parent together with all that they started,
are the first to go where memory runs out, do not know the keys of services, and cannot write into the
parent's standard output. They limit damage by accident; they are no sandbox against code, which is why
nothing that a model wrote is ever executed in them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.workers.base import END_SECONDS, START_SECONDS, Pool, Setup, Task, WorkerFailure
from llmsr.workers.process import Raised

TRANSFER_SECONDS = 60.0  # without a byte moving between the processes, while one is being sent a message
SECRET = re.compile(r"(?:API_?KEY|TOKEN|SECRET|PASSWORD)(?:_|$)", re.IGNORECASE)
"""Names of environment variables that a fit has no use for."""
MAX_WORKERS = 1024
LONGEST_WAIT = 2_000_000.0  # seconds; poll counts milliseconds in 32 bits


def single_thread_environment() -> dict[str, str]:
    """This process's environment with one thread for every numeric library, and the package importable.

    Keys and tokens of services stay out of it.
    """
    environment = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM"):
        environment[f"{name}_NUM_THREADS"] = "1"
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


def parse_workers(text: int | str) -> int | str:
    """The number of processes that `--workers` asks for (0: one per core), or "ray"; else a UserError."""
    told = str(text).strip().lower()
    if told == "ray":
        return told
    if not (told.isascii() and told.isdigit() and int(told) <= MAX_WORKERS):
        raise UserError(
            f"--workers must be a number from 0 (one per core) to {MAX_WORKERS}, or ray; got {text!r}"
        )
    return int(told)


class WorkerPool(Pool):
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
        super().__init__(max(1, size), Setup(setup, setup_args, memory_bytes))
        self._running: set[subprocess.Popen[bytes]] = set()
        self._start_failure = WorkerFailure("crash", "a worker process could not be started")
        self._start_threads()

    def close(self) -> None:
        """Kill all workers, cancel what waits; safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        for process in list(self._running):
            _ask_to_end(process)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=END_SECONDS)

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
            if not task.begin():
                continue
            try:
                worker = self._ready(worker)
                outcome = worker.run(task) if worker is not None else self._start_failure
            except Exception as error:  # noqa: BLE001 - else the task would be waited for without end
                outcome = WorkerFailure(
                    "crash", f"the task could not be handed over ({type(error).__name__}: {error})"
                )
            if isinstance(outcome, WorkerFailure):
                self._discard(worker)
                worker = None
            task.finish(outcome)
        self._discard(worker)

    def _ready(self, worker: _Worker | None) -> _Worker | None:
        """This worker if it lives and has the pool's state, else another; None where none starts."""
        if worker and worker.process.poll() is None and worker.make(self._setup) is True:
            return worker
        return self._replace(worker)

    def _start(self) -> _Worker | None:
        try:
            worker = _Worker()
        except OSError as error:  # no room for another process, or for its socket
            self._note_failure(error.strerror or str(error))
            return None
        self._running.add(worker.process)
        if self._closed.is_set():
            self._discard(worker)
            return None
        try:
            made = worker.make(self._setup)
        except Exception as error:  # noqa: BLE001 - a setup that cannot be pickled
            made = Raised(type(error).__name__, str(error))
        if made is True:
            return worker
        self._discard(worker)
        self._note_failure(f"{made.kind}: {made.text}" if isinstance(made, Raised) else made.reason)
        return None

    def _note_failure(self, why: str) -> None:
        self._start_failure = WorkerFailure("crash", f"a worker process could not be started ({why})")

    def _replace(self, worker: _Worker | None) -> _Worker | None:
        self._discard(worker)
        self.replaced += 1
        return self._start()

    def _discard(self, worker: _Worker | None) -> None:
        if worker is not None:
            worker.end()
            self._running.discard(worker.process)


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Have the worker end with all that it started, even if somebody has stopped it."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process.send_signal(number)


class _Worker:
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
        self._setup: Setup | None = None  # by which its state was made

    def make(self, setup: Setup) -> Any:
        """True once the process has the state that `setup` makes, or what went wrong."""
        if self._setup is setup:
            return True
        made = self._exchange(("make", setup.function, setup.args, setup.memory), START_SECONDS)
        self._setup = setup if made is True else None
        return made

    def run(self, task: Task) -> Any:
        """What the task returned, `Raised`, or a `WorkerFailure`."""
        return self._exchange(("run", task.function, task.args), task.deadline)

    def _exchange(self, message: Any, seconds: float) -> Any:
        try:
            self.connection.send(message)
            if not self.connection.poll(min(seconds, LONGEST_WAIT)):
                return WorkerFailure("timeout", f"no result within {seconds:g} s")
            return self.connection.recv()
        except BlockingIOError:
            return WorkerFailure("timeout", f"the worker process took no data for {TRANSFER_SECONDS:g} s")
        except (EOFError, OSError):
            return WorkerFailure("crash", f"the worker process died ({self._exit_reason()})")

    def _exit_reason(self) -> str:
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "no exit code"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def end(self) -> None:
        _ask_to_end(self.process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=END_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
