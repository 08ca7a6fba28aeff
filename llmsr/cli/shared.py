"""What verbs share: how they are described and read, the problem that is meant, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from llmsr.config import Parser, add_options, resolve
from llmsr.errors import UserError
from llmsr.files import output_fault, silence
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.units import with_units
from llmsr.settings import FitSettings


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: `run` gets an instance of each of the `settings` and returns the exit code.

    `about` is what `--help` says; `usage` follows the verb's name there.
    """

    name: str
    about: str
    settings: tuple[type, ...]
    run: Callable[..., int]
    usage: str = "[--flag value ...]"

    def parser(self) -> Parser:
        """The flags of the verb."""
        parser = Parser(
            prog=f"llmsr {self.name}",
            usage=f"python -m llmsr {self.name} {self.usage}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(parser, *self.settings)
        return parser

    def main(self, argv: Sequence[str]) -> int:
        """Run the verb with these words and return its exit code."""
        return self.run(*resolve(*self.settings, given=vars(self.parser().parse_args(argv))))


def read_problem(settings: FitSettings) -> Problem:
    """The problem that is asked for; where its spec's own optimiser will fit, standard error says so."""
    problem = load_problem(settings.problem_name, settings.spec_path, settings.data_dir)
    problem = with_units(problem, settings.units)
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
    # a link's target is replaced, not the link
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
