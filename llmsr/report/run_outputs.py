"""The files of a whole run, over one problem or over several, from what is recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmsr.report.outputs import Outputs
from llmsr.report.recorded import Recorded
from llmsr.report.several import write_several
from llmsr.search.totals import Totals


def outputs_of(run: Recorded, **options: Any) -> tuple[Outputs, Totals]:
    """The outputs of a recorded run and its totals, ready to be written or looked at."""
    outputs = Outputs(run.output, run.problem(), run.settings, mode=run.mode, **options)
    totals = Totals()
    for sample in run.samples:
        outputs.add(sample)
        totals.add(sample)
    return outputs, totals


def write_run(
    directory: Path, runs: Sequence[tuple[Outputs, Totals]], complete: bool = True
) -> dict[str, Any]:
    """Write all files of a run and hand back what its `result.json` says; `runs` are its problems."""
    results = [outputs.finish(totals, complete) for outputs, totals in runs]
    if len(runs) == 1:
        return results[0]
    return write_several(directory, [outputs for outputs, _ in runs], results)
