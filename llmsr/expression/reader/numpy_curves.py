"""numpy's curves: polynomials given by their coefficients, and lines between given points."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from llmsr.expression.reader.indexing import whole
from llmsr.expression.reader.names import native
from llmsr.expression.reader.numpy_making import cast, lifted, plain
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.values import Array, Native, Refused

MAX_POINTS = 32
"""Of a table that np.interp reads: more is a table of answers and no equation."""


def polyval(on: Operators, p: Any, x: Any) -> Array:
    """Horner's rule, highest power first."""
    result, at = on.array(0.0), on.array(x)
    for coefficient in lifted(on, p):
        result = on.arrays.arithmetic("+", on.arrays.arithmetic("*", result, at), coefficient)
    return result


def polynomial_polyval(on: Operators, x: Any, c: Any) -> Array:
    """Horner's rule, lowest power first."""
    return polyval(on, some(lifted(on, c))[::-1], x)


def some(coefficients: list[Array]) -> list[Array]:
    if not coefficients:
        raise Refused("a polynomial of nothing")
    return coefficients


def poly1d(on: Operators, c_or_r: Any) -> Native:
    """np.poly1d(coefficients), which can be called and nothing more."""
    coefficients = tuple(on.items(c_or_r))
    return native("poly1d", lambda on, x: polyval(on, coefficients, x))


def polynomial(on: Operators, coef: Any) -> Native:
    """numpy.polynomial.Polynomial(coefficients), likewise; lowest power first."""
    coefficients = some(lifted(on, coef))[::-1]
    return native("Polynomial", lambda on, x: polyval(on, coefficients, x))


def vander(on: Operators, x: Any, N: Any = None, increasing: Any = False) -> Array:
    a = on.array(x)
    n = whole(on.arrays, N)
    if a.ndim != 1 or not 1 <= n <= 64:
        raise Refused("np.vander with this shape")
    powers = [on.arrays.full(on.shape(a), on.array(1.0))]
    while len(powers) < n:
        powers.append(on.arrays.arithmetic("*", powers[-1], a))
    return on.arrays.stack(powers if increasing is True else powers[::-1], 1)


def chebval(on: Operators, x: Any, c: Any) -> Array:
    """Clenshaw's recurrence for Chebyshev polynomials, lowest order first."""
    return clenshaw(on, x, c, lambda n: (1.0, 2.0))


def legval(on: Operators, x: Any, c: Any) -> Array:
    """The same for Legendre polynomials."""
    return clenshaw(on, x, c, lambda n: ((n - 1) / n, (2 * n - 1) / n))


def hermval(on: Operators, x: Any, c: Any) -> Array:
    """The same for Hermite polynomials of the physicists, which are those of 2 x in another scale."""
    return clenshaw(on, on.binary("*", 2, on.array(x)), c, lambda n: (2.0 * (n - 1), 1.0))


def hermeval(on: Operators, x: Any, c: Any) -> Array:
    """The same for Hermite polynomials of the statisticians."""
    return clenshaw(on, x, c, lambda n: (n - 1.0, 1.0))


def clenshaw(on: Operators, x: Any, c: Any, weights: Callable[[int], tuple[float, float]]) -> Array:
    """The sum of `c[n] p_n(x)` where `p_n = b x p_(n-1) - a p_(n-2)` with `a, b = weights(n)`, p_1 = x."""
    calc, at, coefficients = on.arrays, on.array(x), some(lifted(on, c))
    coefficients += [on.array(0.0)] * (2 - len(coefficients))
    *rest, low, high = coefficients
    for n in range(len(coefficients) - 1, 1, -1):
        a, b = weights(n)
        step = calc.arithmetic("*", calc.arithmetic("*", high, at), calc.number(b))
        low, high = (
            calc.arithmetic("-", rest.pop(), calc.arithmetic("*", high, calc.number(a))),
            calc.arithmetic("+", low, step),
        )
    return calc.arithmetic("+", low, calc.arithmetic("*", high, at))


def interp(on: Operators, x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None) -> Array:
    """Straight lines between points whose places are constants; level, or `left` and `right`, beyond them."""
    calc, at = on.arrays, on.array(x)
    places = [float(plain(on, place, "np.interp at places")) for place in on.items(xp)]
    values = [cast(on, value, "f") for value in lifted(on, fp)]
    if not 2 <= len(places) == len(values) <= MAX_POINTS or any(value.ndim for value in values):
        raise Refused(f"np.interp needs 2 to {MAX_POINTS} places and as many numbers")
    if any(a >= b for a, b in itertools.pairwise(places)):
        raise Refused("np.interp at places that do not ascend")
    result: Array | None = None
    for i, place in enumerate(places[:-1]):
        rise = calc.arithmetic("-", values[i + 1], values[i])
        slope = calc.arithmetic("/", rise, calc.number(places[i + 1] - place))
        line = calc.arithmetic("*", slope, calc.arithmetic("-", at, calc.number(place)))
        line = calc.arithmetic("+", line, values[i])
        # what compares false, NaN among it, stays on the first line
        result = (
            line if result is None else calc.where(calc.compare(">=", at, calc.number(place)), line, result)
        )
    assert result is not None
    result = calc.where(calc.compare(">=", at, calc.number(places[-1])), values[-1], result)
    if right is not None:
        result = calc.where(calc.compare(">", at, calc.number(places[-1])), on.array(right), result)
    below = values[0] if left is None else on.array(left)
    return calc.where(calc.compare("<", at, calc.number(places[0])), below, result)
