"""A product and what is done with it in one pass over the rows, which saves writing and reading the product.

Roundings are those of the two operations apart, so that results are the same bits.
"""

from __future__ import annotations

from llmsr.expression.engine.compiling import jit
from llmsr.expression.engine.foreign import numbers

MUL_MUL, MUL_ADD, MUL_SUB, SUB_MUL, MUL_NEG = range(40, 45)


@jit
def fused(opcode, a_address, b_address, b_stride, c_address, c_stride, out_address, width):
    """`a * b * c`, `a * b + c`, `a * b - c`, `c - a * b` or `-(a * b)`; `b` and `c` may be single numbers."""
    out, a = numbers(out_address, width), numbers(a_address, width)
    if b_stride == 0:
        factor = numbers(b_address, 1)[0]
        if opcode == MUL_NEG:
            for i in range(width):
                out[i] = -(a[i] * factor)
        elif c_stride == 0:
            _factor_number(opcode, a, factor, numbers(c_address, 1)[0], out)
        else:
            _factor_row(opcode, a, factor, numbers(c_address, width), out)
    else:
        b = numbers(b_address, width)
        if opcode == MUL_NEG:
            for i in range(width):
                out[i] = -(a[i] * b[i])
        elif c_stride == 0:
            _rows_number(opcode, a, b, numbers(c_address, 1)[0], out)
        else:
            _rows_row(opcode, a, b, numbers(c_address, width), out)


@jit
def _factor_number(opcode, a, b, c, out):
    if opcode == MUL_MUL:
        for i in range(len(out)):
            out[i] = a[i] * b * c
    elif opcode == MUL_ADD:
        for i in range(len(out)):
            out[i] = a[i] * b + c
    elif opcode == MUL_SUB:
        for i in range(len(out)):
            out[i] = a[i] * b - c
    else:
        for i in range(len(out)):
            out[i] = c - a[i] * b


@jit
def _factor_row(opcode, a, b, c, out):
    if opcode == MUL_MUL:
        for i in range(len(out)):
            out[i] = a[i] * b * c[i]
    elif opcode == MUL_ADD:
        for i in range(len(out)):
            out[i] = a[i] * b + c[i]
    elif opcode == MUL_SUB:
        for i in range(len(out)):
            out[i] = a[i] * b - c[i]
    else:
        for i in range(len(out)):
            out[i] = c[i] - a[i] * b


@jit
def _rows_number(opcode, a, b, c, out):
    if opcode == MUL_MUL:
        for i in range(len(out)):
            out[i] = a[i] * b[i] * c
    elif opcode == MUL_ADD:
        for i in range(len(out)):
            out[i] = a[i] * b[i] + c
    elif opcode == MUL_SUB:
        for i in range(len(out)):
            out[i] = a[i] * b[i] - c
    else:
        for i in range(len(out)):
            out[i] = c - a[i] * b[i]


@jit
def _rows_row(opcode, a, b, c, out):
    if opcode == MUL_MUL:
        for i in range(len(out)):
            out[i] = a[i] * b[i] * c[i]
    elif opcode == MUL_ADD:
        for i in range(len(out)):
            out[i] = a[i] * b[i] + c[i]
    elif opcode == MUL_SUB:
        for i in range(len(out)):
            out[i] = a[i] * b[i] - c[i]
    else:
        for i in range(len(out)):
            out[i] = c[i] - a[i] * b[i]
