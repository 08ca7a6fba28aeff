"""The training mode on one screen: prompts, reward, trainer, exported model, report."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from llmsr.archive import ArchiveTail, read_archive
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.answer_archive import set_number
from llmsr.grpo.dataset import TRAIN, VALIDATION, prompt_encoder, read_parquet, write_prompts
from llmsr.grpo.export import final_model, keep_best, last_step
from llmsr.grpo.plan import FINISHED_FILE, Plan, arithmetic, make_plan, memory_sentences
from llmsr.grpo.progress import Progress, StepMetrics, Stuck, say
from llmsr.grpo.reward_function import Evaluators, RewardFunction
from llmsr.grpo.run_record import check_start, claimed, load_problems, located, publish, write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.grpo.verl.config import command, verl_config, write_config
from llmsr.grpo.verl.launch import cuda_devices, preflight, train_with_verl
from llmsr.problem.holes import guess_bodies
from llmsr.report.display import Dashboards
from llmsr.report.runs import (
    EVERY_SECONDS,
    MOST_PAGES,
    TRAINING,
    Outputs,
    by_problem,
    read_run,
    read_settings,
    write_run,
    write_several,
)
from llmsr.run_directory import RunLock
from llmsr.sample import VALIDATION as WATCHED
from llmsr.sample import Sample
from llmsr.settings import DASHBOARDS


def train(config: GrpoConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run training as configured and return its outcome as plain data; `overrides` are Hydra's, for VERL.

    "directory" is the run's, "model" tells of the exported model and is None for a run that was interrupted.
    A dry run writes all files, prints what would happen to standard output and returns an empty outcome.
    """
    devices = cuda_devices()
    config = located(config)
    smallest = min((device.total for device in devices), default=None)
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    if overrides and config.trainer == "auto" and (devices or cluster):
        config = replace(config, trainer="verl")
    plan = make_plan(config, bool(devices), smallest, cluster)
    if overrides and plan.trainer != "verl":
        raise UserError("arguments after -- are VERL's; the local trainer takes none")
    for note in plan.notes:
        say(note)
    check_start(plan)
    problems = load_problems(plan)
    for problem in problems:
        guess_bodies(problem, config.guess)  # one that cannot be read ends the run before it begins
        if note := problem.spec.search_note(config.fitter):
            say(note)
    if plan.trainer == "verl" and not config.dry_run:
        preflight(plan, devices)
    encoder = prompt_encoder(plan)  # before a folder is made: the model may not be there
    plan = claimed(plan)
    with RunLock(plan.run_dir):
        check_start(plan)  # again, since another process may have begun a run meanwhile
        samples = read_archive(plan.run_dir)
        finished = _finished(plan)
        write_run_files(plan, problems, max((sample.elapsed for sample in samples), default=0.0), finished)
        if not config.dry_run:
            set_number(plan.run_dir, max((sample.number for sample in samples), default=0))
        prompts = partial(write_prompts, plan, problems, encoder)

        def prompts_alone() -> None:
            with contextlib.closing(Evaluators(plan.run_dir)) as evaluators:
                prompts(evaluators)

        metrics_path = _metrics_path(plan)
        template = encoder.template if encoder else None
        verl = verl_config(plan, template=template, metrics_path=metrics_path, environment=os.environ)
        write_config(verl, plan.run_dir)
        if config.dry_run:
            prompts_alone()
            print(_dry_run_text(plan, overrides))
            return {}
        say(f"the run is in {plan.run_dir}")
        for line in arithmetic(plan):
            say(line)
        findings, tail = Findings(plan.run_dir), ArchiveTail(plan.run_dir)
        progress = Progress(plan.config.steps, finished + 1, stop_after=plan.config.stop_when_stuck)

        def on_step(metrics: StepMetrics) -> StepMetrics:
            """The metrics of a finished step with what the archive adds."""
            new = tail.new()
            findings.take(new)
            if "validation" in metrics.extra:
                keep_best(plan.checkpoints, metrics.step, metrics.extra["validation"])
            return progress(metrics, new)

        complete = False
        try:
            if finished >= plan.config.steps:
                say("all steps were trained; the model is exported")
            elif plan.trainer == "verl":
                # VERL imports for longer than the prompts take
                train_with_verl(plan, overrides, metrics_path, on_step, meanwhile=prompts_alone)
            else:
                _train_locally(plan, prompts, on_step)
            complete = True
        except Stuck as stuck:
            say(str(stuck))
            complete = True
        except KeyboardInterrupt:
            pass  # without an export
        finally:  # a run that ends early reports what it found
            outcome = findings.finish(complete)
        export = None
        if complete:
            for sample in tail.new():
                progress.take(sample)
            progress.check_learned()
            export = final_model(plan)
            publish(plan)
            write_file(plan.checkpoints / FINISHED_FILE, str(max(finished, plan.config.steps)))
    return {**outcome, "directory": str(plan.run_dir), "model": export}


