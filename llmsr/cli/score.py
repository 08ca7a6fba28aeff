"""`python -m llmsr score`: fit and score given function bodies, one JSON line in, one out, in order."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Any

from llmsr.config import add_options, option, resolve
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem import load_problem
from llmsr.sample import Evaluation

IN_FLIGHT = 64  # lines read ahead of the oldest one without a result

EXAMPLES = """examples:
  python -m llmsr score --problem_name oscillator1 --input bodies.jsonl --output scores.jsonl
  echo '{"id": 1, "body": "return params[0]*np.sin(x)"}' | python -m llmsr score --problem_name oscillator1
"""


@dataclass(frozen=True)
class ScoreSettings:
    """what to score"""

    problem_name: str = option("oscillator1", "the problem's name: its folder below data_dir")
    spec_path: str | None = option(None, "spec file (default: specs/specification_<problem>_numpy.txt)")
    data_dir: str = option("data", "folder that holds <problem>/train.csv")
    input: str = option("-", 'JSON lines {"id": ..., "body": ...}; - is standard input')
    output: str = option("-", "one JSON line per input line; - is standard output")
    fitter: str = option("best", "fit mode", choices=("best", "bfgs", "reference"))
    workers: int = option(0, "worker processes; 0: one per core")
    fit_timeout: float = option(10.0, "seconds that one fit may take")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="llmsr score",
        usage="python -m llmsr score [--flag value ...]",
        description=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser, ScoreSettings)
    (settings,) = resolve(ScoreSettings, given=vars(parser.parse_args(argv)))
    problem = load_problem(settings.problem_name, settings.spec_path, settings.data_dir)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_opened(settings.input, "r", sys.stdin))
        output = stack.enter_context(_opened(settings.output, "w", sys.stdout))
        evaluator = stack.enter_context(
            Evaluator(problem, settings.fitter, settings.fit_timeout, settings.workers)
        )
        for record in score_lines(evaluator, lines):
            output.write(json.dumps(record) + "\n")
            output.flush()
    return 0


def score_lines(evaluator: Evaluator, lines: IO[str]) -> Iterator[dict[str, Any]]:
    """One record per input line, in their order; a line that is no JSON object with a body is a failure."""
    waiting: deque[tuple[Any, Future[Evaluation] | Evaluation]] = deque()
    for line in lines:
        if line.strip():
            waiting.append(_submit(evaluator, line))
        while len(waiting) >= IN_FLIGHT:
            yield _record(*waiting.popleft())
    while waiting:
        yield _record(*waiting.popleft())


def _submit(evaluator: Evaluator, line: str) -> tuple[Any, Future[Evaluation] | Evaluation]:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, Evaluation(status="syntax", reason=f"the input line is no JSON: {error}")
    if not isinstance(given, dict) or not isinstance(given.get("body"), str):
        identity = given.get("id") if isinstance(given, dict) else None
        return identity, Evaluation(status="empty", reason='the input line has no text under "body"')
    return given.get("id"), evaluator.submit(given["body"])


def _record(identity: Any, pending: Future[Evaluation] | Evaluation) -> dict[str, Any]:
    evaluation = pending.result() if isinstance(pending, Future) else pending
    return {
        "id": identity,
        "status": evaluation.status,
        "reason": evaluation.reason,
        "line": evaluation.line,
        "params": evaluation.params,
        "train_mse": evaluation.train_mse,
        "nmse": {split: evaluation.nmse.get(split) for split in ("train", "test_id", "test_ood")},
        "complexity": evaluation.complexity,
        "canonical": evaluation.canonical or None,
        "expression": evaluation.expression or None,
        "latex": evaluation.latex or None,
        "fit_seconds": evaluation.fit_seconds,
        "cpu_seconds": evaluation.cpu_seconds,
        "fitter": evaluation.fitter or None,
        "engine": evaluation.engine or None,
        "deadline_reached": evaluation.deadline_reached,
    }


def _opened(path: str, mode: str, standard: IO[str]) -> contextlib.AbstractContextManager[IO[str]]:
    if path == "-":
        return contextlib.nullcontext(standard)
    try:
        return open(path, mode, encoding="utf-8", errors="replace")
    except OSError as error:
        verb = "read" if mode == "r" else "write"
        raise UserError(f"cannot {verb} {path}: {error.strerror}") from None
