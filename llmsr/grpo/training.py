"""The training mode on one screen: prompts, reward, trainer, exported model, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmsr.archive import read_archive
from llmsr.archive_tail import ArchiveTail
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.dataset import read_parquet
from llmsr.grpo.dry_run import dry_run_text
from llmsr.grpo.export import ExportFault, export_final, trained_folder
from llmsr.grpo.findings import Findings
from llmsr.grpo.plan import FINISHED_FILE, Plan, arithmetic, make_plan
from llmsr.grpo.progress import Progress, StepMetrics, say
from llmsr.grpo.prompt_files import TRAIN, VALIDATION, write_prompts
from llmsr.grpo.run_choice import check_start, claimed, load_problems, located, publish
from llmsr.grpo.run_record import write_run_files
from llmsr.grpo.scoring.numbering import set_numbers
from llmsr.grpo.scoring.reward_function import RewardFunction
from llmsr.grpo.settings import GrpoConfig
from llmsr.grpo.verl.config import verl_config, write_config
from llmsr.grpo.verl.launch import cuda_devices, preflight, train_with_verl
from llmsr.report.dashboards import Dashboards
from llmsr.run_directory import RunLock
from llmsr.search.settings import DASHBOARDS


def train(config: GrpoConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run training as configured and return its outcome as plain data; `overrides` are Hydra's, for VERL.

    "directory" is the run's, "model" tells of the exported model and is None for a run that was interrupted.
    A dry run writes all files, prints what
    would happen to standard output and returns an empty outcome.
    """
    devices = cuda_devices()
    config = located(config)
    smallest = min((device.total for device in devices), default=None)
    plan = make_plan(config, bool(devices) or bool(os.environ.get("RAY_ADDRESS")), smallest)
    if overrides and plan.trainer != "verl":
        raise UserError("arguments after -- are VERL's; the local trainer takes none")
    for note in plan.notes:
        say(note)
    check_start(plan)
    problems = load_problems(plan)
    for problem in problems:
        if note := problem.spec.search_note(config.fitter):
            say(note)
    if plan.trainer == "verl" and not config.dry_run:
        preflight(plan, devices)
    plan = claimed(plan)
    with RunLock(plan.run_dir):
        check_start(plan)  # again, since another process may have begun a run meanwhile
        samples = read_archive(plan.run_dir)
        finished = _finished(plan)
        elapsed = max((sample.elapsed for sample in samples), default=0.0)
        write_run_files(plan, problems, elapsed, finished)
        if not config.dry_run:
            last = max((sample.number for sample in samples), default=0)
            set_numbers(plan.run_dir, last, finished * plan.answers_per_step)
        template = write_prompts(plan, problems)
        metrics_path = _metrics_path(plan)
        verl = verl_config(plan, template=template, metrics_path=metrics_path, environment=os.environ)
        write_config(verl, plan.run_dir)
        if config.dry_run:
            print(dry_run_text(plan, overrides))
            return {}
        say(f"the run is in {plan.run_dir}")
        for line in arithmetic(plan):
            say(line)
        tail, findings = ArchiveTail(plan.run_dir), Findings(plan.run_dir)
        progress = Progress(plan.steps, finished + 1)
        complete = False
        export: dict[str, Any] | None = None

        def on_step(metrics: StepMetrics) -> None:
            new = tail.new()
            progress(metrics, new)
            findings.take(new)

        try:
            if finished >= plan.steps:
                say("all steps were trained; the model is exported")
            elif plan.trainer == "verl":
                train_with_verl(plan, overrides, metrics_path, on_step)
            else:
                _train_locally(plan, on_step)
            complete = True
            export = _export(plan)
        except KeyboardInterrupt:
            pass  # without an export
        finally:  # a run that ends early reports what it found
            outcome = findings.finish(complete)
        if export is not None:
            publish(plan)
            write_file(_over(plan), str(max(finished, plan.steps)))
    return {**outcome, "directory": str(plan.run_dir), "model": export}


def _finished(plan: Plan) -> int:
    """The steps that the run has behind it; `UserError` if none is left."""
    from llmsr.grpo.local.trainer import last_step

    done = last_step(plan.checkpoints) or 0
    if plan.config.resume and done >= plan.steps and _is_over(plan, done):
        raise UserError(f"{plan.run_dir} has finished its {done} steps; raise --epochs or --budget")
    return done


def _metrics_path(plan: Plan) -> Path:
    """A new file per start: VERL's logger truncates what it finds."""
    folder = plan.run_dir / "metrics"
    folder.mkdir(exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("verl-*.jsonl"))
    return folder / f"verl-{number}.jsonl"


def _train_locally(plan: Plan, on_step: Callable[[StepMetrics], None]) -> None:
    from llmsr.grpo.local.trainer import LocalTrainer

    rows = read_parquet(plan.run_dir / TRAIN)
    validation = read_parquet(plan.run_dir / VALIDATION)
    chosen = [name for name in plan.config.loggers if name in DASHBOARDS]
    with (
        Dashboards(chosen, plan.run_dir, as_mapping(plan.config)) as dashboards,
        RewardFunction(
            plan.run_dir, plan.config.workers or os.cpu_count(), drawn_again=True
        ) as reward_function,
    ):

        def watched(metrics: StepMetrics) -> None:
            on_step(metrics)
            dashboards.log(metrics.figures(), metrics.step)

        LocalTrainer(plan, rows, validation, reward_function, watched).train()


def _export(plan: Plan) -> dict[str, Any]:
    from llmsr.grpo.local.trainer import last_step

    actor = plan.checkpoints / f"global_step_{last_step(plan.checkpoints)}" / "actor"
    try:
        return export_final(
            trained_folder(actor),
            plan.model_path,
            plan.final,
            trust_remote_code=plan.config.trust_remote_code,
        )
    except ExportFault as fault:
        raise UserError(f"the trained model was not exported: {fault}") from None


def _over(plan: Plan) -> Path:
    """The file that says up to which step a run came to its end, its model exported and reported."""
    return plan.checkpoints / FINISHED_FILE


def _is_over(plan: Plan, step: int) -> bool:
    path = _over(plan)
    return path.is_file() and int(path.read_text(encoding="utf-8")) == step
