"""`python -m llmsr show DIR`: the front and the best equation of a run in the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from llmsr.cli import report
from llmsr.report.recorded import read_run
from llmsr.report.run_outputs import outputs_of
from llmsr.report.terminal import format_result


def parser() -> argparse.ArgumentParser:
    """The flags of `show`."""
    return report.parser("show", "Print the front and the best equation of a run; nothing is written.")


def main(argv: Sequence[str]) -> int:
    directory, settings = report.settings_of(parser().parse_args(argv))
    results = []
    for run in read_run(directory):
        outputs, totals = outputs_of(run, rule=settings.select, within=settings.within)
        results.append(outputs.result(totals))
    if settings.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        print("\n\n".join(format_result(result) for result in results))
    return 0
