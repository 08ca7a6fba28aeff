"""VERL's dataset with a memory: rows that are made anew from the run's archive each time they are fetched.

VERL imports this file by its path (`data.custom_cls`); it needs verl, so nothing else imports it.
LLMSR_RUN_DIR names the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from llmsr.grpo.dataset import prompt_form
from llmsr.grpo.memory import LiveMemory
from llmsr.grpo.run_record import RunRecord
from llmsr.models.chat_template import ChatTemplate


class MemoryDataset(RLHFDataset):
    """VERL's dataset, whose training rows are made anew from the run's archive each time they are fetched.

    VERL fetches the prompts of a step once all answers of the step before are scored, hence archived.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._memory: LiveMemory | None = None
        self._number = 0

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = super().__getitem__(item)
        if row["extra_info"]["split"] != "train":
            return row
        if self._memory is None:
            self._memory = self._begin()
        made = self._memory.row(row, self._number)
        self._number += 1
        return {**row, **made, "raw_prompt": made["prompt"], "index": made["extra_info"]["index"]}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_memory": None}

    def _begin(self) -> LiveMemory:
        run_dir = Path(os.environ["LLMSR_RUN_DIR"])
        record = RunRecord.read(run_dir)
        settings = record.settings
        self._number = record.finished_steps * settings.batch_size
        template = ChatTemplate(self.tokenizer, settings.chat_template)
        return LiveMemory(run_dir, prompt_form(settings, template, self.max_prompt_length))
