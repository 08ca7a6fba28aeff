"""The tape compiled once per machine: an interpreter of instruction tables that calls numpy's own kernels.

Nothing is compiled per expression. The interpreter itself is compiled by numba at first use and kept in
numba's on-disk cache. An instruction row is `[opcode, loop, data, dst, base0, step0, stride0, base1, ...]`:
addresses in bytes, `step` bytes per row of the data (8 for a feature, 0 elsewhere), `stride` bytes per
element inside a block (0 for a uniform).
"""

from __future__ import annotations

import ctypes
import time
from collections import namedtuple

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from llmsr.expression.graph import OPS
from llmsr.expression.tape import FEATURE, REGISTER, Instruction, Tape
from llmsr.expression.ufunc_loops import loop_address

NAME = "numba"
BLOCK = 512
WIDTH = 13
CALL1, CALL2, COPY, WHERE, SIN, COS = 0, 1, 2, 3, 4, 5
_NATIVE = {
    name: 6 + i
    for i, name in enumerate(
        ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "isnan", "isinf", "isfinite")
    )
}
_NATIVE |= {"copy": COPY, "where": WHERE, "sin": SIN, "cos": COS}
_ROUND = 1.5 * 2.0**52  # adding and subtracting it rounds to an integer
_TRIG_LIMIT = 5.0e5  # beyond it the reduction by three parts of pi/2 loses digits

Program = namedtuple(
    "Program",
    "uniform_code row_code partials slots n_constants registers memory target counters clock deadline loops",
)
Program.__doc__ = """A tape bound to data, as arrays that compiled code can read; see `bind`."""

jit = njit(cache=True, nogil=True, error_model="numpy")
jit_reassociating = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@intrinsic
def _call_loop(typingctx, function, args, dimensions, strides, data):
    signature = types.void(types.int64, types.int64, types.int64, types.int64, types.int64)

    def codegen(context, builder, signature, values):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer] * 4).as_pointer()
        call = builder.inttoptr(values[0], kind)
        builder.call(call, [builder.inttoptr(v, pointer) for v in values[1:]])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _call_clock(typingctx, function, timespec):
    signature = types.void(types.int64, types.int64)

    def codegen(context, builder, signature, values):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), pointer]).as_pointer()
        call = builder.inttoptr(values[0], kind)
        monotonic = ir.Constant(ir.IntType(32), time.CLOCK_MONOTONIC)
        builder.call(call, [monotonic, builder.inttoptr(values[1], pointer)])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _pointer(typingctx, address):
    signature = types.CPointer(types.float64)(types.int64)

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return signature, codegen


@jit
def _wide(address, stride, width, spare):
    """The operand as a row of `width` numbers; a uniform is spread into `spare`."""
    if stride != 0:
        return carray(_pointer(address), (width,))
    row = spare[:width]
    row[:] = carray(_pointer(address), (1,))[0]
    return row


@jit
def _sine(x, out, shift):
    """sin(x) (`shift` 0) or cos(x) (`shift` 1) to about an ulp; False for huge arguments."""
    # counted, because an integer sum is turned into vector instructions where a maximum is not
    small = 0
    for i in range(len(x)):
        small += 1 if abs(x[i]) < _TRIG_LIMIT else 0
    if small < len(x):
        return False
    for i in range(len(x)):
        turns = (x[i] * 0.6366197723675814 + _ROUND) - _ROUND
        first = x[i] - turns * 1.57079632673412561417e00
        second = turns * 6.07710050630396597660e-11
        high = first - second
        y = high - (turns * 2.02226624879595063154e-21 - ((first - high) - second))
        z = y * y
        s = y + y * z * (
            -1.66666666666666324348e-01
            + z
            * (
                8.33333333332248946124e-03
                + z
                * (
                    -1.98412698298579493134e-04
                    + z
                    * (
                        2.75573137070700676789e-06
                        + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)
                    )
                )
            )
        )
        tail = z * (
            4.16666666666666019037e-02
            + z
            * (
                -1.38888888888741095749e-03
                + z
                * (
                    2.48015872894767294178e-05
                    + z
                    * (
                        -2.75573143513906633035e-07
                        + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)
                    )
                )
            )
        )
        half = 0.5 * z
        w = 1.0 - half
        c = w + (((1.0 - w) - half) + z * tail)
        turns = turns + shift
        quarter = turns - 4.0 * ((turns * 0.25 - 0.375 + _ROUND) - _ROUND)
        value = c if (quarter == 1.0) | (quarter == 3.0) else s
        out[i] = -value if quarter >= 2.0 else value
    return True


