"""The compiled interpreter of instruction tables, which calls numpy's own kernels.

An instruction row is `[opcode, loop, data, dst, base0, step0, stride0, base1, ...]`: addresses in bytes,
`step` bytes per row of the data (8 for a feature, 0 elsewhere), `stride` bytes per element inside a block
(0 for a uniform). Powers have the logarithms of their base's size as third operand where that is a feature,
then loop and data of exp and log.
"""

from __future__ import annotations

import math

import numpy as np

from llmsr.expression.engine.addresses import call_loop, integers, numbers
from llmsr.expression.engine.compiling import callback, jit
from llmsr.expression.engine.elementwise import choose, elementwise, magnitudes, scaled, signed
from llmsr.expression.engine.trigonometry import sine_and_cosine
from llmsr.expression.operations import CALL, COPY, OR, POWER, TRIG, WHERE

WIDTH = 17
CALL_TWO, POWER_BY_LOG, POSITIVE_BY_LOG, UNIFORM_BASE = range(OR + 1, OR + 5)
"""Branches that an operation's own opcode becomes: a function of two arguments; a power of a feature, of a
positive feature, of a number."""


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
def _elementwise(line, a, b, out):
    """Runs an instruction on operands at the addresses `a` and `b`."""
    width = len(out)
    if line[6] == 0:
        elementwise(line[0], numbers(a, 1)[0], numbers(b, width), out)
    elif line[9] == 0:
        elementwise(line[0], numbers(a, width), numbers(b, 1)[0], out)
    else:
        elementwise(line[0], numbers(a, width), numbers(b, width), out)


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
        if line[6] == 0 or line[9] != 0 or magnitudes(numbers(a, width), work) == 0:
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
        line = code[i * WIDTH : (i + 1) * WIDTH]
        opcode, out_address = line[0], line[3]
        a = line[4] + row * line[5]
        b = line[7] + row * line[8]
        if COPY <= opcode <= OR:
            _elementwise(line, a, b, numbers(out_address, width))
        elif opcode == CALL:
            _call_one(line[1], line[2], a, line[6], out_address, width, loops_address)
        elif opcode == TRIG:
            source = wide(a, line[6], width, spare)
            sines = out_address if out_address != 0 else second_spare
            cosines = line[7] if line[7] != 0 else third_spare
            if not sine_and_cosine(source, numbers(sines, width), numbers(cosines, width)):
                _call_one(line[1], line[2], a, line[6], sines, width, loops_address)
                _call_one(line[8], line[9], a, line[6], cosines, width, loops_address)
        elif opcode == WHERE:
            condition = wide(a, line[6], width, spare)
            yes = wide(b, line[9], width, second_spare)
            no = wide(line[10] + row * line[11], line[12], width, third_spare)
            choose(condition, yes, no, numbers(out_address, width))
        elif opcode == CALL_TWO or not _power(line, row, width, spare, loops_address):
            loops[0] = a
            loops[1] = b
            loops[2] = out_address
            loops[4] = width
            loops[8] = line[6]
            loops[9] = line[9]
            loops[10] = 8
            call_loop(line[1], loops_address, loops_address + 32, loops_address + 64, line[2])
