"""Sine and cosine of a row of numbers in one pass, in a form that the compiler turns into vectors."""

from __future__ import annotations

from llmsr.expression.engine.compiling import jit_contracting

_ROUND = 1.5 * 2.0**52  # adding and subtracting it rounds to an integer
_LIMIT = 5.0e5  # beyond it the reduction by three parts of pi/2 loses digits


@jit_contracting
def sine_and_cosine(x, sines, cosines):
    """sin(x) and cos(x) to about an ulp; False, and nothing done, for huge arguments."""
    # counted, because an integer sum is turned into vector instructions where a maximum is not
    small = 0
    for i in range(len(x)):
        small += 1 if abs(x[i]) < _LIMIT else 0
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
