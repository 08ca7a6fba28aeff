"""The four operations, signs and powers on rows of numbers, compiled; an operand with stride 0 is one number.

Sums, products and quotients are numpy's bits without the cost of calling numpy's loops.
"""

from __future__ import annotations

import math

import numpy as np

from llmsr.expression.engine.compiling import jit
from llmsr.expression.engine.foreign import numbers

ADD, SUB, MUL, DIV, NEG, ABS, SIGN = range(20, 27)


@jit
def arithmetic(opcode, first, first_stride, second, second_stride, out_address, width):
    """`first op second` into the row at `out_address`; not both operands may be single numbers."""
    out = numbers(out_address, width)
    if opcode == NEG:
        a = numbers(first, width)
        for i in range(width):
            out[i] = -a[i]
    elif opcode == ABS:
        a = numbers(first, width)
        for i in range(width):
            out[i] = abs(a[i])
    elif opcode == SIGN:
        a = numbers(first, width)
        for i in range(width):
            side = (1.0 if a[i] > 0.0 else 0.0) - (1.0 if a[i] < 0.0 else 0.0)
            out[i] = side if a[i] == a[i] else a[i]
    elif first_stride == 0:
        value = numbers(first, 1)[0]
        b = numbers(second, width)
        if opcode == ADD:
            for i in range(width):
                out[i] = value + b[i]
        elif opcode == SUB:
            for i in range(width):
                out[i] = value - b[i]
        elif opcode == MUL:
            for i in range(width):
                out[i] = value * b[i]
        else:
            for i in range(width):
                out[i] = value / b[i]
    elif second_stride == 0:
        value = numbers(second, 1)[0]
        a = numbers(first, width)
        if opcode == ADD:
            for i in range(width):
                out[i] = a[i] + value
        elif opcode == SUB:
            for i in range(width):
                out[i] = a[i] - value
        elif opcode == MUL:
            for i in range(width):
                out[i] = a[i] * value
        else:
            for i in range(width):
                out[i] = a[i] / value
    else:
        a = numbers(first, width)
        b = numbers(second, width)
        if opcode == ADD:
            for i in range(width):
                out[i] = a[i] + b[i]
        elif opcode == SUB:
            for i in range(width):
                out[i] = a[i] - b[i]
        elif opcode == MUL:
            for i in range(width):
                out[i] = a[i] * b[i]
        else:
            for i in range(width):
                out[i] = a[i] / b[i]


@jit
def scaled(row, factor, out):
    """`factor * row` into `out`."""
    for i in range(len(out)):
        out[i] = factor * row[i]


@jit
def sizes(row, out):
    """Absolute values into `out`; returns how many numbers are negative."""
    negative = 0
    for i in range(len(out)):
        negative += 1 if row[i] < 0.0 else 0
        out[i] = abs(row[i])
    return negative


@jit
def signed(base, exponent, out):
    """Turns `abs(base) ** exponent` into `base ** exponent`: nan, or a sign, where the base is negative."""
    if exponent == 0.0:
        for i in range(len(out)):
            out[i] = 1.0
    elif exponent != math.floor(exponent):
        for i in range(len(out)):
            out[i] = np.nan if base[i] < 0.0 else out[i]
    elif exponent != 2.0 * math.floor(exponent / 2.0):
        for i in range(len(out)):
            out[i] = -out[i] if base[i] < 0.0 else out[i]
