"""Structure search and refinement inside the holes of a template.

With all else as it is fitted, a hole has a value in every row that would explain the row's target: solved
for by Newton's method, it is the target of a problem of the hole's own. Its rows weigh by the square of the
slope of the equation in the hole, so that to first order its weighted squares are those of the whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from llmsr.expression import Expression, Refusal
from llmsr.expression.canonical import canonicalize
from llmsr.expression.graph import complexity, evaluate
from llmsr.fitting.fit import fit
from llmsr.problem.holes import hole_expressions, hole_spec, with_holes
from llmsr.problem.loading import Problem
from llmsr.problem.spec import read_body
from llmsr.problem.split import Split
from llmsr.refinement.floor import Floor
from llmsr.refinement.linearization import penalised_loss
from llmsr.refinement.proposals import Proposal, proposals
from llmsr.refinement.structure import structures

VALUE = "value_of_hole"
NEWTON_STEPS, STEP = 30, 1e-6
LEAST_WEIGHT, FEWEST_ROWS = 1e-9, 8  # of the largest; rows that say nothing of the hole are left out
ROUNDS, TRIED = 3, 12  # through all holes; equations of a hole that are fitted as parts of the whole
FIT_SECONDS = 5.0


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
        found = [] if own is None else proposals(own, texts[name], params, count)
        answers.append([(name, own, proposal) for proposal in found if own is not None])
    made: dict[str, Proposal] = {}
    for place in range(max(map(len, answers), default=0)):
        for name, own, proposal in (answer[place] for answer in answers if place < len(answer)):
            whole = _whole(problem, own, body, name, proposal)
            if whole is not None and len(made) < count:
                made.setdefault(whole.canonical, whole)
    return list(made.values())


def hole_structures(problem: Problem, seconds: float, count: int) -> list[Proposal]:
    """At most `count` bodies of the template's form, the most promising first, in so many CPU seconds.

    Hole after hole is searched with what stands in the others, round after round, from lines in all of them.
    """
    problem, template = problem.by_group[0], problem.spec.template
    assert template is not None
    began, share = time.process_time(), seconds / (ROUNDS * len(template.holes))
    found: dict[str, tuple[float, Proposal, tuple[float, ...]]] = {}
    floor = Floor.of(problem.train)
    _keep(problem, Proposal(template.seed, "", "seed"), found)
    best = next(iter(found.values()), None)
    for _ in range(ROUNDS if best else 0):
        before = best
        for name in template.holes:
            assert best is not None
            own = hole_problem(problem, best[1].body, best[2], name)
            if own is None or time.process_time() - began > seconds:
                continue
            for proposal in structures(own, share, TRIED):
                whole = _whole(problem, own, best[1].body, name, proposal)
                if whole is not None and whole.canonical not in found:
                    _keep(problem, whole, found)
            best = min(found.values(), key=lambda entry: entry[0])
            expression = read_body(problem.spec, best[1].body)
            if isinstance(expression, Expression) and floor.reached(expression, np.asarray(best[2])):
                return _ranked(found)[:count]
        if best is before:
            break
    return _ranked(found)[:count]


def _ranked(found: Mapping[str, tuple[float, Proposal, tuple[float, ...]]]) -> list[Proposal]:
    return [proposal for _, proposal, _ in sorted(found.values(), key=lambda entry: entry[0])]


def _whole(problem: Problem, own: Problem, body: str, name: str, proposal: Proposal) -> Proposal | None:
    """A proposal for a hole as one for the whole; None where it has too many constants or is refused."""
    inner = read_body(own.spec, proposal.body)
    if isinstance(inner, Refusal):
        return None
    expression, text, _ = with_holes(problem.spec, body, {name: inner})
    if isinstance(expression, Refusal) or problem.refused(expression) or not expression.inputs:
        return None
    return Proposal(text, canonicalize(expression).hash, proposal.move)


def _keep(
    problem: Problem, proposal: Proposal, found: dict[str, tuple[float, Proposal, tuple[float, ...]]]
) -> None:
    """Fit a body and note what it is worth, with its constants."""
    expression = read_body(problem.spec, proposal.body)
    if isinstance(expression, Refusal) or isinstance(hole_expressions(problem.spec, proposal.body), Refusal):
        return
    fitted = fit(expression, problem, deadline=FIT_SECONDS)
    if fitted.loss is not None and not problem.misshapen(expression, fitted.params):
        worth = penalised_loss(fitted.loss / problem.train.spread, complexity(expression))
        found[proposal.canonical] = worth, proposal, fitted.params