@jit
def _native(opcode, a, b, c, out):
    n = len(out)
    if opcode == 2:
        for i in range(n):
            out[i] = a[i]
    elif opcode == 3:
        for i in range(n):
            out[i] = b[i] if a[i] != 0.0 else c[i]
    elif opcode == 6:
        for i in range(n):
            out[i] = 1.0 if a[i] < b[i] else 0.0
    elif opcode == 7:
        for i in range(n):
            out[i] = 1.0 if a[i] <= b[i] else 0.0
    elif opcode == 8:
        for i in range(n):
            out[i] = 1.0 if a[i] > b[i] else 0.0
    elif opcode == 9:
        for i in range(n):
            out[i] = 1.0 if a[i] >= b[i] else 0.0
    elif opcode == 10:
        for i in range(n):
            out[i] = 1.0 if a[i] == b[i] else 0.0
    elif opcode == 11:
        for i in range(n):
            out[i] = 1.0 if a[i] != b[i] else 0.0
    elif opcode == 12:
        for i in range(n):
            out[i] = 1.0 if (a[i] != 0.0) & (b[i] != 0.0) else 0.0
    elif opcode == 13:
        for i in range(n):
            out[i] = 1.0 if (a[i] != 0.0) | (b[i] != 0.0) else 0.0
    elif opcode == 14:
        for i in range(n):
            out[i] = 1.0 if (a[i] != 0.0) != (b[i] != 0.0) else 0.0
    elif opcode == 15:
        for i in range(n):
            out[i] = 1.0 if a[i] == 0.0 else 0.0
    elif opcode == 16:
        for i in range(n):
            out[i] = 1.0 if a[i] != a[i] else 0.0
    elif opcode == 17:
        for i in range(n):
            out[i] = 1.0 if abs(a[i]) == np.inf else 0.0
    else:
        for i in range(n):
            out[i] = 1.0 if abs(a[i]) < np.inf else 0.0


@jit
def _run(code, row, width, spare, loops):
    """Executes an instruction table for `width` rows from data row `row`; `loops` is scratch for calls."""
    address = loops.ctypes.data
    for i in range(len(code)):
        line = code[i]
        opcode = line[0]
        a = line[4] + row * line[5]
        trig = opcode == 4 or opcode == 5
        if trig:
            source = _wide(a, line[6], width, spare[0])
            if _sine(source, carray(_pointer(line[3]), (width,)), float(opcode - 4)):
                continue
        if opcode <= 1 or trig:
            # numpy and scipy loops may advance the pointers that they are given, so these are set every time
            loops[0] = a
            if opcode == 1:
                loops[1] = line[7] + row * line[8]
                loops[2] = line[3]
                loops[8] = line[6]
                loops[9] = line[9]
                loops[10] = 8
            else:
                loops[1] = line[3]
                loops[8] = line[6]
                loops[9] = 8
            loops[4] = width
            loops[5] = 1
            loops[6] = 1
            _call_loop(line[1], address, address + 32, address + 64, line[2])
        else:
            out = carray(_pointer(line[3]), (width,))
            first = _wide(a, line[6], width, spare[0])
            second = first
            third = first
            if opcode == 3 or 6 <= opcode <= 14:
                second = _wide(line[7] + row * line[8], line[9], width, spare[1])
            if opcode == 3:
                third = _wide(line[10] + row * line[11], line[12], width, spare[2])
            _native(opcode, first, second, third, out)


@jit_reassociating
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@jit_reassociating
def _four_dots(a, b, c, d, e):
    """The products of `a` with four other rows in one pass, which reads less memory than four passes."""
    first = second = third = fourth = 0.0
    for i in range(len(a)):
        first += a[i] * b[i]
        second += a[i] * c[i]
        third += a[i] * d[i]
        fourth += a[i] * e[i]
    return first, second, third, fourth


@jit
def _partial(program, i, start, width):
    return carray(_pointer(program.partials[i, 0] + start * program.partials[i, 1]), (width,))


@jit
def _products(program, k, start, width, part):
    """One block's Gram matrix, lower triangle, value last; False where an entry is not finite."""
    finite = True
    for i in range(k + 1):
        row = program.registers[k, :width] if i == k else _partial(program, i, start, width)
        j = 0
        while j + 3 <= i and j + 3 < k:
            part[i, j], part[i, j + 1], part[i, j + 2], part[i, j + 3] = _four_dots(
                row,
                _partial(program, j, start, width),
                _partial(program, j + 1, start, width),
                _partial(program, j + 2, start, width),
                _partial(program, j + 3, start, width),
            )
            j += 4
        while j <= i:
            other = row if j == i else _partial(program, j, start, width)
            part[i, j] = _dot(row, other)
            j += 1
        for j in range(i + 1):
            finite = finite and np.isfinite(part[i, j])
    return finite


@jit
def _set_parameters(program, theta):
    k = len(theta)
    program.counters[0] += 1
    program.slots[program.n_constants : program.n_constants + k] = theta
    _run(program.uniform_code, 0, 1, program.registers[len(program.registers) - 3 :], program.loops)


@jit
def _residual(program, k, start, width):
    """Runs a block and turns the value into target - value; returns its sum of squares."""
    registers = program.registers
    _run(program.row_code, start, width, registers[len(registers) - 3 :], program.loops)
    value = registers[k, :width]
    goal = program.target[start : start + width]
    for i in range(width):
        value[i] = goal[i] - value[i]
    return _dot(value, value)


