"""The tape compiled once per machine: programs are tables that a compiled interpreter executes.

Nothing is compiled per expression. The interpreter itself is compiled by numba at first use and kept on disk,
see `compiling`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from llmsr.expression.engines.compiling import alone, jit, note_complete
from llmsr.expression.engines.interpreter import (
    CALL1,
    CALL2,
    NATIVE,
    POSITIVE_BY_LOG,
    POWER,
    POWER_BY_LOG,
    TRIG,
    UNIFORM_BASE,
    WIDTH,
    run,
)
from llmsr.expression.engines.sums import expired, gradient, gradient_of, gram, gram_of
from llmsr.expression.engines.tape import FEATURE, REGISTER, UNIFORM, Instruction, Tape
from llmsr.expression.engines.ufunc_loops import loop_address
from llmsr.expression.graph import OPS

__all__ = ["NAME", "Program", "bind", "expired", "first_use", "gradient", "gram", "jit"]
NAME = "numba"
BLOCK = 512
_PADDING = [0] * WIDTH


@contextmanager
def first_use() -> Iterator[None]:
    """To be open while a first fit compiles what all fits need: one process at a time."""
    with alone():
        yield
        note_complete()


@dataclass(frozen=True)
class Program:
    """A tape bound to data: `handle` is what compiled code takes, `arrays` keeps the memory that it points
    to.

    `counters`: evaluations, 1 once the deadline was seen to have passed, 1 once products of features are
    known. One program per thread.
    """

    handle: np.ndarray
    counters: np.ndarray
    arrays: tuple[np.ndarray, ...]


def _clock_address() -> int:
    library = ctypes.CDLL(None)
    address = ctypes.cast(library.clock_gettime, ctypes.c_void_p).value
    if address is None:
        raise OSError("no clock_gettime")
    return address


_ADDRESSES: dict[str, tuple[int, int]] = {
    name: loop_address(op.kernel)  # type: ignore[arg-type]
    for name, op in OPS.items()
    if name not in NATIVE or name in ("sin", "cos")
}
_CLOCK = _clock_address()


def _aligned(shape: tuple[int, int]) -> np.ndarray:
    """An array whose rows start on cache lines."""
    memory = np.zeros(shape[0] * shape[1] + 8)
    offset = (-memory.ctypes.data % 64) // 8
    return memory[offset : offset + shape[0] * shape[1]].reshape(shape)


def _table(
    program: tuple[Instruction, ...],
    slots: np.ndarray,
    features: np.ndarray,
    registers: np.ndarray,
    logs: dict[int, np.ndarray],
    uniform: bool,
) -> np.ndarray:
    slot_base, row_base = slots.ctypes.data, registers.ctypes.data
    feature_base, feature_row = features.ctypes.data, 8 * features.shape[1]
    register_row = 8 * registers.shape[1]
    lines: list[int] = []
    for instruction in program:
        op, args = instruction.op, instruction.args
        loop, data = _ADDRESSES.get(op, (0, 0))
        opcode = NATIVE.get(op)
        if opcode is None:
            opcode = CALL1 if len(args) == 1 else CALL2
        base, size = (slot_base, 8) if uniform else (row_base, register_row)
        line = [opcode, loop, data, base + size * instruction.dst]
        for kind, index in args:
            if kind == REGISTER:
                line += (row_base + register_row * index, 0, 8)
            elif kind == FEATURE:
                line += (feature_base + feature_row * index, 8, 8)
            else:
                line += (slot_base + 8 * index, 0, 8 if uniform else 0)
        if opcode == TRIG:
            cosine = {"sin": 0, "cos": line[3], "sincos": base + size * instruction.second}[op]
            line[1:4] = (*_ADDRESSES["sin"], 0 if op == "cos" else line[3])
            line += (cosine, *_ADDRESSES["cos"])
        if op == "pow":
            line[0], base_logs = _power_by(args, features, logs)
            line += (base_logs, 8, 8, *_ADDRESSES["exp"], *_ADDRESSES["log"])
        lines += line
        lines += _PADDING[len(line) :]
    return np.array(lines, dtype=np.int64).reshape(len(program), WIDTH)


def _power_by(
    args: tuple[tuple[int, int], ...], features: np.ndarray, logs: dict[int, np.ndarray]
) -> tuple[int, int]:
    """How a power is best computed, and the address of the logarithms that it needs, noted in `logs`."""
    (kind, base), (exponent_kind, _) = args
    if kind == UNIFORM and exponent_kind != UNIFORM:
        return UNIFORM_BASE, 0
    if kind != FEATURE or exponent_kind != UNIFORM:
        return POWER, 0
    if base not in logs:
        with np.errstate(all="ignore"):
            logs[base] = np.log(np.abs(features[base]))
    plain = features[base].min() > 0.0 and bool(np.isfinite(logs[base].sum()))
    return POSITIVE_BY_LOG if plain else POWER_BY_LOG, logs[base].ctypes.data


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, `target` (rows,).

    `deadline` is in the clock of `time.monotonic`. The program owns its scratch space: one per thread.
    """
    features = np.ascontiguousarray(features)
    target = np.ascontiguousarray(target)
    width = min(BLOCK, max(8, len(target)))
    registers = _aligned((tape.n_registers + 3, width))
    slots = np.zeros(tape.n_uniforms)
    slots[: len(tape.constants)] = tape.constants
    logs: dict[int, np.ndarray] = {}
    uniform_code = _table(tape.uniform_program, slots, features, registers, logs, True)
    row_code = _table(tape.row_program, slots, features, registers, logs, False)
    partials = np.zeros((tape.n_params, 2), dtype=np.int64)
    for i, (kind, index) in enumerate(tape.partials):
        source = features if kind == FEATURE else registers
        partials[i] = (source.ctypes.data + 8 * source.shape[1] * index, 8 if kind == FEATURE else 0)
    # derivatives that are features come first in the sums
    fixed = sum(kind == FEATURE for kind, _ in tape.partials)
    order = np.array(
        sorted(range(tape.n_params), key=lambda i: (tape.partials[i][0] != FEATURE, i)), dtype=np.int64
    )
    known = np.zeros((tape.n_params + 1, tape.n_params + 1))
    counters = np.zeros(3, dtype=np.int64)
    loops = np.zeros(16, dtype=np.int64)
    handle = np.array(
        [
            gram_of.address,
            gradient_of.address,
            run.address,
            _CLOCK,
            int(deadline * 1e9) if math.isfinite(deadline) else np.iinfo(np.int64).max,
            uniform_code.ctypes.data,
            len(uniform_code),
            row_code.ctypes.data,
            len(row_code),
            partials.ctypes.data,
            slots.ctypes.data + 8 * len(tape.constants),
            registers.ctypes.data,
            registers[tape.n_registers :].ctypes.data,
            target.ctypes.data,
            len(target),
            width,
            counters.ctypes.data,
            loops.ctypes.data,
            order.ctypes.data,
            fixed,
            known.ctypes.data,
        ],
        dtype=np.int64,
    )
    arrays = (
        uniform_code,
        row_code,
        partials,
        slots,
        registers,
        features,
        target,
        loops,
        order,
        known,
        *logs.values(),
    )
    return Program(handle, counters, arrays)
