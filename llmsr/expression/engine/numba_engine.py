"""The tape compiled once per machine: programs are tables that a compiled interpreter executes.

Nothing is compiled per expression. The interpreter itself is compiled by numba at first use and kept on disk,
see `compiling`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from llmsr.expression.engine.addresses import clock_address, loop_address
from llmsr.expression.engine.compiling import alone, jit, note_complete
from llmsr.expression.engine.interpreter import (
    CALL_TWO,
    POSITIVE_BY_LOG,
    POWER_BY_LOG,
    UNIFORM_BASE,
    WIDTH,
    run,
)
from llmsr.expression.engine.sums import FIELDS, expired, gradient, gradient_of, gram, gram_of
from llmsr.expression.engine.tape import FEATURE, REGISTER, UNIFORM, Instruction, Place, Tape
from llmsr.expression.operations import CALL, COPY, OPS, POWER, TRIG

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


_ADDRESSES: dict[str, tuple[int, int]] = {
    name: loop_address(row.function)  # type: ignore[arg-type]
    for name, row in OPS.items()
    if row.opcode in (CALL, TRIG, POWER) and not row.boolean
}
_OPCODES = {name: row.opcode for name, row in OPS.items()} | {"copy": COPY, "sincos": TRIG}
_CLOCK = clock_address()


# What a number in a program's code is counted from: 0 for plain numbers, else the first feature, slot or
# register, in this order.
_PLAIN = 0
_SPACE = {FEATURE: 1, UNIFORM: 2, REGISTER: 3}
_Powers = tuple[tuple[int, tuple[Place, ...]], ...]


@dataclass(frozen=True)
class _Code:
    """A tape's instructions before they are bound: `numbers` (instructions, WIDTH), and in `spaces` of the
    same shape what those that are places are counted from.

    Uniform instructions come first. `powers`: the line and arguments of every power of the row program.
    """

    numbers: np.ndarray
    spaces: np.ndarray
    powers: _Powers

    def addresses(self, bases: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The code with addresses for places: `bases` and `steps` in bytes for every kind of place."""
        found: np.ndarray = bases[self.spaces] + steps[self.spaces] * self.numbers
        return found


def _code_of(tape: Tape) -> _Code:
    """The code of a tape, worked out once."""
    if NAME not in tape.kept:
        tape.kept[NAME] = _assembled(tape)
    code: _Code = tape.kept[NAME]
    return code


def _assembled(tape: Tape) -> _Code:
    numbers: list[int] = []
    spaces: list[int] = []
    instructions = (*tape.uniform_program, *tape.row_program)
    for i, instruction in enumerate(instructions):
        uniform = i < len(tape.uniform_program)
        line, space = _line(instruction, uniform)
        numbers += line + _PADDING[len(line) :]
        spaces += space + _PADDING[len(space) :]
    first = len(tape.uniform_program)
    return _Code(
        np.array(numbers, dtype=np.int64).reshape(-1, WIDTH),
        np.array(spaces, dtype=np.int64).reshape(-1, WIDTH),
        tuple((first + i, row.args) for i, row in enumerate(tape.row_program) if row.op == "pow"),
    )


def _line(instruction: Instruction, uniform: bool) -> tuple[list[int], list[int]]:
    """The numbers of an instruction's row and what they are counted from, without the zeros at its end."""
    op, dst, args, second = instruction
    opcode = _OPCODES[op]
    if opcode == CALL and len(args) == 2:
        opcode = CALL_TWO
    if opcode >= COPY and len(args) == 1:
        args = args * 2  # the loops of one operand read no other one
    home = _SPACE[UNIFORM if uniform else REGISTER]
    line, space = [opcode, *_ADDRESSES.get(op, (0, 0)), dst], [_PLAIN, _PLAIN, _PLAIN, home]
    for kind, index in args:
        line += (index, 8 if kind == FEATURE else 0, 0 if kind == UNIFORM and not uniform else 8)
        space += (_SPACE[kind], _PLAIN, _PLAIN)
    if opcode == TRIG:
        line[1:3] = _ADDRESSES["sin"]
        line += (second if op == "sincos" else dst, *_ADDRESSES["cos"])
        space += (home, _PLAIN, _PLAIN)
        if op != "sincos":  # the other one's place is none
            unused = 7 if op == "sin" else 3
            line[unused], space[unused] = 0, _PLAIN
    if opcode == POWER:
        line += (0, 8, 8, *_ADDRESSES["exp"], *_ADDRESSES["log"])
    return line, space


