"""The candidates of one fitted equation as bodies, the most promising first: one task of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple, TypeVar

import numpy as np

from llmsr.expression import GraphTooLarge, Refusal
from llmsr.expression.canonical import canonicalize
from llmsr.expression.printing import to_numpy_body
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import Split
from llmsr.refinement.edits import bound, drop, fix, free, swap
from llmsr.refinement.linearization import FLOOR, Candidate, Linearization, Move
from llmsr.refinement.pursuit import pursue
from llmsr.refinement.rows import Rows
from llmsr.refinement.terms import Terms
from llmsr.refinement.unshared import Unshared

WORSE = 100.0  # times the loss at hand that a candidate may promise: constants that move on bring more
EDITS: tuple[Move, ...] = (drop, swap, free, fix, bound)


T = TypeVar("T")


class Proposal(NamedTuple):
    """A body to be fitted, its canonical hash, and the move that made it."""

    body: str
    canonical: str
    move: str


def proposals(problem: Problem, body: str, params: Sequence[float], count: int) -> list[Proposal]:
    """At most `count` proposals for a fitted body, all different.

    None where the body cannot be read, or where the target's deviations are too small or too large to square.
    """
    problem = problem.by_group[0]  # whose constants stand first; all groups judge what is proposed
    expression = read_body(problem.spec, body)
    if isinstance(expression, Refusal):
        return []
    form = canonicalize(expression)
    equation = Unshared.of(form.expression)
    if equation is None:
        return []
    start = {new: float(params[old]) for new, old in enumerate(form.params)}
    terms = _terms_of(problem)
    if not 0 < terms.rows.power < np.inf:
        return []
    try:
        with np.errstate(all="ignore"):
            at = Linearization(equation, start, terms, problem.spec.max_params)
            found = candidates(at) if np.isfinite(at.residual).all() else []
    except (NotImplementedError, GraphTooLarge, np.linalg.LinAlgError):  # nothing can be said of this one
        return []
    return _distinct(found, form.hash, problem, count)


def candidates(at: Linearization) -> list[Candidate]:
    """Candidates of every move, taken in turn from each one's best: half of them new terms."""
    from llmsr.refinement.regression import regress  # late: compiled where it is run

    terms = in_turn([regress(at), pursue(at)]) if at.nmse > FLOOR else []
    limit = WORSE * max(at.nmse, FLOOR)
    edits = [[c for c in move(at) if c.predicted_nmse <= limit] for move in EDITS]
    found: list[Candidate] = []
    for some in zip_longest(*edits):
        found += terms[: len(EDITS)] + [c for c in some if c is not None]
        terms = terms[len(EDITS) :]
    return found + terms


def in_turn(lists: Sequence[Sequence[T]]) -> list[T]:
    """The first of every list, then the second, and so on."""
    return [one for some in zip_longest(*lists) for one in some if one is not None]


def _distinct(found: list[Candidate], own: str, problem: Problem, count: int) -> list[Proposal]:
    """The first `count` different candidates as bodies in the spec's names."""
    chosen: dict[str, Proposal] = {}
    spec = problem.spec
    for candidate in found:
        made = canonicalize(candidate.expression)
        new = made.hash not in chosen and made.hash != own
        fits = len(made.params) <= spec.max_params and made.expression.inputs
        if new and fits and not problem.refused(made.expression):
            body = to_numpy_body(made.expression, spec.params_name)
            chosen[made.hash] = Proposal(body, made.hash, candidate.move)
        if len(chosen) == count:
            break
    return list(chosen.values())


_terms: tuple[Split, Terms] | None = None


def _terms_of(problem: Problem) -> Terms:
    """The terms over a problem's columns; those of the last problem are kept."""
    global _terms
    if _terms is None or _terms[0] is not problem.train:
        with np.errstate(all="ignore"):
            _terms = problem.train, Terms(Rows.of(problem.train))
    return _terms[1]
