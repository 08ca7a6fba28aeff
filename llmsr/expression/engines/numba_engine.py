"""The tape compiled once per machine: an interpreter of instruction tables that calls numpy's own kernels.

Nothing is compiled per expression. The interpreter itself is compiled by numba at first use and kept in
numba's on-disk cache (beside this file, or in the user's cache folder, or in `NUMBA_CACHE_DIR`). An
instruction row is `[opcode, loop, data, dst, base0, step0, stride0, base1, ...]`: addresses in bytes,
`step` bytes per row of the data (8 for a feature, 0 elsewhere), `stride` bytes per element inside a block
(0 for a uniform).

Compiled callers see a program as a vector of addresses and reach `gram` and `gradient` through them: a call
that the compiler cannot look into is not copied into every caller, which keeps compilation short.
"""

# mypy: disable-error-code="call-arg, var-annotated"
from __future__ import annotations

import ctypes
import math
import time
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from llmsr.expression.engines.tape import FEATURE, REGISTER, Instruction, Tape
from llmsr.expression.engines.ufunc_loops import loop_address
from llmsr.expression.graph import OPS

NAME = "numba"
BLOCK = 512
WIDTH = 13
CALL1, CALL2, COPY, WHERE, TRIG = 0, 1, 2, 3, 4
_NATIVE = {
    name: 6 + i
    for i, name in enumerate(
        ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "isnan", "isinf", "isfinite")
    )
}
_NATIVE |= {"copy": COPY, "where": WHERE, "sin": TRIG, "cos": TRIG, "sincos": TRIG}
_PADDING = [0] * WIDTH
_ROUND = 1.5 * 2.0**52  # adding and subtracting it rounds to an integer
_TRIG_LIMIT = 5.0e5  # beyond it the reduction by three parts of pi/2 loses digits

# the entries of a program's vector: addresses of compiled functions and arrays, and counts
GRAM, GRADIENT, RUN, CLOCK, DEADLINE = 0, 1, 2, 3, 4
UNIFORM_CODE, UNIFORM_SIZE, ROW_CODE, ROW_SIZE = 5, 6, 7, 8
PARTIALS, PARAMETERS, REGISTERS, SPARE, TARGET, ROWS, STRIDE, COUNTERS, LOOPS = range(9, 18)
FIELDS = 18

jit = njit(cache=True, nogil=True, error_model="numpy")
jit_contracting = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
jit_reassociating = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@dataclass(frozen=True)
class Program:
    """A tape bound to data: `handle` is what compiled code takes, `arrays` keeps the memory that it points
    to.

    `counters`: evaluations, and 1 once the deadline was seen to have passed. One program per thread.
    """

    handle: np.ndarray
    counters: np.ndarray
    arrays: tuple[np.ndarray, ...]


def _foreign(result, *arguments):
    """An intrinsic that calls the function at an address, its first argument, with the others, all int64."""
    kinds = {"void": ir.VoidType(), "int": ir.IntType(64), "float": ir.DoubleType(), "int32": ir.IntType(32)}
    kinds["pointer"] = ir.IntType(8).as_pointer()
    returned = {"void": types.void, "int": types.int64, "float": types.float64}[result]
    signature = returned(*[types.int64] * (len(arguments) + 1))

    def codegen(context, builder, signature, values):
        shape = ir.FunctionType(kinds[result], [kinds[a] for a in arguments])
        call = builder.inttoptr(values[0], shape.as_pointer())
        converted = []
        for kind, value in zip(arguments, values[1:], strict=True):
            if kind == "pointer":
                value = builder.inttoptr(value, kinds[kind])
            elif kind == "int32":
                value = builder.trunc(value, kinds[kind])
            converted.append(value)
        answer = builder.call(call, converted)
        return context.get_dummy_value() if result == "void" else answer

    return signature, codegen


@intrinsic
def _call_loop(typingctx, function, args, dimensions, strides, data):
    return _foreign("void", "pointer", "pointer", "pointer", "pointer")


@intrinsic
def _call_clock(typingctx, function, kind, timespec):
    return _foreign("void", "int32", "pointer")


@intrinsic
def _call_run(typingctx, function, code, size, row, width, spare, loops):
    return _foreign("void", *["int"] * 6)


@intrinsic
def _call_gram(typingctx, function, program, theta, k, out):
    return _foreign("int", *["int"] * 4)


@intrinsic
def _call_gradient(typingctx, function, program, theta, k, out):
    return _foreign("float", *["int"] * 4)


@intrinsic
def _pointer(typingctx, address):
    signature = types.CPointer(types.float64)(types.int64)

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def _pointer_to_integers(typingctx, address):
    signature = types.CPointer(types.int64)(types.int64)

    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return signature, codegen


