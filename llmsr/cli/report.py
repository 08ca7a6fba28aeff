"""`python -m llmsr report DIR` writes a run's files anew; `show DIR` prints its front and best equation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmsr.config import add_options, option, resolve
from llmsr.errors import UserError
from llmsr.report.front import RULES
from llmsr.report.outputs import outputs_of, write_run
from llmsr.report.recorded import read_run
from llmsr.report.terminal import format_result

SELECTION = "which equation of the front is picked: " + ", ".join(RULES) + " (see the docs)"


@dataclass(frozen=True)
class ReportSettings:
    """what is picked and printed"""

    select: str = option("best", SELECTION, choices=RULES)
    within: float = option(0.5, "with --select simplest: how far above the lowest loss, as a share of it")
    json: bool = option(False, "print JSON")

    def __post_init__(self) -> None:
        if not self.within >= 0:
            raise UserError(f"--within must not be negative, it is {self.within}")


def main(argv: Sequence[str]) -> int:
    """Write all files of a run from its archive."""
    return _each_problem(
        "report", "Write result.json, equations.csv, best_equation.* and report.html anew.", argv
    )


def show(argv: Sequence[str]) -> int:
    """Print a run's front and its best equation; nothing is written."""
    return _each_problem("show", "Print the front and the best equation of a run.", argv)


def _each_problem(verb: str, about: str, argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"llmsr {verb}", description=about)
    parser.add_argument("directory", metavar="DIR", help="the run's directory (--log_path or --output_dir)")
    add_options(parser, ReportSettings)
    given = vars(parser.parse_args(argv))
    directory = given.pop("directory")
    (settings,) = resolve(ReportSettings, given=given)
    runs = [outputs_of(run, rule=settings.select, within=settings.within) for run in read_run(directory)]
    if verb == "report":
        whole = write_run(Path(directory), runs)
        results = whole.get("problems") or [whole]
        print(f"written to {directory}: report.html and the equations", file=sys.stderr)
    else:
        results = [outputs.result(totals) for outputs, totals in runs]
    if settings.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        print("\n\n".join(format_result(result) for result in results))
    return 0
