"""The compiled interpreter of instruction tables, and its loops over rows of numbers.

An instruction is a row of WIDTH integers `[opcode, loop, data, dst, base0, step0, stride0, base1, ...]`:
addresses in bytes, `step` bytes per row of the data (8 for a feature, 0 elsewhere), `stride` bytes per
element inside a block (0 for a uniform). `loop` and `data` are numpy's or scipy's inner loop for it.

The compiler turns the loops into vector instructions. numpy has such loops for exp, log, tanh and powers on
some processors only (30 to 70 ns a number elsewhere, against 2 to 6 here), none over float64 for conditions,
and calling its loops for sums and products costs a tenth of a fit. Functions are within about two units of
the last digit of numpy's.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from llmsr.expression.engine.compiling import (
    as_bits,
    as_number,
    call_loop,
    integers,
    jit,
    jit_contracting,
    numbers,
)
from llmsr.expression.operations import (
    ADD,
    AND,
    COPY,
    DIV,
    EQ,
    EXP,
    LE,
    LOG,
    LT,
    MUL,
    NE,
    NEG,
    POWER,
    SUB,
    TRIG,
    WHERE,
)

# adding and subtracting it rounds to an integer, which the lowest bits of the sum then hold
_ROUND = 1.5 * 2.0**52
_TRIG_LIMIT = 5.0e5  # beyond it the reduction by three parts of pi/2 loses digits
_LN2, _LN2_REST = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # the first has zeros at its end
_MANTISSA_BITS, _BIAS = np.uint64(52), np.uint64(1023)
_MANTISSA, _ONE = np.uint64(2**52 - 1), np.uint64(1023 << 52)
_WHOLE = np.uint64((1023 + 52) << 52)  # the bits of 2**52, whose last ones hold a whole number


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
def binary(opcode, a, b, out):
    """`a op b` into the row `out`; `a` and `b` are rows or single numbers."""
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
def unary(opcode, a, out):
    """`op a` into the row `out`."""
    n = len(out)
    if opcode == EXP:
        for i in range(n):
            out[i] = _exp(a[i])
    elif opcode == LOG:
        for i in range(n):
            out[i] = _log(a[i])
    elif opcode == NEG:
        for i in range(n):
            out[i] = -a[i]
    elif opcode == COPY:
        for i in range(n):
            out[i] = a[i]
    else:
        for i in range(n):
            out[i] = _tanh(a[i])


@jit
def choose(condition, a, b, out):
    """`a` where the condition is not 0, else `b`."""
    for i in range(len(out)):
        out[i] = a[i] if condition[i] != 0.0 else b[i]


@jit
def raised_to_number(base, exponent, out):
    """`base ** exponent` for a row and a finite number.

    The argument of the exponential is rounded, so that a power of size exp(y) errs by y roundings.
    """
    n = len(out)
    if exponent == 0.0:
        for i in range(n):
            out[i] = 1.0
        return
    for i in range(n):
        out[i] = _exp(exponent * _log(abs(base[i])))
    if exponent != math.floor(exponent):
        for i in range(n):
            out[i] = np.nan if base[i] < 0.0 else out[i]
    elif exponent != 2.0 * math.floor(exponent / 2.0):
        for i in range(n):
            out[i] = -out[i] if base[i] < 0.0 else out[i]


@jit
def number_raised(base, exponent, out):
    """`base ** exponent` for a positive finite number other than 1 and a row."""
    factor = math.log(base)
    for i in range(len(out)):
        out[i] = _exp(factor * exponent[i])


@jit_contracting
def _powers_of_two(x):
    """(exp(r) - 1, 2**a, 2**b) with x = r + (a + b) log 2 and r at most log(2)/2 in size."""
    # comparisons that nan does not pass, so that it stays nan; exp of the limits is infinite and 0
    x = 800.0 if x > 800.0 else x
    x = -800.0 if x < -800.0 else x
    turns = (x * (1.0 / math.log(2.0)) + _ROUND) - _ROUND
    r = (x - turns * _LN2) - turns * _LN2_REST
    # the series of the exponential by Horner's rule: the next term is below 1e-17
    p = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    p = 1.0 / 39916800.0 + r * p
    p = 1.0 / 3628800.0 + r * p
    p = 1.0 / 362880.0 + r * p
    p = 1.0 / 40320.0 + r * p
    p = 1.0 / 5040.0 + r * p
    p = 1.0 / 720.0 + r * p
    p = 1.0 / 120.0 + r * p
    p = 1.0 / 24.0 + r * p
    p = 1.0 / 6.0 + r * p
    p = 0.5 + r * p
    # two factors, since a single one would leave the range of exponents before the result does
    half = turns * 0.5 + _ROUND
    rest = turns - (half - _ROUND) + _ROUND
    first = as_number((as_bits(half) + _BIAS) << _MANTISSA_BITS)
    second = as_number((as_bits(rest) + _BIAS) << _MANTISSA_BITS)
    return r + r * r * p, first, second


@jit_contracting
def _exp(x):
    above, first, second = _powers_of_two(x)
    return (above * first + first) * second


@jit_contracting
def _tanh(x):
    """By exp(2x) - 1, whose digits near 0 are kept."""
    # from 20 on it is 1 to the last digit, and exp of twice the limit is still finite
    y = 30.0 if x > 30.0 else x
    y = -30.0 if y < -30.0 else y
    above, first, second = _powers_of_two(2.0 * y)
    scale = first * second
    less_one = above * scale + (scale - 1.0)
    return less_one / (less_one + 2.0)


@jit_contracting
def _log(x):
    tiny = x < 2.2250738585072014e-308
    bits = as_bits(x * 2.0**54 if tiny else x)
    power = as_number((bits >> _MANTISSA_BITS) | _WHOLE) - (2.0**52 + 1023.0)
    m = as_number((bits & _MANTISSA) | _ONE)
    upper = m > 1.4142135623730951
    m = m * 0.5 if upper else m
    power = power + 1.0 if upper else power
    power = power - 54.0 if tiny else power
    f = m - 1.0
    s = f / (m + 1.0)  # log m = 2 artanh s, by its series
    z = s * s
    p = 1.0 / 19.0 + z * (1.0 / 21.0)
    p = 1.0 / 17.0 + z * p
    p = 1.0 / 15.0 + z * p
    p = 1.0 / 13.0 + z * p
    p = 1.0 / 11.0 + z * p
    p = 1.0 / 9.0 + z * p
    p = 1.0 / 7.0 + z * p
    p = 1.0 / 5.0 + z * p
    p = 1.0 / 3.0 + z * p
    # 2 artanh s = f - (f**2/2 - s * (f**2/2 + 2 z p)), where the largest part has no rounding
    square = 0.5 * f * f
    result = power * _LN2 + (f - (square - (s * (square + 2.0 * z * p) + power * _LN2_REST)))
    # one choice after the other: a choice within a choice would keep the loop from becoming vectors
    result = result if x > 0.0 else np.nan
    result = result if x != 0.0 else -np.inf
    return x if x == np.inf else result


@jit_contracting
def sine_and_cosine(x, sines, cosines):
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
        # minimax polynomials on [-pi/4, pi/4] by Horner's rule, highest power first
        s = -2.50507602534068634195e-08 + z * 1.58969099521155010221e-10
        s = 2.75573137070700676789e-06 + z * s
        s = -1.98412698298579493134e-04 + z * s
        s = 8.33333333332248946124e-03 + z * s
        s = y + y * z * (-1.66666666666666324348e-01 + z * s)
        tail = 2.08757232129817482790e-09 + z * -1.13596475577881948265e-11
        tail = -2.75573143513906633035e-07 + z * tail
        tail = 2.48015872894767294178e-05 + z * tail
        tail = -1.38888888888741095749e-03 + z * tail
        tail = z * (4.16666666666666019037e-02 + z * tail)
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


# ---- instructions

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