@jit
def _numbers(address, size):
    return carray(_pointer(address), (size,))


@jit
def _integers(address, size):
    return carray(_pointer_to_integers(address), (size,))


@jit
def _wide(address, stride, width, spare):
    """The operand as a row of `width` numbers; a uniform is spread into the row at address `spare`."""
    if stride != 0:
        return _numbers(address, width)
    row = _numbers(spare, width)
    value = _numbers(address, 1)[0]
    for i in range(width):
        row[i] = value
    return row


@jit_contracting
def _trig(x, sines, cosines):
    """sin(x) and cos(x) to about an ulp; False, and nothing done, for huge arguments."""
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
        quarter = turns - 4.0 * ((turns * 0.25 - 0.375 + _ROUND) - _ROUND)
        odd = (quarter == 1.0) | (quarter == 3.0)
        sine = c if odd else s
        cosine = s if odd else c
        sines[i] = -sine if quarter >= 2.0 else sine
        cosines[i] = -cosine if (quarter == 1.0) | (quarter == 2.0) else cosine
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
def _call_one(loop, data, source, stride, out, width, loops_address):
    """Calls an inner loop of one argument."""
    loops = _integers(loops_address, 16)
    # numpy and scipy loops may advance the pointers that they are given, so these are set every time
    loops[0] = source
    loops[1] = out
    loops[4] = width
    loops[5] = 1
    loops[6] = 1
    loops[8] = stride
    loops[9] = 8
    _call_loop(loop, loops_address, loops_address + 32, loops_address + 64, data)


@cfunc("void(int64, int64, int64, int64, int64, int64)", cache=True, error_model="numpy")
def _run(code_address, size, row, width, spare, loops_address):
    """Executes `size` instructions for `width` rows from data row `row`.

    `spare`: three rows of scratch; `loops_address`: scratch for the call interface.
    """
    code = _integers(code_address, size * WIDTH)
    loops = _integers(loops_address, 16)
    second_spare = spare + 8 * width
    third_spare = second_spare + 8 * width
    for i in range(size):
        line = i * WIDTH
        opcode = code[line]
        out_address = code[line + 3]
        a = code[line + 4] + row * code[line + 5]
        if opcode == 4:
            source = _wide(a, code[line + 6], width, spare)
            sines = out_address if out_address != 0 else second_spare
            cosines = code[line + 7] if code[line + 7] != 0 else third_spare
            if not _trig(source, _numbers(sines, width), _numbers(cosines, width)):
                _call_one(code[line + 1], code[line + 2], a, code[line + 6], sines, width, loops_address)
                _call_one(code[line + 8], code[line + 9], a, code[line + 6], cosines, width, loops_address)
        elif opcode == 0:
            _call_one(code[line + 1], code[line + 2], a, code[line + 6], out_address, width, loops_address)
        elif opcode == 1:
            loops[0] = a
            loops[1] = code[line + 7] + row * code[line + 8]
            loops[2] = out_address
            loops[4] = width
            loops[8] = code[line + 6]
            loops[9] = code[line + 9]
            loops[10] = 8
            _call_loop(code[line + 1], loops_address, loops_address + 32, loops_address + 64, code[line + 2])
        else:
            first = _wide(a, code[line + 6], width, spare)
            second = first
            third = first
            if opcode == 3 or 6 <= opcode <= 14:
                second = _wide(code[line + 7] + row * code[line + 8], code[line + 9], width, second_spare)
            if opcode == 3:
                third = _wide(code[line + 10] + row * code[line + 11], code[line + 12], width, third_spare)
            _native(opcode, first, second, third, _numbers(out_address, width))


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
    place = _integers(program[PARTIALS] + 16 * i, 2)
    return _numbers(place[0] + start * place[1], width)


@jit
def _value(program, k, width):
    return _numbers(program[REGISTERS] + 8 * program[STRIDE] * k, width)


@jit
def _products(program, k, start, width, part):
    """One block's Gram matrix, lower triangle, value last; False where an entry is not finite."""
    finite = True
    for i in range(k + 1):
        row = _value(program, k, width) if i == k else _partial(program, i, start, width)
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
    """Counts an evaluation, copies the parameters in and runs the uniform program."""
    _integers(program[COUNTERS], 1)[0] += 1
    slots = _numbers(program[PARAMETERS], len(theta))
    for i in range(len(theta)):
        slots[i] = theta[i]
    _call_run(
        program[RUN], program[UNIFORM_CODE], program[UNIFORM_SIZE], 0, 1, program[SPARE], program[LOOPS]
    )


