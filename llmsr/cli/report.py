"""`python -m llmsr report DIR`: a run's files written anew from its archive."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmsr.cli.shared import print_json, run_and_settings, run_parser
from llmsr.config import Parser
from llmsr.report.display import format_result
from llmsr.report.runs import read_run, write_run


def parser() -> Parser:
    """The flags of `report`."""
    return run_parser("report", "Write result.json, equations.csv, best_equation.* and report.html anew.")


def main(argv: Sequence[str]) -> int:
    directory, settings = run_and_settings(parser(), argv)
    runs = [run.outputs(rule=settings.select, within=settings.within) for run in read_run(directory)]
    whole = write_run(directory, runs)
    print(f"written to {directory}: report.html and the equations", file=sys.stderr)
    if settings.json:
        print_json(whole)
    else:
        print("\n\n".join(map(format_result, whole.get("problems") or [whole])))
    return 0
