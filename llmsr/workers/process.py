"""A worker's own side: the process that does the work, and above it a keeper that leaves nothing behind.

The keeper waits. When the work ends, in whatever way, or when the pool's process is gone, it kills what the
work has started, daemons included, and ends the same way as the work did. Both die with their parents; on
Linux the kernel tells them, elsewhere they look once a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
KILL_SECONDS = 5.0  # a process that waits for a dead disk cannot be killed


@dataclass(frozen=True)
class Raised:
    """An exception that a task raised in its worker, as text."""

    kind: str
    text: str


def main() -> None:
    """Serve tasks on the inherited socket until the pool closes it or its process is gone."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import resource  # which Windows lacks, where this module is only imported

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk
    keeper = os.getpid()
    if LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # daemons stay below the keeper
    worker = os.fork()
    if worker == 0:
        _die_with(keeper)
        _die_first()
        _work(Connection(descriptor))
        os._exit(0)
    os.close(descriptor)  # so that the pool sees the worker's end
    _keep(worker, parent)


# ---- the keeper


def _keep(worker: int, parent: int) -> NoReturn:
    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM or os.getppid() != parent:
            _kill_children(worker)
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCONT, end)
    if LINUX:
        _prctl(PR_SET_PDEATHSIG, signal.SIGCONT)  # reaches even a stopped keeper
    else:
        threading.Thread(target=_watch, args=(parent, signal.SIGTERM), daemon=True).start()
    if os.getppid() != parent:
        end(signal.SIGTERM, None)
    status = None
    while status is None:
        pid, ended = os.wait()
        status = ended if pid == worker else None
    _kill_children(None)
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _kill_children(worker: int | None) -> None:
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


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), number)


# ---- the work


def _die_with(keeper: int) -> None:
    if LINUX:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(keeper, signal.SIGKILL), daemon=True).start()
    if os.getppid() != keeper:
        os._exit(1)


def _die_first() -> None:
    """Where memory runs out, the kernel is to end this process and not the run's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit_memory(limit: int | None) -> None:
    import resource

    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _work(connection: Connection) -> None:
    """Answer one message after the other: make a state, or run a task on it."""
    state: Any = None
    try:
        while True:
            verb, function, args, *memory = connection.recv()
            answer: Any = True
            try:
                if verb == "make":
                    state = function(*args)
                    _limit_memory(*memory)
                else:
                    answer = function(state, *args)
            except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
                answer = Raised(type(error).__name__, str(error))
            connection.send(answer)
    except (EOFError, ConnectionError):  # the pool has closed its end
        return


if __name__ == "__main__":
    # Under its real name, so that what a worker sends unpickles in the parent.
    from llmsr.workers import process

    process.main()
