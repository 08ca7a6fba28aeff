"""The tape on numpy's kernels, block by block: always available, and the meaning of the compiled engine."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmsr.expression.engine.tape import FEATURE, REGISTER, Tape
from llmsr.expression.operations import OPS

NAME = "numpy"
BLOCK = 4096


@dataclass(frozen=True)
class Program:
    """A tape bound to data. `counters`: evaluations, and 1 once the deadline was seen to have passed."""

    tape: Tape
    features: np.ndarray
    target: np.ndarray
    registers: np.ndarray
    counters: np.ndarray
    deadline: float

    @property
    def handle(self) -> Program:
        """What `gram` and its like take: the program itself."""
        return self


first_use = nullcontext
"""To be open while a first fit compiles what all fits need: here there is nothing to wait for."""


def jit(function: Any) -> Any:
    """The function itself: this engine compiles nothing."""
    return function


def uniforms(tape: Tape, theta: np.ndarray) -> np.ndarray:
    """The uniform slots for one parameter vector, shape (n_uniforms,)."""
    out = np.zeros(tape.n_uniforms)
    n = len(tape.constants)
    out[:n] = tape.constants
    out[n : n + tape.n_params] = theta
    with np.errstate(all="ignore"):
        for op, dst, args in ((i.op, i.dst, i.args) for i in tape.uniform_program):
            out[dst] = OPS[op].kernel(*(out[index] for _, index in args))
    return out


def run_block(
    tape: Tape, slots: np.ndarray, features: np.ndarray, start: int, stop: int, registers: np.ndarray
) -> np.ndarray:
    """Derivatives and value of rows `start:stop`, shape (n_params + 1, rows), a view of `registers`."""
    width = stop - start
    with np.errstate(all="ignore"):
        for instruction in tape.row_program:
            args = []
            for kind, index in instruction.args:
                if kind == REGISTER:
                    args.append(registers[index, :width])
                elif kind == FEATURE:
                    args.append(features[index, start:stop])
                else:
                    args.append(slots[index])
            out = registers[instruction.dst, :width]
            if instruction.op == "copy":
                out[...] = args[0]
                continue
            if instruction.op == "sincos":
                np.sin(args[0], out=out)
                np.cos(args[0], out=registers[instruction.second, :width])
                continue
            op = OPS[instruction.op]
            if isinstance(op.kernel, np.ufunc):
                op.kernel(*args, out=out)
            else:
                out[...] = op.kernel(*args)
    for register, (kind, index) in enumerate(tape.partials):
        if (kind, index) != (REGISTER, register):
            source = registers[index, :width] if kind == REGISTER else features[index, start:stop]
            registers[register, :width] = source
    return registers[: tape.n_params + 1, :width]


def gram(program: Program, theta: np.ndarray, out: np.ndarray) -> bool:
    """Writes the Gram matrix of [derivatives, target - value] over all rows into `out` (k + 1, k + 1).

    Derivatives that are not finite count as zero. Returns False, with infinity in the last entry, where a
    value is not finite.
    """
    program.counters[0] += 1
    tape, target, registers = program.tape, program.target, program.registers
    k = tape.n_params
    slots = uniforms(tape, theta)
    out[:, :] = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(target), BLOCK):
            stop = min(start + BLOCK, len(target))
            block = run_block(tape, slots, program.features, start, stop, registers)
            np.subtract(target[start:stop], block[k], out=block[k])
            part = block @ block.T
            if not np.isfinite(part).all():
                if not np.isfinite(part[k, k]):
                    out[k, k] = np.inf
                    return False
                block[~np.isfinite(block)] = 0.0
                part = block @ block.T
            out += part
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
    """Whether the deadline has passed; noted in the counters."""
    if time.monotonic() > program.deadline:
        program.counters[1] = 1
        return True
    return False


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, `target` (rows,).

    `deadline` is in the clock of `time.monotonic`. The program owns its scratch space: one per thread.
    """
    registers = np.empty((tape.n_registers, min(BLOCK, max(1, len(target)))))
    return Program(tape, features, target, registers, np.zeros(2, dtype=np.int64), deadline)
