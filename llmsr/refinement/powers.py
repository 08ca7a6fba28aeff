"""Products of powers and functions for a function of the target, by a line through logarithms.

    y = c * x_1^a_1 ... x_d^a_d                           power laws, all at once
    y = c * x_1^a_1 ... x_d^a_d * f(u)^b * g(v)^e         u and v a column, or made of two
    y = c * x_1^a_1 ... x_d^a_d * exp(b r + e s)          r and s a column, its inverse or square, or of two

The logarithms of all columns are projected out; of functions and rates all singles and pairs behind them are
looked at. Exponents are taken as simple fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations, product

import numpy as np

from llmsr.refinement.atoms import GROUPS
from llmsr.refinement.rows import NumberedGraph, distinct, power_product
from llmsr.refinement.subsets import Subsets

DENOMINATORS = (1, 2, 3, 4, 6)
CLEAR = 0.5  # share of the logarithm's variance that a power law explains, at least
SURE = 3.0  # standard errors within which an exponent is taken for a simple fraction
CLOSE = 1e-4  # the same for data without noise
ROWS_PER_EXPONENT = 3  # below which the columns of a power law are chosen, a few of all
DEPENDENT = 1e-6  # share of a logarithm that is its own, at least
FEW = 3  # columns of a power law that are chosen, at most
LARGEST = 50.0  # of what a hyperbolic function is taken
OF_FUNCTIONS = ("y", "exp y", "exp -y", "cosh y", "sin y", "cos y", "tan y")  # sides of products of functions
MOST_PAIRED = 8  # columns that are combined with each other
PRODUCTS = 4  # products of functions of a side
RATES = 4  # exponentials that are offered for each set of powers, and half as many of two rates
EXACT = 1e-6  # share of the logarithm's square about its mean that is left, at most: poles blow rounding up
VARIES = 1e-6  # of a logarithm over the rows, at least
EXPONENT_ERROR = 0.02  # within which an exponent is a simple fraction
FACTORS = (
    *("1 + u", "1 + u**2", "1 + cos(u)", "1 - u", "1 - u**2", "1 - cos(u)"),
    *("sin(u)", "cos(u)", "tanh(u)", "exp(u)", "log(u)", "sin(u/2)", "exp(u) - 1", "exp(u) + 1"),
)
OF_THREE = ("u*v + w", "u*v - w", "1 + u*v/w", "1 - u*v/w")

Wrap = Callable[[int], int]


@dataclass(frozen=True)
class Task:
    """Numbers to be explained by columns, which may be any nodes of the graph.

    `wrap` adds to the graph what the equation's target is, given the position of an equation for `target`.
    """

    graph: NumberedGraph
    columns: tuple[int, ...]
    target: np.ndarray
    wrap: Wrap
    side: str = "y"


def _within(f: Callable[[np.ndarray], np.ndarray], y: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where((y >= low) & (y <= high), f(y), np.nan)


SIDES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, bool]] = {
    "y": (lambda y: y, "u", True),
    "1/y": (lambda y: 1 / y, "1/u", True),
    "y^2": (lambda y: y * y, "sqrt(u)", False),
    "1/y^2": (lambda y: 1 / y**2, "1/sqrt(u)", False),
    "log y": (lambda y: np.log(np.abs(y)), "exp(u)", False),
    "exp y": (np.exp, "log(u)", True),
    "exp -y": (lambda y: np.exp(-y), "-log(u)", True),
    "root y": (lambda y: np.sqrt(np.abs(y)), "u**2", False),
    "cos y": (lambda y: _within(np.cos, y, 0, np.pi), "arccos(u)", True),
    "sin y": (lambda y: _within(np.sin, y, -np.pi / 2, np.pi / 2), "arcsin(u)", True),
    "cosh y": (lambda y: _within(np.cosh, y, 0, LARGEST), "arccosh(u)", True),
    "tan y": (lambda y: _within(np.tan, y, -np.pi / 2, np.pi / 2), "arctan(u)", True),
}
"""Invertible functions of the target: forwards, backwards on the graph, and whether the sign survives."""


def sides(task: Task, names: Sequence[str] = tuple(SIDES)) -> Iterator[Task]:
    """The task for functions of its target, where these are defined and can be inverted."""
    g, y = task.graph, task.target
    one_sign = bool((y >= 0).all() or (y <= 0).all())
    negative = bool((y <= 0).all())
    for name in names:
        forward, backward, signed = SIDES[name]
        with np.errstate(all="ignore"):
            value = forward(y)
        if not np.isfinite(value).all() or not np.ptp(value) or not (signed or one_sign):
            continue

        def wrap(u: int, backward: str = backward, flipped: bool = negative and not signed) -> int:
            made = g.made(backward, u=u)
            return task.wrap(g.add("neg", made) if flipped else made)

        yield Task(g, task.columns, value, wrap, name)


def power_laws(task: Task, clear: float = CLEAR) -> Iterator[int]:
    """Roots of power laws for functions of the target: exponents as simple fractions, and as fitted.

    A line must explain the share `clear` of the variance of the logarithm.
    """
    g = task.graph
    for one in sides(task):
        used = _rows_with_logarithms(one)
        usable = logarithms(task, used)
        if not usable:
            continue
        matrix = np.column_stack([np.log(np.abs(g.values[u][used])) for u in usable])
        logs, tried = np.log(np.abs(one.target[used])), set()
        if len(logs) < ROWS_PER_EXPONENT * len(usable) and np.ptp(logs):
            # so many exponents would follow any target
            _, chosen = Subsets(matrix - matrix.mean(0), logs - logs.mean()).best(FEW)
            usable, matrix = [usable[k] for k in chosen], matrix[:, chosen]
        for weights in (np.ones(len(logs)), weights_of(one)[used]):
            exponents, errors, explained = line(matrix, logs, weights)
            if explained < clear:
                continue
            significant = np.where(np.abs(exponents) > SURE * errors, exponents, 0.0)
            for values in (snapped(exponents, errors), significant):
                # what differs by rounding alone is one power law
                name = tuple(np.round(values, 6))
                if not values.any() or name in tried:
                    continue
                tried.add(name)
                power = power_product(g, usable, values)
                # a column that is 0 in rows left out may stand below
                if np.isfinite(g.values[power]).all():
                    yield one.wrap(scaled(g, power, one.target))


def _rows_with_logarithms(task: Task) -> np.ndarray:
    """The rows in which target and columns have logarithms, shape (rows,).

    A column that has none in so many rows that fewer than half are left keeps none from the others.
    """
    used = task.target != 0
    for u in task.columns:
        both = used & (task.graph.values[u] != 0)
        if 2 * np.count_nonzero(both) >= len(used):
            used = both
    return used


def logarithms(task: Task, used: np.ndarray | None = None) -> list[int]:
    """The columns that have a logarithm in some rows, all by default, and one that varies.

    A column whose logarithm is a sum of multiples of those before it, such as a copy in other units or a
    product, is left out: a line would share the exponent out among them. Few rows do not tell that: there any
    column is such a sum of some others.
    """
    found: list[int] = []
    known: list[np.ndarray] = []
    for u in task.columns:
        value = task.graph.values[u] if used is None else task.graph.values[u][used]
        if not len(value) or not value.all() or not np.ptp(logs := np.log(np.abs(value))):
            continue
        rest = logs - logs.mean()
        size = float(np.linalg.norm(rest))
        for direction in known:
            rest = rest - direction * float(direction @ rest)
        left = float(np.linalg.norm(rest))
        if left > DEPENDENT * size:
            found.append(u)
            if ROWS_PER_EXPONENT * len(found) <= len(logs):
                known.append(rest / left)
    return found


def weights_of(task: Task) -> np.ndarray:
    """What the rows weigh in a line through the target's logarithm, where noise is the same on all rows.

    The logarithm of a small target has the more noise, and one of the other sign is noise alone.
    """
    y = task.target
    sign = 1.0 if 2 * np.count_nonzero(y > 0) >= len(y) else -1.0
    return np.maximum(sign * y, 0.0) / np.abs(y).max()


def line(
    columns: np.ndarray, values: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes of a least-squares line, their standard errors, and the share of the variance it explains.

    Residuals count by weights, shape (rows,). Rows of weight 0 may have any value.
    """
    used = weights > 0
    scale = weights[used]
    matrix = np.column_stack([columns[used], np.ones(len(scale))]) * scale[:, None]
    y = values[used] * scale
    solved, *_ = np.linalg.lstsq(matrix, y, rcond=1e-10)
    rest = y - matrix @ solved
    free = max(1, len(y) - matrix.shape[1])
    spread = np.sqrt(np.abs(np.diag(np.linalg.pinv(matrix.T @ matrix))) * float(rest @ rest) / free)
    about = y - scale * float(scale @ y) / float(scale @ scale)
    return solved[:-1], spread[:-1], 1.0 - float(rest @ rest) / max(float(about @ about), 1e-300)


