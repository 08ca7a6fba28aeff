"""`python -m llmsr score`: fit and score given function bodies, one JSON line in, one out, in order.

Any bytes are an answer's worth: a line that is too long, no UTF-8, no JSON or no object with a body gets its
failure and a null for the id where that cannot be told. Only blank lines are passed over.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Any

from llmsr.cli.shared import Verb, faults_told, read_problem
from llmsr.config import option
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import SPLITS
from llmsr.sample import Evaluation
from llmsr.settings import FitSettings

IN_FLIGHT = 64  # lines read ahead of the oldest one without a result
MAX_LINE = 2**26  # characters; a longer line is passed over up to its end
MAX_ITEMS = 100_000  # of a line's JSON; each takes far more memory than it has characters

# of an evaluation, in this order
TOLD = ("status", "reason", "line", "params", "train_mse", "nmse", "complexity", "canonical", "expression",
        "latex", "fit_seconds", "cpu_seconds", "fitter", "engine", "deadline_reached")  # fmt: skip


@dataclass(frozen=True)
class ScoreSettings(FitSettings):
    """what to score"""

    input: str = option("-", 'JSON lines {"id": ..., "body": ...}; - is standard input')
    output: str = option("-", "one JSON line per input line; - is standard output")


@Verb
def score(settings: ScoreSettings) -> int:
    """Fit and score given function bodies: answer every input line with one of the output.

    examples:
      python -m llmsr score --problem_name oscillator1 --input bodies.jsonl --output scores.jsonl
      echo '{"id": 1, "body": "return params[0]*sin(x)"}' | python -m llmsr score --problem_name oscillator1
    """
    paths = settings.input, settings.output
    # opening it for writing would empty it
    if "-" not in paths and all(map(os.path.isfile, paths)) and os.path.samefile(*paths):
        raise UserError(f"{settings.output} is the input itself; name another file with --output")
    problem = read_problem(settings)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_opened(settings.input, "r", sys.stdin))
        output = stack.enter_context(_opened(settings.output, "w", sys.stdout))
        evaluator = Evaluator(problem, settings.fitter, settings.fit_timeout, settings.workers)
        for record in score_lines(stack.enter_context(evaluator), lines):
            _write(output, record, settings.output)
    return 0


def score_lines(evaluator: Evaluator, lines: IO[str]) -> Iterator[dict[str, Any]]:
    """One record per input line, in their order; a line that is no JSON object with a body is a failure."""
    waiting: deque[tuple[int, Any, Future[Evaluation] | Evaluation]] = deque()
    characters = 0
    while line := lines.readline(MAX_LINE + 1):
        if not line.isspace():
            waiting.append((len(line), *_submit(evaluator, line, lines)))
            characters += len(line)
        # results come in the order of the lines, so memory is bounded by the slowest one
        while waiting and (len(waiting) >= IN_FLIGHT or characters > MAX_LINE):
            size, identity, pending = waiting.popleft()
            characters -= size
            yield _record(identity, pending)
    for _, identity, pending in waiting:
        yield _record(identity, pending)


def _submit(evaluator: Evaluator, line: str, lines: IO[str]) -> tuple[Any, Future[Evaluation] | Evaluation]:
    if len(line) > MAX_LINE:
        while line and not line.endswith("\n"):
            line = lines.readline(MAX_LINE)
        return None, Evaluation("too_large", f"the input line has more than {MAX_LINE} characters")
    # a line of brackets would take a hundred times its size in memory
    if len(line) > MAX_ITEMS and _items(line) > MAX_ITEMS:
        return None, Evaluation("too_large", f"the input line's JSON has more than {MAX_ITEMS} items")
    try:
        # some editors begin a file with a byte order mark
        given = json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        return None, Evaluation("syntax", f"the input line is no JSON: {error}")
    if not isinstance(given, dict) or not isinstance(given.get("body"), str):
        identity = given.get("id") if isinstance(given, dict) else None
        return identity, Evaluation("empty", 'the input line has no text under "body"')
    return given.get("id"), evaluator.submit(given["body"])


def _items(line: str) -> int:
    """About how many values the line's JSON has: what separates them, outside of strings."""
    bare = re.sub(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', "", line)
    return sum(bare.count(mark) for mark in ",[{")


def _record(identity: Any, pending: Future[Evaluation] | Evaluation) -> dict[str, Any]:
    evaluation = pending.result() if isinstance(pending, Future) else pending
    told = {name: getattr(evaluation, name) for name in TOLD}
    told |= {name: told[name] or None for name in ("canonical", "expression", "latex", "fitter", "engine")}
    return {"id": identity, **told, "nmse": {split: evaluation.nmse.get(split) for split in SPLITS}}


def _write(output: IO[str], record: dict[str, Any], path: str) -> None:
    try:
        text = json.dumps(record, allow_nan=False)
    except (ValueError, RecursionError):  # an id that JSON's readers differ about: Infinity, or nested deeply
        text = json.dumps(record | {"id": None})
    with faults_told(path, output):
        output.write(text + "\n")
        output.flush()


def _opened(path: str, mode: str, standard: IO[str]) -> contextlib.AbstractContextManager[IO[str]]:
    if path == "-":
        if mode == "r" and isinstance(standard, io.TextIOWrapper):
            standard.reconfigure(encoding="utf-8", errors="replace", newline="\n")
        return contextlib.nullcontext(standard)
    try:
        return open(path, mode, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        verb = "read" if mode == "r" else "write"
        raise UserError(f"cannot {verb} {path}: {error.strerror}") from None
