"""The command line: flags in, exit code out.

Exit codes: 0 done, 1 a fault of this program, 2 bad input or a service that gave up, 130 interrupted with the
results so far. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from llmsr.config import parse_bool
from llmsr.errors import UserError
from llmsr.files import output_fault, silence

# what a disk or a standard output says that takes no more
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# verb: (what has its `parser` and `main`: a module, or an object in one; one line of help)
VERBS = {
    "run": ("llmsr.cli.run:RUN", "search for equations (also: python main.py)"),
    "train": ("llmsr.cli.train", "train the model by GRPO (also: python main.py --use_rl)"),
    "new": ("llmsr.cli.new:new", "make a problem from your own CSV file"),
    "score": ("llmsr.cli.score:score", "fit and score given function bodies, one JSON line each"),
    "show": ("llmsr.cli.runs:show", "print the front and the best equation of a run"),
    "report": ("llmsr.cli.runs:report", "write a run's report.html and equation files anew"),
    "runs": ("llmsr.cli.runs:runs", "a table over all runs below a directory"),
    "compare": ("llmsr.cli.runs:compare", "figures and curves of several runs"),
    "plot": ("llmsr.cli.runs:plot", "figures of a run for a paper: PDF, SVG, PNG"),
    "benchmark": ("llmsr.cli.benchmark:benchmark", "arms x problems x seeds: runs, tables, figures"),
    "prompt": ("llmsr.cli.prompt:prompt", "print the prompt that a search or a training sends"),
    "predict": ("llmsr.cli.predict:predict", "what a run's equation says for the rows of a CSV file"),
    "export": ("llmsr.cli.export:export", "examples that a model may learn from, out of runs"),
    "tune": ("llmsr.cli.tune:tune", "try settings by Optuna and write the best ones"),
    "watch": ("llmsr.cli.watch:watch", "a run's page in a browser, kept up to date"),
    "doctor": ("llmsr.cli.doctor:doctor", "what this machine can run, and what mends the rest"),
    "mcp": ("llmsr.cli.mcp:mcp", "serve these verbs to a coding agent"),
}


def command(name: str) -> Any:
    """What has the `parser` and the `main` of a verb, from its entry in VERBS."""
    module, _, verb = name.partition(":")
    found = importlib.import_module(module)
    return getattr(found, verb) if verb else found


def main(argv: Sequence[str] | None = None, *, overview: bool = False) -> int:
    """Run a verb (`run` where none is named) and return the exit code.

    With `overview` no arguments, and `--help` alone, ask for the list of verbs.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        print("llmsr", importlib.import_module("llmsr").__version__)
        return 0
    asks_for_verbs = overview and (not arguments or arguments[0] in ("-h", "--help"))
    # LLM-SR's flags come without a verb
    verb = "run"
    if arguments and not arguments[0].startswith("-"):
        verb = arguments.pop(0)
    if verb == "run" and wants_training(arguments):
        verb = "train"
    if verb not in VERBS:
        _say(f"unknown verb {verb!r}; there are: " + ", ".join(VERBS))
        return 2
    # A request to stop ends a run as Ctrl-C does: cleanly, with its results so far.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if asks_for_verbs:
            print("python -m llmsr VERB --help tells more about each of these:")
            for name, (_, about) in VERBS.items():
                print(f"  {name:<{max(map(len, VERBS))}}  {about}", flush=True)
            return 0
        # only the verb's own module is imported, so that each starts quickly
        code = command(VERBS[verb][0]).main(arguments)
        sys.stdout.flush()  # here, where a standard output that takes no more is told
        return code
    except UserError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        silence(sys.stdout)
        # 128 + SIGPIPE, as a shell reports a program that it ended
        return 141
    except OSError as error:
        if error.errno not in FULL:
            raise
        silence(sys.stdout)
        _say(str(output_fault(error.filename or "-", error)))
        return 2


def wants_training(argv: Sequence[str]) -> bool:
    """Whether --use_rl is among the arguments, and not set to false."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--use_rl", type=parse_bool, nargs="?", const=True, default=False)
    return parser.parse_known_args(argv)[0].use_rl


def program(*, overview: bool = False) -> NoReturn:
    """The whole program: `main`, then the end of the process.

    After an interruption or an error it ends at once, although a thread may still wait for a service.
    """
    code = main(overview=overview)
    # at the interpreter's end a failing flush would print a traceback
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what could not be written now will not be written later
            silence(stream)
    if code == 0:
        sys.exit(0)
    # workers and dashboards are closed there, which leaving at once would skip
    atexit._run_exitfuncs()
    os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # a supervisor may ask again while the results are being written; Ctrl-C still cuts that short
    signal.signal(number, lambda number, frame: None)  # what it starts would inherit SIG_IGN
    raise KeyboardInterrupt


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        print(f"llmsr: {sentence}", file=sys.stderr)
