"""Steps that a request to stop does not split."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """While open, SIGINT and SIGTERM wait for its end, so that what is done inside is done whole.

    Keep it short: Ctrl-C waits too. Outside of the main thread, which no signal interrupts, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.getsignal(number)
            if handlers[number] is not None:  # None: not Python's, so it cannot be put back
                signal.signal(number, lambda caught, frame: waiting.append(caught))
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])
