"""`python -m llmsr show DIR`: the front and the best equation of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from llmsr.cli.shared import print_json, run_and_settings, run_parser
from llmsr.config import Parser
from llmsr.report.display import format_result
from llmsr.report.runs import read_run


def parser() -> Parser:
    """The flags of `show`."""
    return run_parser("show", "Print the front and the best equation of a run; nothing is written.")


def main(argv: Sequence[str]) -> int:
    directory, settings = run_and_settings(parser(), argv)
    results = []
    for run in read_run(directory):
        results.append(run.outputs(rule=settings.select, within=settings.within).result())
    if settings.json:
        print_json(results[0] if len(results) == 1 else results)
    else:
        print("\n\n".join(map(format_result, results)))
    return 0
