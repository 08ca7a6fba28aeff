"""`python -m llmsr export`: what runs have found as examples for supervised or preference training."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from llmsr.cli.shared import Verb
from llmsr.config import Checked, option
from llmsr.errors import UserError
from llmsr.grpo.dataset import Row, write_parquet
from llmsr.grpo.demonstrations import demonstrations, preferences
from llmsr.report.runs import read_run
from llmsr.settings import PromptSettings

EXAMPLES = {"demonstrations": demonstrations, "preferences": preferences}


@dataclass(frozen=True)
class ExportSettings(Checked):
    """what is exported"""

    directories: tuple[str, ...] = option(
        MISSING,
        "directories of runs, searches and trainings alike",
        metavar="DIR",
        positional=True,
        many=True,
    )
    output: str = option("examples.parquet", "the parquet file to write")
    kind: str = option(
        "demonstrations",
        "demonstrations: prompts, each with an equation that improved on what it shows; preferences: prompts "
        "with the best and the worst answer that they had",
        choices=tuple(EXAMPLES),
    )


@Verb
def export(settings: ExportSettings, form: PromptSettings) -> int:
    """Write what runs have found as prompts and answers in chat format, for a trainer to learn from.

    Refinements count as answers, so that a model learns from fits what no model wrote. Every equation is
    told once.

    examples:
      python -m llmsr export logs/oscillator1/* --output improvements.parquet
      python -m verl.trainer.sft_trainer data.train_files=improvements.parquet model.path=MODEL
    """
    rows: list[Row] = []
    for directory in settings.directories:
        for run in read_run(directory):
            rows += EXAMPLES[settings.kind](run.problem(), run.samples, form)
    if not rows:
        raise UserError(
            f"no {settings.kind} in these runs: nothing in them improved on what it was made from"
        )
    write_parquet(rows, Path(settings.output))
    problems = sorted({row["problem"] for row in rows})
    print(f"{settings.output}: {len(rows)} {settings.kind} of {', '.join(problems)}")
    return 0
