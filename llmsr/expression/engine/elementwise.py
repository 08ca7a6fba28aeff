"""Arithmetic and conditions on rows of numbers, compiled: numpy's bits without the cost of calling numpy.

numpy has no loops over float64 for conditions, and calling its loops for sums and products costs a tenth of
a fit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from llmsr.expression.engine.compiling import jit
from llmsr.expression.operations import ADD, AND, COPY, DIV, EQ, LE, LT, MUL, NE, NEG, SUB


def _at(operand, i):
    """Element `i` of a row, or the number itself."""


@overload(_at, inline="always")
def _compiled_at(operand, i):
    # one source for rows and single numbers, compiled for each: a step of 0 or 1 that is only known when it
    # runs would keep the loops from becoming vector instructions
    if isinstance(operand, types.Float):
        return lambda operand, i: operand
    return lambda operand, i: operand[i]


@jit
def elementwise(opcode, a, b, out):
    """`a op b` into the row `out`; `a` and `b` are rows or single numbers, and `b` is not read by one-sided
    operations."""
    n = len(out)
    if opcode == MUL:
        for i in range(n):
            out[i] = _at(a, i) * _at(b, i)
    elif opcode == ADD:
        for i in range(n):
            out[i] = _at(a, i) + _at(b, i)
    elif opcode == SUB:
        for i in range(n):
            out[i] = _at(a, i) - _at(b, i)
    elif opcode == DIV:
        for i in range(n):
            out[i] = _at(a, i) / _at(b, i)
    elif opcode == NEG:
        for i in range(n):
            out[i] = -_at(a, i)
    elif opcode == COPY:
        for i in range(n):
            out[i] = _at(a, i)
    elif opcode == LT:
        for i in range(n):
            out[i] = 1.0 if _at(a, i) < _at(b, i) else 0.0
    elif opcode == LE:
        for i in range(n):
            out[i] = 1.0 if _at(a, i) <= _at(b, i) else 0.0
    elif opcode == EQ:
        for i in range(n):
            out[i] = 1.0 if _at(a, i) == _at(b, i) else 0.0
    elif opcode == NE:
        for i in range(n):
            out[i] = 1.0 if _at(a, i) != _at(b, i) else 0.0
    elif opcode == AND:
        for i in range(n):
            out[i] = 1.0 if (_at(a, i) != 0.0) & (_at(b, i) != 0.0) else 0.0
    else:
        for i in range(n):
            out[i] = 1.0 if (_at(a, i) != 0.0) | (_at(b, i) != 0.0) else 0.0


@jit
def choose(condition, a, b, out):
    """`a` where the condition is not 0, else `b`."""
    for i in range(len(out)):
        out[i] = a[i] if condition[i] != 0.0 else b[i]


@jit
def scaled(row, factor, out):
    """`factor * row` into `out`."""
    for i in range(len(out)):
        out[i] = factor * row[i]


@jit
def magnitudes(row, out):
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
