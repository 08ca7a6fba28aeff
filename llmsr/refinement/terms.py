"""The equation as a sum of terms with free coefficients, its terms exchanged for others: sparse regression.

Terms that resemble each other on the rows hide from a pursuit that adds one at a time: three odd functions
of x can be told from three others only together. So up to two terms are dropped and up to two added at once,
as long as that pays. Only linear algebra is needed, no fit. The terms are atoms over the columns, and
functions of the parts of the equation itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial, reduce
from itertools import chain, combinations, product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmsr.expression.graph import Expression
from llmsr.refinement.atoms import UNARY, Atom, combinations_of, free_functions_of, functions_of
from llmsr.refinement.linearization import FLOOR, NEW, Candidate, Linearization, penalised_loss
from llmsr.refinement.rows import INSIDE_TERMS, NumberedGraph, Rows, coefficients, distinct, power_product
from llmsr.refinement.unshared import Editor

if TYPE_CHECKING:  # compiled where it is run
    from llmsr.refinement.subsets import Subset

MAX_PARTS = 10
MAX_COLUMNS = 8  # beyond it, columns are not combined with each other
GRID = 3  # numbers at which an inner constant begins
BEND = ("decay", "lorentz", "quartic", "saturation", "logistic", "ramp", "arctan")
WAVES, SCALES = ("sin", "cos", "exp", "tanh"), (0.5, 2.0, float(np.pi))
OF_PARTS = ("identity", "square", "sin", "cos", "tanh", "exp", "decay", "inverse", "root")
MAX_SUMMANDS = 12
MAX_STEPS = 6
MOST = 1400  # terms, beside the equation's own those that alone explain most of what these leave
BEAM = 8  # sums that are exchanged at a time
OFFERED = 8  # single terms, and pairs of them, for what is kept of a sum
CHECKED = 24  # exchanges of a step whose promise is computed again without shortcuts
GAIN = 0.02  # decades that an exchange must be worth


class Term(NamedTuple):
    """A small equation: the node at `root` of a graph."""

    graph: NumberedGraph
    root: int

    @property
    def values(self) -> np.ndarray:
        """Its numbers on the rows."""
        return self.graph.values[self.root]

    @property
    def size(self) -> int:
        """Its operators and leaves."""
        return self.graph.sizes[self.root]

    @property
    def expression(self) -> Expression:
        return self.graph.expression(self.root, ())

    @property
    def start(self) -> dict[int, float]:
        """Where its own parameters start."""
        return {p: self.graph.start[p] for p in self.expression.params if p >= INSIDE_TERMS}


def terms_over(rows: Rows) -> list[Term]:
    """The terms over the columns.

    Those that are not finite, or hardly vary, on the rows are left out; of terms equal up to a factor the
    first stays.
    """
    g = NumberedGraph(rows)
    columns = [g.column(i) for i in range(rows.inputs.shape[1])]
    paired = columns if len(columns) <= MAX_COLUMNS else []
    with np.errstate(all="ignore"):
        atoms = [
            a
            for u in columns
            for a in (
                *functions_of(g, u),
                *(Atom(name, g.made(UNARY[name], u=u)) for name in BEND),
                *free_functions_of(g, u, GRID),
            )
        ]
        roots = chain((a.planted(g) for a in atoms), _stretched(g, paired))
        pairs = (a.planted(g) for a in combinations_of(g, paired))
        return different(Term(g, root) for root in (*roots, *pairs))


def _stretched(g: NumberedGraph, columns: list[int]) -> Iterator[int]:
    """A column times a wave or an exponential, which may grow, of a column times a new constant."""
    for x, y, name, scale in product(columns, columns, WAVES, SCALES):
        inner = g.made(UNARY[name], u=g.add("mul", g.fresh(scale), y))
        yield from (inner, g.add("mul", x, inner))


def _of_parts(at: Linearization) -> list[Term]:
    """Functions of the equation's own parts, and parts times a column or a function of one."""
    g, equation = at.graph, at.equation
    inner = [i for i, node in enumerate(equation.nodes) if equation.varies[i] and node.args]
    products = dict.fromkeys(equation.factors(i) for i in sorted(inner, key=lambda i: (-equation.size(i), i)))
    columns = [g.column(i) for i in range(at.rows.inputs.shape[1])]
    roots: list[int] = []
    for factors in list(products)[:MAX_PARTS]:
        part = power_product(g, *zip(*factors, strict=True))
        roots += [g.made(UNARY[name], u=part) for name in OF_PARTS]
        for column in columns if len(columns) <= MAX_COLUMNS else ():
            roots += [g.add("mul", part, g.made(UNARY[name], u=column)) for name in OF_PARTS]
    return [Term(g, root) for root in roots]


