"""The candidates of one fitted equation as bodies, the most promising first: one task of a worker.

Of a template the holes are searched. With all else as it is fitted, a hole has a value in every row that
would explain the row's target: solved for by Newton's method, it is the target of a problem of the hole's
own. Its rows weigh by the square of the slope of the equation in the hole, so that to first order its
weighted squares are those of the whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TypeVar

import numpy as np

from llmsr.expression import Expression, GraphTooLarge, Refusal
from llmsr.expression.canonical import canonicalize
from llmsr.expression.graph import complexity, evaluate
from llmsr.expression.printing import to_numpy_body
from llmsr.fitting import fit
from llmsr.problem.holes import hole_expressions, hole_spec, with_holes
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import Split
from llmsr.refinement.edits import bound, drop, fix, free
from llmsr.refinement.floor import Floor
from llmsr.refinement.linearization import (
    FLOOR,
    Candidate,
    Linearization,
    Move,
    Proposal,
    penalised_loss,
)
from llmsr.refinement.rows import Rows
from llmsr.refinement.terms import Term, regress, terms_over
from llmsr.refinement.unshared import Unshared

WORSE = 100.0  # times the loss at hand that a candidate may promise: constants that move on bring more
VALUE = "value_of_hole"
NEWTON_STEPS, STEP = 30, 1e-6
LEAST_WEIGHT, FEWEST_ROWS = 1e-9, 8  # of the largest; rows that say nothing of the hole are left out
ROUNDS, TRIED = 3, 12  # through all holes; equations of a hole that are fitted as parts of the whole
FIT_SECONDS = 5.0
EDITS: tuple[Move, ...] = (drop, free, fix, bound)


T = TypeVar("T")


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
    rows, library = _terms_of(problem)
    if not 0 < rows.power < np.inf:
        return []
    try:
        with np.errstate(all="ignore"):
            at = Linearization(equation, start, rows, problem.spec.max_params)
            found = candidates(at, library) if np.isfinite(at.residual).all() else []
    except (NotImplementedError, GraphTooLarge, np.linalg.LinAlgError):  # nothing can be said of this one
        return []
    return _distinct(found, form.hash, problem, count)


def candidates(at: Linearization, library: list[Term]) -> list[Candidate]:
    """Candidates of every move, taken in turn from each one's best: half of them new terms."""
    terms = regress(at, library) if at.nmse > FLOOR else []
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


_terms: tuple[Split, Rows, list[Term]] | None = None


def _terms_of(problem: Problem) -> tuple[Rows, list[Term]]:
    """The rows of a problem and the terms over its columns; those of the last problem are kept."""
    global _terms
    if _terms is None or _terms[0] is not problem.train:
        rows = Rows.of(problem.train)
        _terms = problem.train, rows, terms_over(rows) if 0 < rows.power < np.inf else []
    return _terms[1:]


def hole_problem(problem: Problem, body: str, params: Sequence[float], name: str) -> Problem | None:
    """The problem of a hole of a fitted body; None where the hole stands in several places or for no row.

    A hole whose arguments are no columns has none either.
    """
    spec, template = problem.spec, problem.spec.template
    assert template is not None
    texts = template.parts(body)
    if name not in template.once or texts is None or not spec.least_squares:
        return None
    open_spec = replace(spec, columns=(*spec.columns, VALUE))
    outer = read_body(open_spec, template.written({**texts, name: f"return {VALUE}"}))
    inner = read_body(hole_spec(spec, name), texts[name])
    if isinstance(outer, Refusal) or isinstance(inner, Refusal):
        return None
    train, theta = problem.train, np.asarray(params, dtype=float)
    inputs = train.inputs[:, [spec.columns.index(argument) for argument in template.holes[name]]]
    with np.errstate(all="ignore"):
        value, slope = _solved(outer, train, evaluate(inner, inputs, theta), theta)
        weights = slope**2 * (1.0 if train.weights is None else train.weights)
        counts = np.isfinite(value) & np.isfinite(weights)
        counts &= weights > LEAST_WEIGHT * np.max(weights[counts], initial=0.0)
    if counts.sum() < FEWEST_ROWS or np.ptp(value[counts]) == 0:
        return None
    # equal weights are none: what searches rows by their weights takes longer
    level = weights[counts] / np.mean(weights[counts])
    equal = np.ptp(level) < LEAST_WEIGHT
    split = Split(np.ascontiguousarray(inputs[counts]), value[counts], None if equal else level)
    return Problem(problem.name, hole_spec(spec, name), name, {"train": split})


