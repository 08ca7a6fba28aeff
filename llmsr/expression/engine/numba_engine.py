"""The compiled engine: a program is a table that an interpreter executes; nothing is compiled per equation.

A tape's instructions become a table of integers, first without addresses, since it is not yet known where its
data and results lie. Uniforms are results that depend on parameters alone: they have slots and are computed
once per evaluation. The rest is computed block by block in registers that stay in the processor's cache.

Compiled callers see a program as a vector of integers and reach its sums through an address in it: a call
that the compiler cannot look into is not copied into every caller, which keeps compilation short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from llmsr.expression.engine.compiling import (
    call_clock,
    call_gram,
    callback,
    clock_address,
    integers,
    jit,
    jit_reassociating,
    loop_address,
    numbers,
)
from llmsr.expression.engine.interpreter import LOOPS, WIDTH, run
from llmsr.expression.engine.kept import alone, note_complete
from llmsr.expression.engine.tape import Tape
from llmsr.expression.operations import CALL, COPY, OPS, POWER, TRIG

NAME = "numba"
# registers of so many rows stay in the first two caches, and an instruction costs far more than its dispatch;
# 256 and 384 were no faster
ROWS_OF_BLOCK = 512
_CLOCK = clock_address()


# ---- from the tape to a table of instructions

NUMBER, FEATURE, UNIFORM, REGISTER = range(4)
"""What an integer of the table is: itself, or counted from the first feature, slot or register."""
TWINS = {"sin": "cos", "cos": "sin"}

Place = tuple[int, int]
"""(FEATURE, UNIFORM or REGISTER; index)"""

_LOOPS: dict[str, Place] = {
    name: loop_address(row.function)  # type: ignore[arg-type]
    for name, row in OPS.items()
    if row.opcode in (CALL, TRIG, POWER) and not row.boolean
}
_OPCODES = {name: row.opcode for name, row in OPS.items()} | {"copy": COPY}


@dataclass(frozen=True)
class Code:
    """Instructions, those of uniforms first: shape (instructions, WIDTH, 2), each integer after its kind.

    The first `constants` are kept in the first slots, the parameters in the slots after them.
    """

    table: np.ndarray
    n_uniform: int
    constants: tuple[float, ...]
    n_slots: int
    n_registers: int

    def bound(self, bases: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The table with addresses: `bases` and `steps` in bytes, for every kind of integer."""
        kinds = self.table[:, :, 0]
        found: np.ndarray = bases[kinds] + steps[kinds] * self.table[:, :, 1]
        return found


def _line(op: str, dst: Place, args: list[Place], second: Place = (NUMBER, 0)) -> list[Place]:
    """An instruction; `second` is the place of the cosine where `op` is the sine."""
    uniform = dst[0] == UNIFORM
    line = [(NUMBER, _OPCODES[op]), *((NUMBER, n) for n in _LOOPS.get(op, (0, 0))), dst]
    for kind, index in args:
        stride = 0 if kind == UNIFORM and not uniform else 8
        line += [(kind, index), (NUMBER, 8 if kind == FEATURE else 0), (NUMBER, stride)]
    if op == "sin":
        line += [second, (NUMBER, 0), (NUMBER, 8), *((NUMBER, n) for n in _LOOPS["cos"])]
    elif len(args) == 1:
        line += [dst, (NUMBER, 0), (NUMBER, 8)]  # a loop's second pointer is then where its result goes
    return line + [(NUMBER, 0)] * (WIDTH - len(line))


