"""Requests to stop, SIGINT and SIGTERM: who answers them, and steps that they do not split."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

REQUESTS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Whoever handled SIGINT and SIGTERM before handles them afterwards, whatever is set while it is open.

    Outside of the main thread, where no handler can be set, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in REQUESTS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: not Python's, so it cannot be put back
                signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """While open, SIGINT and SIGTERM wait for its end, so that what is done inside is done whole.

    Keep it short: Ctrl-C waits too. Outside of the main thread, which no signal interrupts, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    try:
        with handlers_kept():
            for number in REQUESTS:
                if signal.getsignal(number) is not None:
                    signal.signal(number, lambda caught, frame: waiting.append(caught))
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])
