"""What a training run would do, as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import yaml

from llmsr.config import as_mapping
from llmsr.grpo.plan import Plan, arithmetic, memory_sentences
from llmsr.grpo.verl.config import command


def dry_run_text(plan: Plan, overrides: Sequence[str]) -> str:
    """Settings, batches and files of a planned run; for VERL its memory, configuration and command too."""
    parts = [
        "# settings",
        yaml.safe_dump(as_mapping(plan.config), sort_keys=False).strip(),
        "",
        "# batches",
        *arithmetic(plan),
    ]
    if plan.trainer == "verl":
        parts += ["", "# memory", *memory_sentences(plan)]
        config = (plan.run_dir / "grpo_config.yaml").read_text(encoding="utf-8").strip()
        parts += ["", f"# {plan.run_dir / 'grpo_config.yaml'}", config]
        shown = shlex.join(["python", *command(plan.run_dir, overrides)[1:]])
        parts += ["", "# command", shown]
    parts += ["", "# files", *sorted(str(path) for path in plan.run_dir.iterdir() if path.name != "lock")]
    return "\n".join(parts)
