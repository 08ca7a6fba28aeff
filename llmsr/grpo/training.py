"""The training mode on one screen: prompts, reward, trainer, exported model, report."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmsr.archive import read_archive
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.files import write_file
from llmsr.grpo import dataset
from llmsr.grpo.export import ExportFault, export_final, trained_folder
from llmsr.grpo.gpu_memory import format_memory
from llmsr.grpo.memory.seeds import memory_seeds, write_seeds
from llmsr.grpo.numbering import set_numbers
from llmsr.grpo.plan import Plan, arithmetic, make_plan
from llmsr.grpo.pool import build_pool
from llmsr.grpo.progress import Progress, StepMetrics
from llmsr.grpo.reward_function import RewardFunction
from llmsr.grpo.run_files import write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.grpo.summary import Findings
from llmsr.grpo.verl.config import command, verl_config, write_config
from llmsr.grpo.verl.launch import cuda_devices, preflight, train_with_verl
from llmsr.problem.loading import Problem, load_problem
from llmsr.report.dashboards import DASHBOARDS, Dashboards
from llmsr.run_directory import RunLock


def train(config: GrpoConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run training as configured and return its outcome as plain data; `overrides` are Hydra's, for VERL.

    A dry run writes all files, prints what would happen to standard output and returns an empty outcome.
    """
    devices = cuda_devices()
    plan = make_plan(config, cuda=bool(devices) or bool(os.environ.get("RAY_ADDRESS")))
    if overrides and plan.trainer != "verl":
        raise UserError("arguments after -- are VERL's; the local trainer takes none")
    for note in plan.notes:
        say(note)
    problems = [load_problem(name, config.spec_path, config.data_dir) for name in plan.config.problems]
    if plan.trainer == "verl" and not config.dry_run:
        preflight(plan, devices)
    with RunLock(plan.run_dir):
        finished, elapsed = _finished(plan)
        write_run_files(plan, problems, elapsed, finished)
        template = _write_prompts(plan, problems)
        metrics_path = _metrics_path(plan)
        verl = verl_config(plan, template=template, metrics_path=metrics_path, environment=os.environ)
        write_config(verl, plan.run_dir)
        if config.dry_run:
            print(_dry_run_text(plan, overrides, max(devices, default=None)))
            return {}
        for line in arithmetic(plan):
            say(line)
        progress, findings = Progress(plan.run_dir, plan.steps, finished + 1), Findings(plan.run_dir)
        complete = False

        def on_step(metrics: StepMetrics) -> None:
            progress(metrics)
            findings.refresh()

        try:
            if finished >= plan.steps:
                say("all steps were trained; the model is exported")
            elif plan.trainer == "verl":
                train_with_verl(plan, overrides, metrics_path, on_step)
            else:
                _train_locally(plan, on_step)
            complete = True
            export = _export(plan)
        finally:  # an interrupted run reports what it found
            outcome = findings.finish(complete)
        write_file(_over(plan), str(max(finished, plan.steps)))
    return {**outcome, "model": export}


def say(sentence: str) -> None:
    """A sentence to the person who watches."""
    print(f"llmsr: {sentence}", file=sys.stderr, flush=True)


def _finished(plan: Plan) -> tuple[int, float]:
    """(steps, seconds) to go on from; the archive's numbering is set behind what is there."""
    from llmsr.grpo.local.trainer import last_step

    samples = read_archive(plan.run_dir)
    done = last_step(plan.checkpoints) or 0
    if (samples or done) and not (plan.config.resume or plan.config.dry_run):
        raise UserError(
            f"{plan.run_dir} already holds a run: continue it with --resume, or choose another --output_dir"
        )
    if plan.config.resume and done >= plan.steps and _is_over(plan, done):
        raise UserError(f"{plan.run_dir} has finished its {done} steps; raise --epochs or --budget")
    if not plan.config.dry_run:
        last = max((sample.number for sample in samples), default=0)
        set_numbers(plan.run_dir, last, done * plan.answers_per_step)
    return done, max((sample.elapsed for sample in samples), default=0.0)


