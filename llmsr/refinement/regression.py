"""Sparse regression: the equation as a sum of terms with free coefficients, its terms exchanged for others.

Terms that resemble each other on the rows hide from a pursuit that adds one at a time: three odd functions
of x can be told from three others only together. So up to two terms are dropped and up to two added at once,
as long as that pays. Only linear algebra is needed, no fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from llmsr.expression.complexity import complexity
from llmsr.refinement.candidate import FLOOR, PARSIMONY, Candidate, worth
from llmsr.refinement.library import Library, Numbers, Sizes, Term, distinct, product_of
from llmsr.refinement.point import Point, basis, off
from llmsr.refinement.tree import Grafting, Product, Tree

MAX_SUMMANDS = 12
MAX_STEPS = 6
PAIRED = 400  # terms that are tried in pairs, those of most promise alone
CHECKED = 12  # exchanges per step whose promise is computed again without shortcuts
GAIN = 0.02  # decades that an exchange must be worth
INDEPENDENT = 1e-10  # sine squared of the angle between two terms, at least, for them to be a pair


def regress(point: Point, library: Library, max_params: int) -> list[Candidate]:
    """The sums on the way from the equation's own terms to those that explain most, best first."""
    own = summands(point)
    if own is None:
        return []
    terms = [*own, *distinct([*library.wide, *library.parts(point)])]
    if not terms:
        return []
    search = _Search(point, terms, max_params)
    chosen = tuple(range(len(own)))
    found: dict[tuple[int, ...], float] = {}
    best = search.rank(chosen)
    for _ in range(MAX_STEPS):
        exchanges = search.exchanges(chosen)
        found |= dict(exchanges[:CHECKED])
        if not exchanges or exchanges[0][1] > best - GAIN:
            break
        chosen, best = exchanges[0]
        if search.promised(chosen) <= FLOOR:
            break
    ranked = sorted(found, key=lambda s: (found[s], s))
    return [search.candidate(s, library.first) for s in ranked]


def summands(point: Point) -> list[Term] | None:
    """What the equation adds up, products of sums multiplied out and constant factors left aside.

    A constant among them is the term 1. None where there are more than `MAX_SUMMANDS`.
    """
    tree = point.tree
    products = _expanded(tree, tree.root)
    if products is None:
        return None
    numbers, sizes = Numbers(point.rows, parts=point.values), Sizes(tree.size)
    terms = []
    for product in products:
        build = product_of(product)
        terms.append(Term(build, (), build(numbers), build(sizes), tree.params_of(product)))
    return distinct(terms, constants=True)


def _expanded(tree: Tree, i: int) -> list[Product] | None:
    op, args, _ = tree.nodes[i]
    if not tree.varies[i]:
        return [()]
    if op in ("add", "sub"):
        left, right = (_expanded(tree, a) for a in args)
        if left is None or right is None or len(left) + len(right) > MAX_SUMMANDS:
            return None
        return left + right
    if op == "neg":
        return _expanded(tree, args[0])
    if op == "mul":
        left, right = (_expanded(tree, a) for a in args)
        if left is None or right is None or len(left) * len(right) > MAX_SUMMANDS:
            return None
        return [a + b for a in left for b in right]
    if op == "div":
        above = _expanded(tree, args[0])
        below = tuple((a, -power) for a, power in tree.factors(args[1]))
        return None if above is None else [p + below for p in above]
    return [((i, 1),)]


