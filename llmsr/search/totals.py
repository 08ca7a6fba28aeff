"""What a search has come to: its totals, and LLM-SR's own files of its samples."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.problem.spec import Spec
from llmsr.prompt import indent_body
from llmsr.sample import GUESS, REFINEMENT, Sample, is_llm_sample
from llmsr.settings import SearchSettings


@dataclass
class Totals:
    """What a run has come to; `distinct` counts canonical forms among the valid samples.

    Refinements are counted apart and guesses not at all; `best` is the best of all, whoever wrote it.
    """

    samples: int = 0
    valid: int = 0
    tokens: int = 0
    elapsed: float = 0.0
    cost: float = 0.0
    failed_prompts: int = 0
    refinements: int = 0
    best: Sample | None = None
    first_with: dict[str, int] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def distinct(self) -> int:
        return len(self.first_with)

    def limit_met(self, settings: SearchSettings) -> str:
        """Which limit on time, tokens, money or error is met, as a sentence; empty for none.

        Time is what the archive says, so that a resumed run ends where it ended.
        """
        spending = {"seconds": self.elapsed, "max_tokens_total": self.tokens, "max_cost": self.cost}
        for flag, spent in spending.items():
            if 0 < (limit := getattr(settings, flag)) <= spent:
                return f"ended by --{flag} {limit:g}, {spent:g} are spent; a larger one goes on with --resume"
        reached = self.best.evaluation.nmse.get("train") if self.best else None
        if reached is not None and reached <= settings.stop_nmse > 0:
            told = f"ended by --stop_nmse {settings.stop_nmse:g}, {reached:.3g} is reached"
            return f"{told}; a smaller one goes on with --resume"
        return ""

    def add(self, sample: Sample) -> None:
        """Count a sample or a refinement."""
        evaluation = sample.evaluation
        self.elapsed = max(self.elapsed, sample.elapsed)
        if sample.kind == REFINEMENT:
            self.refinements += 1
        elif sample.kind != GUESS:
            self.samples += 1
            self.tokens += sample.tokens
            self.cost += sample.cost
            if evaluation.ok:
                self.valid += 1
                self.first_with.setdefault(evaluation.canonical, sample.number)
            else:
                self.failures[evaluation.status] += 1
        if evaluation.ok and (self.best is None or evaluation.worth > self.best.evaluation.worth):
            self.best = sample


def write_sample_file(run_dir: Path, spec: Spec, sample: Sample) -> None:
    """Write `samples/samples_<n>.json` whole or not at all; one that stands already stays.

    `sample_order`, `function` and `score` mean what they mean to LLM-SR; the other keys are ours. Failures
    have a file, refinements have none.
    """
    path = run_dir / "samples" / f"samples_{sample.number}.json"
    if not is_llm_sample(sample) or path.exists():
        return
    evaluation = sample.evaluation
    content = {
        "sample_order": sample.number,
        "function": spec.header.rstrip() + "\n" + indent_body(evaluation.body or sample.completion),
        "score": evaluation.score,
        "status": evaluation.status,
        "reason": evaluation.reason,
        "canonical": evaluation.canonical or None,
        "train_mse": evaluation.train_mse,
        "nmse": dict(evaluation.nmse),
        "params": evaluation.params,
        "expression": evaluation.expression or None,
    }
    try:
        write_file(path, json.dumps(content, indent=1) + "\n")
    except UserError as error:
        raise UserError(f"{error}; continue with --resume") from None
