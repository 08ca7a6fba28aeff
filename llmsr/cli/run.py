"""`python main.py`: the evolutionary search from flags to its result; `--use_rl` hands over to training."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmsr.archive import SearchArchive, holds_records, read_archive
from llmsr.cli.shared import Mode, faults_told, read_problem
from llmsr.config import as_mapping, listed, read_yaml
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.expression.engine.kept import is_compiled
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.holes import guess_bodies, guess_lines
from llmsr.problem.loading import Problem
from llmsr.problem.table_format import doubles
from llmsr.proposers.choice import make_bandit
from llmsr.report.display import Dashboards, SearchProgress, format_result
from llmsr.report.runs import Outputs, read_run
from llmsr.report.system import measured_of
from llmsr.run_directory import (
    RunLock,
    changed_settings,
    check_data,
    check_unchanged,
    without_secrets,
    write_configuration,
)
from llmsr.sample import Sample, is_llm_sample
from llmsr.search.search import Search
from llmsr.search.totals import write_sample_file
from llmsr.settings import ProposerConfig, RunSettings, SearchSettings

# what may differ where a run is resumed: how long it goes on, where it is and what it runs on
FREE_ON_RESUME = {"budget", "max_tokens_total", "max_cost", "seconds", "stop_nmse", "prices", "api_base",
                  "port", "workers", "resume", "log_path", "json", "device", "gpu_memory_utilization",
                  "timeout", "retries", "logger"}  # fmt: skip


def run_search(run: RunSettings, search: SearchSettings, proposer: ProposerConfig) -> int:
    """Search for equations and print the outcome; of several problems one after the other.

    examples:
      python main.py                                             the embedded model on oscillator1, offline
      python main.py --problem_name bactgrow --budget 2000 --seed 1
      python main.py --use_api True --api_model gpt-4o-mini --problem_name oscillator2
      python main.py --proposer transformers --model_path Qwen/Qwen2.5-1.5B-Instruct
      python -m llmsr run --resume --log_path logs/oscillator1/islands-seed0 --budget 5000
      python main.py --use_rl --problem_name oscillator1         train the model instead (see --use_rl --help)
    """
    names = listed(run.problem_name)
    if twice := doubles(names):
        raise UserError(f"--problem_name names {twice[0]!r} twice; name every problem once")
    if len(names) > 1:
        return _run_several(names, run, search, proposer)
    if search.max_cost and not proposer.prices:
        raise UserError("--max_cost needs --prices, what the models cost")
    run_dir = _run_directory(run, search)
    if run.resume and not (run_dir / "archive").exists():
        raise UserError(f"there is no run to continue in {run_dir}; leave out --resume to begin one")
    problem = read_problem(run)
    guess_bodies(problem, search.guess)  # one that cannot be read ends the run before it begins
    search = replace(search, guess="\n".join(guess_lines(search.guess)))  # of a file, what it says at present
    # before anything is written: two runs in one directory would mix their records
    with RunLock(run_dir):
        settings = without_secrets(as_mapping(run, search, proposer))
        earlier = _earlier_samples(settings, run.resume, run_dir, problem)
        result, interrupted = _search(run, search, proposer, settings, run_dir, problem, earlier)
    with faults_told("-", sys.stdout, f"; the result is in {run_dir}"):
        print(json.dumps(result, indent=2) if run.json else format_result(result), flush=True)
    # a standard error that is gone must not turn a finished run into a failure
    with contextlib.suppress(OSError):
        print(f"everything is in {run_dir}", file=sys.stderr)
        where = shlex.quote(str(run_dir))
        if interrupted:
            again = f"python -m llmsr run --resume --log_path {where}"
            print(f"interrupted; go on with: {again}", file=sys.stderr)
        elif result.get("pick"):
            print(f"next: python -m llmsr predict {where} --csv new_rows.csv", file=sys.stderr)
    return 130 if interrupted else 0


def _run_several(
    names: Sequence[str], run: RunSettings, search: SearchSettings, proposer: ProposerConfig
) -> int:
    """A run in a folder of its own for each problem; what one leaves of the budget is the others'."""
    if run.resume or run.spec_path or search.budget < len(names):
        raise UserError(
            "several problems take no --resume and no --spec_path, and a --budget of one for each at least; "
            "resume one of them by its --log_path"
        )
    base = Path(run.log_path or _run_directory(replace(run, problem_name="_".join(names)), search))
    for name in names:  # a fault of the last one should not come after hours
        read_problem(replace(run, problem_name=name))
    left = search.budget
    for place, name in enumerate(names):
        own = replace(run, problem_name=name, log_path=str(base / name.replace("/", "_")))
        code = run_search(own, replace(search, budget=left // (len(names) - place)), proposer)
        left -= sum(map(is_llm_sample, read_archive(own.log_path or "")))
        if code:
            return code
    # the first rate of a system had no equations of the others to be integrated with
    for name in names[:-1]:
        if measured_of(name, run.data_dir).is_file():
            for recorded in read_run(base / name.replace("/", "_")):
                recorded.outputs().finish()
    return 0


def _search(
    run: RunSettings,
    search: SearchSettings,
    proposer_config: ProposerConfig,
    settings: dict[str, Any],
    run_dir: Path,
    problem: Problem,
    earlier: list[Sample],
) -> tuple[dict[str, Any], bool]:
    """Run the search and write its result; whether it was interrupted comes beside it."""
    interrupted = False
    with contextlib.ExitStack() as stack:
        if run.fitter != "reference" and not is_compiled():
            print("the fits are compiled for this machine, once; that takes up to a minute", file=sys.stderr)
        evaluator = stack.enter_context(Evaluator(problem, run.fitter, run.fit_timeout, run.workers))
        proposer = stack.enter_context(contextlib.closing(make_bandit(proposer_config)))
        archive = stack.enter_context(SearchArchive(run_dir))
        outputs = Outputs(run_dir, problem, settings)
        observers: list[Any] = [stack.enter_context(SearchProgress(search.budget, problem)), outputs]
        if dashboards := run.dashboards:
            observers.append(stack.enter_context(Dashboards(dashboards, run_dir, settings)))
        if run.sample_files:
            observers.append(lambda sample, totals: write_sample_file(run_dir, problem.spec, sample))
        engine = Search(problem, proposer, evaluator, archive, search, observers, earlier)
        outputs.totals = engine.totals  # prompts that failed are counted there alone
        try:
            engine.run()
            if engine.ended:
                print(f"llmsr: {engine.ended}", file=sys.stderr)
        except KeyboardInterrupt:
            interrupted = True
        # a proposer that gave up: what was found until then is reported all the same
        except UserError:
            outputs.finish(complete=False)
            raise
    return outputs.finish(complete=not interrupted), interrupted


def _run_directory(run: RunSettings, search: SearchSettings) -> Path:
    """Where the run lives: as told, or a new folder below logs/ (the newest one with --resume)."""
    if run.log_path:
        return Path(run.log_path)
    base = Path("logs") / run.problem_name / (run.run_id or f"{search.search}-seed{search.seed}")
    number, last, candidate = 1, base, base
    while (candidate / "archive").exists():
        last, number = candidate, number + 1
        candidate = base.with_name(f"{base.name}-{number}")
    return last if run.resume else candidate


def _earlier_samples(settings: dict[str, Any], resume: bool, run_dir: Path, problem: Problem) -> list[Sample]:
    """The samples of the run that is resumed; for a new run, its configuration is written instead."""
    if resume:
        stored = read_yaml(run_dir / "config.yaml")
        check_unchanged(run_dir, changed_settings(stored, settings, FREE_ON_RESUME))
        check_data(run_dir, problem)
        earlier = read_archive(run_dir)
        answers = sum(map(is_llm_sample, earlier))
        # a smaller budget would have to forget samples that are counted already
        if answers > settings["budget"]:
            more = f"{answers} samples, more than --budget {settings['budget']}"
            raise UserError(f"the run in {run_dir} already has {more}")
        return earlier
    if holds_records(run_dir):
        mend = "add --resume to continue it, or name another directory"
        raise UserError(f"{run_dir} already holds a run; {mend}")
    write_configuration(run_dir, settings, problem)
    return []


def _stored(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run that is resumed, so that --resume --log_path DIR alone goes on as it began."""
    path = Path(given.get("log_path") or "") / "config.yaml"
    return read_yaml(path) if given.get("log_path") and path.is_file() else {}


RUN = Mode(run_search, "python main.py", _stored, (GrpoConfig,), "it belongs to training: add --use_rl")
main = RUN.main
