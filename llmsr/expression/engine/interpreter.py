"""The compiled interpreter of instruction tables, which calls numpy's own kernels.

An instruction row is `[opcode, loop, data, dst, base0, step0, stride0, base1, ...]`: addresses in bytes,
`step` bytes per row of the data (8 for a feature, 0 elsewhere), `stride` bytes per element inside a block
(0 for a uniform). Powers have the logarithms of their base's size as third operand where that is a feature,
then loop and data of exp and log.
"""

# mypy: disable-error-code="call-arg"
from __future__ import annotations

import math

import numpy as np

from llmsr.expression.engine.arithmetic import (
    ABS,
    ADD,
    DIV,
    MUL,
    NEG,
    SIGN,
    SUB,
    arithmetic,
    scaled,
    signed,
    sizes,
)
from llmsr.expression.engine.compiling import callback, jit
from llmsr.expression.engine.foreign import call_loop, integers, numbers
from llmsr.expression.engine.fusion import MUL_ADD, MUL_MUL, MUL_NEG, MUL_SUB, SUB_MUL, fused
from llmsr.expression.engine.trigonometry import sine_and_cosine

WIDTH = 17
CALL1, CALL2, COPY, WHERE, TRIG = 0, 1, 2, 3, 4
POWER, POWER_BY_LOG, POSITIVE_BY_LOG, UNIFORM_BASE = range(27, 31)
NATIVE = {
    name: 6 + i
    for i, name in enumerate(
        ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not", "isnan", "isinf", "isfinite")
    )
}
NATIVE |= {"copy": COPY, "where": WHERE, "sin": TRIG, "cos": TRIG, "sincos": TRIG}
NATIVE |= {"add": ADD, "sub": SUB, "mul": MUL, "div": DIV, "neg": NEG, "abs": ABS, "sign": SIGN}
NATIVE |= {"mul_mul": MUL_MUL, "mul_add": MUL_ADD, "mul_sub": MUL_SUB, "sub_mul": SUB_MUL, "mul_neg": MUL_NEG}


@jit
def wide(address, stride, width, spare):
    """The operand as a row of `width` numbers; a uniform is spread into the row at address `spare`."""
    if stride != 0:
        return numbers(address, width)
    row = numbers(spare, width)
    value = numbers(address, 1)[0]
    for i in range(width):
        row[i] = value
    return row


@jit
def native(opcode, a, b, c, out):
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
    loops = integers(loops_address, 16)
    # numpy and scipy loops may advance the pointers that they are given, so these are set every time
    loops[0] = source
    loops[1] = out
    loops[4] = width
    loops[5] = 1
    loops[6] = 1
    loops[8] = stride
    loops[9] = 8
    call_loop(loop, loops_address, loops_address + 32, loops_address + 64, data)


@jit
def _power(line, row, width, spare, loops_address):
    """A power by exp and log, several times cheaper than numpy's; False, and nothing done, where numpy's is
    needed.

    numpy's is slow on negative bases, one row after the other. Errs by a rounding of the exponential's
    argument, so that a power of size exp(y) has a relative error of y roundings.
    """
    opcode, out_address = line[0], line[3]
    a, b = line[4] + row * line[5], line[7] + row * line[8]
    work = numbers(spare, width)
    exponent = numbers(b, 1)[0]
    if opcode == UNIFORM_BASE:
        base = numbers(a, 1)[0]
        if not 0.0 < base < np.inf or base == 1.0:  # 1 to an infinite power is 1, not exp(inf * 0)
            return False
        scaled(numbers(b, width), math.log(base), work)
    elif opcode == POWER:
        if line[6] == 0 or line[9] != 0 or sizes(numbers(a, width), work) == 0:
            return False
        logs = spare + 8 * width
        _call_one(line[15], line[16], spare, 8, logs, width, loops_address)
        scaled(numbers(logs, width), exponent, work)
    else:
        scaled(numbers(line[10] + row * line[11], width), exponent, work)
    _call_one(line[13], line[14], spare, 8, out_address, width, loops_address)
    if opcode != UNIFORM_BASE and opcode != POSITIVE_BY_LOG:
        signed(numbers(a, width), exponent, numbers(out_address, width))
    return True


@callback("void(int64, int64, int64, int64, int64, int64)")
def run(code_address, size, row, width, spare, loops_address):
    """Executes `size` instructions for `width` rows from data row `row`.

    `spare`: three rows of scratch; `loops_address`: scratch for the call interface.
    """
    code = integers(code_address, size * WIDTH)
    loops = integers(loops_address, 16)
    second_spare = spare + 8 * width
    third_spare = second_spare + 8 * width
    for i in range(size):
        line = i * WIDTH
        opcode = code[line]
        out_address = code[line + 3]
        a = code[line + 4] + row * code[line + 5]
        if opcode == 4:
            source = wide(a, code[line + 6], width, spare)
            sines = out_address if out_address != 0 else second_spare
            cosines = code[line + 7] if code[line + 7] != 0 else third_spare
            if not sine_and_cosine(source, numbers(sines, width), numbers(cosines, width)):
                _call_one(code[line + 1], code[line + 2], a, code[line + 6], sines, width, loops_address)
                _call_one(code[line + 8], code[line + 9], a, code[line + 6], cosines, width, loops_address)
        elif opcode == 0:
            _call_one(code[line + 1], code[line + 2], a, code[line + 6], out_address, width, loops_address)
        elif ADD <= opcode <= SIGN:
            b = code[line + 7] + row * code[line + 8]
            arithmetic(opcode, a, code[line + 6], b, code[line + 9], out_address, width)
        elif opcode >= MUL_MUL:
            b = code[line + 7] + row * code[line + 8]
            c = code[line + 10] + row * code[line + 11]
            fused(opcode, a, b, code[line + 9], c, code[line + 12], out_address, width)
        elif opcode >= POWER and _power(code[line : line + WIDTH], row, width, spare, loops_address):
            continue
        elif opcode == CALL2 or opcode >= POWER:
            loops[0] = a
            loops[1] = code[line + 7] + row * code[line + 8]
            loops[2] = out_address
            loops[4] = width
            loops[8] = code[line + 6]
            loops[9] = code[line + 9]
            loops[10] = 8
            call_loop(code[line + 1], loops_address, loops_address + 32, loops_address + 64, code[line + 2])
        else:
            first = wide(a, code[line + 6], width, spare)
            second = first
            third = first
            if opcode == 3 or 6 <= opcode <= 14:
                second = wide(code[line + 7] + row * code[line + 8], code[line + 9], width, second_spare)
            if opcode == 3:
                third = wide(code[line + 10] + row * code[line + 11], code[line + 12], width, third_spare)
            native(opcode, first, second, third, numbers(out_address, width))
