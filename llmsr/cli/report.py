"""`python -m llmsr report DIR`: a run's files written anew from its archive."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmsr.config import Parser, add_options, option, resolve
from llmsr.errors import UserError
from llmsr.report.front import RULES
from llmsr.report.recorded import read_run
from llmsr.report.run_outputs import outputs_of, write_run
from llmsr.report.terminal import format_result

SELECTION = "which equation of the front is picked: " + ", ".join(RULES) + " (see docs/tutorial.md)"


@dataclass(frozen=True)
class ReportSettings:
    """what is picked and printed"""

    select: str = option("best", SELECTION, choices=RULES)
    within: float = option(0.5, "with --select simplest: how far above the lowest loss, as a share of it")
    json: bool = option(False, "print JSON")

    def __post_init__(self) -> None:
        if not self.within >= 0:
            raise UserError(f"--within must not be negative, it is {self.within}")


def parser(
    verb: str = "report",
    about: str = "Write result.json, equations.csv, best_equation.* and report.html anew.",
) -> argparse.ArgumentParser:
    """The flags of `report`, and of verbs like it."""
    made = Parser(prog=f"llmsr {verb}", description=about)
    made.add_argument("directory", metavar="DIR", help="the run's directory (--log_path or --output_dir)")
    add_options(made, ReportSettings)
    return made


def settings_of(given: argparse.Namespace) -> tuple[Path, ReportSettings]:
    """The run's directory and what was asked of it."""
    values = vars(given)
    directory = Path(values.pop("directory"))
    return directory, resolve(ReportSettings, given=values)[0]


def main(argv: Sequence[str]) -> int:
    directory, settings = settings_of(parser().parse_args(argv))
    runs = [outputs_of(run, rule=settings.select, within=settings.within) for run in read_run(directory)]
    whole = write_run(directory, runs)
    print(f"written to {directory}: report.html and the equations", file=sys.stderr)
    if settings.json:
        print(json.dumps(whole, indent=2))
    else:
        print("\n\n".join(format_result(result) for result in whole.get("problems") or [whole]))
    return 0
