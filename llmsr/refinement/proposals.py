"""The candidates of one fitted equation as bodies, the most promising first: one task of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from llmsr.expression import GraphTooLarge, Refusal
from llmsr.expression.canonical import canonicalize
from llmsr.expression.printing.source import to_numpy_body
from llmsr.problem.bodies import read_body
from llmsr.problem.loading import Problem, Split
from llmsr.problem.spec import Spec
from llmsr.refinement.bounds import bounds
from llmsr.refinement.candidate import FLOOR, Candidate
from llmsr.refinement.edits import drops, fixed, freed, swaps
from llmsr.refinement.library import Library
from llmsr.refinement.point import Point, Rows
from llmsr.refinement.pursuit import pursue
from llmsr.refinement.regression import regress
from llmsr.refinement.tree import Tree

WORSE = 100.0  # times the loss at hand that a candidate may promise: constants that move on bring more


class Proposal(NamedTuple):
    """A body to be fitted, its canonical hash, and the edit that made it."""

    body: str
    canonical: str
    move: str


def proposals(problem: Problem, body: str, params: Sequence[float], count: int) -> list[Proposal]:
    """At most `count` proposals for a fitted body, all different.

    None where the body cannot be read, or where the target's deviations are too small or too large to square.
    """
    spec = problem.spec
    expression = read_body(spec, body)
    if isinstance(expression, Refusal):
        return []
    form = canonicalize(expression)
    tree = Tree.of(form.expression, tuple(float(params[i]) for i in form.params))
    if tree is None:
        return []
    try:
        with np.errstate(all="ignore"):
            library = _library_of(problem)
            if not 0 < library.rows.power < np.inf:
                return []
            point = Point(tree, library.rows)
            fitting = np.isfinite(point.residual).all()
            found = candidates(point, library, spec.max_params, count) if fitting else []
    except (NotImplementedError, GraphTooLarge, np.linalg.LinAlgError):  # nothing can be said of this one
        return []
    return _distinct(found, form.hash, spec, count)


def _distinct(candidates: list[Candidate], own: str, spec: Spec, count: int) -> list[Proposal]:
    """The first `count` different candidates as bodies in the spec's names."""
    found: list[Proposal] = []
    known = {own}
    for candidate in candidates:
        made = canonicalize(candidate.expression)
        if made.hash in known or len(made.params) > spec.max_params or not made.expression.inputs:
            continue
        known.add(made.hash)
        text = to_numpy_body(made.expression, spec.params_name)
        found.append(Proposal(text, made.hash, candidate.move))
        if len(found) == count:
            break
    return found


def candidates(point: Point, library: Library, max_params: int, count: int) -> list[Candidate]:
    """Candidates of every kind, taken in turn from each kind's best: half of them new terms."""
    limit = WORSE * max(point.nmse, FLOOR)
    terms: list[Candidate] = []
    if point.nmse > FLOOR:
        sums, single = regress(point, library, max_params), pursue(point, library, max_params, count)
        terms = [c for some in zip_longest(sums, single) for c in some if c is not None]
    kinds = (
        drops(point),
        swaps(point),
        freed(point, library.first, max_params),
        fixed(point),
        bounds(point, library.first, max_params),
    )
    edits = [[c for c in kind if c.promised <= limit] for kind in kinds]
    turns: list[Candidate] = []
    for turn, some in enumerate(zip_longest(*edits)):
        turns += terms[len(kinds) * turn :][: len(kinds)]
        turns += [c for c in some if c is not None]
    return turns + terms[len(kinds) * max(map(len, edits)) :]


_library: tuple[Split, Library] | None = None


def _library_of(problem: Problem) -> Library:
    """The library of a problem's rows; that of the last problem is kept."""
    global _library
    if _library is None or _library[0] is not problem.train or _library[1].first != problem.spec.max_params:
        _library = problem.train, Library(Rows.of(problem.train), problem.spec.max_params)
    return _library[1]
