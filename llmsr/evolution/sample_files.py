"""LLM-SR's own record of a search: `samples/samples_<n>.json`, one file per sample, failures included."""

from __future__ import annotations

import json
import os
from pathlib import Path

from llmsr.errors import UserError
from llmsr.prompt import indent_body
from llmsr.sample import Sample
from llmsr.spec import Spec


def write_sample_file(run_dir: Path, spec: Spec, sample: Sample) -> None:
    """Write one sample's file, whole or not at all; one that stands already stays.

    `sample_order`, `function` and `score` mean what they mean to LLM-SR; the other keys are ours.
    """
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
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; continue with --resume") from None