def _solved(
    outer: Expression, train: Split, value: np.ndarray, theta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(values of the hole that explain the target best, the slope of the equation there), (rows,) each."""

    def at(value: np.ndarray) -> np.ndarray:
        return evaluate(outer, np.column_stack([train.inputs, value]), theta)

    def slope_at(value: np.ndarray) -> np.ndarray:
        step = STEP * np.maximum(np.abs(value), 1.0)
        return np.asarray((at(value + step) - at(value - step)) / (2 * step))

    miss = np.abs(train.target - at(value))
    for _ in range(NEWTON_STEPS):
        step = (train.target - at(value)) / slope_at(value)
        before = miss.copy()
        for share in (1.0, 0.3, 0.05):
            trial = value + share * step
            missed = np.abs(train.target - at(trial))
            better = missed < miss
            value, miss = np.where(better, trial, value), np.where(better, missed, miss)
        if not (miss < 0.999 * before).any():
            break
    return value, slope_at(value)


def hole_proposals(problem: Problem, body: str, params: Sequence[float], count: int) -> list[Proposal]:
    """At most `count` bodies of the template's form, from the proposals for its holes in turn."""
    problem, template = problem.by_group[0], problem.spec.template
    assert template is not None
    texts, answers = template.parts(body) or {}, []
    for name in template.holes if texts else ():
        own = hole_problem(problem, body, params, name)
        if own is not None:
            answers.append([(name, own, p) for p in proposals(own, texts[name], params, count)])
    made: dict[str, Proposal] = {}
    for name, own, proposal in in_turn(answers):
        whole = _whole(problem, own, body, name, proposal)
        if whole is not None and len(made) < count:
            made.setdefault(whole.canonical, whole)
    return list(made.values())


def hole_structures(problem: Problem, seconds: float, count: int) -> list[Proposal]:
    """At most `count` bodies of the template's form, the most promising first, in so many CPU seconds.

    Hole after hole is searched with what stands in the others, round after round, from lines in all of them.
    """
    from llmsr.refinement.structure import structures  # late: compiled where it is run

    problem, template = problem.by_group[0], problem.spec.template
    assert template is not None
    began, share = time.process_time(), seconds / (ROUNDS * len(template.holes))
    floor, found = Floor.of(problem.train), _fitted(problem, Proposal(template.seed, "", "seed"))
    searched: set[tuple[str, str]] = set()
    for name in [*template.holes] * ROUNDS if found else ():
        _, (body, _, _), params = min(found.values())
        expression = read_body(problem.spec, body)
        if isinstance(expression, Expression) and floor.reached(expression, np.asarray(params)):
            break
        own = hole_problem(problem, body, params, name) if (name, body) not in searched else None
        searched.add((name, body))
        if own is None or time.process_time() - began > seconds:
            continue
        for proposal in structures(own, share, TRIED):
            whole = _whole(problem, own, body, name, proposal)
            if whole is not None and whole.canonical not in found:
                found |= _fitted(problem, whole)
    return [proposal for _, proposal, _ in sorted(found.values())][:count]


def _whole(problem: Problem, own: Problem, body: str, name: str, proposal: Proposal) -> Proposal | None:
    """A proposal for a hole as one for the whole; None where it has too many constants or is refused."""
    inner = read_body(own.spec, proposal.body)
    if isinstance(inner, Refusal):
        return None
    expression, text, _ = with_holes(problem.spec, body, {name: inner})
    if isinstance(expression, Refusal) or problem.refused(expression) or not expression.inputs:
        return None
    return Proposal(text, canonicalize(expression).hash, proposal.move)


def _fitted(problem: Problem, proposal: Proposal) -> dict[str, tuple[float, Proposal, tuple[float, ...]]]:
    """What a body is worth when it is fitted, and its constants, by its canonical form; {} where it fails."""
    expression = read_body(problem.spec, proposal.body)
    if isinstance(expression, Refusal) or isinstance(hole_expressions(problem.spec, proposal.body), Refusal):
        return {}
    fitted = fit(expression, problem, deadline=FIT_SECONDS)
    if fitted.loss is None or problem.misshapen(expression, fitted.params):
        return {}
    worth = penalised_loss(fitted.loss / problem.train.spread, complexity(expression))
    return {proposal.canonical: (worth, proposal, fitted.params)}