def snapped(exponents: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Each exponent as the simplest fraction within its error, else as the nearest one of halves."""

    def simple(value: float, error: float) -> float:
        fractions = (round(value * d) / d for d in DENOMINATORS)
        near = (f for f in fractions if abs(value - f) <= max(SURE * error, CLOSE))
        return next(near, round(2 * value) / 2)

    return np.array([simple(float(e), float(s)) for e, s in zip(exponents, errors, strict=True)])


def scaled(g: NumberedGraph, node: int, target: np.ndarray) -> int:
    """A node times the new parameter that brings it nearest to a target."""
    values = g.values[node]
    return g.add("mul", g.fresh(float(values @ target / (values @ values))), node)


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
    for one in sides(task, OF_FUNCTIONS):
        if not (one.target != 0).all():
            continue
        goal = np.log(np.abs(one.target))
        subsets = Subsets(columns, goal)
        exact = EXACT * float(np.var(goal)) / float(np.mean(goal**2))
        ranked = [*subsets.singles(prefix, PRODUCTS), *subsets.pairs(prefix, PRODUCTS)]
        for error, chosen in ranked:
            if error <= exact:
                matrix = np.column_stack([prefix, columns[:, chosen]])
                solved = np.linalg.lstsq(matrix, goal, rcond=1e-12)[0][1:]
                exponents = snapped(solved, np.full(len(solved), EXPONENT_ERROR / 3))
                factors = [*plain, *(found[k] for k in chosen)]
                used = {g.nodes[u].op for u, power in zip(factors, exponents, strict=True) if power}
                # the logarithm of exponentials is a plain sum, which is told as one where sums are looked for
                if used != {"exp"} or one.side not in ("exp y", "exp -y"):
                    yield one.wrap(scaled(g, power_product(g, factors, exponents), one.target))


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
            rates_by = zip(own, map(float, slopes[len(powers) :]), strict=True)
            inner = reduce(partial(g.add, "add"), [g.add("mul", g.fresh(b), u) for u, b in rates_by])
            product = g.add("mul", power_product(g, powers, exponents), g.add("exp", inner))
            if np.isfinite(g.values[product]).all():
                yield task.wrap(scaled(g, product, task.target))


def _rates(g: NumberedGraph, columns: Sequence[int], weights: np.ndarray) -> list[int]:
    """What an exponential may grow or decay with: nodes that are finite and distinct where rows weigh."""
    made = [g.made(f, u=u) for u in columns for f in ("u", "1/u", "u**2")]
    pairs = combinations(columns[:MOST_PAIRED], 2)
    made += [g.made(f, u=u, v=v) for u, v in pairs for f in ("u*v", "u/v", "v/u")]
    return [made[k] for k in distinct(g.values[u] * weights for u in made)]


def _functions(g: NumberedGraph, columns: Sequence[int]) -> list[int]:
    """Functions of columns and of two columns whose powers may be factors."""
    some, alone, arguments = columns[:MOST_PAIRED], list[int](), list(columns)
    for u, v in combinations(some, 2):
        alone += [g.made(f, u=u, v=v) for f in ("u - v", "u + v", "u**2 - v**2", "u**2 + v**2")]
        others = product(OF_THREE, (w for w in some if w not in (u, v)))
        alone += [g.made(f, u=u, v=v, w=w) for f, w in others]
        arguments += [g.made(f, u=u, v=v) for f in GROUPS[:5]]
    return [*alone, *(g.made(f, u=u) for u in arguments for f in FACTORS)]
