"""Programs that this process starts and that end with it, however it ends."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
from typing import IO, Any

PARENT_DEATH_SIGNAL = 1  # prctl(2)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def start_child(command: list[str], log: IO[bytes], **how: Any) -> subprocess.Popen[bytes]:
    """A program with its output in `log`, in a process group of its own; `how` goes to Popen.

    On Linux it is asked to end (SIGTERM) when this process is gone, even by SIGKILL. The kernel ties that to
    the thread that starts the program, so a thread that lives on does it.

    Raises: OSError where the program cannot be started.
    """
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready, forever = threading.Event(), threading.Event()

    def end_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)

    def run() -> None:
        streams: Any = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        if sys.platform != "win32":
            streams |= {"preexec_fn": end_with_parent, "start_new_session": True}
        try:
            started.append(subprocess.Popen(command, **streams, **how))
        except OSError as error:
            started.append(error)
        ready.set()
        forever.wait()

    threading.Thread(target=run, daemon=True, name=command[0]).start()
    ready.wait()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]