def different(terms: Iterable[Term], constants: bool = False) -> list[Term]:
    """The terms that are finite and vary, of those equal up to a factor the first; or `constants` too."""
    terms = list(terms)
    kept = [terms[k] for k in distinct(term.values for term in terms)]
    return [t for t in kept if constants or np.ptp(t.values) > 1e-9 * np.abs(t.values).max()]


def own_terms(at: Linearization) -> list[Term] | None:
    """What the equation adds up, products of sums multiplied out and constant factors left aside.

    A constant among them is the term 1. None where there are more than `MAX_SUMMANDS`.
    """
    products = at.equation.addends(MAX_SUMMANDS)
    if products is None:
        return None
    roots = [power_product(at.graph, [i for i, _ in p], [power for _, power in p]) for p in products]
    return different([Term(at.graph, root) for root in roots], constants=True)


def regress(at: Linearization, library: list[Term]) -> list[Candidate]:
    """The sums on the way from the equation's own terms to those of a library that explain most."""
    own = own_terms(at)
    if own is None:
        return []
    terms = [*own, *different([*library, *_of_parts(at)])]
    if not terms or not at.rows.target.any():
        return []
    search = _Sums(at, terms, len(own))
    beam = [tuple(range(len(own)))]
    found: dict[Subset, float] = {}
    best, opened = search.loss(beam[0]), set(beam)
    for _ in range(MAX_STEPS):
        for chosen in beam:
            found |= search.exchanges(chosen)
        beam = [s for s in sorted(found, key=lambda s: (found[s], s)) if s not in opened][:BEAM]
        if not beam or found[beam[0]] > best - GAIN:
            break
        best, opened = found[beam[0]], opened | set(beam)
        if search.nmse(beam[0]) <= FLOOR:
            break
    ranked = sorted(found, key=lambda s: (found[s], s))
    return [c for c in map(search.candidate, ranked) if c is not None]


class _Sums:
    """Sums of terms, told by their positions, and what they promise with their best coefficients."""

    def __init__(self, at: Linearization, terms: list[Term], own: int) -> None:
        from llmsr.refinement.subsets import Subsets

        columns = np.column_stack([t.values for t in terms])
        if len(terms) > MOST:
            alone = Subsets(columns, at.rows.target)
            first = alone.singles(alone.unit[:, :own], MOST - own)
            kept = [*range(own), *sorted(j for _, (j,) in first if j >= own)]
            terms, columns = [terms[j] for j in kept], columns[:, kept]
        self.at, self.terms, self.subsets = at, terms, Subsets(columns, at.rows.target)
        self.sizes = np.array([t.size + 3 for t in terms])
        self.params = np.array([1 + len(t.expression.params) for t in terms])
        self.share = float(at.rows.target @ at.rows.target) / at.rows.power

    def nmse(self, chosen: Subset) -> float:
        """The NMSE of a sum of the chosen terms."""
        return self.share * self.subsets.error(self.subsets.unit[:, chosen])

    def loss(self, chosen: Subset, nmse: float | None = None) -> float:
        """What sums are ordered by, lower is better."""
        nmse = self.nmse(chosen) if nmse is None else nmse
        return penalised_loss(max(nmse, 0.0), int(self.sizes[list(chosen)].sum()))

    def exchanges(self, chosen: Subset) -> dict[Subset, float]:
        """The most promising sums with up to two terms dropped and up to two added."""
        offers: dict[Subset, float] = {}
        for count in range(min(2, len(chosen)) + 1):
            for dropped in combinations(chosen, count):
                for error, s in self._additions(tuple(i for i in chosen if i not in dropped)):
                    if s and s != chosen and self.params[list(s)].sum() <= self.at.max_params:
                        offers[s] = self.loss(s, self.share * error)
        return {s: self.loss(s) for s in sorted(offers, key=lambda s: (offers[s], s))[:CHECKED]}

    def _additions(self, kept: Subset) -> Iterator[tuple[float, Subset]]:
        """The kept terms alone, with each of the best terms more, with each of the best pairs."""
        subsets = self.subsets
        columns = subsets.unit[:, kept]
        yield subsets.error(columns), kept
        for error, more in (*subsets.singles(columns, OFFERED), *subsets.pairs(columns, OFFERED)):
            yield error, tuple(sorted((*kept, *more)))

    def candidate(self, chosen: Subset) -> Candidate | None:
        """The sum of the chosen terms with a free coefficient each."""
        at, terms = self.at, [self.terms[i] for i in chosen]
        weights = coefficients(np.column_stack([t.values for t in terms]), at.rows.target)
        start = {p: v for t in terms for p, v in t.start.items()}
        start |= {NEW + k: float(weight) for k, weight in enumerate(weights)}

        def edit(g: Editor) -> int:
            scaled = (g.add("mul", g.param(NEW + k), g.taken(t.expression)) for k, t in enumerate(terms))
            return reduce(partial(g.add, "add"), scaled)

        return at.candidate({at.equation.root: edit}, "regress", self.nmse(chosen), start)
