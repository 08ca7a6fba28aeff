"""`python -m llmsr benchmark`: arms x problems x seeds from one file, and what they come to."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from llmsr.benchmark.plan import GRPO, SEARCH, Cell, Plan, read_plan
from llmsr.benchmark.results import read_results
from llmsr.benchmark.runner import Runner
from llmsr.benchmark.tables import estimate_text, summary_markdown, write_pages
from llmsr.config import Parser
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.run_directory import RunLock
from llmsr.settings import GrpoConfig, ProposerConfig, RunSettings, SearchSettings

SETTINGS = {SEARCH: (RunSettings, SearchSettings, ProposerConfig), GRPO: (GrpoConfig,)}
USAGE = """examples:
  python -m llmsr benchmark --config configs/benchmark_quick.yaml --output_dir logs/benchmark
  python -m llmsr benchmark --config configs/benchmark.yaml --dry_run
  python -m llmsr benchmark --config FILE --output_dir DIR --jobs 30 --seconds 3000
  python -m llmsr benchmark --config FILE --output_dir DIR --report
  python -m llmsr benchmark make bench/budworm-noise0.05

The first runs what the file asks for, the second shows the matrix and what it will take, the third stops
after 3000 seconds and goes on when it is repeated, the fourth writes tables and figures of what is there, the
fifth makes the data of a classic equation. docs/benchmark.md says what is measured and how."""


def main(argv: Sequence[str]) -> int:
    words = list(argv)
    verbs = {"measure": _measure, "make": _make}
    if words and words[0] in verbs:
        return verbs[words[0]](words[1:])
    given = parser().parse_args(words)
    if given.jobs < 1:
        raise UserError(f"--jobs must be at least 1, it is {given.jobs}")
    plan, output = read_plan(given.config, SETTINGS), Path(given.output_dir)
    cells = plan.named(given.only)
    if given.dry_run:
        print(estimate_text(plan, cells, output, given.jobs))
        return 0
    complete = True
    if not given.report:
        with RunLock(output):
            complete = _run(plan, cells, output, given)
    return _report(plan, output, given.json, complete)


def parser() -> argparse.ArgumentParser:
    """The parser of this verb's flags."""
    parser = Parser(
        prog="llmsr benchmark", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="arms, problems, seeds, budget")
    parser.add_argument(
        "--output_dir", metavar="DIR", default="logs/benchmark", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        default=["*"],
        help="runs to make now, such as '*/llmsr/seed[34]'",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default: 1)")
    parser.add_argument("--seconds", type=float, help="after these, nothing begins and runs are interrupted")
    parser.add_argument("--retry_failed", action="store_true", help="go on with failed runs too")
    parser.add_argument("--dry_run", action="store_true", help="show the matrix and an estimate, and stop")
    parser.add_argument(
        "--report", action="store_true", help="write tables and pages of what is there, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


def _run(plan: Plan, cells: Sequence[Cell], output: Path, given: argparse.Namespace) -> bool:
    write_file(output / "benchmark.yaml", Path(given.config).read_text(encoding="utf-8"))
    runner = Runner(cells, output, plan.keep, given.jobs, given.seconds, given.retry_failed)
    try:
        return runner.run()
    except KeyboardInterrupt:
        _report(plan, output, given.json, complete=False)
        raise


def _report(plan: Plan, output: Path, as_json: bool, complete: bool) -> int:
    results = read_results(plan, output)
    if not results.runs and not results.failures:
        print(
            f"no run is finished yet: repeat the command without --report to go on in {output}",
            file=sys.stderr,
        )
        return 0
    write_pages(results, output)
    print((output / "results.json").read_text(encoding="utf-8") if as_json else summary_markdown(results))
    print(f"tables and figures: {output / 'index.html'}", file=sys.stderr)
    if not complete:
        print(f"{results.missing} runs are not finished: repeat the command to go on", file=sys.stderr)
    return 0 if results.runs else 1


def _measure(words: Sequence[str]) -> int:
    from llmsr.benchmark.measures import measure

    print(json.dumps(measure(Path(measure_parser().parse_args(words).directory)), indent=1))
    return 0


def measure_parser() -> argparse.ArgumentParser:
    """The parser of `benchmark measure`."""
    parser = Parser(prog="llmsr benchmark measure", description="Measure one finished cell anew.")
    parser.add_argument("directory", metavar="CELL", help="such as DIR/cells/oscillator1/islands/seed0")
    return parser


def _make(words: Sequence[str]) -> int:
    from llmsr.benchmark.problems import FOLDER, bench, provide

    for name in make_parser().parse_args(words).problems or [f"{FOLDER}/{name}" for name in bench()]:
        if not name.startswith(f"{FOLDER}/"):
            raise UserError(f"{name} is no classic equation; write {FOLDER}/NAME")
        provide(name)
        print(f"data/{name}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of `benchmark make`."""
    from llmsr.benchmark.problems import FOLDER, bench

    parser = Parser(
        prog="llmsr benchmark make",
        description=f"Write data/{FOLDER}/NAME for classic equations: {', '.join(bench())}. "
        "NAME-noise0.05 has noise of 5% of the target's standard deviation on its training rows.",
    )
    parser.add_argument(
        "problems", metavar=f"{FOLDER}/NAME", nargs="*", help="what to write (default: all, without noise)"
    )
    return parser
