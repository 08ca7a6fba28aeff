"""Known functions that are made of others, in the Python subset that the reader reads: a row each.

This module is read as text, and its functions are interpreted like those of a body. What is called by a
name of `known.ARRAYS` is an array, whatever was given for it; where an assertion does not hold, the call is
refused with its sentence.
"""

# mypy: ignore-errors
# ruff: noqa: B905, C416, C419, E731, PT018, SIM401

from __future__ import annotations

import numpy as np
import scipy

# ---- of every cell

square = lambda x: x * x
sinc = lambda x: np.where(x * np.pi == 0.0, 1.0, np.sin(x * np.pi) / (x * np.pi))
radians = lambda x: x * (np.pi / 180)
degrees = lambda x: x * (180 / np.pi)
softplus = lambda x: np.logaddexp(x, 0.0)
relu = lambda x: np.maximum(x, 0)
logit = lambda x: np.log(x / (1.0 - x))
silu = lambda x: x * scipy.special.expit(x)
logaddexp2 = lambda x, y: np.logaddexp(x * np.log(2.0), y * np.log(2.0)) / np.log(2.0)
xlogy = lambda x, y: np.where((x == 0.0) & ~np.isnan(y), 0.0, x * np.log(y))


def reciprocal(x):
    assert x.dtype not in (np.int64, np.bool_), "the reciprocal of integers"
    return 1.0 / x


# ---- with settings

leaky_relu = lambda input, negative_slope=0.01: np.where(input > 0.0, input, input * negative_slope)
elu = lambda input, alpha=1.0: np.where(input > 0.0, input, alpha * np.expm1(input))
modf = lambda x: (np.copysign(np.where(np.isinf(x), 0.0, x - np.trunc(x)), x), np.trunc(x))


def torch_softplus(input, beta=1.0, threshold=20.0):
    return np.where(input * beta > threshold, input, np.logaddexp(input * beta, 0.0) / beta)


def gelu(input, approximate="none"):
    if approximate == "tanh":
        bent = np.tanh(np.sqrt(2 / np.pi) * (input + 0.044715 * input**3))
    else:
        bent = scipy.special.erf(input / np.sqrt(2.0))
    return input * 0.5 * (1.0 + bent)


def isclose(a, b, rtol=1e-5, atol=1e-8):
    return ((np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b)) | (a == b)


def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    assert copy is True, "np.nan_to_num in place"
    out = np.where(np.isnan(x), nan, x)
    out = np.where(x == np.inf, np.finfo(float).max if posinf is None else posinf, out)
    return np.where(x == -np.inf, -np.finfo(float).max if neginf is None else neginf, out)


# ---- new arrays

zeros = lambda shape, dtype=None: np.full(shape, 0.0, dtype or np.float64)
ones = lambda shape, dtype=None: np.full(shape, 1.0, dtype or np.float64)
full_like = lambda a, fill_value, dtype=None: np.full(np.shape(a), fill_value, dtype or a.dtype)
zeros_like = lambda a, dtype=None: full_like(a, 0.0, dtype)
ones_like = lambda a, dtype=None: full_like(a, 1.0, dtype)
empty_like = lambda a, dtype=None: np.empty(np.shape(a), dtype or a.dtype)
sizes = lambda size: size[0] if isinstance(size[0], (tuple, list)) else size
torch_zeros = lambda *size, dtype=None, device=None: zeros(sizes(size), dtype)
torch_ones = lambda *size, dtype=None, device=None: ones(sizes(size), dtype)
detach = lambda input: np.asarray(input, np.float64)
fromiter = lambda iter, dtype, count=-1: np.array(list(iter)[: None if count == -1 else count], dtype)

# ---- other shapes

