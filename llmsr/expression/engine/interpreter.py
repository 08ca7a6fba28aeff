"""The compiled interpreter of instruction tables.

An instruction is a row of WIDTH integers `[opcode, loop, data, dst, base0, step0, stride0, base1, ...]`:
addresses in bytes, `step` bytes per row of the data (8 for a feature, 0 elsewhere), `stride` bytes per
element inside a block (0 for a uniform). `loop` and `data` are numpy's or scipy's inner loop for it.
"""

from __future__ import annotations

import numpy as np

from llmsr.expression.engine.addresses import call_loop, integers, numbers
from llmsr.expression.engine.compiling import jit
from llmsr.expression.engine.kernels import (
    binary,
    choose,
    number_raised,
    raised_to_number,
    sine_and_cosine,
    unary,
)
from llmsr.expression.operations import ADD, COPY, POWER, TRIG, WHERE

WIDTH = 13
LOOPS = 11  # integers of scratch for numpy's call interface: three pointers, a length, three strides


@jit
def _spread(address, stride, width, spare):
    """The operand as a row of `width` numbers; a uniform is spread into the row at address `spare`."""
    if stride != 0:
        return numbers(address, (width,))
    row = numbers(spare, (width,))
    value = numbers(address, (1,))[0]
    for i in range(width):
        row[i] = value
    return row


@jit
def _call(loop, data, a, a_stride, b, b_stride, out, width, loops_address):
    """Calls an inner loop of two arguments, or of one where `b` is `out`."""
    loops = integers(loops_address, LOOPS)
    # set every time, since the loops may advance the pointers that they are given
    loops[0], loops[1], loops[2] = a, b, out
    loops[4] = width
    loops[8], loops[9], loops[10] = a_stride, b_stride, 8
    call_loop(loop, loops_address, loops_address + 32, loops_address + 64, data)


@jit
def _power(a, a_stride, b, b_stride, out, width):
    """A power by exp and log; False, and nothing done, where only numpy's will do."""
    # where both vary over rows, signs and special cases differ from row to row
    if a_stride != 0 and b_stride == 0:
        exponent = numbers(b, (1,))[0]
        if np.isfinite(exponent):
            raised_to_number(numbers(a, (width,)), exponent, out)
            return True
    elif a_stride == 0:
        base = numbers(a, (1,))[0]
        if 0.0 < base < np.inf and base != 1.0:  # 1 to an infinite power is 1, not exp(inf * 0)
            number_raised(base, numbers(b, (width,)), out)
            return True
    return False


@jit
def run(code_address, size, row, width, spare, loops):
    """Executes `size` instructions for `width` rows from data row `row`.

    `spare` is the address of three rows of scratch, `loops` that of LOOPS integers.
    """
    code = integers(code_address, size * WIDTH)
    for i in range(size):
        line = code[i * WIDTH : (i + 1) * WIDTH]
        opcode, a_stride, b_stride = line[0], line[6], line[9]
        a, b = line[4] + row * line[5], line[7] + row * line[8]
        out = numbers(line[3], (width,))
        if opcode >= ADD:
            if a_stride == 0:
                binary(opcode, numbers(a, (1,))[0], numbers(b, (width,)), out)
            elif b_stride == 0:
                binary(opcode, numbers(a, (width,)), numbers(b, (1,))[0], out)
            else:
                binary(opcode, numbers(a, (width,)), numbers(b, (width,)), out)
        elif opcode >= COPY:
            unary(opcode, _spread(a, a_stride, width, spare), out)
        elif opcode == TRIG:
            if not sine_and_cosine(numbers(a, (width,)), out, numbers(b, (width,))):
                _call(line[1], line[2], a, a_stride, line[3], 8, line[3], width, loops)
                _call(line[10], line[11], a, a_stride, b, 8, b, width, loops)
        elif opcode == WHERE:
            condition = _spread(a, a_stride, width, spare)
            yes = _spread(b, b_stride, width, spare + 8 * width)
            no = _spread(line[10] + row * line[11], line[12], width, spare + 16 * width)
            choose(condition, yes, no, out)
        elif opcode != POWER or not _power(a, a_stride, b, b_stride, out, width):
            _call(line[1], line[2], a, a_stride, b, b_stride, line[3], width, loops)
