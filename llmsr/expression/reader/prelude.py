"""Known functions that are made of others, written in the Python subset that the reader reads.

This module is read as text and its functions are interpreted like those of a body. A function of an array
library gets arrays for whatever it is given; what an assertion asks for is refused where it does not hold.
"""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import scipy

# ---- of every cell


def square(x):
    return x * x


def sinc(x):
    y = x * np.pi
    return np.where(y == 0.0, 1.0, np.sin(y) / y)


def logaddexp2(x, y):
    return np.logaddexp(x * np.log(2.0), y * np.log(2.0)) / np.log(2.0)


def radians(x):
    return x * (np.pi / 180)


def degrees(x):
    return x * (180 / np.pi)


def exp10(x):
    return 10.0**x


def softplus(x):
    return np.logaddexp(x, 0.0)


def relu(x):
    return np.maximum(x, 0)


def logit(x):
    return np.log(x / (1.0 - x))


def log_expit(x):
    return -np.logaddexp(-x, 0.0)


def silu(x):
    return x * scipy.special.expit(x)


def softsign(x):
    return x / (1.0 + np.abs(x))


def tanhshrink(x):
    return x - np.tanh(x)


def rsqrt(x):
    return 1.0 / np.sqrt(x)


def frac(x):
    return x - np.trunc(x)


def xlogy(x, y):
    return np.where((x == 0.0) & ~np.isnan(y), 0.0, x * np.log(y))


def xlog1py(x, y):
    return np.where((x == 0.0) & ~np.isnan(y), 0.0, x * np.log1p(y))


# ---- with settings


def torch_softplus(input, beta=1.0, threshold=20.0):
    return np.where(input * beta > threshold, input, np.logaddexp(input * beta, 0.0) / beta)


def leaky_relu(input, negative_slope=0.01):
    return np.where(input > 0.0, input, input * negative_slope)


def elu(input, alpha=1.0):
    return np.where(input > 0.0, input, alpha * np.expm1(input))


def gelu(input, approximate="none"):
    if approximate == "tanh":
        bent = np.tanh(np.sqrt(2 / np.pi) * (input + 0.044715 * input**3))
    else:
        bent = scipy.special.erf(input / np.sqrt(2.0))
    return input * 0.5 * (1.0 + bent)


def hardtanh(input, min_val=-1.0, max_val=1.0):
    return np.clip(input, min_val, max_val)


def lerp(input, end, weight):
    return input + weight * (end - input)


def addcmul(input, tensor1, tensor2, *, value=1):
    return input + value * (tensor1 * tensor2)


def isclose(a, b, rtol=1e-5, atol=1e-8):
    near = np.abs(a - b) <= atol + rtol * np.abs(b)
    return (near & np.isfinite(b)) | (a == b)


def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    assert copy is True
    out = np.where(np.isnan(x), nan, x)
    out = np.where(x == np.inf, np.finfo(float).max if posinf is None else posinf, out)
    return np.where(x == -np.inf, -np.finfo(float).max if neginf is None else neginf, out)


def modf(x):
    whole = np.trunc(x)
    return np.copysign(np.where(np.isinf(x), 0.0, x - whole), x), whole


# ---- along an axis


def average(a, axis=None):
    return np.mean(a, axis)


def var(a, axis=None, keepdims=False):
    deviation = a - np.mean(a, axis, keepdims=True)
    return np.mean(deviation * deviation, axis, keepdims=keepdims)


def std(a, axis=None, keepdims=False):
    return np.sqrt(var(a, axis, keepdims))


def norm(x, ord=None, axis=None, keepdims=False):
    assert ord is None or (ord == 2 and (axis is not None or np.ndim(x) == 1))
    return np.sqrt(np.sum(x * x, axis, keepdims=keepdims))


def softmax(x, axis=None):
    powers = np.exp(x - np.max(x, axis, keepdims=True))
    return powers / np.sum(powers, axis, keepdims=True)