at_least_1d = lambda a: a if a.ndim else a[None]
at_least_2d = lambda a: a if a.ndim > 1 else at_least_1d(a)[None]
one_or_all = lambda arrays: arrays[0] if len(arrays) == 1 else tuple(arrays)
atleast_1d = lambda *arys: one_or_all([at_least_1d(np.asarray(a)) for a in arys])
ravel = lambda a: np.reshape(a, -1)
flatten = lambda input: np.copy(np.reshape(input, -1))
item = lambda a: np.reshape(a, ())[()]
tolist = lambda a: [tolist(b) for b in a] if np.ndim(a) else a[()]
vstack = lambda tup: np.concatenate([at_least_2d(np.asarray(a)) for a in tup], 0)
before = lambda axis, ndim: (slice(None),) * (axis % ndim)


def column_stack(tup):
    arrays = [np.asarray(a) for a in tup]
    assert all([a.ndim > 0 for a in arrays]), "np.column_stack with a single number"
    return np.concatenate([a[:, None] if a.ndim == 1 else a for a in arrays], 1)


def hstack(tup):
    arrays = [at_least_1d(np.asarray(a)) for a in tup]
    return np.concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


def broadcast_arrays(*args):
    shape = np.shape(sum([np.abs(np.asarray(a)) for a in args]))
    return tuple([np.broadcast_to(a, shape) for a in args])


