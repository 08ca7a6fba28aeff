"""The tape by plain numpy, block by block: always available, and the meaning of the compiled engine."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmsr.expression.engine.tape import Tape
from llmsr.expression.graph import values_of

NAME = "numpy"
# long enough that calls of numpy cost little beside their rows, short enough for the cache
BLOCK = 4096

first_use = nullcontext
"""To be open while a first fit compiles what all fits need: here there is nothing to wait for."""


def jit(function: Any) -> Any:
    """The function itself: this engine compiles nothing."""
    return function


@dataclass
class Program:
    """A tape bound to data; `evaluations` so far, and whether the deadline was seen to have passed."""

    tape: Tape
    features: np.ndarray
    target: np.ndarray
    deadline: float
    evaluations: int = 0
    was_late: bool = False

    @property
    def handle(self) -> Program:
        """What `gram` and its like take: the program itself."""
        return self


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, `target` (rows,).

    `deadline` is in the clock of `time.monotonic`. One program per thread.
    """
    return Program(tape, features, target, deadline)


def gram(program: Program, theta: np.ndarray, out: np.ndarray) -> bool:
    """Writes the Gram matrix of [derivatives, target - value] over all rows into `out` (k + 1, k + 1).

    Derivatives that are not finite count as zero. Returns False, with infinity in the last entry, where a
    value is not finite.
    """
    program.evaluations += 1
    tape, target, k = program.tape, program.target, len(theta)
    out[:, :] = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(target), BLOCK):
            part = slice(start, min(start + BLOCK, len(target)))
            values = values_of(tape.nodes, program.features[:, part], theta)
            block = np.empty((k + 1, part.stop - part.start))
            for row, output in zip(block, tape.outputs, strict=True):
                row[:] = values[output]
            block[k] = target[part] - block[k]
            # one number tells whether every residual is finite
            if not np.isfinite(block[k] @ block[k]):
                out[k, k] = np.inf
                return False
            block[~np.isfinite(block)] = 0.0
            out += block @ block.T
    return True


def gradient(program: Program, theta: np.ndarray, out: np.ndarray) -> float:
    """The mean squared error, infinite where a value is not finite; its gradient (k,) goes to `out`."""
    k = len(theta)
    g = np.empty((k + 1, k + 1))
    if not gram(program, theta, g):
        return np.inf
    out[:] = -2.0 / len(program.target) * g[k, :k]
    return float(g[k, k]) / len(program.target)


def expired(program: Program) -> bool:
    """Whether the deadline has passed; noted in the program."""
    program.was_late |= time.monotonic() > program.deadline
    return program.was_late
