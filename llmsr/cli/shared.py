"""What verbs share: how they are described and read, the problem that is meant, and where results go."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import IO, Any, get_type_hints

from llmsr.config import Parser, add_options, flags_of, parse_bool, resolve
from llmsr.errors import UserError
from llmsr.files import output_fault, silence
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.units import with_units
from llmsr.settings import FitSettings


class Verb:
    """A verb of the command line, made of the function that does it.

    The function gets an instance of each of the settings of its signature and returns the exit code. Its
    docstring is what `--help` says.
    """

    def __init__(self, run: Callable[..., int], words: str = "") -> None:
        self.run, self.words = run, words or f"python -m llmsr {run.__name__}"
        hints = get_type_hints(run).values()
        self.settings: tuple[type, ...] = tuple(h for h in hints if isinstance(h, type) and is_dataclass(h))

    @property
    def usage(self) -> str:
        """The verb with the arguments that it needs."""
        told = [self.words]
        for item in (item for cls in self.settings for item in fields(cls)):
            needed, shown = item.default is MISSING, str(item.metadata.get("metavar"))
            if item.metadata.get("positional"):
                shown += " ..." if item.metadata.get("many") else ""
                told.append(shown if needed else f"[{shown}]")
            elif needed:
                told.append(f"--{item.name} {shown}")
        return " ".join([*told, "[--flag value ...]"])

    def parser(self) -> Parser:
        """The flags of the verb."""
        parser = Parser(
            prog=self.words.removeprefix("python ").removeprefix("-m "),
            usage=self.usage,
            description=inspect.getdoc(self.run),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(parser, *self.settings)
        return parser

    def read(self, argv: Sequence[str]) -> list[Any]:
        """An instance of each of the settings from these words."""
        return resolve(*self.settings, given=vars(self.parser().parse_args(argv)))

    def main(self, argv: Sequence[str]) -> int:
        """Run the verb with these words and return its exit code."""
        return self.run(*self.read(argv))


class Mode(Verb):
    """A verb of `main.py`, whose settings may stand in a YAML file too.

    `stored` gives the settings with which a run began that is to be resumed. A flag of the `other` mode's
    settings is answered with the `hint`.
    """

    def __init__(
        self,
        run: Callable[..., int],
        words: str,
        stored: Callable[[dict[str, Any]], dict[str, Any]],
        other: tuple[type, ...],
        hint: str,
    ) -> None:
        super().__init__(run, words)
        self.stored, self.other, self.hint = stored, other, hint

    def parser(self) -> Parser:
        """The flags of the mode, those of the other one known as such."""
        parser = super().parser()
        parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags override it")
        parser.add_argument(
            "--use_rl", type=parse_bool, nargs="?", const=True, help="train by GRPO instead of a search"
        )
        parser.elsewhere = dict.fromkeys(flags_of(*self.other), self.hint)
        return parser

    def read(self, argv: Sequence[str]) -> list[Any]:
        """The settings: defaults, then those of the run that is resumed or of a YAML file, then flags."""
        given = vars(self.parser().parse_args(argv))
        path = given.pop("config")
        given.pop("use_rl")
        if given.get("resume") and path is None:
            given = self.stored(given) | given
        return resolve(*self.settings, given=given, path=path)


def read_problem(settings: FitSettings) -> Problem:
    """The problem that is asked for; where its spec's own optimiser will fit, standard error says so."""
    problem = load_problem(settings.problem_name, settings.spec_path, settings.data_dir, settings)
    problem = with_units(problem, settings.units)
    if note := problem.spec.search_note(settings.fitter):
        print(note, file=sys.stderr)
    return problem


def print_json(value: Any) -> None:
    """Print plain data as indented JSON on standard output."""
    print(json.dumps(value, indent=2))


@contextlib.contextmanager
def faults_told(path: str, stream: IO[str] | None, hint: str = "") -> Iterator[None]:
    """A fault of writing is a `UserError`, the hint behind it; a reader that went away a BrokenPipeError.

    Nothing more is written to the stream then. The path `-` is standard output.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if stream is not None:
            silence(stream)
        raise UserError(f"{output_fault(path, error)}{hint}") from None


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
    with faults_told(path, sys.stdout if path == "-" else None):
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
