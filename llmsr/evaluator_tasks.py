"""The tasks of an evaluator's workers: reading a completion, and fitting what it holds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmsr.expression.graph import Expression
from llmsr.problem.loading import Problem
from llmsr.sample import Evaluation, finite_or_none

SHOWN_CHARACTERS = 2_000  # a longer body is shown to later prompts as our own regenerated source


@dataclass(frozen=True)
class Duty:
    """What a worker holds for all its tasks."""

    problem: Problem
    fitter: str
    fit_timeout: float

    @property
    def as_written(self) -> bool:
        """Whether the spec's own evaluate does the fitting, as it stands."""
        return self.fitter == "reference" or not self.problem.spec.least_squares


@dataclass(frozen=True)
class Skeleton:
    """A completion that was understood; `expression` is what will be fitted.

    `param_order[i]` is the index that the expression's parameter i has in `body`; `repaired` says what was
    read otherwise than written.
    """

    body: str
    expression: Expression
    param_order: tuple[int, ...]
    canonical: str
    complexity: int
    key: str
    repaired: tuple[str, ...] = ()


def read(state: Duty, completion: str, versions: Mapping[str, str]) -> Skeleton | Evaluation:
    """The skeleton that a completion holds, or the failure that it is."""
    from llmsr.completion import NoBody, read_completion
    from llmsr.expression import Refusal
    from llmsr.expression.canonical import canonicalize
    from llmsr.expression.graph import complexity
    from llmsr.expression.printing.source import to_numpy_body
    from llmsr.problem.bodies import read_as_meant

    spec = state.problem.spec
    found = read_completion(completion, spec.function_name)
    if isinstance(found, NoBody):
        return Evaluation(status=found.kind, reason=found.reason)
    own = (*spec.columns, spec.params_name)
    renamed = found.arguments is not None and len(found.arguments) == len(own)
    arguments = found.arguments if renamed else own
    expression, text, repairs = read_as_meant(spec, found.text, arguments, versions)
    if isinstance(expression, Refusal):
        return Evaluation(status=expression.kind, reason=expression.reason, line=expression.line, body=text)
    form = canonicalize(expression)
    if not form.expression.inputs:
        return Evaluation(status="constant", reason="the inputs cancel out", body=text, repaired=repairs)
    calls_versions = any(name in text for name in versions)
    plain = arguments == own and not calls_versions and len(text) <= SHOWN_CHARACTERS
    body = text if plain else to_numpy_body(expression, spec.params_name)
    size = complexity(expression)
    if state.as_written:
        # the spec's own optimiser sees the operations in the order that the author wrote
        order = tuple(range(spec.max_params))
        key = hashlib.sha256(repr(expression.nodes).encode()).hexdigest()
        return Skeleton(body, expression, order, form.hash, size, key, repairs)
    return Skeleton(body, form.expression, form.params, form.hash, size, form.hash, repairs)


def fit_skeleton(state: Duty, skeleton: Skeleton) -> Evaluation:
    """The skeleton's fitted constants and its errors on every split."""
    from llmsr.expression.canonical import Canonical
    from llmsr.expression.printing.latex import to_latex
    from llmsr.expression.printing.line import to_text
    from llmsr.fitting import fit
    from llmsr.fitting.metrics import split_nmse, split_nmse_by_engine

    cpu, equation = time.process_time(), skeleton.expression
    form = equation if state.as_written else Canonical(equation, equation.params)
    found = fit(form, state.problem, mode=state.fitter, deadline=state.fit_timeout)
    status, reason, score = found.status, found.reason, found.score
    if status == "ok" and score is None:
        if state.problem.spec.least_squares:
            score = -found.loss if found.loss is not None else None
        else:
            status = "timeout"
    cost = Evaluation(
        status=status,
        reason=reason,
        expression=to_text(equation, found.params if status == "ok" else None),
        latex=to_latex(equation, found.params if status == "ok" else None),
        fitter=found.mode,
        engine=found.engine,
        evaluations=found.evaluations,
        deadline_reached=found.deadline_reached,
        fit_seconds=found.seconds,
    )
    if status == "ok":
        errors = split_nmse if found.engine == "callable" else split_nmse_by_engine
        nmse = errors(equation, found.params, state.problem)
        mse = finite_or_none(found.loss)
        cost = replace(cost, params=found.params, score=score, train_mse=mse, nmse=nmse)
    return replace(cost, cpu_seconds=time.process_time() - cpu)


def on_problem(state: Duty, task: Callable[..., Any], *args: Any) -> Any:
    return task(state.problem, *args)


def load(state: Duty) -> Duty:
    """Import and compile in the worker, before its first deadline runs, all that a task needs."""
    import llmsr.completion
    import llmsr.expression.printing.latex
    import llmsr.fitting.metrics  # noqa: F401

    if state.as_written:
        from llmsr.fitting.tensors import load_torch

        if state.problem.spec.dialect == "torch":
            load_torch()
    else:
        from llmsr.fitting import warm_up

        warm_up()
    return state
