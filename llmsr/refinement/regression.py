"""Sparse regression: the equation as a sum of terms with free coefficients, its terms exchanged for others.

Terms that resemble each other on the rows hide from a pursuit that adds one at a time: three odd functions
of x can be told from three others only together. So up to two terms are dropped and up to two added at once,
as long as that pays. Only linear algebra is needed, no fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import numpy as np

from llmsr.refinement.linearization import FLOOR, NEW, PARSIMONY, Candidate, Linearization, penalised_loss
from llmsr.refinement.rows import orthonormal, project_out
from llmsr.refinement.terms import Term, distinct
from llmsr.refinement.unshared import Editor

MAX_SUMMANDS = 12
MAX_STEPS = 6
PAIRED = 400  # terms that are tried in pairs, those of most promise alone
CHECKED = 12  # exchanges per step whose promise is computed again without shortcuts
NOTHING_LEFT = 1e-7  # share of a term's length beyond what is already there, at least
GAIN = 0.02  # decades that an exchange must be worth
INDEPENDENT = 1e-10  # sine squared of the angle between two terms, at least, for them to be a pair


def regress(at: Linearization) -> list[Candidate]:
    """The sums on the way from the equation's own terms to those that explain most."""
    own = own_terms(at)
    if own is None:
        return []
    terms = [*own, *distinct([*at.terms.wide, *at.part_terms])]
    if not terms:
        return []
    search = _Subsets(at, terms)
    chosen = tuple(range(len(own)))
    found: dict[tuple[int, ...], float] = {}
    best = search.penalised_loss(chosen)
    for _ in range(MAX_STEPS):
        exchanges = search.exchanges(chosen)
        found |= dict(exchanges[:CHECKED])
        if not exchanges or exchanges[0][1] > best - GAIN:
            break
        chosen, best = exchanges[0]
        if search.predicted_nmse(chosen) <= FLOOR:
            break
    ranked = sorted(found, key=lambda s: (found[s], s))
    return [c for c in map(search.candidate, ranked) if c is not None]


def own_terms(at: Linearization) -> list[Term] | None:
    """What the equation adds up, products of sums multiplied out and constant factors left aside.

    A constant among them is the term 1. None where there are more than `MAX_SUMMANDS`.
    """
    products = at.equation.addends(MAX_SUMMANDS)
    if products is None:
        return None
    return distinct((at.product_term(product) for product in products), constants=True)


@lru_cache(maxsize=32)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(count, 1)


class _Subsets:
    """Subsets of terms and what they promise with their best coefficients."""

    def __init__(self, at: Linearization, terms: list[Term]) -> None:
        self.at, self.terms, self.target = at, terms, at.rows.target
        columns = np.column_stack([t.values for t in terms])
        self.columns = columns / np.linalg.norm(columns, axis=0)
        self.sizes = np.array([t.size + 3 for t in terms])
        self.params = np.array([1 + t.fresh + len(t.inside) for t in terms])

    def predicted_nmse(self, chosen: tuple[int, ...]) -> float:
        """The NMSE of a sum of the chosen terms."""
        left = project_out(self._basis(chosen), self.target)
        return float(left @ left) / self.at.rows.power

    def penalised_loss(self, chosen: tuple[int, ...]) -> float:
        """What subsets are ordered by, lower is better."""
        return penalised_loss(self.predicted_nmse(chosen), int(self.sizes[list(chosen)].sum()))

    def exchanges(self, chosen: tuple[int, ...]) -> list[tuple[tuple[int, ...], float]]:
        """The most promising subsets with up to two terms dropped and up to two added, best first."""
        offers: list[tuple[float, tuple[int, ...]]] = []
        for count in range(min(2, len(chosen)) + 1):
            for dropped in combinations(chosen, count):
                offers += self._additions(tuple(i for i in chosen if i not in dropped))
        offers.sort()
        subsets = dict.fromkeys(s for _, s in offers if s != chosen)
        checked = [(s, self.penalised_loss(s)) for s in list(subsets)[:CHECKED]]
        return sorted(checked, key=lambda entry: (entry[1], entry[0]))

    def _basis(self, chosen: tuple[int, ...]) -> np.ndarray:
        return orthonormal([self.columns[:, i] for i in chosen], len(self.target))

    def _losses(self, squares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The penalised losses of sums of squares that subsets of so many nodes leave."""
        power = self.at.rows.power
        return np.asarray(np.log10(np.maximum(squares, FLOOR * power) / power) + PARSIMONY * sizes)

    def _additions(self, kept: tuple[int, ...]) -> Iterator[tuple[float, tuple[int, ...]]]:
        """(loss, subset) of the kept terms alone, with the best term more, with each of the best pairs."""
        directions = self._basis(kept)
        residual = project_out(directions, self.target)
        square = float(residual @ residual)
        size, free = (
            int(self.sizes[list(kept)].sum()),
            self.at.max_params - int(self.params[list(kept)].sum()),
        )
        if free < 0:
            return
        if kept:
            yield penalised_loss(square / self.at.rows.power, size), kept
        rest = project_out(directions, self.columns)
        left = np.linalg.norm(rest, axis=0)
        usable = np.flatnonzero((left > NOTHING_LEFT) & (self.params <= free))
        if not len(usable):
            return
        rest = rest[:, usable] / left[usable]
        along = rest.T @ residual
        single = self._losses(square - along**2, size + self.sizes[usable])
        k = int(single.argmin())
        yield float(single[k]), tuple(sorted((*kept, int(usable[k]))))
        strongest = np.sort(np.argsort(-(along**2), kind="stable")[:PAIRED])
        rest, along, usable = rest[:, strongest], along[strongest], usable[strongest]
        i, j = _pairs(len(usable))
        cosine = (rest.T @ rest)[i, j]
        sine2 = 1 - cosine**2
        allowed = (sine2 > INDEPENDENT) & (self.params[usable[i]] + self.params[usable[j]] <= free)
        i, j, cosine, sine2 = i[allowed], j[allowed], cosine[allowed], sine2[allowed]
        a, b = along[i], along[j]
        # what two unit vectors explain together, from what each explains and the angle between them
        gain = (a * a - 2 * a * b * cosine + b * b) / sine2
        pairs = self._losses(square - gain, size + self.sizes[usable[i]] + self.sizes[usable[j]])
        best = np.argpartition(pairs, 3)[:3] if len(pairs) > 3 else range(len(pairs))
        for k in best:
            yield float(pairs[k]), tuple(sorted((*kept, int(usable[i[k]]), int(usable[j[k]]))))

    def candidate(self, chosen: tuple[int, ...]) -> Candidate | None:
        """The sum of the chosen terms with a free coefficient each."""
        solved, *_ = np.linalg.lstsq(self.columns[:, list(chosen)], self.target, rcond=None)
        start: dict[int, float] = {}
        for k, (i, coefficient) in enumerate(zip(chosen, solved, strict=True)):
            term = self.terms[i]
            start |= {**term.start, NEW + k: float(coefficient / np.linalg.norm(term.values))}

        def edit(g: Editor) -> int:
            root = -1
            for k, i in enumerate(chosen):
                scaled = g.add("mul", g.param(NEW + k), g.taken(self.terms[i].expression))
                root = scaled if root < 0 else g.add("add", root, scaled)
            return root

        at = self.at
        return at.candidate({at.equation.root: edit}, "regress", self.predicted_nmse(chosen), start)