def _set_powers(code: np.ndarray, powers: _Powers, features: np.ndarray) -> list[np.ndarray]:
    """Tells the code's powers how they are best computed; returns the logarithms that they then read."""
    logs: dict[int, np.ndarray] = {}
    for line, ((kind, base), (exponent_kind, _)) in powers:
        if kind == UNIFORM and exponent_kind != UNIFORM:
            code[line, 0] = UNIFORM_BASE
        elif kind == FEATURE and exponent_kind == UNIFORM:
            if base not in logs:
                with np.errstate(all="ignore"):
                    logs[base] = np.log(np.abs(features[base]))
            plain = features[base].min() > 0.0 and bool(np.isfinite(logs[base].sum()))
            code[line, 0] = POSITIVE_BY_LOG if plain else POWER_BY_LOG
            code[line, 10] = logs[base].ctypes.data
    return list(logs.values())


def _with_finite_partials(
    features: np.ndarray, partials: tuple[Place, ...]
) -> tuple[np.ndarray, list[Place]]:
    """The features, more of them where need be, and places of the derivatives that hold no inf or nan.

    A derivative that is a feature may be undefined in rows that a mask keeps out of the value, such as that
    of `where(x > 0, p * log(x), 0)`; zero stands for it there, while the value goes on to read the feature.
    """
    broken = sorted({i for kind, i in partials if kind == FEATURE and not np.isfinite(features[i]).all()})
    if not broken:
        return features, list(partials)
    finite = np.where(np.isfinite(features[broken]), features[broken], 0.0)
    moved = {old: len(features) + new for new, old in enumerate(broken)}
    places = [(kind, moved.get(i, i) if kind == FEATURE else i) for kind, i in partials]
    return np.concatenate([features, finite]), places


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, `target` (rows,).

    `deadline` is in the clock of `time.monotonic`. The program owns its scratch space: one per thread.
    """
    features, derivatives = _with_finite_partials(np.ascontiguousarray(features), tape.partials)
    target = np.ascontiguousarray(target)
    k, rows = tape.n_params, len(target)
    width = min(BLOCK, max(8, rows))
    n_scratch = (tape.n_registers + 3) * width
    # registers and three rows more, from a cache line on; uniform slots; products of features
    memory = np.zeros(8 + n_scratch + tape.n_uniforms + (k + 1) * (k + 1))
    registers = memory.ctypes.data + -memory.ctypes.data % 64
    slots = registers + 8 * n_scratch
    first_slot = (slots - memory.ctypes.data) // 8
    memory[first_slot : first_slot + len(tape.constants)] = tape.constants
    bases = np.array([0, features.ctypes.data, slots, registers])
    steps = np.array([1, 8 * rows, 8, 8 * width])
    assembled = _code_of(tape)
    code = assembled.addresses(bases, steps)
    logs = _set_powers(code, assembled.powers, features)
    partials = [
        (bases[_SPACE[kind]] + steps[_SPACE[kind]] * index, 8 if kind == FEATURE else 0)
        for kind, index in derivatives
    ]
    # derivatives that are features come first in the sums
    fixed = [i for i, (kind, _) in enumerate(derivatives) if kind == FEATURE]
    order = fixed + [i for i, (kind, _) in enumerate(derivatives) if kind != FEATURE]
    # the vector, then counters, scratch for numpy's call interface, order and places of derivatives
    counters, loops, orders, places = FIELDS, FIELDS + 3, FIELDS + 19, FIELDS + 19 + k
    integers = np.zeros(places + 2 * k, dtype=np.int64)
    base = integers.ctypes.data
    integers[orders:places] = order
    integers[places:].reshape(k, 2)[:] = partials or np.empty((0, 2))
    n_uniform = len(tape.uniform_program)
    integers[:FIELDS] = (
        gram_of.address,
        gradient_of.address,
        run.address,
        _CLOCK,
        int(deadline * 1e9) if math.isfinite(deadline) else np.iinfo(np.int64).max,
        code.ctypes.data,
        n_uniform,
        code.ctypes.data + 8 * WIDTH * n_uniform,
        len(tape.row_program),
        base + 8 * places,
        slots + 8 * len(tape.constants),
        registers,
        registers + 8 * tape.n_registers * width,
        target.ctypes.data,
        rows,
        width,
        base + 8 * counters,
        base + 8 * loops,
        base + 8 * orders,
        len(fixed),
        slots + 8 * tape.n_uniforms,
    )
    arrays = (integers, memory, code, features, target, *logs)
    return Program(integers[:FIELDS], integers[counters : counters + 3], arrays)
