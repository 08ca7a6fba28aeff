"""What a fit hands back: the constants, the loss that they reach, and what it cost to find them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fit:
    """The outcome of fitting one expression to a problem's train split.

    status: "ok"; "nonfinite" (no parameters were found for which every train row is finite); "timeout" (the
    deadline came before anything was evaluated); "error" (the spec's own `evaluate` failed, see `reason`).
    mode: the mode that was really used. params: one number per parameter of the spec, 1.0 where unused.
    loss: mean squared error on train in the target's units, None without one. evaluations: passes over the
    rows of train, passes over a subset counted by its share (rounded up). seconds: wall time; cpu_seconds:
    time of this thread's CPU. engine: what evaluated the tape ("numba", "numpy") or "callable" for the
    reference mode. score: what the spec's own `evaluate` returned, reference mode only.
    """

    status: str
    reason: str
    mode: str
    params: tuple[float, ...]
    loss: float | None
    evaluations: int
    seconds: float
    cpu_seconds: float
    deadline_reached: bool
    engine: str
    score: float | None = None
