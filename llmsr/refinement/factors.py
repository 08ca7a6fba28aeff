"""Products of powers of columns and of small functions of columns: a line through logarithms with more to it.

    y = c * x_1^a_1 ... x_d^a_d * f(u)^b * g(v)^e        log|y| is a sum of logarithms

The logarithms of all columns are projected out; of functions of a column, of a product, a quotient, a sum or
a difference of two, all singles and pairs behind them are looked at. Exponents are taken as simple fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from llmsr.refinement.powers import Task, scaled, sides, snapped
from llmsr.refinement.rows import NumberedGraph, distinct, power_product
from llmsr.refinement.subsets import Subsets

SIDES = ("y", "exp y", "exp -y", "cosh y", "sin y", "cos y", "tan y")
MOST_PAIRED = 8  # columns that are combined with each other
OFFERED = 4  # products of a side
EXACT = 1e-6  # share of the logarithm's square about its mean that is left, at most: poles blow rounding up
VARIES = 1e-6  # of a logarithm over the rows, at least
EXPONENT_ERROR = 0.02  # within which an exponent is a simple fraction


def products_of_functions(task: Task) -> Iterator[int]:
    """Roots of products that explain functions of the target, as far as logarithms tell."""
    g = task.graph
    plain = [u for u in task.columns if (g.values[u] != 0).all() and np.ptp(np.log(np.abs(g.values[u])))]
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
