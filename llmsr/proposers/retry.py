"""Sending a request again: which faults of a service pass by themselves, and how long to wait for it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

from llmsr.proposers.proposer import ProposerFailure

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0


class Transient(Exception):
    """A fault that may pass; `kind` as in ProposerFailure, `retry_after` seconds if a wait was asked for."""

    def __init__(self, kind: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.retry_after = retry_after


def with_retries(
    request: Callable[[], Answer], *, retries: int, seed: int, closing: threading.Event, service: str
) -> Answer:
    """The answer of `request`, sent again after each Transient up to `retries` times, then ProposerFailure.

    The wait doubles from half a second, times a random factor of 0.5 to 1 drawn by `seed`; a wait that the
    server asks for is kept to. No wait exceeds a minute. `closing` ends a wait at once.
    """
    jitter = random.Random(seed)
    for attempt in range(retries + 1):
        try:
            return request()
        except Transient as fault:
            if attempt == retries or closing.is_set():
                tries = "once" if attempt == 0 else f"{attempt + 1} times"
                raise ProposerFailure(fault.kind, f"{fault} (tried {tries})") from None
            wait = FIRST_WAIT_SECONDS * 2**attempt * jitter.uniform(0.5, 1.0)
            wait = min(LONGEST_WAIT_SECONDS, max(wait, fault.retry_after or 0.0))
            log.warning("%s: %s; next try in %.1f s", service, fault, wait)
            if closing.wait(wait):
                raise ProposerFailure("closed", "the proposer was closed") from None
    raise AssertionError("unreachable")


def retry_after_seconds(header: str | None) -> float | None:
    """The wait that a Retry-After header asks for, given as seconds or as a date; None if there is none."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