@jit
def _residual(program, k, start, width):
    """Runs a block and turns the value into target - value; returns its sum of squares."""
    _call_run(
        program[RUN], program[ROW_CODE], program[ROW_SIZE], start, width, program[SPARE], program[LOOPS]
    )
    value = _value(program, k, width)
    goal = _numbers(program[TARGET] + 8 * start, width)
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
                if _integers(program[PARTIALS] + 16 * i, 2)[1] != 0:
                    return False
                row[t] = 0.0
    return True


@cfunc("int64(int64, int64, int64, int64)", cache=True, error_model="numpy")
def _gram(program_address, theta_address, k, out_address):
    program = _integers(program_address, FIELDS)
    out = carray(_pointer(out_address), (k + 1, k + 1))
    _set_parameters(program, _numbers(theta_address, k))
    part = np.empty((k + 1, k + 1))
    for i in range(k + 1):
        for j in range(k + 1):
            out[i, j] = 0.0
    rows, block = program[ROWS], program[STRIDE]
    for start in range(0, rows, block):
        width = min(block, rows - start)
        good = np.isfinite(_residual(program, k, start, width))
        if good and not _products(program, k, start, width, part):
            good = _cleared(program, k, start, width) and _products(program, k, start, width, part)
        if not good:
            out[k, k] = np.inf
            return 0
        for i in range(k + 1):
            for j in range(i + 1):
                out[i, j] += part[i, j]
    for i in range(k + 1):
        for j in range(i):
            out[j, i] = out[i, j]
    return 1


@cfunc("float64(int64, int64, int64, int64)", cache=True, error_model="numpy")
def _gradient(program_address, theta_address, k, out_address):
    program = _integers(program_address, FIELDS)
    out = _numbers(out_address, k)
    _set_parameters(program, _numbers(theta_address, k))
    for i in range(k):
        out[i] = 0.0
    total = 0.0
    rows, block = program[ROWS], program[STRIDE]
    for start in range(0, rows, block):
        width = min(block, rows - start)
        total += _residual(program, k, start, width)
        if not np.isfinite(total):
            return np.inf
        residual = _value(program, k, width)
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
def gram(program, theta, out):
    """Writes the Gram matrix of [derivatives, target - value] over all rows into `out` (k + 1, k + 1).

    `program` is a handle; `theta` and `out` are contiguous. Derivatives that are not finite count as zero.
    Returns False, with infinity in the last entry, where a value is not finite.
    """
    done = _call_gram(program[GRAM], program.ctypes.data, theta.ctypes.data, len(theta), out.ctypes.data)
    return done != 0


@jit
def gradient(program, theta, out):
    """The mean squared error, infinite where a value is not finite; its gradient (k,) goes to `out`."""
    return _call_gradient(
        program[GRADIENT], program.ctypes.data, theta.ctypes.data, len(theta), out.ctypes.data
    )


@jit
def expired(program):
    """Whether the deadline has passed; noted in the counters."""
    moment = np.empty(2, np.int64)
    _call_clock(program[CLOCK], time.CLOCK_MONOTONIC, moment.ctypes.data)
    if moment[0] * 1_000_000_000 + moment[1] > program[DEADLINE]:
        _integers(program[COUNTERS], 2)[1] = 1
        return True
    return False


def _clock_address() -> int:
    library = ctypes.CDLL(None)
    address = ctypes.cast(library.clock_gettime, ctypes.c_void_p).value
    if address is None:
        raise OSError("no clock_gettime")
    return address


_ADDRESSES: dict[str, tuple[int, int]] = {
    name: loop_address(op.kernel)  # type: ignore[arg-type]
    for name, op in OPS.items()
    if name not in _NATIVE or name in ("sin", "cos")
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
    lines: list[int] = []
    for instruction in program:
        op, args = instruction.op, instruction.args
        loop, data = _ADDRESSES.get(op, (0, 0))
        opcode = _NATIVE.get(op)
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
        lines += line
        lines += _PADDING[len(line) :]
    return np.array(lines, dtype=np.int64).reshape(len(program), WIDTH)


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
    uniform_code = _table(tape.uniform_program, slots, features, registers, True)
    row_code = _table(tape.row_program, slots, features, registers, False)
    partials = np.zeros((tape.n_params, 2), dtype=np.int64)
    for i, (kind, index) in enumerate(tape.partials):
        source = features if kind == FEATURE else registers
        partials[i] = (source.ctypes.data + 8 * source.shape[1] * index, 8 if kind == FEATURE else 0)
    counters = np.zeros(2, dtype=np.int64)
    loops = np.zeros(16, dtype=np.int64)
    handle = np.array(
        [
            _gram.address,
            _gradient.address,
            _run.address,
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
        ],
        dtype=np.int64,
    )
    arrays = (uniform_code, row_code, partials, slots, registers, features, target, loops)
    return Program(handle, counters, arrays)
