"""Sums over all rows of a program: the Gram matrix, and the mean squared error with its gradient.

Compiled callers see a program as a vector of integers and reach the sums through an address in it: a call
that the compiler cannot look into is not copied into every caller, which keeps compilation short.
"""

from __future__ import annotations

import time

import numpy as np

from llmsr.expression.engine.addresses import call_clock, call_gram, integers, numbers
from llmsr.expression.engine.compiling import callback, jit, jit_reassociating
from llmsr.expression.engine.interpreter import LOOPS, run

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
