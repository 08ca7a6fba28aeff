"""The compiled engine: a program is a table that an interpreter executes; nothing is compiled per equation.

The interpreter itself is compiled by numba at first use and kept on disk, see `compiling`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from llmsr.expression.engine import sums
from llmsr.expression.engine.addresses import clock_address
from llmsr.expression.engine.assembly import Code, assembled
from llmsr.expression.engine.compiling import alone, jit, note_complete
from llmsr.expression.engine.interpreter import WIDTH
from llmsr.expression.engine.sums import expired, gradient, gram
from llmsr.expression.engine.tape import Tape

__all__ = ["NAME", "Program", "bind", "expired", "first_use", "gradient", "gram", "jit"]
NAME = "numba"
# registers of so many rows stay in the first two caches, and an instruction costs far more than its dispatch;
# 256 and 384 were no faster
BLOCK = 512
_CLOCK = clock_address()


@contextmanager
def first_use() -> Iterator[None]:
    """To be open while a first fit compiles what all fits need: one process at a time."""
    with alone():
        yield
        note_complete()


@dataclass(frozen=True)
class Program:
    """A tape bound to data: `handle` is what compiled code takes, `arrays` keeps the memory that it points
    to. One program per thread.
    """

    handle: np.ndarray
    arrays: tuple[np.ndarray, ...]

    @property
    def evaluations(self) -> int:
        """The passes over the rows so far."""
        return int(self.handle[sums.EVALUATIONS])

    @property
    def was_late(self) -> bool:
        """Whether the deadline was seen to have passed."""
        return bool(self.handle[sums.LATE])


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, `target` (rows,).

    `deadline` is in the clock of `time.monotonic`. The program owns its scratch space: one per thread.
    """
    if NAME not in tape.kept:
        tape.kept[NAME] = assembled(tape)
    code: Code = tape.kept[NAME]
    features, target = np.ascontiguousarray(features), np.ascontiguousarray(target)
    rows = len(target)
    width = min(BLOCK, max(8, rows))
    # registers and three rows of scratch, from a cache line on, then slots
    n_scratch = (code.n_registers + 3) * width
    memory = np.zeros(8 + n_scratch + code.n_slots)
    first = -memory.ctypes.data % 64 // 8
    registers = memory.ctypes.data + 8 * first
    slots = registers + 8 * n_scratch
    n_constants = len(code.constants)
    memory[first + n_scratch :][:n_constants] = code.constants
    bases = np.array([0, features.ctypes.data, slots, registers])
    table = code.bound(bases, np.array([1, 8 * rows, 8, 8 * width]))
    handle = np.zeros(sums.FIELDS, dtype=np.int64)
    handle[: sums.EVALUATIONS] = (
        sums.gram_of.address,
        _CLOCK,
        int(deadline * 1e9) if math.isfinite(deadline) else np.iinfo(np.int64).max,
        table.ctypes.data,
        code.n_uniform,
        table.ctypes.data + 8 * WIDTH * code.n_uniform,
        len(table) - code.n_uniform,
        slots + 8 * n_constants,
        registers,
        registers + 8 * code.n_registers * width,
        target.ctypes.data,
        rows,
        width,
    )
    return Program(handle, (memory, table, features, target))
