"""A worker's own side: the process that does the work, and above it a keeper that leaves nothing behind.

The keeper waits. When the work ends, in whatever way, or when the pool's process is gone, it kills what the
work has started, daemons included, and ends the same way as the work did. Both die with their parents; on
Linux the kernel tells them, elsewhere they look once a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from llmsr.workers.pool import WorkerFailure

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
KILL_SECONDS = 5.0  # a process that waits for a dead disk cannot be killed


def main() -> None:
    """Serve tasks on the inherited socket until the pool closes it or its process is gone."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk
    keeper = os.getpid()
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # daemons stay below the keeper
    worker = os.fork()
    if worker == 0:
        _tie_to(keeper, signal.SIGKILL)
        with contextlib.suppress(OSError):  # where memory runs out, this process is to go and not the run's
            Path("/proc/self/oom_score_adj").write_text("1000")
        _work(Connection(descriptor))
        os._exit(0)
    os.close(descriptor)  # so that the pool sees the worker's end
    _keep(worker, parent)


def _tie_to(parent: int, number: int) -> None:
    """Have this process sent a signal when its parent is gone."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, number)
    else:
        threading.Thread(target=_watch, args=(parent, number), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def prctl(option: int, value: int) -> None:
    """Ask the Linux kernel for something that concerns this process alone, see prctl(2)."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), number)


def _keep(worker: int, parent: int) -> NoReturn:
    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM or os.getppid() != parent:
            kill_children(worker)
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCONT, end)
    _tie_to(parent, signal.SIGCONT)  # reaches even a stopped keeper
    status = None
    while status is None:
        pid, ended = os.wait()
        status = ended if pid == worker else None
    kill_children(None)
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def kill_children(worker: int | None) -> None:
    """Kill the worker and what it started; on Linux, who loses its parent becomes a child of the keeper."""
    children = [worker] if worker is not None else []
    end = time.monotonic() + KILL_SECONDS
    while time.monotonic() < end:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)
        children = _children()


def _children() -> list[int]:
    """The process ids of this process's children; only known on Linux."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(path.parent.name))
    return found


def _work(connection: Connection) -> None:
    """Answer one message after the other: make a state, or run a task on it."""
    state: Any = None
    # the pool closes its end when it has no more use for this process
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            verb, function, args, memory = connection.recv()
            answer: Any = True
            try:
                if verb == "make":
                    state = function(*args)
                    if memory is not None:
                        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
                else:
                    answer = function(state, *args)
            except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
                answer = WorkerFailure.raised(error)
            connection.send(answer)


if __name__ == "__main__":
    main()
