"""What verbs share: the run and the equation of it that are meant, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llmsr.config import Checked, Parser, add_options, option, resolve
from llmsr.errors import UserError
from llmsr.files import output_fault, silence
from llmsr.problem.loading import Problem, load_problem
from llmsr.report.front import RULES
from llmsr.settings import FitSettings

SELECTION = "which equation of the front is picked: " + ", ".join(RULES) + " (see docs/tutorial.md)"


@dataclass(frozen=True)
class ShownSettings(Checked):
    """what is picked and printed"""

    select: str = option("best", SELECTION, choices=RULES)
    within: float = option(
        0.5, "with --select simplest: how far above the lowest loss, as a share of it", least=0
    )
    json: bool = option(False, "print JSON")


def run_parser(verb: str, about: str) -> Parser:
    """The parser of a verb about one run and what is picked of it."""
    parser = Parser(prog=f"llmsr {verb}", description=about)
    parser.add_argument("directory", metavar="DIR", help="the run's directory (--log_path or --output_dir)")
    add_options(parser, ShownSettings)
    return parser


def run_and_settings(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[Path, ShownSettings]:
    """The run's directory and what was asked of it, from the flags of `run_parser`."""
    values = vars(parser.parse_args(argv))
    directory = Path(values.pop("directory"))
    return directory, resolve(ShownSettings, given=values)[0]


def read_problem(settings: FitSettings) -> Problem:
    """The problem that is asked for; where its spec's own optimiser will fit, standard error says so."""
    problem = load_problem(settings.problem_name, settings.spec_path, settings.data_dir)
    if note := problem.spec.search_note(settings.fitter):
        print(note, file=sys.stderr)
    return problem


def print_json(value: Any) -> None:
    """Print plain data as indented JSON on standard output."""
    print(json.dumps(value, indent=2))


@contextlib.contextmanager
def whole_output(path: str) -> Iterator[IO[str]]:
    """What to write to: a file becomes what is written whole or not at all, links to it stay links.

    `-` is standard output. `UserError` where it cannot be written, but a reader that went away is a
    BrokenPipeError.
    """
    real = os.path.realpath(path)
    if path != "-" and os.path.isdir(real):
        raise UserError(f"cannot write {path}: it is a directory; name a file in it")
    direct = os.path.exists(real) and not os.path.isfile(real)  # a device or a pipe
    # written beside it and renamed: a full disk or an interruption leaves what stood there before
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
