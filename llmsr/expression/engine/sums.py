"""Sums over all rows of a program: the Gram matrix, and the mean squared error with its gradient.

Compiled callers see a program as a vector of addresses and reach `gram` and `gradient` through them: a call
that the compiler cannot look into is not copied into every caller, which keeps compilation short.
"""

from __future__ import annotations

import time

import numpy as np
from numba import carray

from llmsr.expression.engine.addresses import (
    call_clock,
    call_gradient,
    call_gram,
    call_run,
    integers,
    numbers,
    pointer,
)
from llmsr.expression.engine.compiling import callback, jit, jit_reassociating

# the entries of a program's vector: addresses of compiled functions and arrays, and counts
GRAM, GRADIENT, RUN, CLOCK, DEADLINE = 0, 1, 2, 3, 4
UNIFORM_CODE, UNIFORM_SIZE, ROW_CODE, ROW_SIZE = 5, 6, 7, 8
PARTIALS, PARAMETERS, REGISTERS, SPARE, TARGET, ROWS, STRIDE, COUNTERS, LOOPS = range(9, 18)
ORDER, FIXED, KNOWN = 18, 19, 20
FIELDS = 21


@jit_reassociating
def dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@jit_reassociating
def four_dots(a, b, c, d, e):
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
    place = integers(program[PARTIALS] + 16 * i, 2)
    return numbers(place[0] + start * place[1], width)


@jit
def _value(program, k, width):
    return numbers(program[REGISTERS] + 8 * program[STRIDE] * k, width)


@jit
def _row(program, order, i, k, start, width):
    """Row `i` of a block in the order of the sums: derivatives, then the value."""
    return _value(program, k, width) if i == k else _partial(program, order[i], start, width)


@jit
def _products(program, k, first, start, width, part):
    """One block's Gram matrix in the order of the sums, lower triangle from row `first` on; False where an
    entry is not finite."""
    order = integers(program[ORDER], k)
    finite = True
    for i in range(first, k + 1):
        row = _row(program, order, i, k, start, width)
        j = 0
        while j + 3 <= i and j + 3 < k:
            part[i, j], part[i, j + 1], part[i, j + 2], part[i, j + 3] = four_dots(
                row,
                _partial(program, order[j], start, width),
                _partial(program, order[j + 1], start, width),
                _partial(program, order[j + 2], start, width),
                _partial(program, order[j + 3], start, width),
            )
            j += 4
        while j <= i:
            other = row if j == i else _partial(program, order[j], start, width)
            part[i, j] = dot(row, other)
            j += 1
        for j in range(i + 1):
            finite = finite and np.isfinite(part[i, j])
    return finite


@jit
def _slopes(program, k, start, width, out):
    """The products of the residual with every derivative of a block; False where one is not finite."""
    residual = _value(program, k, width)
    i = 0
    while i + 3 < k:
        out[i], out[i + 1], out[i + 2], out[i + 3] = four_dots(
            residual,
            _partial(program, i, start, width),
            _partial(program, i + 1, start, width),
            _partial(program, i + 2, start, width),
            _partial(program, i + 3, start, width),
        )
        i += 4
    while i < k:
        out[i] = dot(residual, _partial(program, i, start, width))
        i += 1
    finite = True
    for i in range(k):
        finite = finite and np.isfinite(out[i])
    return finite


@jit
def _set_parameters(program, theta):
    """Counts an evaluation, copies the parameters in and runs the uniform program."""
    integers(program[COUNTERS], 1)[0] += 1
    slots = numbers(program[PARAMETERS], len(theta))
    for i in range(len(theta)):
        slots[i] = theta[i]
    call_run(program[RUN], program[UNIFORM_CODE], program[UNIFORM_SIZE], 0, 1, program[SPARE], program[LOOPS])


@jit
def _residual(program, k, start, width):
    """Runs a block and turns the value into target - value; returns its sum of squares."""
    call_run(program[RUN], program[ROW_CODE], program[ROW_SIZE], start, width, program[SPARE], program[LOOPS])
    value = _value(program, k, width)
    goal = numbers(program[TARGET] + 8 * start, width)
    for i in range(width):
        value[i] = goal[i] - value[i]
    return dot(value, value)