def _finished(plan: Plan) -> int:
    """The steps that the run has behind it; `UserError` if it came to its end with them."""
    done = last_step(plan.checkpoints) or 0
    path = plan.checkpoints / FINISHED_FILE  # up to which step a run's model is exported and reported
    over = path.is_file() and int(path.read_text(encoding="utf-8")) == done
    if plan.config.resume and done >= plan.config.steps and over:
        raise UserError(f"{plan.run_dir} has finished its {done} steps; raise --epochs or --budget")
    return done


def _metrics_path(plan: Plan) -> Path:
    """A new file per start: VERL's logger truncates what it finds."""
    folder = plan.run_dir / "metrics"
    folder.mkdir(exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("verl-*.jsonl"))
    return folder / f"verl-{number}.jsonl"


def _train_locally(
    plan: Plan, prompts: Callable[[Evaluators], None], on_step: Callable[[StepMetrics], StepMetrics]
) -> None:
    from llmsr.grpo.local_trainer import LocalTrainer

    # the workers that fit what prompts show go on to fit the answers: to start them takes seconds
    with contextlib.ExitStack() as stack:
        evaluators = stack.enter_context(
            contextlib.closing(Evaluators(plan.run_dir, plan.config.workers or os.cpu_count()))
        )
        prompts(evaluators)
        rows = read_parquet(plan.run_dir / TRAIN)
        validation = read_parquet(plan.run_dir / VALIDATION)
        chosen = [name for name in plan.config.loggers if name in DASHBOARDS]
        dashboards = stack.enter_context(Dashboards(chosen, plan.run_dir, as_mapping(plan.config)))
        reward_function = stack.enter_context(RewardFunction(plan.run_dir, evaluators, drawn_again=True))

        def watched(metrics: StepMetrics) -> None:
            dashboards.log(on_step(metrics).figures(), metrics.step)

        trainer = LocalTrainer(plan, rows, validation, reward_function, watched)
        try:
            trainer.train()
        except Stuck:
            trainer.save()
            raise


def _dry_run_text(plan: Plan, overrides: Sequence[str]) -> str:
    """What the run would do: settings, batches and files; for VERL its memory, configuration and command."""
    settings = yaml.safe_dump(as_mapping(plan.config), sort_keys=False).strip()
    parts = ["# settings", settings, "", "# batches", *arithmetic(plan)]
    if plan.trainer == "verl" or plan.memory is not None:
        parts += ["", "# memory", *memory_sentences(plan)]
    if plan.trainer == "verl":
        config = (plan.run_dir / "grpo_config.yaml").read_text(encoding="utf-8").strip()
        parts += ["", f"# {plan.run_dir / 'grpo_config.yaml'}", config]
        shown = shlex.join(["python", *command(plan.run_dir, overrides)[1:]])
        parts += ["", "# command", shown]
    parts += ["", "# files", *sorted(str(path) for path in plan.run_dir.iterdir() if path.name != "lock")]
    return "\n".join(parts)


class Findings:
    """The results of the training run in a directory, once per problem, as far as it was told.

    The archive is written by the processes that score answers, on any node; the trainer's process follows it
    and keeps the files up to date that a search leaves as well.
    """

    def __init__(self, run_dir: Path, every_seconds: float = EVERY_SECONDS) -> None:
        self.run_dir = run_dir
        _, settings = read_settings(run_dir)
        runs = by_problem(run_dir, TRAINING, settings, [])
        # of many problems all is written at the end, from the archive
        self._found: dict[str, Outputs] = {
            run.problem_name: run.outputs(every_seconds=every_seconds)
            for run in (runs if len(runs) <= MOST_PAGES else ())
        }

    def take(self, samples: Iterable[Sample]) -> None:
        """Take note of what came to the archive, and write the files that are due.

        What was found is in the archive, so no fault of a file for people ends a training: it is told.
        """
        if not self._found:
            return
        try:
            for sample in samples:
                name = sample.problem if sample.problem in self._found else next(iter(self._found))
                if sample.kind != WATCHED:
                    self._found[name].add(sample)
            runs = list(self._found.values())
            refreshed = [outputs.refresh() for outputs in runs]
            if len(refreshed) > 1 and any(refreshed):
                write_several(self.run_dir, runs, [outputs.result(complete=False) for outputs in runs])
        except Exception as error:  # noqa: BLE001 - as above
            print(f"llmsr: the results could not be refreshed: {error}", file=sys.stderr)

    def finish(self, complete: bool) -> dict[str, Any]:
        """Write all files from the whole archive and hand back what `result.json` says.

        Read anew, since processes write side by side: so it is the same as what `llmsr report` writes.
        """
        return write_run(self.run_dir, [run.outputs() for run in read_run(self.run_dir)], complete)
