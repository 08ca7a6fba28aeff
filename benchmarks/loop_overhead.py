"""Samples per second of the whole search loop when completions cost nothing, beside LLM-SR's way.

    python benchmarks/loop_overhead.py [--samples 1000] [--forked 40] [--workers 2]

Completions are bodies drawn from the grammar for oscillator1 (10,000 rows), replayed from a file through the
real search: read, parse, fit, errors on three splits, archive, sample files, islands. LLM-SR's way is one
process per body that imports scipy and runs BFGS from ones, one after the other, on the first bodies of the
same file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from llmsr.archive import Archive, read_archive  # noqa: E402
from llmsr.evaluator import Evaluator  # noqa: E402
from llmsr.problem.loading import Problem, load_problem  # noqa: E402
from llmsr.proposers.grammar import random_body  # noqa: E402
from llmsr.proposers.proposer import Replay  # noqa: E402
from llmsr.sample import Sample  # noqa: E402
from llmsr.search.search import Search  # noqa: E402
from llmsr.search.totals import write_sample_file  # noqa: E402
from llmsr.settings import SearchSettings  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--forked", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    problem = load_problem("oscillator1")
    with tempfile.TemporaryDirectory() as folder:
        replay = Path(folder) / "bodies.jsonl"
        generator = Random(0)
        bodies = [random_body(generator, problem.spec.columns, 10) for _ in range(options.samples)]
        replay.write_text("".join(json.dumps({"completion": body}) + "\n" for body in bodies))
        seconds, samples, distinct = loop(problem, replay, Path(folder) / "run", options)
        valid = [sample for sample in samples if sample.evaluation.ok]
        texts = list(dict.fromkeys(sample.evaluation.body for sample in valid))[: options.forked]
        forked_seconds = forked(problem, texts, Path(folder))
    ours, theirs = len(valid) / seconds, len(texts) / forked_seconds
    print(f"| way | valid samples | distinct | wall seconds | valid samples/s |\n|{'---|' * 5}")
    print(
        f"| this search, {options.workers} workers | {len(valid)} | {distinct} | {seconds:.1f} | {ours:.1f} |"
    )
    print(f"| a process and BFGS per body | {len(texts)} | - | {forked_seconds:.1f} | {theirs:.1f} |")
    print(f"\nratio {ours / theirs:.0f}")


def loop(
    problem: Problem, replay: Path, run_dir: Path, options: argparse.Namespace
) -> tuple[float, list[Sample], int]:
    """Wall seconds, samples and distinct equations of a replayed search; its workers start warm."""
    settings = SearchSettings(budget=options.samples, lookahead=8, refine="off")
    with Evaluator(problem, workers=options.workers) as evaluator, Archive(run_dir) as archive:
        warm = [evaluator.submit(f"return params[0] * x + {i}.5") for i in range(4 * options.workers)]
        for future in warm:
            future.result()
        search = Search(
            problem,
            Replay(replay),
            evaluator,
            archive,
            settings,
            [lambda sample, totals: write_sample_file(run_dir, problem.spec, sample)],
        )
        started = time.perf_counter()
        totals = search.run()
        seconds = time.perf_counter() - started
    return seconds, read_archive(run_dir), totals.distinct


def forked(problem: Problem, bodies: list[str], folder: Path) -> float:
    """Wall seconds that one process per body takes, one after the other."""
    data = folder / "train.npz"
    np.savez(data, inputs=problem.train.inputs, target=problem.train.target)
    tasks = [{"body": body, "columns": problem.spec.columns, "data": str(data)} for body in bodies]
    answers = subprocess.run(
        [sys.executable, str(HERE / "forked_bfgs.py")],
        input="".join(json.dumps(task) + "\n" for task in tasks),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sum(json.loads(answer)["seconds"] for answer in answers.splitlines())


if __name__ == "__main__":
    main()
