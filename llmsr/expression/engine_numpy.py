"""The tape on numpy's kernels, block by block: always available, and the meaning of the compiled engine."""

from __future__ import annotations

import numpy as np

from llmsr.expression.graph import OPS
from llmsr.expression.tape import FEATURE, REGISTER, Tape

BLOCK = 4096


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
    """Derivatives and value of rows `start:stop`, shape (n_params + 1, stop - start), a view of `registers`."""
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
            op = OPS[instruction.op]
            if isinstance(op.kernel, np.ufunc):
                op.kernel(*args, out=out)
            else:
                out[...] = op.kernel(*args)
    return registers[: tape.n_params + 1, :width]


def gram(
    tape: Tape, theta: np.ndarray, features: np.ndarray, target: np.ndarray, registers: np.ndarray
) -> np.ndarray:
    """The Gram matrix of [derivatives, target - value], shape (n_params + 1, n_params + 1).

    Derivatives that are not finite count as zero; a value that is not finite makes the last entry infinite.
    """
    k = tape.n_params
    total = np.zeros((k + 1, k + 1))
    slots = uniforms(tape, theta)
    with np.errstate(all="ignore"):
        for start in range(0, len(target), BLOCK):
            stop = min(start + BLOCK, len(target))
            block = run_block(tape, slots, features, start, stop, registers)
            np.subtract(target[start:stop], block[k], out=block[k])
            part = block @ block.T
            if not np.isfinite(part).all():
                if not np.isfinite(block[k]).all() or not np.isfinite(part[k, k]):
                    total[k, k] = np.inf
                    return total
                block[~np.isfinite(block)] = 0.0
                part = block @ block.T
            total += part
    return total


def new_registers(tape: Tape) -> np.ndarray:
    """Scratch space for `run_block` and `gram`."""
    return np.empty((tape.n_registers, BLOCK))