def assembled(tape: Tape) -> Code:
    """The code of a tape: derivatives and value end in the first registers, the value in one of its own."""
    nodes, outputs = tape.nodes, tape.outputs
    constants = [i for i, node in enumerate(nodes) if node.op == "const"]
    places: dict[int, Place] = {i: (UNIFORM, slot) for slot, i in enumerate(constants)}
    varies: list[bool] = []
    for i, node in enumerate(nodes):
        varies.append(node.op == "column" or any(varies[a] for a in node.args))
        if node.op == "column":
            places[i] = (FEATURE, int(node.value))  # type: ignore[arg-type]
        elif node.op == "param":
            places[i] = (UNIFORM, len(constants) + int(node.value))  # type: ignore[arg-type]
    # derivatives and value get the first registers, so that the sums read one block of memory
    slots = _Places(UNIFORM, len(constants) + tape.n_params)
    registers = _Places(REGISTER, len(outputs))
    inner = [i for i, node in enumerate(nodes) if node.args]
    uniform = _program(tape, [i for i in inner if not varies[i]], places, slots)
    for register, output in enumerate(outputs):
        if varies[output] and nodes[output].args:
            registers.wanted.setdefault(output, (REGISTER, register))
    rows = _program(tape, [i for i in inner if varies[i]], places, registers)
    for register, output in enumerate(outputs):
        # a value that is also a derivative is copied: residuals overwrite the value's register
        if places[output] != (REGISTER, register):
            rows.append(_line("copy", (REGISTER, register), [places[output]]))
    return Code(
        np.array([*uniform, *rows], dtype=np.int64).reshape(-1, WIDTH, 2),
        len(uniform),
        tuple(float(nodes[i].value) for i in constants),  # type: ignore[arg-type]
        slots.count,
        registers.count,
    )


@dataclass
class _Places:
    """Slots or registers in use: results have theirs in `wanted`, else take a free one or a new one."""

    kind: int
    count: int
    wanted: dict[int, Place] = field(default_factory=dict)
    free: list[Place] = field(default_factory=list)

    def take(self, node: int = -1) -> Place:
        if node in self.wanted:
            return self.wanted[node]
        if self.free:
            return self.free.pop()
        self.count += 1
        return self.kind, self.count - 1


def _program(tape: Tape, body: list[int], places: dict[int, Place], taken: _Places) -> list[list[Place]]:
    """The instructions for the nodes of `body`, whose places are noted in `places`."""
    nodes = tape.nodes
    last_use = {a: i for i in body for a in nodes[i].args}
    trig = {(nodes[i].op, nodes[i].args[0]): i for i in body if nodes[i].op in TWINS}
    lines: list[list[Place]] = []
    for i in body:
        op, operands, _ = nodes[i]
        if i not in places:
            places[i] = taken.take(i)
            args = [places[a] for a in operands]
            if op in TWINS:
                # the sine and the cosine of one argument come out of one reduction
                twin = trig.get((TWINS[op], operands[0]))
                other = taken.take() if twin is None else taken.take(twin)
                sine, cosine = (places[i], other) if op == "sin" else (other, places[i])
                lines.append(_line("sin", sine, args, cosine))
                if twin is None:
                    taken.free.append(other)
                else:
                    places[twin] = other
            else:
                lines.append(_line(op, places[i], args))
        # freed after the result has its place: compiled loops are fast only where they don't write what
        # they read
        for a in set(operands):
            if last_use[a] == i and places[a][0] == REGISTER and a not in taken.wanted:
                taken.free.append(places[a])
    return lines


# ---- sums over all rows

# the entries of a program's vector: addresses, counts, what is noted, and scratch for calls of numpy's loops
GRAM, CLOCK, DEADLINE, UNIFORM_CODE, UNIFORM_SIZE, ROW_CODE, ROW_SIZE, PARAMETERS, REGISTERS = range(9)
SPARE, TARGET, ROWS, BLOCK, EVALUATIONS, LATE, SCRATCH = range(9, 16)
FIELDS = SCRATCH + LOOPS


@jit_reassociating
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@jit_reassociating
def _four_dots(a, b):
    """The products of `a` with four rows in one pass, which reads less memory than four passes."""
    first = second = third = fourth = 0.0
    for i in range(len(a)):
        first += a[i] * b[0, i]
        second += a[i] * b[1, i]
        third += a[i] * b[2, i]
        fourth += a[i] * b[3, i]
    return first, second, third, fourth


@jit
def _products(block, width, first, part):
    """A block's Gram matrix, lower triangle from row `first` on; False where an entry is not finite."""
    finite = True
    for i in range(first, len(block)):
        row, j = block[i, :width], 0
        while j + 3 <= i:
            part[i, j], part[i, j + 1], part[i, j + 2], part[i, j + 3] = _four_dots(row, block[j : j + 4])
            j += 4
        while j <= i:
            part[i, j] = _dot(row, block[j, :width])
            j += 1
        for j in range(i + 1):
            finite = finite and np.isfinite(part[i, j])
    return finite


