"""Products of powers of columns and of small functions of columns: a line through logarithms with more to it.

    y = c * x_1^a_1 ... x_d^a_d * f(u)^b * g(v)^e        log|y| is a sum of logarithms

The logarithms of all columns are projected out; of functions of a column, of a product, a quotient, a sum or
a difference of two, all singles and pairs behind them are looked at. Exponents are taken as simple fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from llmsr.refinement.powers import CLEAR, SURE, Task, line, logarithms, scaled, sides, snapped, weights_of
from llmsr.refinement.rows import NumberedGraph, distinct, power_product
from llmsr.refinement.subsets import Subsets

SIDES = ("y", "exp y", "exp -y", "cosh y", "sin y", "cos y", "tan y")
MOST_PAIRED = 8  # columns that are combined with each other
OFFERED = 4  # products of a side
RATES = 4  # exponentials that are offered for each set of powers, and half as many of two rates
EXACT = 1e-6  # share of the logarithm's square about its mean that is left, at most: poles blow rounding up
VARIES = 1e-6  # of a logarithm over the rows, at least
EXPONENT_ERROR = 0.02  # within which an exponent is a simple fraction


def products_of_functions(task: Task) -> Iterator[int]:
    """Roots of products that explain functions of the target, as far as logarithms tell."""
    g = task.graph
    plain = logarithms(task)
    nodes = [*plain, *(u for u in _functions(g, task.columns) if g.values[u].all())]
    logs = [np.log(np.abs(g.values[u])) for u in nodes]
    # of powers of one another the first is enough, and a column comes before what is a power of it
    kept = [
        k for k in distinct(v - v.mean() if np.ptp(v) > VARIES else 0 * v for v in logs) if k >= len(plain)
    ]
    if len(kept) < 2:
        return
    prefix = np.column_stack([np.ones(len(task.target)), *logs[: len(plain)]])
    found, columns = [nodes[k] for k in kept], np.column_stack([logs[k] for k in kept])
    for one in sides(task, SIDES):
        if not (one.target != 0).all():
            continue
        goal = np.log(np.abs(one.target))
        subsets = Subsets(columns, goal)
        exact = EXACT * float(np.var(goal)) / float(np.mean(goal**2))
        ranked = [*subsets.singles(prefix, OFFERED), *subsets.pairs(prefix, OFFERED)]
        for error, chosen in ranked:
            if error <= exact:
                matrix = np.column_stack([prefix, columns[:, chosen]])
                solved = np.linalg.lstsq(matrix, goal, rcond=1e-12)[0][1:]
                exponents = snapped(solved, np.full(len(solved), EXPONENT_ERROR / 3))
                product = power_product(g, [*plain, *(found[k] for k in chosen)], exponents)
                yield one.wrap(scaled(g, product, one.target))


def exponentials(task: Task, clear: float = CLEAR) -> Iterator[int]:
    """Roots of products of powers and of an exponential of one or two rates, as far as logarithms tell.

        y = c * x_1^a_1 ... x_d^a_d * exp(b r + e s)

    r and s are a column, its inverse or square, or the product or quotient of two.
    Noise does not hide them, since small targets, of which the logarithms are noise, weigh little.
    """
    g, weights = task.graph, weights_of(task)
    used = weights > 0
    rates = _rates(g, task.columns, weights)
    if np.count_nonzero(used) < len(used) / 2 or not rates:
        return
    goal = np.where(used, np.log(np.abs(np.where(used, task.target, 1.0))), 0.0)
    columns = np.column_stack([g.values[u] for u in rates]) * weights[:, None]
    subsets, plain = Subsets(columns, goal * weights), logarithms(task)
    for powers in [[], plain] if plain else [[]]:
        logs = [np.log(np.abs(g.values[u])) for u in powers]
        prefix = np.column_stack([np.ones(len(goal)), *logs]) * weights[:, None]
        for _, chosen in [*subsets.singles(prefix, RATES), *subsets.pairs(prefix, RATES // 2)]:
            own = [rates[k] for k in chosen]
            slopes, errors, explained = line(
                np.column_stack([*logs, *(g.values[u] for u in own)]), goal, weights
            )
            if explained < clear:
                continue
            exponents, doubt = slopes[: len(powers)], errors[: len(powers)]
            exponents = np.where(np.abs(exponents) > SURE * doubt, snapped(exponents, doubt), 0.0)
            inner = -1
            for u, b in zip(own, map(float, slopes[len(powers) :]), strict=True):
                part = g.add("mul", g.fresh(b), u)
                inner = part if inner < 0 else g.add("add", inner, part)
            product = g.add("mul", power_product(g, powers, exponents), g.add("exp", inner))
            if np.isfinite(g.values[product]).all():
                yield task.wrap(scaled(g, product, task.target))


def _rates(g: NumberedGraph, columns: Sequence[int], weights: np.ndarray) -> list[int]:
    """What an exponential may grow or decay with: nodes that are finite and distinct where rows weigh."""
    one = g.const(1.0)
    made = [v for u in columns for v in (u, g.add("div", one, u), g.add("pow", u, g.const(2.0)))]
    for u, v in combinations(columns[:MOST_PAIRED], 2):
        made += [g.add("mul", u, v), g.add("div", u, v), g.add("div", v, u)]
    return [made[k] for k in distinct(g.values[u] * weights for u in made)]


def _functions(g: NumberedGraph, columns: Sequence[int]) -> Iterator[int]:
    """Functions of columns and of two columns whose powers may be factors."""
    one = g.const(1.0)
    for u in columns:
        yield from _of(g, u)
    for u, v in combinations(columns[:MOST_PAIRED], 2):
        squares = [g.add("pow", w, g.const(2.0)) for w in (u, v)]
        for op in ("sub", "add"):
            group = g.add(op, u, v)
            yield from (group, g.add(op, *squares))
            yield from _of(g, group)
        for group in (g.add("mul", u, v), g.add("div", u, v), g.add("div", v, u)):
            yield from _of(g, group)
        for w in columns[:MOST_PAIRED]:
            if w not in (u, v):
                yield from (g.add(op, g.add("mul", u, v), w) for op in ("add", "sub"))
                yield from (g.add(op, one, g.add("div", g.add("mul", u, v), w)) for op in ("add", "sub"))


def _of(g: NumberedGraph, u: int) -> Iterator[int]:
    """Functions of one argument that may be factors."""
    one, square = g.const(1.0), g.add("pow", u, g.const(2.0))
    yield from (g.add(op, one, inner) for op in ("add", "sub") for inner in (u, square, g.add("cos", u)))
    yield from (g.add(op, u) for op in ("sin", "cos", "tanh", "exp", "log"))
    yield g.add("sin", g.add("div", u, g.const(2.0)))
    yield from (g.add(op, g.add("exp", u), one) for op in ("sub", "add"))
