"""What a training run found, in the files that a search leaves, kept up to date from its archive.

The archive is written by the processes that score answers, on any node; the trainer's process follows it
and tells what came.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmsr.report.outputs import EVERY_SECONDS, Outputs, outputs_of, write_run, write_several
from llmsr.report.recorded_runs import TRAINING, VALIDATION, by_problem, read_run, read_settings
from llmsr.sample import Sample
from llmsr.search.totals import Totals


class Findings:
    """The results of the training run in a directory, once per problem, as far as it was told."""

    def __init__(self, run_dir: Path, every_seconds: float = EVERY_SECONDS) -> None:
        self.run_dir = run_dir
        _, settings = read_settings(run_dir)
        self._found: dict[str, tuple[Outputs, Totals]] = {
            run.problem_name: outputs_of(run, every_seconds=every_seconds)
            for run in by_problem(run_dir, TRAINING, settings, [])
        }

    def take(self, samples: Iterable[Sample]) -> None:
        """Take note of what came to the archive, and write the files that are due.

        What was found is in the archive, so no fault of a file for people ends a training: it is told.
        """
        try:
            self._take(samples)
        except Exception as error:  # noqa: BLE001 - as above
            print(f"llmsr: the results could not be refreshed: {error}", file=sys.stderr)

    def _take(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            name = sample.problem if sample.problem in self._found else next(iter(self._found))
            if sample.proposer != VALIDATION:
                outputs, totals = self._found[name]
                outputs.add(sample)
                totals.add(sample)
        refreshed = [outputs.refresh(totals) for outputs, totals in self._found.values()]
        if len(refreshed) > 1 and any(refreshed):
            runs = list(self._found.values())
            results = [outputs.result(totals, finished=False) for outputs, totals in runs]
            write_several(self.run_dir, [outputs for outputs, _ in runs], results)

    def finish(self, complete: bool) -> dict[str, Any]:
        """Write all files from the whole archive and hand back what `result.json` says.

        Read anew, since processes write side by side: so it is the same as what `llmsr report` writes.
        """
        return write_run(self.run_dir, [outputs_of(run) for run in read_run(self.run_dir)], complete)
