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
from typing import Any

import numpy as np

from llmsr.expression.complexity import complexity
from llmsr.refinement.candidate import FLOOR, PARSIMONY, Candidate
from llmsr.refinement.library import Library, Term
from llmsr.refinement.point import Point, off
from llmsr.refinement.tree import Tree

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
    promised: float
    rank: float
    direction: np.ndarray
    coefficient: float


def pursue(point: Point, library: Library, max_params: int, count: int) -> list[Candidate]:
    """The `count` most promising single terms, best first; no equation has more than `max_params` constants.

    Of offers of one mode that come to the same, to first order, two stay: the smaller ones, then those nearer
    to the root.
    """
    offers = sorted(
        _offers(point, library, max_params), key=lambda offer: (round(offer.rank, 6), -offer.node)
    )
    chosen: list[_Offer] = []
    candidates: list[Candidate] = []
    for offer in offers:
        if len(candidates) >= count:
            break
        like = (o for o in chosen if o.mode == offer.mode)
        if sum(abs(offer.direction @ o.direction) > ALIKE for o in like) >= SAME:
            continue
        chosen.append(offer)
        candidates.append(_candidate(point.tree, library.first, offer, offer.mode))
        if offer.mode == "multiply":
            candidates.append(_candidate(point.tree, library.first, offer, "divide"))
    return candidates[:count]


def _offers(point: Point, library: Library, max_params: int) -> Iterator[_Offer]:
    tree = point.tree
    free = max_params - len(tree.params)
    summands = tree.summands()
    narrow = _Columns(library.narrow, point)
    wide = _Columns([*library.wide, *library.parts(point)], point)
    for i, slope in point.slopes.items():
        value = point.values[i]
        if not tree.varies[i] or not np.isfinite(slope).all() or not np.isfinite(value).all():
            continue
        if i != tree.root and tree.unscaled(i) != i:
            continue
        terms = wide if i in summands else narrow
        if i == tree.root or i not in summands:
            yield from _best(point, i, "add", terms, free)
        if tree.nodes[i].args:
            yield from _best(point, i, "multiply", narrow, free)
        if i != tree.root:
            yield from _best(point, i, "replace", terms, free)


class _Columns:
    """Terms with their numbers side by side, shape (rows, terms)."""

    def __init__(self, terms: list[Term], point: Point) -> None:
        self.terms = terms
        none = np.empty((len(point.residual), 0))  # where every column is constant on the rows
        self.values = np.column_stack([none, *(term.values for term in terms)])
        self.sizes = np.array([term.size for term in terms], dtype=int)
        self.inside = [term.inside for term in terms]
        self.constants = np.array([len(term.start) for term in terms], dtype=int)


def _best(point: Point, node: int, mode: str, columns: _Columns, free: int) -> Iterator[_Offer]:
    """The best terms of one node in one mode."""
    tree, weight, residual, coefficients = point.tree, point.slopes[node], point.residual, 1
    own: frozenset[int] = frozenset()
    without = own
    if mode == "multiply":
        weight = weight * point.values[node]
    if mode == "replace":
        own = tree.own_params(node)
        residual = residual + weight * point.values[node]
        outer = _outer_factor(tree, node, own)
        coefficients = 1 if outer is None else 0
        without = own if outer is None else own | {outer}
    tangent = point.tangent(without)
    residual = off(tangent, residual)
    moved = weight[:, None] * columns.values
    lengths = np.linalg.norm(moved, axis=0)
    rest = off(tangent, moved / lengths)
    left = np.linalg.norm(rest, axis=0)
    rest /= left
    along = residual @ rest
    usable = np.isfinite(along) & (left > NOTHING_NEW)
    kept = np.array([len(own & inside) for inside in columns.inside], dtype=int) if own else 0
    usable &= columns.constants + coefficients + kept <= free + len(own)
    square = float(residual @ residual)
    promised = np.where(usable, np.maximum(square - along**2, 0.0) / point.rows.power, np.inf)
    sizes = len(tree.nodes) + columns.sizes + (2 if mode == "add" else 4)
    if mode == "replace":
        sizes = len(tree.nodes) + columns.sizes + 2 * coefficients - tree.size(node)
    ranks = np.log10(np.maximum(promised, FLOOR)) + PARSIMONY * sizes
    for k in np.argsort(ranks, kind="stable")[:BEST_OF_A_NODE]:
        if np.isfinite(ranks[k]):
            coefficient = float(along[k] / (lengths[k] * left[k]))
            found = float(promised[k]), float(ranks[k]), rest[:, k], coefficient
            yield _Offer(node, mode, columns.terms[k], coefficients, *found)


def _outer_factor(tree: Tree, node: int, own: frozenset[int]) -> int | None:
    """The parameter outside a node that already multiplies it, or a power of it."""
    child = node
    while child in tree.parents:
        parent = tree.parents[child]
        op, args, _ = tree.nodes[parent]
        if op in ("mul", "div"):
            if op == "div" and args[1] == child:
                return None
            for a in args:
                found = _param_factor(tree, a, own) if a != child else None
                if found is not None:
                    return found
        elif not (op in ("neg", "abs") or (op == "pow" and tree.nodes[args[1]].op == "const")):
            return None
        child = parent
    return None


def _param_factor(tree: Tree, i: int, own: frozenset[int]) -> int | None:
    """A parameter that is a factor of node i and not in `own`."""
    op, args, value = tree.nodes[i]
    if op == "param":
        return None if value in own else int(value or 0)
    factors = args[:1] if op == "div" else args if op in ("mul", "neg") else ()
    found = (_param_factor(tree, a, own) for a in factors)
    return next((p for p in found if p is not None), None)


def _candidate(tree: Tree, first: int, offer: _Offer, mode: str) -> Candidate:
    term = offer.term
    index = first + len(term.start)

    def times(g: Any) -> int:
        phi = term.build(g)
        return g.add("mul", g.param(index), phi) if offer.coefficients else phi

    def build(g: Any, node: int) -> int:
        if mode == "replace":
            return times(g)
        before = g.part(node)
        if mode == "add":
            return g.add("add", before, times(g))
        return g.add("mul" if mode == "multiply" else "div", before, g.add("add", g.const(1.0), times(g)))

    expression = tree.replaced({offer.node: build})
    sign = -1.0 if mode == "divide" else 1.0
    padding = (1.0,) * (first - len(tree.start))
    start = (*tree.start, *padding, *term.start, sign * offer.coefficient)
    return Candidate(expression, start, offer.promised, complexity(expression), mode)