@dataclass
class _Search:
    """Subsets of terms and what they promise with their best coefficients."""

    point: Point
    terms: list[Term]
    max_params: int

    def __post_init__(self) -> None:
        columns = np.column_stack([t.values for t in self.terms])
        self.columns = columns / np.linalg.norm(columns, axis=0)
        self.sizes = np.array([t.size + 3 for t in self.terms])
        self.params = np.array([1 + len(t.start) + len(t.inside) for t in self.terms])
        self.target = self.point.rows.target
        self._known_pairs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.power = self.point.rows.power

    def _pairs(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        if count not in self._known_pairs:
            self._known_pairs[count] = np.triu_indices(count, 1)
        return self._known_pairs[count]

    def promised(self, chosen: tuple[int, ...]) -> float:
        left = off(self._basis(chosen), self.target)
        return float(left @ left) / self.power

    def rank(self, chosen: tuple[int, ...]) -> float:
        return worth(self.promised(chosen), int(self.sizes[list(chosen)].sum()))

    def exchanges(self, chosen: tuple[int, ...]) -> list[tuple[tuple[int, ...], float]]:
        """The most promising subsets with up to two terms dropped and up to two added, best first."""
        offers: list[tuple[float, tuple[int, ...]]] = []
        for count in range(min(2, len(chosen)) + 1):
            for dropped in combinations(chosen, count):
                offers += self._additions(tuple(i for i in chosen if i not in dropped))
        offers.sort()
        subsets = dict.fromkeys(s for _, s in offers if s != chosen)
        checked = [(s, self.rank(s)) for s in list(subsets)[:CHECKED]]
        return sorted(checked, key=lambda entry: (entry[1], entry[0]))

    def _basis(self, chosen: tuple[int, ...]) -> np.ndarray:
        return basis([self.columns[:, i] for i in chosen], len(self.target))

    def _additions(self, kept: tuple[int, ...]) -> Iterator[tuple[float, tuple[int, ...]]]:
        """(rank, subset) of the kept terms alone, with the best term more, with each of the best pairs."""
        directions = self._basis(kept)
        residual = off(directions, self.target)
        square = float(residual @ residual)
        size, free = int(self.sizes[list(kept)].sum()), self.max_params - int(self.params[list(kept)].sum())
        if free < 0:
            return
        if kept:
            yield worth(square / self.power, size), kept
        rest = off(directions, self.columns)
        left = np.linalg.norm(rest, axis=0)
        usable = np.flatnonzero((left > 1e-7) & (self.params <= free))
        if not len(usable):
            return
        rest = rest[:, usable] / left[usable]
        along = rest.T @ residual
        single = np.log10(np.maximum(square - along**2, FLOOR * self.power) / self.power)
        single += PARSIMONY * (size + self.sizes[usable])
        k = int(single.argmin())
        yield float(single[k]), tuple(sorted((*kept, int(usable[k]))))
        strongest = np.sort(np.argsort(-(along**2), kind="stable")[:PAIRED])
        rest, along, usable = rest[:, strongest], along[strongest], usable[strongest]
        i, j = self._pairs(len(usable))
        cosine = (rest.T @ rest)[i, j]
        sine2 = 1 - cosine**2
        allowed = (sine2 > INDEPENDENT) & (self.params[usable[i]] + self.params[usable[j]] <= free)
        i, j, cosine, sine2 = i[allowed], j[allowed], cosine[allowed], sine2[allowed]
        a, b = along[i], along[j]
        gain = (a * a - 2 * a * b * cosine + b * b) / sine2
        ranks = np.log10(np.maximum(square - gain, FLOOR * self.power) / self.power)
        ranks += PARSIMONY * (size + self.sizes[usable[i]] + self.sizes[usable[j]])
        best = np.argpartition(ranks, 3)[:3] if len(ranks) > 3 else range(len(ranks))
        for k in best:
            yield float(ranks[k]), tuple(sorted((*kept, int(usable[i[k]]), int(usable[j[k]]))))

    def candidate(self, chosen: tuple[int, ...], first: int) -> Candidate:
        """The sum of the chosen terms with a free coefficient each."""
        solved, *_ = np.linalg.lstsq(self.columns[:, list(chosen)], self.target, rcond=None)
        tree = self.point.tree
        graph = Grafting(tree)
        start = [*tree.start, *[1.0] * (first - len(tree.start))]
        root = -1
        for i, coefficient in zip(chosen, solved, strict=True):
            term = self.terms[i]
            # a term numbers its new parameters from `first`; each appearance needs its own
            moved = len(start) - first
            made = term.build(_Renumbered(graph, first, moved))
            start += [*term.start, float(coefficient / np.linalg.norm(term.values))]
            scaled = graph.add("mul", graph.param(len(start) - 1), made)
            root = scaled if root < 0 else graph.add("add", root, scaled)
        expression = graph.expression(root, tree.columns)
        promised = self.promised(chosen)
        return Candidate(expression, tuple(start), promised, complexity(expression), "regress")


class _Renumbered:
    """A graph for which the new parameters of a term, those from `first` on, are moved up."""

    def __init__(self, graph: Grafting, first: int, moved: int) -> None:
        self._graph, self._first, self._moved = graph, first, moved
        self.const, self.column, self.add, self.part = graph.const, graph.column, graph.add, graph.part

    def param(self, index: int) -> int:
        return self._graph.param(index + self._moved if index >= self._first else index)