def _write_prompts(plan: Plan, problems: Sequence[Problem]) -> str | None:
    """Write both parquet files; the chat template that stands in for the model's own comes back."""
    config = plan.config
    encoder = _encoder(plan)
    form = dataset.PromptForm(
        details=config.prompt_details == "mixed",
        chat=config.chat_template != "plain" if encoder is None else not encoder.plain,
        tokens=encoder.count if encoder else None,
        max_tokens=config.max_prompt_length,
    )
    train_groups, validation_groups, seeds = [], [], {}
    for place, problem in enumerate(problems):
        n_train, n_validation = (
            count // len(problems) + (place < count % len(problems))
            for count in (plan.rows, max(config.validation_prompts, len(problems)))
        )
        with Evaluator(problem, config.fitter, config.fit_timeout, config.workers) as evaluator:
            pool = build_pool(problem, evaluator, dataset.pool_size(n_train + n_validation), config.seed)
            if config.memory != "none":
                seeds[problem.name] = memory_seeds(evaluator, config.warm_start)
        train_rows, validation_rows = dataset.prompt_rows(
            problem, pool, n_train, n_validation, config.seed, form
        )
        train_groups.append(train_rows)
        validation_groups.append(validation_rows)
    if seeds:
        write_seeds(plan.run_dir, seeds)
    dataset.write_parquet(dataset.mixed(train_groups, config.seed), plan.run_dir / "llmsr_train.parquet")
    dataset.write_parquet(dataset.mixed(validation_groups, config.seed), plan.run_dir / "llmsr_val.parquet")
    return encoder.template if encoder else None


def _encoder(plan: Plan) -> Any:
    """The model's way from messages to tokens; None in a dry run that cannot reach the model."""
    from transformers import AutoTokenizer

    from llmsr.grpo.tokens import PromptTokens
    from llmsr.grpo.verl.launch import check_model

    try:
        check_model(plan.model_path)
        tokenizer = AutoTokenizer.from_pretrained(
            plan.model_path, trust_remote_code=plan.config.trust_remote_code
        )
    except (UserError, OSError, ValueError) as error:
        if not plan.config.dry_run:
            raise UserError(str(error)) from None
        say(
            f"{plan.model_path} cannot be reached here: prompts are written as chats, their lengths unchecked"
        )
        return None
    return PromptTokens(tokenizer, plan.config.chat_template)


def _metrics_path(plan: Plan) -> Path:
    """A new file per start: VERL's logger truncates what it finds."""
    folder = plan.run_dir / "metrics"
    folder.mkdir(exist_ok=True)
    number = 1 + sum(1 for _ in folder.glob("verl-*.jsonl"))
    return folder / f"verl-{number}.jsonl"


def _train_locally(plan: Plan, on_step: Callable[[StepMetrics], None]) -> None:
    from llmsr.grpo.local.trainer import LocalTrainer

    rows = dataset.read_parquet(plan.run_dir / "llmsr_train.parquet")
    validation = dataset.read_parquet(plan.run_dir / "llmsr_val.parquet")
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
        return export_final(trained_folder(actor), plan.model_path, plan.final)
    except ExportFault as fault:
        raise UserError(f"the trained model was not exported: {fault}") from None


def _over(plan: Plan) -> Path:
    """The file that says up to which step a run came to its end, its model exported and reported."""
    return plan.checkpoints / "latest_finished_iteration.txt"


def _is_over(plan: Plan, step: int) -> bool:
    path = _over(plan)
    return path.is_file() and int(path.read_text(encoding="utf-8")) == step


def _dry_run_text(plan: Plan, overrides: Sequence[str], gpu_bytes: float | None) -> str:
    import yaml

    parts = [
        "# settings",
        yaml.safe_dump(as_mapping(plan.config), sort_keys=False).strip(),
        "",
        "# batches",
        *arithmetic(plan),
    ]
    if plan.trainer == "verl":
        parts += ["", "# memory", *format_memory(plan, gpu_bytes)]
        config = (plan.run_dir / "grpo_config.yaml").read_text(encoding="utf-8").strip()
        parts += ["", f"# {plan.run_dir / 'grpo_config.yaml'}", config]
        shown = shlex.join(["python", *command(plan.run_dir, overrides)[1:]])
        parts += ["", "# command", shown]
    parts += ["", "# files", *sorted(str(path) for path in plan.run_dir.iterdir() if path.name != "lock")]
    return "\n".join(parts)
