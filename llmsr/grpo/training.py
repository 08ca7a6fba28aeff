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
from llmsr.grpo.dataset import read_parquet
from llmsr.grpo.export import (
    BEST,
    ExportFault,
    NothingLearned,
    best_step,
    export_final,
    keep_best,
    last_step,
    trained_folder,
)
from llmsr.grpo.plan import FINISHED_FILE, Plan, arithmetic, make_plan, memory_sentences
from llmsr.grpo.progress import Progress, StepMetrics, Stuck, say
from llmsr.grpo.prompt_files import TRAIN, VALIDATION, prompt_encoder, write_prompts
from llmsr.grpo.reward_function import Evaluators, RewardFunction
from llmsr.grpo.run_choice import check_start, claimed, load_problems, located, publish
from llmsr.grpo.run_record import write_run_files
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

# what a trainer tells of a finished step; the same metrics come back with what the archive adds
OnStep = Callable[[StepMetrics], StepMetrics]


def train(config: GrpoConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run training as configured and return its outcome as plain data; `overrides` are Hydra's, for VERL.

    "directory" is the run's, "model" tells of the exported model and is None for a run that was interrupted.
    A dry run writes all files, prints what
    would happen to standard output and returns an empty outcome.
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
        elapsed = max((sample.elapsed for sample in samples), default=0.0)
        write_run_files(plan, problems, elapsed, finished)
        if not config.dry_run:
            last = max((sample.number for sample in samples), default=0)
            set_number(plan.run_dir, last)
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
        complete = False
        export: dict[str, Any] | None = None
        findings = Findings(plan.run_dir)
        on_step = _Watch(plan, findings, finished)
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
        if complete:
            on_step.check_learned()
            export = final_model(plan)
            publish(plan)
            write_file(_over(plan), str(max(finished, plan.config.steps)))
    return {**outcome, "directory": str(plan.run_dir), "model": export}


class _Watch:
    """Follows the archive step by step: the progress line, the results so far, the best checkpoint."""

    def __init__(self, plan: Plan, findings: Findings, finished: int) -> None:
        self._plan = plan
        self._findings = findings
        self._tail = ArchiveTail(plan.run_dir)
        self._progress = Progress(plan.config.steps, finished + 1, stop_after=plan.config.stop_when_stuck)

    def __call__(self, metrics: StepMetrics) -> StepMetrics:
        new = self._tail.new()
        self._findings.take(new)
        if "validation" in metrics.extra:
            keep_best(self._plan.checkpoints, metrics.step, metrics.extra["validation"])
        return self._progress(metrics, new)

    def check_learned(self) -> None:
        """`UserError` if no answer of the run was valid."""
        for sample in self._tail.new():
            self._progress.take(sample)
        self._progress.check_learned()


def _finished(plan: Plan) -> int:
    """The steps that the run has behind it; `UserError` if none is left."""
    done = last_step(plan.checkpoints) or 0
    if plan.config.resume and done >= plan.config.steps and _is_over(plan, done):
        raise UserError(f"{plan.run_dir} has finished its {done} steps; raise --epochs or --budget")
    return done


def _metrics_path(plan: Plan) -> Path:
    """A new file per start: VERL's logger truncates what it finds."""
    folder = plan.run_dir / "metrics"
    folder.mkdir(exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("verl-*.jsonl"))
    return folder / f"verl-{number}.jsonl"


def _train_locally(plan: Plan, prompts: Callable[[Evaluators], None], on_step: OnStep) -> None:
    from llmsr.grpo.local.trainer import LocalTrainer

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


def final_model(plan: Plan) -> dict[str, Any]:
    """The best validated checkpoint as the final model, the last one where none was validated.

    The last one too where the best is the untrained model: who trains wants what was learned.
    """
    checkpoints, best = plan.checkpoints, best_step(plan.checkpoints)
    step = last_step(checkpoints)
    try:
        if best is not None:
            try:
                found = _exported(plan, checkpoints / BEST / "actor")
                say(f"the final model is that of step {best[0]}, the best of those validated: {best[1]:+.3f}")
                return {**found, "step": best[0]}
            except NothingLearned:
                if step is None or step == best[0]:
                    raise
                say(f"step {best[0]}, the best of those validated, had learned nothing: the last is exported")
        if step is None:
            raise UserError("the training ended before its first checkpoint: lower --save_freq")
        return {**_exported(plan, checkpoints / f"global_step_{step}" / "actor"), "step": step}
    except ExportFault as fault:
        raise UserError(f"the trained model was not exported: {fault}") from None


def _exported(plan: Plan, actor: Path) -> dict[str, Any]:
    trusts = plan.config.trust_remote_code
    return export_final(trained_folder(actor), plan.model_path, plan.final, trust_remote_code=trusts)


def _over(plan: Plan) -> Path:
    """The file that says up to which step a run came to its end, its model exported and reported."""
    return plan.checkpoints / FINISHED_FILE


def _is_over(plan: Plan, step: int) -> bool:
    path = _over(plan)
    return path.is_file() and int(path.read_text(encoding="utf-8")) == step


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
        try:
            self._take(samples)
        except Exception as error:  # noqa: BLE001 - as above
            print(f"llmsr: the results could not be refreshed: {error}", file=sys.stderr)

    def _take(self, samples: Iterable[Sample]) -> None:
        if not self._found:
            return
        for sample in samples:
            name = sample.problem if sample.problem in self._found else next(iter(self._found))
            if sample.kind != WATCHED:
                self._found[name].add(sample)
        runs = list(self._found.values())
        refreshed = [outputs.refresh() for outputs in runs]
        if len(refreshed) > 1 and any(refreshed):
            write_several(self.run_dir, runs, [outputs.result(complete=False) for outputs in runs])

    def finish(self, complete: bool) -> dict[str, Any]:
        """Write all files from the whole archive and hand back what `result.json` says.

        Read anew, since processes write side by side: so it is the same as what `llmsr report` writes.
        """
        return write_run(self.run_dir, [run.outputs() for run in read_run(self.run_dir)], complete)
