"""What a run has seen before: earlier answers with the same equation, and likeness within a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from llmsr.problem.spec import Spec
from llmsr.sample import POLICY, Evaluation, Sample
from llmsr.search.population import structure


class Seen:
    """The equations of a run's training answers by problem and canonical form, each with its first number."""

    def __init__(self, known: Mapping[str, Iterable[str]] | None = None) -> None:
        """`known` are canonical forms by problem that count as seen from the start, as number 0."""
        self._first = {(name, form): 0 for name, forms in (known or {}).items() for form in forms}
        self._structures: dict[tuple[str, int, int], Counter[str]] = {}

    def take(self, samples: Iterable[Sample]) -> None:
        """Count the answers of an archive as seen."""
        for sample in samples:
            if sample.proposer == POLICY and sample.evaluation.ok:
                self._first.setdefault((sample.problem, sample.evaluation.canonical), sample.number)

    def first(self, problem: str, evaluation: Evaluation, number: int) -> int | None:
        """The number of the earlier answer with this valid equation, None for a new one; it counts from
        now."""
        if not evaluation.ok:
            return None
        first = self._first.setdefault((problem, evaluation.canonical), number)
        return None if first == number else first

    def alike(self, spec: Spec, problem: str, step: int, prompt: int, evaluation: Evaluation) -> int:
        """How many earlier answers to the same prompt of the same step share this one's structure."""
        if not evaluation.ok:
            return 0
        group = (problem, step, prompt)
        for key in [key for key in self._structures if key[1] < step]:
            del self._structures[key]
        counts = self._structures.setdefault(group, Counter())
        name = structure(spec, evaluation.body) or evaluation.canonical
        counts[name] += 1
        return counts[name] - 1
