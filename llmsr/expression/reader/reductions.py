"""Sums, products, extrema and matrix products of arrays along any axis but the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llmsr.expression.reader.arrays import Arrays, mixes_rows
from llmsr.expression.reader.values import Array, Refused, Store

Combine = Callable[[Arrays, list[Array]], Array]


def reduce(on: Arrays, a: Array, axis: Any, keepdims: bool, what: str, combine: Combine) -> Array:
    """Combines the slices along `axis` (an integer, a tuple, or None for all), never along the rows."""
    if axis is None:
        axes = list(range(a.ndim))
    elif isinstance(axis, tuple):
        axes = sorted({on.axis(x, a.ndim) for x in axis})
    else:
        axes = [on.axis(axis, a.ndim)]
    if a.row_axis in axes:
        raise mixes_rows(what)
    for x in reversed(axes):
        slices = [take(a, i, x) for i in range(a.cells.shape[x])]
        if not slices:
            raise Refused(f"{what} of nothing")
        a = combine(on, slices)
        if keepdims:
            a = expand(a, x)
    if not axes:
        a = combine(on, [a])
    a.scalar = a.ndim == 0
    return a


def total(on: Arrays, items: list[Array]) -> Array:
    """The sum; of booleans it is a count."""
    out = on.arithmetic("+", items[0], on.number(0))
    for item in items[1:]:
        out = on.arithmetic("+", out, item)
    return out


def product(on: Arrays, items: list[Array]) -> Array:
    out = on.arithmetic("*", items[0], on.number(1))
    for item in items[1:]:
        out = on.arithmetic("*", out, item)
    return out


def mean(on: Arrays, items: list[Array]) -> Array:
    return on.arithmetic("/", total(on, items), on.number(len(items)))


def variance(on: Arrays, items: list[Array]) -> Array:
    """The variance with ddof 0."""
    middle = mean(on, items)
    deviations = [on.arithmetic("-", item, middle) for item in items]
    return mean(on, [on.arithmetic("*", d, d) for d in deviations])


def deviation(on: Arrays, items: list[Array]) -> Array:
    return on.float_function("sqrt", variance(on, items))


def norm(on: Arrays, items: list[Array]) -> Array:
    """The Euclidean norm."""
    return on.float_function("sqrt", total(on, [on.arithmetic("*", item, item) for item in items]))


def chain(method: Callable[..., Array], op: str) -> Combine:
    """Folds a function of two arrays, such as `Arrays.extremum` with "maximum"."""

    def combine(on: Arrays, items: list[Array]) -> Array:
        out = items[0]
        for item in items[1:]:
            out = method(on, op, out, item)
        return out if len(items) > 1 else on.copy(out)

    return combine


def log_sum_exp(on: Arrays, items: list[Array]) -> Array:
    """log(sum(exp)), shifted by the greatest, if that is finite."""
    top = greatest(on, items)
    shift = on.where(on.logical("isfinite", top), top, on.number(0.0))
    powers = [on.float_function("exp", on.arithmetic("-", item, shift)) for item in items]
    return on.arithmetic("+", on.float_function("log", total(on, powers)), shift)


smallest = chain(Arrays.extremum, "minimum")
greatest = chain(Arrays.extremum, "maximum")


def every(on: Arrays, items: list[Array]) -> Array:
    return chain(Arrays.logical, "and")(on, [on.compare("!=", item, on.number(0)) for item in items])


def some(on: Arrays, items: list[Array]) -> Array:
    return chain(Arrays.logical, "or")(on, [on.compare("!=", item, on.number(0)) for item in items])


def take(a: Array, index: int, axis: int) -> Array:
    """One slice along an axis that is not the rows, as a copy."""
    cells = np.asarray(np.take(a.cells, index, axis))
    rows = None if a.row_axis is None else a.row_axis - (axis < a.row_axis) - cells.ndim
    return Array(cells, a.kind, rows, a.selection, Store(a.store.bound))


def expand(a: Array, axis: int) -> Array:
    """A view with one more axis of length 1."""
    cells = np.expand_dims(a.cells, axis)
    rows = None if a.row_axis is None else a.row_axis + (axis <= a.row_axis) - cells.ndim
    return a.view(cells, rows)


def transpose(a: Array) -> Array:
    """A view with the axes reversed."""
    rows = None if a.row_axis is None else (a.ndim - 1 - a.row_axis) - a.ndim
    return a.view(a.cells.T, rows)


def matmul(on: Arrays, a: Array, b: Array) -> Array:
    """`a @ b` for one or two axes each."""
    wrong = Refused(f"a matrix product of shapes {a.shape_text()} and {b.shape_text()}")
    if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2):
        raise wrong
    axis = a.ndim - 1
    if a.row_axis == axis and b.row_axis == 0:
        raise mixes_rows("a product summed over the rows")
    n = a.cells.shape[axis]
    if a.row_axis == axis or b.row_axis == 0 or n != b.cells.shape[0] or n == 0:
        raise wrong
    if a.kind == b.kind == "b":
        raise Refused("a matrix product of booleans")
    terms = []
    for i in range(n):
        left, right = take(a, i, axis), take(b, i, 0)
        if left.ndim == 1 and right.ndim == 1:
            left = expand(left, 1)
        terms.append(on.arithmetic("*", left, right))
    out = total(on, terms)
    out.scalar = out.ndim == 0
    return out
