"""VERL's own metrics, as its file logger writes them, read step by step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from llmsr.grpo.progress import StepMetrics


def read_verl_metrics(path: Path, offset: int = 0) -> Iterator[tuple[int, StepMetrics]]:
    """Steps that VERL's file logger wrote behind byte `offset`, each with the offset behind it."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            record = json.loads(line)
            data = record["data"]
            if "critic/score/mean" not in data:
                continue  # validation before the first step
            phases = {
                short: data[f"timing_s/{name}"]
                for name, short in (("gen", "answers"), ("old_log_prob", "old"), ("ref", "ref"),
                                    ("update_actor", "update"), ("update_weights", "sync"),
                                    ("save_checkpoint", "save"), ("testing", "validation"))
                if f"timing_s/{name}" in data
            }  # fmt: skip
            extra = {
                short: data[name]
                for name, short in (
                    ("actor/entropy", "entropy"),
                    ("actor/kl_loss", "kl"),
                    # before the first update of a step the difference of vLLM's and the trainer's own
                    # probabilities, in nats a token
                    ("actor/ppo_kl", "drift"),
                    ("response_length/clip_ratio", "cut"),
                )
                if name in data
            }
            validated = [v for name, v in data.items() if re.fullmatch(r"val-\w+/.*/reward/mean@\d+", name)]
            if validated:  # one for each problem
                extra["validation"] = sum(validated) / len(validated)
            yield (
                offset,
                StepMetrics(
                    step=int(record["step"]),
                    reward=float(data["critic/score/mean"]),
                    seconds=float(data.get("timing_s/step", 0.0)),
                    phases=phases,
                    extra=extra,
                ),
            )
