"""Terms chosen by what they explain of the residual: matching pursuit at every node of an equation.

A term phi at node n of an equation f changes it, to first order, by s * delta, s being the slope of f by n:

    add        n + c phi          delta = c phi
    multiply   n (1 + c phi)      delta = c n phi
    divide     n / (1 + c phi)    the same, to first order
    replace    c phi for n        the residual without n against c phi

What the constants of f can already do is projected out of s * delta and of the residual; the share of the
residual's square along what is left is what the term promises (Pati, Rezaiifar and Krishnaprasad, 1993).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmsr.refinement.linearization import FLOOR, NEW, PARSIMONY, Candidate, Linearization
from llmsr.refinement.rows import project_out
from llmsr.refinement.terms import Term
from llmsr.refinement.unshared import Editor

OFFERED = 24  # single terms of one equation
BEST_OF_A_NODE = 4
ALIKE = 1 - 1e-8  # cosine above which two directions are the same
SAME = 2  # offers of one mode and direction that are kept
NOTHING_NEW = 1e-6  # share of a term's length that must be left once the constants' directions are off


@dataclass(frozen=True)
class _Offer:
    """A term at a node; `direction` is what it adds to what the constants can do, a unit vector."""

    node: int
    mode: str
    term: Term
    coefficients: int
    predicted_nmse: float
    penalised_loss: float
    direction: np.ndarray
    coefficient: float


def pursue(at: Linearization) -> list[Candidate]:
    """The `OFFERED` most promising single terms.

    Of offers of one mode that come to the same, to first order, two stay: the smaller ones, then those nearer
    to the root.
    """
    offers = sorted(_offers(at), key=lambda offer: (round(offer.penalised_loss, 6), -offer.node))
    chosen: list[_Offer] = []
    found: list[Candidate | None] = []
    for offer in offers:
        if len(found) >= OFFERED:
            break
        like = (o for o in chosen if o.mode == offer.mode)
        if sum(abs(offer.direction @ o.direction) > ALIKE for o in like) >= SAME:
            continue
        chosen.append(offer)
        found.append(_candidate(at, offer, offer.mode))
        if offer.mode == "multiply":
            found.append(_candidate(at, offer, "divide"))
    return [c for c in found[:OFFERED] if c is not None]


def _offers(at: Linearization) -> Iterator[_Offer]:
    equation = at.equation
    summands = equation.summands()
    narrow = _Columns(at.terms.narrow, at)
    wide = _Columns([*at.terms.wide, *at.part_terms], at)
    for i, slope in at.slopes.items():
        if not equation.varies[i] or not np.isfinite(slope).all() or not np.isfinite(at.values[i]).all():
            continue
        if i != equation.root and equation.unscaled(i) != i:
            continue
        terms = wide if i in summands else narrow
        if i == equation.root or i not in summands:
            yield from _best(at, i, "add", terms)
        if equation.nodes[i].args:
            yield from _best(at, i, "multiply", narrow)
        if i != equation.root:
            yield from _best(at, i, "replace", terms)


class _Columns:
    """Terms with their numbers side by side, shape (rows, terms)."""

    def __init__(self, terms: list[Term], at: Linearization) -> None:
        self.terms = terms
        none = np.empty((len(at.residual), 0))  # where every column is constant on the rows
        self.values = np.column_stack([none, *(term.values for term in terms)])
        self.sizes = np.array([term.size for term in terms], dtype=int)
        self.constants = np.array([len(term.start) for term in terms], dtype=int)


def _best(at: Linearization, node: int, mode: str, columns: _Columns) -> Iterator[_Offer]:
    """The best terms of one node in one mode."""
    equation, weight, residual, coefficients = at.equation, at.slopes[node], at.residual, 1
    own: frozenset[int] = frozenset()
    without = own
    if mode == "multiply":
        weight = weight * at.values[node]
    if mode == "replace":
        own = equation.own_params(node)
        residual = residual + weight * at.values[node]
        outer = equation.scale_of(node)
        coefficients = 1 if outer is None else 0
        without = own if outer is None else own | {outer}
    residual = project_out(at.reach(without), residual)
    moved = weight[:, None] * columns.values
    lengths = np.linalg.norm(moved, axis=0)
    rest = project_out(at.reach(without), moved / lengths)
    left = np.linalg.norm(rest, axis=0)
    rest /= left
    along = residual @ rest
    kept = np.array([len(own & term.inside) for term in columns.terms], dtype=int) if own else 0
    usable = np.isfinite(along) & (left > NOTHING_NEW)
    usable &= columns.constants + coefficients + kept <= at.free + len(own)
    square = float(residual @ residual)
    promised = np.where(usable, np.maximum(square - along**2, 0.0) / at.rows.power, np.inf)
    sizes = len(equation.nodes) + columns.sizes + (2 if mode == "add" else 4)
    if mode == "replace":
        sizes = len(equation.nodes) + columns.sizes + 2 * coefficients - equation.size(node)
    losses = np.log10(np.maximum(promised, FLOOR)) + PARSIMONY * sizes
    for k in np.argsort(losses, kind="stable")[:BEST_OF_A_NODE]:
        if np.isfinite(losses[k]):
            coefficient = float(along[k] / (lengths[k] * left[k]))
            found = float(promised[k]), float(losses[k]), rest[:, k], coefficient
            yield _Offer(node, mode, columns.terms[k], coefficients, *found)


def _candidate(at: Linearization, offer: _Offer, mode: str) -> Candidate | None:
    def edit(g: Editor) -> int:
        before = g.part(offer.node) if mode != "replace" else -1
        term = g.taken(offer.term.expression)
        if offer.coefficients:
            term = g.add("mul", g.param(NEW), term)
        if mode == "replace":
            return term
        if mode == "add":
            return g.add("add", before, term)
        return g.add("mul" if mode == "multiply" else "div", before, g.add("add", g.const(1.0), term))

    start = {**offer.term.start, NEW: -offer.coefficient if mode == "divide" else offer.coefficient}
    return at.candidate({offer.node: edit}, mode, offer.predicted_nmse, start)
