"""A search's progress on standard error: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import IO

from llmsr.sample import Sample
from llmsr.search.totals import Totals

PLAIN_SECONDS = 10.0  # between two plain lines that report no new best


class Progress:
    """Observes a search; use as a context manager so that the terminal is left in order."""

    def __init__(self, budget: int, stream: IO[str] | None = None) -> None:
        self.budget = budget
        self.stream = stream or sys.stderr
        self._started = self._last_line = time.monotonic()
        self._first_number: int | None = None
        self._best: float | None = None
        self._live = self._make_live() if self.stream.isatty() else None

    def __call__(self, sample: Sample, totals: Totals) -> None:
        if self._first_number is None:
            self._first_number = totals.samples
        best = totals.best.evaluation.train_mse if totals.best else None
        improved = best != self._best
        self._best = best
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._line(totals, now))
        elif improved or now - self._last_line >= PLAIN_SECONDS or totals.samples == self.budget:
            self._last_line = now
            with contextlib.suppress(OSError):  # a log that cannot be written must not end the run
                print(self._line(totals, now), file=self.stream, flush=True)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def _make_live(self):  # type: ignore[no-untyped-def]
        from rich.console import Console
        from rich.live import Live

        return Live(console=Console(file=self.stream), refresh_per_second=4, transient=False)

    def _line(self, totals: Totals, now: float) -> str:
        done = totals.samples - (self._first_number or 0) + 1
        rate = done / max(now - self._started, 1e-9)
        parts = [
            f"{totals.samples}/{self.budget} samples",
            f"{totals.valid / max(totals.samples, 1):.0%} valid",
            f"{totals.distinct / max(totals.valid, 1):.0%} distinct",
            f"{totals.tokens} tokens",
            f"{rate:.1f}/s",
        ]
        if totals.best is not None:
            evaluation = totals.best.evaluation
            parts.append(f"best NMSE {evaluation.nmse['train']:.3g}: {_short(evaluation.expression)}")
        return " | ".join(parts)


def _short(text: str, width: int = 90) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