@callback("int64(int64, int64, int64, int64, int64)")
def gram_of(program_address, theta_address, k, first, out_address):
    """What `gram` does, rows and columns below `first` left out; 0 where a value is not finite."""
    program = integers(program_address, FIELDS)
    out = numbers(out_address, (k + 1, k + 1))
    program[EVALUATIONS] += 1
    parameters, theta = numbers(program[PARAMETERS], (k,)), numbers(theta_address, (k,))
    for i in range(k):
        parameters[i] = theta[i]
    spare, loops = program[SPARE], program_address + 8 * SCRATCH
    run(program[UNIFORM_CODE], program[UNIFORM_SIZE], 0, 1, spare, loops)
    # derivatives and value are the first registers
    block = numbers(program[REGISTERS], (k + 1, program[BLOCK]))
    part = np.empty((k + 1, k + 1))
    out[:, :] = 0.0
    rows = program[ROWS]
    for start in range(0, rows, program[BLOCK]):
        width = min(program[BLOCK], rows - start)
        run(program[ROW_CODE], program[ROW_SIZE], start, width, spare, loops)
        residual, goal = block[k, :width], numbers(program[TARGET] + 8 * start, (width,))
        for i in range(width):
            residual[i] = goal[i] - residual[i]
        # one sum tells whether all are finite, at a fraction of what a look at each would cost
        if not np.isfinite(_dot(residual, residual)):
            out[k, k] = np.inf
            return 0
        if not _products(block, width, first, part):
            # seldom: the derivative of sqrt at 0, or of a branch that a mask keeps out of the value
            for i in range(k):
                for t in range(width):
                    if not np.isfinite(block[i, t]):
                        block[i, t] = 0.0
            if not _products(block, width, first, part):
                out[k, k] = np.inf
                return 0
        for i in range(first, k + 1):
            for j in range(i + 1):
                out[i, j] += part[i, j]
    for i in range(first, k + 1):
        for j in range(i):
            out[j, i] = out[i, j]
    return 1


@jit
def gram(program, theta, out):
    """Writes the Gram matrix of [derivatives, target - value] over all rows into `out` (k + 1, k + 1).

    `program` is a handle; `theta` and `out` are contiguous. Derivatives that are not finite count as zero.
    Returns False, with infinity in the last entry, where a value is not finite.
    """
    k = len(theta)
    return call_gram(program[GRAM], program.ctypes.data, theta.ctypes.data, k, 0, out.ctypes.data) != 0


@jit
def gradient(program, theta, out):
    """The mean squared error, infinite where a value is not finite; its gradient (k,) goes to `out`."""
    k = len(theta)
    g = np.empty((k + 1, k + 1))
    # the last row of the Gram matrix alone
    done = call_gram(program[GRAM], program.ctypes.data, theta.ctypes.data, k, k, g.ctypes.data)
    if done == 0:
        return np.inf
    for i in range(k):
        out[i] = -2.0 / program[ROWS] * g[k, i]
    return g[k, k] / program[ROWS]


@jit
def expired(program):
    """Whether the deadline has passed; noted in the program."""
    moment = np.empty(2, np.int64)
    call_clock(program[CLOCK], time.CLOCK_MONOTONIC, moment.ctypes.data)
    if moment[0] * 1_000_000_000 + moment[1] > program[DEADLINE]:
        program[LATE] = 1
    return program[LATE] != 0


# ---- programs


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
        return int(self.handle[EVALUATIONS])

    @property
    def was_late(self) -> bool:
        """Whether the deadline was seen to have passed."""
        return bool(self.handle[LATE])


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, `target` (rows,).

    `deadline` is in the clock of `time.monotonic`. The program owns its scratch space: one per thread.
    """
    if NAME not in tape.kept:
        tape.kept[NAME] = assembled(tape)
    code: Code = tape.kept[NAME]
    features, target = np.ascontiguousarray(features), np.ascontiguousarray(target)
    rows = len(target)
    width = min(ROWS_OF_BLOCK, max(8, rows))
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
    handle = np.zeros(FIELDS, dtype=np.int64)
    handle[:EVALUATIONS] = (
        gram_of.address,
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
