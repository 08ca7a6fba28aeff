"""`python -m llmsr benchmark`: arms x problems x seeds from one file, and what they come to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path

from llmsr.benchmark.imported import import_problems
from llmsr.benchmark.plan import GRPO, SEARCH, Cell, Plan, read_plan
from llmsr.benchmark.results import read_results
from llmsr.benchmark.runner import Runner
from llmsr.benchmark.tables import estimate_text, summary_markdown, write_pages
from llmsr.cli.shared import Verb
from llmsr.config import Checked, option
from llmsr.files import write_file
from llmsr.grpo.settings import GrpoConfig
from llmsr.run_directory import RunLock
from llmsr.settings import ProposerConfig, RunSettings, SearchSettings

SETTINGS = {SEARCH: (RunSettings, SearchSettings, ProposerConfig), GRPO: (GrpoConfig,)}


class _Benchmark(Verb):
    """The verb itself, or `import` where that is its first word."""

    def main(self, argv: Sequence[str]) -> int:
        return IMPORT.main(argv[1:]) if argv[:1] == ["import"] else super().main(argv)


@dataclass(frozen=True)
class BenchmarkChoice(Checked):
    """what to run"""

    config: str = option(MISSING, "arms, problems, seeds, budget", metavar="FILE")
    output_dir: str = option("logs/benchmark", "where runs, tables and pages go", metavar="DIR")
    only: tuple[str, ...] = option(
        ("*",), "runs to make now, such as '*/llmsr/seed[34]'", metavar="NAME", many=True
    )
    jobs: int = option(1, "runs side by side", least=1)
    seconds: float | None = option(None, "after these, nothing begins and runs are interrupted")
    retry_failed: bool = option(False, "go on with failed runs too", switch=True)
    dry_run: bool = option(False, "show the matrix and an estimate, and stop", switch=True)
    report: bool = option(False, "write tables and pages of what is there, and stop", switch=True)
    json: bool = option(False, "print the results as JSON", switch=True)


@_Benchmark
def benchmark(given: BenchmarkChoice) -> int:
    """Run what is not finished of a benchmark, and say what it comes to.

    examples:
      python -m llmsr benchmark --config configs/benchmark_quick.yaml --output_dir logs/benchmark
      python -m llmsr benchmark --config configs/benchmark.yaml --dry_run
      python -m llmsr benchmark --config FILE --output_dir DIR --jobs 30 --seconds 3000
      python -m llmsr benchmark --config FILE --output_dir DIR --report
      python -m llmsr benchmark import PATH

    The first runs what the file asks for, the second shows the matrix and what it will take, the third stops
    after 3000 seconds and goes on when it is repeated, the fourth writes tables and figures of what is there,
    the fifth writes problems of LLM-SRBench as data and specs. docs/benchmark.md says what is measured and
    how.
    """
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


def _run(plan: Plan, cells: Sequence[Cell], output: Path, given: BenchmarkChoice) -> bool:
    # so that a folder of results tells what it is of
    write_file(output / "benchmark.yaml", Path(given.config).read_text(encoding="utf-8"))
    runner = Runner(cells, output, plan.keep, given.jobs, given.seconds, given.retry_failed)
    try:
        return runner.run()
    except KeyboardInterrupt:
        # hours of finished runs are worth their tables
        _report(plan, output, given.json, complete=False)
        raise


def _report(plan: Plan, output: Path, as_json: bool, complete: bool) -> int:
    results = read_results(plan, output)
    if not results.runs and not results.failures:
        again = f"repeat the command without --report to go on in {output}"
        print(f"no run is finished yet: {again}", file=sys.stderr)
        return 0
    write_pages(results, output)
    print((output / "results.json").read_text(encoding="utf-8") if as_json else summary_markdown(results))
    print(f"tables and figures: {output / 'index.html'}", file=sys.stderr)
    if not complete:
        print(f"{results.missing} runs are not finished: repeat the command to go on", file=sys.stderr)
    return 0 if results.runs else 1


@dataclass(frozen=True)
class ImportChoice(Checked):
    """what to import"""

    path: str = option(
        MISSING, "a copy of the dataset, or a .jsonl file of records", metavar="PATH", positional=True
    )
    only: str = option("", "import names that contain this text", metavar="TEXT")
    anonymize: bool = option(False, "hide the names of the columns and what they mean", switch=True)


def import_(given: ImportChoice) -> int:
    """Write problems of LLM-SRBench as data and specs below data/ and specs/; print their names."""
    for line in import_problems(given.path, given.only, given.anonymize):
        print(line, flush=True)
    return 0


IMPORT = Verb(import_, "python -m llmsr benchmark import")