@jit
def _clear(program, k, start, width):
    """Sets derivatives that are not finite to zero; those that are features were finite from the start."""
    for i in range(k):
        row = _partial(program, i, start, width)
        for t in range(width):
            if not np.isfinite(row[t]):
                row[t] = 0.0


@callback("int64(int64, int64, int64, int64)")
def gram_of(program_address, theta_address, k, out_address):
    program = integers(program_address, FIELDS)
    out = carray(pointer(out_address), (k + 1, k + 1))
    _set_parameters(program, numbers(theta_address, k))
    known = carray(pointer(program[KNOWN]), (k + 1, k + 1))
    ready = integers(program[COUNTERS], 3)
    # products of derivatives that no parameter changes are kept from the first evaluation
    first = program[FIXED] if ready[2] != 0 else 0
    total = np.zeros((k + 1, k + 1))
    part = np.empty((k + 1, k + 1))
    rows, block = program[ROWS], program[STRIDE]
    for start in range(0, rows, block):
        width = min(block, rows - start)
        good = np.isfinite(_residual(program, k, start, width))
        if good and not _products(program, k, first, start, width, part):
            _clear(program, k, start, width)
            good = _products(program, k, first, start, width, part)
        if not good:
            out[k, k] = np.inf
            return 0
        for i in range(first, k + 1):
            for j in range(i + 1):
                total[i, j] += part[i, j]
    for i in range(program[FIXED]):
        for j in range(i + 1):
            if first == 0:
                known[i, j] = total[i, j]
            total[i, j] = known[i, j]
    ready[2] = 1
    order = integers(program[ORDER], k)
    for i in range(k + 1):
        to = k if i == k else order[i]
        for j in range(i + 1):
            other = k if j == k else order[j]
            out[to, other] = total[i, j]
            out[other, to] = total[i, j]
    return 1


@callback("float64(int64, int64, int64, int64)")
def gradient_of(program_address, theta_address, k, out_address):
    program = integers(program_address, FIELDS)
    out = numbers(out_address, k)
    _set_parameters(program, numbers(theta_address, k))
    for i in range(k):
        out[i] = 0.0
    part = np.empty(k)
    total = 0.0
    rows, block = program[ROWS], program[STRIDE]
    for start in range(0, rows, block):
        width = min(block, rows - start)
        total += _residual(program, k, start, width)
        if not np.isfinite(total):
            return np.inf
        if not _slopes(program, k, start, width, part):
            _clear(program, k, start, width)
            _slopes(program, k, start, width, part)
        for i in range(k):
            out[i] -= part[i]
    for i in range(k):
        out[i] *= 2.0 / rows
    return total / rows


@jit
def gram(program, theta, out):
    """Writes the Gram matrix of [derivatives, target - value] over all rows into `out` (k + 1, k + 1).

    `program` is a handle; `theta` and `out` are contiguous. Derivatives that are not finite count as zero.
    Returns False, with infinity in the last entry, where a value is not finite.
    """
    done = call_gram(program[GRAM], program.ctypes.data, theta.ctypes.data, len(theta), out.ctypes.data)
    return done != 0


@jit
def gradient(program, theta, out):
    """The mean squared error, infinite where a value is not finite; its gradient (k,) goes to `out`."""
    return call_gradient(
        program[GRADIENT], program.ctypes.data, theta.ctypes.data, len(theta), out.ctypes.data
    )


@jit
def expired(program):
    """Whether the deadline has passed; noted in the counters."""
    moment = np.empty(2, np.int64)
    call_clock(program[CLOCK], time.CLOCK_MONOTONIC, moment.ctypes.data)
    if moment[0] * 1_000_000_000 + moment[1] > program[DEADLINE]:
        integers(program[COUNTERS], 2)[1] = 1
        return True
    return False