def split(ary, indices_or_sections, axis=0):
    ends = indices_or_sections
    if isinstance(ends, int):
        size = np.shape(ary)[axis]
        assert 1 <= ends <= size and size % ends == 0, "np.split into parts of different lengths"
        ends = [size // ends * i for i in range(1, ends)]
    first = before(axis, np.ndim(ary))
    return [ary[(*first, slice(low, high))] for low, high in zip([None, *ends], [*ends, None])]


def take(a, indices, axis=None):
    assert axis is not None or np.ndim(a) == 1, "np.take of anything but a vector, without an axis"
    return np.copy(a[(*before(axis or 0, np.ndim(a)), indices)])


def r_(parts):
    return np.concatenate([at_least_1d(np.asarray(a)) for a in parts])


def rounded(a, decimals=0):
    assert a.dtype not in (np.int64, np.bool_) and -20 <= decimals <= 20, (
        "rounding of integers, or to so many decimals"
    )
    if decimals == 0:
        return np.rint(a)
    return (
        np.rint(a * 10.0**decimals) / 10.0**decimals
        if decimals > 0
        else np.rint(a / 10.0**-decimals) * 10.0**-decimals
    )


# ---- along an axis

average = lambda a, axis=None: np.mean(a, axis)
std = lambda a, axis=None, keepdims=False: np.sqrt(var(a, axis, keepdims))
dot = lambda a, b: a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else np.matmul(a, b)
inner = lambda a, b: np.matmul(a, np.transpose(b))
one = lambda x: x[0] if isinstance(x, (tuple, list)) and len(x) == 1 else x


def var(a, axis=None, keepdims=False):
    deviation = a - np.mean(a, axis, keepdims=True)
    return np.mean(deviation * deviation, axis, keepdims=keepdims)


def norm(x, ord=None, axis=None, keepdims=False):
    euclidean = ord is None or (ord == 2 and (axis is not None or np.ndim(x) == 1))
    assert euclidean, "np.linalg.norm of another order than 2"
    return np.sqrt(np.sum(x * x, axis, keepdims=keepdims))


def softmax(x, axis=None):
    powers = np.exp(x - np.max(x, axis, keepdims=True))
    return powers / np.sum(powers, axis, keepdims=True)


def logsumexp(a, axis=None, keepdims=False):
    top = np.max(a, axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    result = np.log(np.sum(np.exp(a - shift), axis, keepdims=True)) + shift
    return result if keepdims else np.squeeze(result, axis)


def outer(a, b):
    assert np.ndim(a) == np.ndim(b) == 1, "np.outer of anything but vectors"
    return a[:, None] * b


def tensordot(a, b, axes=2):
    first, second = axes if isinstance(axes, (tuple, list)) else (-1, 0 if axes == 1 else None)
    assert isinstance(one(first), int) and isinstance(one(second), int), "np.tensordot of several axes"
    a = a if one(first) % np.ndim(a) == np.ndim(a) - 1 else np.transpose(a)
    return np.matmul(a, b if one(second) % np.ndim(b) == 0 else np.transpose(b))


# ---- choosing

torch_max = lambda input, other=None: of_one_or_two(np.max, np.maximum, input, other)
torch_min = lambda input, other=None: of_one_or_two(np.min, np.minimum, input, other)
digitize = lambda x, bins, right=False: region(x, bins, right)


def select(condlist, choicelist, default=0):
    assert len(condlist) == len(choicelist) > 0, "np.select needs as many conditions as choices"
    assert all([np.asarray(c).dtype == np.bool_ for c in condlist]), "np.select by anything but booleans"
    result = default
    for condition, choice in zip(condlist[::-1], choicelist[::-1]):
        result = np.where(condition, choice, result)
    return result


def clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None):
    low, high = a_min if min is None else min, a_max if max is None else max
    result = a if low is None else np.maximum(a, low)
    result = result if high is None else np.minimum(result, high)
    if out is None:
        return np.copy(a) if low is None and high is None else result
    out[...] = result
    return out


def of_one_or_two(whole, both, input, other):
    assert not isinstance(other, int), "torch.max or min along a dimension, which gives values and positions"
    return whole(input) if other is None else both(input, other)


def region(x, edges, right):
    # not `x > edge`: NaN is beyond every edge, as in numpy
    assert np.ndim(edges) == 1 and 1 <= len(edges) <= 32, "a table of other than 1 to 32 constants"
    assert all(edges[i] <= edges[i + 1] for i in range(len(edges) - 1)), "a table that does not ascend"
    return sum([np.logical_not(x <= edge if right else x < edge).astype(int) for edge in edges])


def searchsorted(a, v, side="left"):
    assert side in ("left", "right"), "np.searchsorted with this side"
    return region(v, a, side == "left")


def piecewise(x, condlist, funclist, *args):
    conditions = [condlist] if np.ndim(condlist) == 1 else list(condlist)
    if len(funclist) == len(conditions) + 1:
        others = conditions[0]
        for condition in conditions[1:]:
            others = others | condition
        conditions.append(~others)
    assert len(funclist) == len(conditions), "np.piecewise with other than one function a condition"
    out = np.zeros_like(x)
    for condition, function in zip(conditions, funclist):
        out[condition] = function(x[condition], *args) if callable(function) else function
    return out


# ---- curves given by coefficients or points

legval = lambda x, c: clenshaw(x, c, lambda n: ((n - 1) / n, (2 * n - 1) / n))
chebval = lambda x, c: clenshaw(x, c, lambda n: (1.0, 2.0))
hermeval = lambda x, c: clenshaw(x, c, lambda n: (n - 1.0, 1.0))
# the physicists' polynomials are the others of 2 x in another scale
hermval = lambda x, c: clenshaw(2 * x, c, lambda n: (2.0 * (n - 1), 1.0))


def polyval(p, x):
    result = 0.0
    for coefficient in p:
        result = result * x + coefficient
    return result


def polynomial_polyval(x, c):
    assert len(c) > 0, "a polynomial without coefficients"
    return polyval(c[::-1], x)


def poly1d(c_or_r):
    coefficients = list(c_or_r)
    return lambda x: polyval(coefficients, x)


def polynomial(coef):
    assert len(coef) > 0, "a polynomial without coefficients"
    return poly1d(list(coef)[::-1])


def clenshaw(x, c, weights):
    """The sum of `c[n] p_n(x)` where `p_n = b x p_(n-1) - a p_(n-2)` with `a, b = weights(n)`, p_1 = x."""
    assert len(c) > 0, "a series without coefficients"
    c = [*c, 0.0] if len(c) == 1 else c
    low, high = c[-2], c[-1]
    for n in range(len(c) - 1, 1, -1):
        a, b = weights(n)
        low, high = c[n - 2] - high * a, low + high * x * b
    return low + high * x


def interp(x, xp, fp, left=None, right=None):
    # more is a table of answers and no equation
    assert 2 <= len(xp) == len(fp) <= 32, "np.interp with anything but 2 to 32 points"
    assert all(np.ndim(value) == 0 for value in fp), "np.interp between anything but numbers"
    assert all(xp[i] < xp[i + 1] for i in range(len(xp) - 1)), "np.interp with points that do not ascend"
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


# ---- of Python

list_ = lambda iterable=(), /: [*iterable]
tuple_ = lambda iterable=(), /: (*iterable,)
dict_ = lambda given=(), /, **more: {
    **(given if isinstance(given, dict) else {k: w for k, w in given}),
    **more,
}
power = lambda base, exp: base**exp
print_ = lambda *args, sep=" ", end="", flush=False: None
iter_ = lambda iterable, /: (item for item in iterable)
map_ = lambda function, *iterables: (function(*row) for row in zip(*iterables))
enumerate_ = lambda iterable, start=0: zip(range(start, start + 1000), iterable)
reversed_ = lambda sequence, /: (sequence[i] for i in range(len(sequence) - 1, -1, -1))
max_ = lambda *args: best(args, lambda one, other: one > other)
min_ = lambda *args: best(args, lambda one, other: one < other)
divmod_ = lambda top, bottom, /: (top // bottom, top % bottom)
math_prod = lambda iterable, /, *, start=1: reduce(lambda one, other: one * other, iterable, start)
partial = lambda f, /, *args, **named: lambda *more, **others: f(*args, *more, **{**named, **others})
chain = lambda *iterables: (item for iterable in iterables for item in iterable)
combinations = lambda iterable, r: chosen(iterable, r, lambda row, i: not row or row[-1] < i)
repeated_combinations = lambda iterable, r: chosen(iterable, r, lambda row, i: not row or row[-1] <= i)
permutations = lambda iterable, r: chosen(iterable, r, lambda row, i: i not in row)

append = lambda items, value, /: extend(items, [value])
copy_list = lambda items, /: [*items]
copy_dict = lambda table, /: {**table}
get = lambda table, key, default=None, /: table[key] if key in table else default
keys = lambda table, /: (*table,)
values = lambda table, /: tuple([table[key] for key in table])
items_of = lambda table, /: tuple([(key, table[key]) for key in table])


def extend(items, others, /):
    items += others


def sort(items, /, *, reverse=False):
    items[:] = sorted(items, reverse=reverse)


def update(table, given=(), /, **more):
    for key, value in items_of(dict(given, **more)):
        table[key] = value


def setdefault(table, key, default=None, /):
    if key not in table:
        table[key] = default
    return table[key]


def best(args, better):
    items = iter(args[0] if len(args) == 1 else args)
    result = next(items)
    for item in items:
        result = item if better(item, result) else result
    return result


def sum(iterable, /, start=0):
    for item in iterable:
        start = start + item
    return start


def reduce(function, iterable, *initial):
    assert len(initial) <= 1, "functools.reduce with more than one start"
    items = iter([*initial, *iterable])
    result = next(items)
    for item in items:
        result = function(result, item)
    return result


def product(*iterables, repeat=1):
    assert repeat >= 0, "itertools.product repeated fewer than 0 times"
    rows = [()]
    for pool in [tuple(iterable) for iterable in iterables] * repeat:
        rows = [(*row, item) for row in rows for item in pool]
    return iter(rows)


def chosen(iterable, r, fits):
    pool, rows = tuple(iterable), [()]
    for _ in range(r):
        rows = [(*row, i) for row in rows for i in range(len(pool)) if fits(row, i)]
    return iter([tuple([pool[i] for i in row]) for row in rows])
