"""LLM-SR's own record of a search: `samples/samples_<n>.json`, one file per sample, failures included."""

from __future__ import annotations

import json
from pathlib import Path

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.problem.spec import Spec
from llmsr.prompt import indent_body
from llmsr.sample import Sample, is_llm_sample


def write_sample_file(run_dir: Path, spec: Spec, sample: Sample) -> None:
    """Write one sample's file, whole or not at all; one that stands already stays, refinements have none.

    `sample_order`, `function` and `score` mean what they mean to LLM-SR; the other keys are ours.
    """
    if not is_llm_sample(sample):
        return
    path = run_dir / "samples" / f"samples_{sample.number}.json"
    if path.exists():
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
