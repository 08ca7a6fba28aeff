"""Power laws, and sums of a few products of powers, for a function of the target.

A line through logarithms finds every power law at once. What adds up products of powers, perhaps as its
inverse, its square or its logarithm, is found by a beam over a dictionary of products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import comb

import numpy as np

from llmsr.refinement.rows import NumberedGraph, coefficients, power_product
from llmsr.refinement.subsets import Subsets

DENOMINATORS = (1, 2, 3, 4, 6)
CLEAR = 0.5  # share of the logarithm's variance that a power law explains, at least
SURE = 3.0  # standard errors within which an exponent is taken for a simple fraction
CLOSE = 1e-4  # the same for data without noise
ROWS_PER_EXPONENT = 3  # below which the columns of a power law are chosen, a few of all
DEPENDENT = 1e-6  # share of a logarithm that is its own, at least
MOST_NUMBERS = 12_000_000  # products times rows
TERMS = 3  # of a sum of products
RELATED = 1e-9  # share of the target's square that a relation leaves, at most

LARGEST = 50.0  # of what a hyperbolic function is taken

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

    def divided_by(self, factor: int, columns: tuple[int, ...]) -> Task:
        """The task of what is left when a node is taken out as a factor."""
        g, outer = self.graph, self.wrap
        return Task(
            g, columns, self.target / g.values[factor], lambda u: outer(g.add("mul", factor, u)), self.side
        )


Inverse = Callable[[NumberedGraph, int], int]
SIDES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Inverse, bool]] = {
    "y": (lambda y: y, lambda g, u: u, True),
    "1/y": (lambda y: 1 / y, lambda g, u: g.add("div", g.const(1.0), u), True),
    "y^2": (lambda y: y * y, lambda g, u: g.add("sqrt", u), False),
    "1/y^2": (lambda y: 1 / y**2, lambda g, u: g.add("div", g.const(1.0), g.add("sqrt", u)), False),
    "log y": (lambda y: np.log(np.abs(y)), lambda g, u: g.add("exp", u), False),
    "exp y": (np.exp, lambda g, u: g.add("log", u), True),
    "exp -y": (lambda y: np.exp(-y), lambda g, u: g.add("neg", g.add("log", u)), True),
    "root y": (lambda y: np.sqrt(np.abs(y)), lambda g, u: g.add("pow", u, g.const(2.0)), False),
    "cos y": (
        lambda y: np.where((y >= 0) & (y <= np.pi), np.cos(y), np.nan), lambda g, u: g.add("arccos", u), True,
    ),
    "sin y": (
        lambda y: np.where(np.abs(y) <= np.pi / 2, np.sin(y), np.nan), lambda g, u: g.add("arcsin", u), True,
    ),
    "cosh y": (
        lambda y: np.where((y >= 0) & (y < LARGEST), np.cosh(np.minimum(y, LARGEST)), np.nan),
        lambda g, u: g.add("arccosh", u),
        True,
    ),
    "tan y": (
        lambda y: np.where(np.abs(y) < np.pi / 2, np.tan(y), np.nan), lambda g, u: g.add("arctan", u), True,
    ),
}  # fmt: skip
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

        def wrap(u: int, backward: Inverse = backward, flipped: bool = negative and not signed) -> int:
            made = backward(g, u)
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
            _, chosen = Subsets(matrix - matrix.mean(0), logs - logs.mean()).best(TERMS)
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
    return np.array([_fraction(float(e), float(s)) for e, s in zip(exponents, errors, strict=True)])


def _fraction(value: float, error: float) -> float:
    for denominator in DENOMINATORS:
        near = round(value * denominator) / denominator
        if abs(value - near) <= max(SURE * error, CLOSE):
            return near
    return round(2 * value) / 2


def scaled(g: NumberedGraph, node: int, target: np.ndarray) -> int:
    """A node times the new parameter that brings it nearest to a target."""
    values = g.values[node]
    return g.add("mul", g.fresh(float(values @ target / (values @ values))), node)


def weighted_sum(g: NumberedGraph, nodes: Sequence[int], target: np.ndarray) -> int:
    """The sum of nodes with the coefficients that fit a target best, each a new parameter."""
    return combined(g, nodes, coefficients(np.column_stack([g.values[u] for u in nodes]), target))


def combined(g: NumberedGraph, nodes: Sequence[int], weights: np.ndarray) -> int:
    """The sum of nodes with new parameters, which begin at the weights, as coefficients."""
    root = -1
    for u, c in zip(nodes, map(float, weights), strict=True):
        part = g.fresh(c) if g.nodes[u].op == "const" else g.add("mul", g.fresh(c), u)
        root = part if root < 0 else g.add("add", root, part)
    return root


@dataclass(frozen=True)
class Dictionary:
    """Functions of columns: their numbers, shape (rows, functions), and `node`, the node of one of them.

    `constant` is the place of the number 1, -1 where it is not among them.
    """

    graph: NumberedGraph
    numbers: np.ndarray
    node: Callable[[int], int]
    constant: int

    @classmethod
    def of_products(
        cls, g: NumberedGraph, units: Sequence[int], exponents: Sequence[float], most: int
    ) -> Dictionary | None:
        """All products of powers of at most `most` of some nodes; None where they would be too many."""
        count = sum(comb(len(units), k) * len(exponents) ** k for k in range(most + 1))
        if count * len(g.rows.target) > MOST_NUMBERS:
            return None
        names = [
            tuple(zip(s, e, strict=True))
            for k in range(most + 1)
            for s in combinations(units, k)
            for e in product(exponents, repeat=k)
        ]
        powers = {
            (u, e): (g.values[u] if e == int(e) else np.abs(g.values[u])) ** e
            for u, e in product(units, exponents)
        }
        numbers = np.ones((len(g.rows.target), len(names)))
        for j, name in enumerate(names):
            for factor in name:
                numbers[:, j] *= powers[factor]
        lengths = np.linalg.norm(numbers, axis=0)
        kept = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))

        def node(j: int) -> int:
            name = names[kept[j]]
            return power_product(g, [u for u, _ in name], [e for _, e in name])

        return cls(g, numbers[:, kept], node, 0)

    def sums(self, task: Task, most: int = TERMS) -> Iterator[int]:
        """Roots of the best sum of a few functions, and of exact relations with the target in them.

            y = A + B y       so that y = A/(1 - B)
            y^2 = A + B y     so that y = B/2 +- sqrt(B^2/4 + A)

        A and B are sums of functions. A relation is linear in its constants, as a sum is.
        """
        _, chosen = Subsets(self.numbers, task.target).best(most)
        yield task.wrap(weighted_sum(self.graph, [self.node(j) for j in chosen], task.target))
        yield from self.relations(task, most + 1)

    def relations(self, task: Task, most: int) -> Iterator[int]:
        """Roots of the relations alone."""
        g, y, n = self.graph, task.target, self.numbers.shape[1]
        for power in (1, 2):
            # the target is no sum of itself
            beside = [j for j in range(n) if power > 1 or j != self.constant]
            columns = np.column_stack([self.numbers, y[:, None] * self.numbers[:, beside]])
            error, chosen = Subsets(columns, y**power).best(most)
            plain, times = [j for j in chosen if j < n], [j - n for j in chosen if j >= n]
            if error < RELATED and plain and times:
                solved = coefficients(columns[:, [*plain, *(j + n for j in times)]], y**power)
                a = combined(g, [self.node(j) for j in plain], solved[: len(plain)])
                b = combined(g, [self.node(beside[j]) for j in times], solved[len(plain) :] / power)
                yield task.wrap(_solution(g, a, b, y, power))


def _solution(g: NumberedGraph, a: int, b: int, y: np.ndarray, power: int) -> int:
    """The root of y = a + b y, or of y^2 = a + 2 b y on the side of most of the targets."""
    if power == 1:
        return g.add("div", a, g.add("sub", g.const(1.0), b))
    root = g.add("sqrt", g.add("add", g.add("pow", b, g.const(2.0)), a))
    return g.add("add" if np.median(y - g.values[b]) >= 0 else "sub", b, root)