@jit
def _cleared(program, k, start, width):
    """Sets derivatives that are not finite to zero; False where one is a feature, which must stay."""
    for i in range(k):
        row = _partial(program, i, start, width)
        for t in range(width):
            if not np.isfinite(row[t]):
                if program.partials[i, 1] != 0:
                    return False
                row[t] = 0.0
    return True


@jit
def gram(program, theta, out):
    """Writes the Gram matrix of [derivatives, target - value] over all rows into `out` (k + 1, k + 1).

    Derivatives that are not finite count as zero. Returns False, with infinity in the last entry, where a
    value is not finite.
    """
    k = len(theta)
    _set_parameters(program, theta)
    out[:, :] = 0.0
    part = np.empty((k + 1, k + 1))
    rows = len(program.target)
    block = program.registers.shape[1]
    for start in range(0, rows, block):
        width = min(block, rows - start)
        if not np.isfinite(_residual(program, k, start, width)):
            out[k, k] = np.inf
            return False
        if not _products(program, k, start, width, part) and not (
            _cleared(program, k, start, width) and _products(program, k, start, width, part)
        ):
            out[k, k] = np.inf
            return False
        for i in range(k + 1):
            for j in range(i + 1):
                out[i, j] += part[i, j]
    for i in range(k + 1):
        for j in range(i):
            out[j, i] = out[i, j]
    return True


@jit
def gradient(program, theta, out):
    """The mean squared error, infinite where a value is not finite; its gradient (k,) goes to `out`."""
    k = len(theta)
    _set_parameters(program, theta)
    out[:] = 0.0
    total = 0.0
    rows = len(program.target)
    block = program.registers.shape[1]
    for start in range(0, rows, block):
        width = min(block, rows - start)
        total += _residual(program, k, start, width)
        if not np.isfinite(total):
            return np.inf
        residual = program.registers[k, :width]
        for i in range(k):
            product = _dot(_partial(program, i, start, width), residual)
            if not np.isfinite(product):
                if not _cleared(program, k, start, width):
                    return np.inf
                product = _dot(_partial(program, i, start, width), residual)
            out[i] -= product
    for i in range(k):
        out[i] *= 2.0 / rows
    return total / rows


@jit
def expired(program):
    """Whether the deadline has passed; noted in the counters."""
    moment = np.empty(2, np.int64)
    _call_clock(program.clock, moment.ctypes.data)
    if moment[0] + 1e-9 * moment[1] > program.deadline:
        program.counters[1] = 1
        return True
    return False


def _clock_address() -> int:
    library = ctypes.CDLL(None)
    address = ctypes.cast(library.clock_gettime, ctypes.c_void_p).value
    if address is None:
        raise OSError("no clock_gettime")
    return address


_ADDRESSES: dict[str, tuple[int, int]] = {
    name: loop_address(op.kernel) for name, op in OPS.items() if name not in _NATIVE or name in ("sin", "cos")
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
    uniform: bool,
) -> np.ndarray:
    slot_base, row_base = slots.ctypes.data, registers.ctypes.data
    feature_base, feature_row = features.ctypes.data, 8 * features.shape[1]
    register_row = 8 * registers.shape[1]
    table = np.zeros((len(program), WIDTH), dtype=np.int64)
    for i, instruction in enumerate(program):
        op, args = instruction.op, instruction.args
        loop, data = _ADDRESSES.get(op, (0, 0))
        opcode = _NATIVE.get(op)
        if opcode is None:
            opcode = CALL1 if len(args) == 1 else CALL2
        dst = slot_base + 8 * instruction.dst if uniform else row_base + register_row * instruction.dst
        line = [opcode, loop, data, dst]
        for kind, index in args:
            if kind == REGISTER:
                line += (row_base + register_row * index, 0, 8)
            elif kind == FEATURE:
                line += (feature_base + feature_row * index, 8, 8)
            else:
                line += (slot_base + 8 * index, 0, 8 if uniform else 0)
        table[i, : len(line)] = line
    return table


def bind(tape: Tape, features: np.ndarray, target: np.ndarray, deadline: float = np.inf) -> Program:
    """A program for `gram`: `features` (features, rows) as from `Tape.features`, contiguous; `target`
    (rows,).

    `deadline` is in the clock of `time.monotonic`. The program owns its scratch space: one per thread.
    """
    features = np.ascontiguousarray(features)
    target = np.ascontiguousarray(target)
    width = min(BLOCK, max(8, len(target)))
    registers = _aligned((tape.n_registers + 3, width))
    slots = np.zeros(tape.n_uniforms)
    slots[: len(tape.constants)] = tape.constants
    partials = np.zeros((tape.n_params, 2), dtype=np.int64)
    for i, (kind, index) in enumerate(tape.partials):
        source = features if kind == FEATURE else registers
        partials[i] = (source.ctypes.data + 8 * source.shape[1] * index, 8 if kind == FEATURE else 0)
    return Program(
        _table(tape.uniform_program, slots, features, registers, True),
        _table(tape.row_program, slots, features, registers, False),
        partials,
        slots,
        len(tape.constants),
        registers,
        features,
        target,
        np.zeros(2, dtype=np.int64),
        _CLOCK,
        float(deadline),
        np.zeros(16, dtype=np.int64),
    )
