"""`python -m llmsr predict DIR --csv new.csv`: what a run's equation says for new rows."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from llmsr.config import Parser
from llmsr.errors import UserError
from llmsr.files import output_fault, silence
from llmsr.report.front import RULES
from llmsr.report.prediction import write_predictions
from llmsr.report.recorded import read_run
from llmsr.report.run_outputs import outputs_of


def parser() -> argparse.ArgumentParser:
    """The flags of `predict`."""
    parser = Parser(
        prog="llmsr predict",
        description="Add the equation's prediction to the rows of a CSV file; columns are matched by name, "
        "or by order where no name matches.",
    )
    parser.add_argument("directory", metavar="DIR", help="the run's directory")
    parser.add_argument(
        "--csv", metavar="FILE", required=True, help="rows to predict for; input columns are enough"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="-", help="where to write (default: standard output)"
    )
    parser.add_argument(
        "--select", choices=RULES, default="best", help="which equation of the front (default: best)"
    )
    parser.add_argument("--problem", metavar="NAME", help="which problem, where the run has several")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    runs = {run.problem_name: run for run in read_run(given.directory)}
    if given.problem is None and len(runs) > 1:
        raise UserError(
            f"{given.directory} has several problems; choose one with --problem: {', '.join(runs)}"
        )
    if given.problem is not None and given.problem not in runs:
        raise UserError(f"{given.directory} has no problem {given.problem!r}; it has {', '.join(runs)}")
    outputs, _ = outputs_of(runs[given.problem or next(iter(runs))], rule=given.select)
    equations = outputs.equations()
    picked = outputs.picked(equations)
    if picked is None:
        raise UserError(f"{given.directory} has no valid equation yet; let the run go on")
    with _opened(given.output) as output:
        rows, nonfinite = write_predictions(equations[picked], given.csv, output)
    print(f"{rows} rows by {equations[picked].text}", file=sys.stderr)
    if nonfinite:
        print(f"{nonfinite} predictions are not finite: their cells are empty", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    """What to write to: a file becomes what is written whole or not at all, links to it stay links.

    `UserError` where it cannot be written, but a reader that went away is a BrokenPipeError.
    """
    real = os.path.realpath(path)
    if path != "-" and os.path.isdir(real):
        raise UserError(f"cannot write {path}: it is a directory; name a file in it")
    direct = os.path.exists(real) and not os.path.isfile(real)  # a device or a pipe
    part = real if direct else f"{real}.part"
    try:
        if path == "-":
            yield sys.stdout
            sys.stdout.flush()
            return
        with open(part, "w", encoding="utf-8", newline="") as output:
            try:
                yield output
                output.flush()
                if not direct:
                    os.replace(part, real)
            except BaseException:
                if not direct:
                    os.unlink(part)
                silence(output)
                raise
    except BrokenPipeError:
        raise
    except OSError as error:
        if path == "-":
            silence(sys.stdout)
        raise output_fault(path, error) from None
