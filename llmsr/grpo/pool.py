"""Earlier equations to show in prompts, made without a language model and fitted like any answer."""

from __future__ import annotations

from concurrent.futures import Future
from random import Random

import numpy as np

from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import Problem
from llmsr.proposers.grammar import mutate, random_body
from llmsr.sample import Evaluation
from llmsr.search.population import Member
from llmsr.search.search import member_of

MAX_BODY = 400  # characters; longer ones leave the model no room


def build_pool(problem: Problem, evaluator: Evaluator, size: int, seed: int) -> list[Member]:
    """`size` different valid equations, worst first: the spec's seed, random ones, and changes of these.

    They depend on the problem, `size` and `seed` alone. Fewer come back where the grammar finds no more.
    """
    rng = Random(f"pool {problem.name} {seed}")
    spec = problem.spec
    signed = [c for c, values in zip(spec.columns, problem.train.inputs.T, strict=True) if np.any(values < 0)]
    module = "torch" if spec.dialect == "torch" else "np"

    def fresh() -> str:
        return random_body(rng, spec.columns, spec.max_params, signed=signed, module=module,
                           params_name=spec.params_name)  # fmt: skip

    def changed(known: list[Member]) -> str:
        # parents come from the better half, so that the pool spans a range of scores
        better = sorted(known, key=lambda member: member.nmse)[: max(1, len(known) // 2)]
        first, second = rng.choice(better), rng.choice(better)
        return mutate(rng, first.body, spec.columns, spec.max_params, other=second.body, signed=signed,
                      module=module, params_name=spec.params_name)  # fmt: skip

    found: dict[str, Member] = {}
    failure = ""
    for attempt in range(8):
        known = list(found.values())
        batch = [spec.seed_body] if attempt == 0 else []
        while len(batch) < size:
            batch.append(changed(known) if known and rng.random() < 0.5 else fresh())
        waiting: list[tuple[str, Future[Evaluation]]] = [(b, evaluator.submit(b)) for b in batch]
        for body, future in waiting:
            evaluation = future.result()
            failure = failure or f"{evaluation.status}: {evaluation.reason}" if not evaluation.ok else failure
            if evaluation.ok and len(body) <= MAX_BODY and len(found) < size:
                found.setdefault(evaluation.canonical, member_of(0, evaluation))
        if len(found) >= size:
            break
    if not found:
        raise UserError(f"not one equation of {problem.name} could be fitted, the first ended with {failure}")
    return sorted(found.values(), key=lambda member: (-member.nmse, member.canonical))
