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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from llmsr.workers.base import END_SECONDS, START_SECONDS, Pool, Setup, Task, Worker, WorkerFailure

TRANSFER_SECONDS = 60.0  # without a byte moving between the processes, while one is being sent a message
SECRET = re.compile(r"(?:API_?KEY|TOKEN|SECRET|PASSWORD)(?:_|$)", re.IGNORECASE)
"""Names of environment variables that a fit has no use for."""
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