def logsumexp(a, axis=None, keepdims=False):
    top = np.max(a, axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    result = np.log(np.sum(np.exp(a - shift), axis, keepdims=True)) + shift
    return result if keepdims else np.squeeze(result, axis)


def inner(a, b):
    return np.matmul(a, np.transpose(b))


def outer(a, b):
    assert np.ndim(a) == np.ndim(b) == 1
    return a[:, None] * b


def vander(x, N=None, increasing=False):
    assert np.ndim(x) == 1
    assert 1 <= N <= 64
    powers = [np.full(np.shape(x), 1.0)]
    for _ in range(N - 1):
        powers.append(powers[-1] * x)
    return np.stack(powers if increasing else powers[::-1], 1)


# ---- curves given by coefficients or points


def polyval(p, x):
    result = 0.0
    for coefficient in p:
        result = result * x + coefficient
    return result


def polynomial_polyval(x, c):
    assert len(c) > 0
    return polyval(c[::-1], x)


def poly1d(c_or_r):
    coefficients = list(c_or_r)
    return lambda x: polyval(coefficients, x)


def polynomial(coef):
    assert len(coef) > 0
    coefficients = list(coef)[::-1]
    return lambda x: polyval(coefficients, x)


def clenshaw(x, c, weights):
    """The sum of `c[n] p_n(x)` where `p_n = b x p_(n-1) - a p_(n-2)` with `a, b = weights(n)`, p_1 = x."""
    assert len(c) > 0
    c = [*c, 0.0] if len(c) == 1 else c
    low, high = c[-2], c[-1]
    for n in range(len(c) - 1, 1, -1):
        a, b = weights(n)
        low, high = c[n - 2] - high * a, low + high * x * b
    return low + high * x


def chebval(x, c):
    return clenshaw(x, c, lambda n: (1.0, 2.0))


def legval(x, c):
    return clenshaw(x, c, lambda n: ((n - 1) / n, (2 * n - 1) / n))


def hermval(x, c):
    # those of the physicists are those of 2 x in another scale
    return clenshaw(2 * x, c, lambda n: (2.0 * (n - 1), 1.0))


def hermeval(x, c):
    return clenshaw(x, c, lambda n: (n - 1.0, 1.0))


def interp(x, xp, fp, left=None, right=None):
    assert 2 <= len(xp) == len(fp) <= 32  # more is a table of answers and no equation
    assert all(np.ndim(value) == 0 for value in fp)
    assert all(xp[i] < xp[i + 1] for i in range(len(xp) - 1))
    result = fp[0]
    for i in range(len(xp) - 1):
        slope = (fp[i + 1] - fp[i]) / (xp[i + 1] - xp[i])
        line = slope * (x - xp[i]) + fp[i]
        # what compares false, NaN among it, stays on the first line
        result = np.where(x >= xp[i], line, result) if i else line
    result = np.where(x >= xp[-1], fp[-1], result)
    if right is not None:
        result = np.where(x > xp[-1], right, result)
    return np.where(x < xp[0], fp[0] if left is None else left, result)


def piecewise(x, condlist, funclist, *args):
    conditions = [condlist] if np.ndim(condlist) == 1 else list(condlist)
    if len(funclist) == len(conditions) + 1:
        others = conditions[0]
        for condition in conditions[1:]:
            others = others | condition
        conditions.append(~others)
    assert len(funclist) == len(conditions)
    out = np.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        out[condition] = function(x[condition], *args) if callable(function) else function
    return out


# ---- of Python


def sum(iterable, /, start=0):
    for item in iterable:
        start = start + item
    return start


def fsum(seq, /):
    return sum(seq, 0.0)


def prod(iterable, /, *, start=1):
    for item in iterable:
        start = start * item
    return start


def divmod(a, b, /):
    return a // b, a % b


def reduce(function, iterable, *initial):
    assert len(initial) <= 1
    items = iter([*initial, *iterable])
    result = next(items)
    for item in items:
        result = function(result, item)
    return result
