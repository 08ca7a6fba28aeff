"""Sparse regression: the equation as a sum of terms with free coefficients, its terms exchanged for others.

Terms that resemble each other on the rows hide from a pursuit that adds one at a time: three odd functions
of x can be told from three others only together. So up to two terms are dropped and up to two added at once,
as long as that pays. Only linear algebra is needed, no fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from llmsr.refinement.linearization import FLOOR, NEW, Candidate, Linearization, penalised_loss
from llmsr.refinement.subsets import Subset, Subsets
from llmsr.refinement.terms import Term, different
from llmsr.refinement.unshared import Editor

MAX_SUMMANDS = 12
MAX_STEPS = 6
MOST = 1400  # terms, beside the equation's own those that alone explain most of what these leave
BEAM = 8  # sums that are exchanged at a time
OFFERED = 8  # single terms, and pairs of them, for what is kept of a sum
CHECKED = 24  # exchanges of a step whose promise is computed again without shortcuts
GAIN = 0.02  # decades that an exchange must be worth


def regress(at: Linearization) -> list[Candidate]:
    """The sums on the way from the equation's own terms to those that explain most."""
    own = own_terms(at)
    if own is None:
        return []
    terms = [*own, *different([*at.terms.wide, *at.part_terms])]
    if not terms or not at.rows.target.any():
        return []
    search = _Sums(at, terms, len(own))
    beam = [tuple(range(len(own)))]
    found: dict[Subset, float] = {}
    best, opened = search.penalised_loss(beam[0]), set(beam)
    for _ in range(MAX_STEPS):
        for chosen in beam:
            found |= search.exchanges(chosen)
        beam = [s for s in sorted(found, key=lambda s: (found[s], s)) if s not in opened][:BEAM]
        if not beam or found[beam[0]] > best - GAIN:
            break
        best, opened = found[beam[0]], opened | set(beam)
        if search.predicted_nmse(beam[0]) <= FLOOR:
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
    return different([at.product_term(product) for product in products], constants=True)


class _Sums:
    """Sums of terms, told by their positions, and what they promise with their best coefficients."""

    def __init__(self, at: Linearization, terms: list[Term], own: int) -> None:
        columns = np.column_stack([t.values for t in terms])
        if len(terms) > MOST:
            alone = Subsets(columns, at.rows.target)
            first = alone.singles(alone.unit[:, :own], MOST - own)
            kept = [*range(own), *sorted(j for _, (j,) in first if j >= own)]
            terms, columns = [terms[j] for j in kept], columns[:, kept]
        self.at, self.terms, self.subsets = at, terms, Subsets(columns, at.rows.target)
        self.sizes = np.array([t.size + 3 for t in terms])
        self.params = np.array([1 + len(t.start) + len(t.inside) for t in terms])
        self.share = float(at.rows.target @ at.rows.target) / at.rows.power

    def predicted_nmse(self, chosen: Subset) -> float:
        """The NMSE of a sum of the chosen terms."""
        return self.share * self.subsets.error(self.subsets.unit[:, chosen])

    def penalised_loss(self, chosen: Subset) -> float:
        """What sums are ordered by, lower is better."""
        return self._loss(self.predicted_nmse(chosen), chosen)

    def _loss(self, nmse: float, chosen: Subset) -> float:
        return penalised_loss(max(nmse, 0.0), int(self.sizes[list(chosen)].sum()))

    def exchanges(self, chosen: Subset) -> dict[Subset, float]:
        """The most promising sums with up to two terms dropped and up to two added."""
        offers: dict[Subset, float] = {}
        for count in range(min(2, len(chosen)) + 1):
            for dropped in combinations(chosen, count):
                for error, s in self._additions(tuple(i for i in chosen if i not in dropped)):
                    if s and s != chosen and self.params[list(s)].sum() <= self.at.max_params:
                        offers[s] = self._loss(self.share * error, s)
        first = sorted(offers, key=lambda s: (offers[s], s))[:CHECKED]
        return {s: self.penalised_loss(s) for s in first}

    def _additions(self, kept: Subset) -> Iterator[tuple[float, Subset]]:
        """The kept terms alone, with each of the best terms more, with each of the best pairs."""
        subsets = self.subsets
        columns = subsets.unit[:, kept]
        yield subsets.error(columns), kept
        for error, more in (*subsets.singles(columns, OFFERED), *subsets.pairs(columns, OFFERED)):
            yield error, tuple(sorted((*kept, *more)))

    def candidate(self, chosen: Subset) -> Candidate | None:
        """The sum of the chosen terms with a free coefficient each."""
        at, columns = self.at, self.subsets.unit[:, chosen]
        solved, *_ = np.linalg.lstsq(columns, at.rows.target, rcond=None)
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

        return at.candidate({at.equation.root: edit}, "regress", self.predicted_nmse(chosen), start)
