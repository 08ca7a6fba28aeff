"""Whether a run's directory may be trained in: begun, continued with the same settings, or tried dry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from llmsr.archive import holds_records
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.grpo.plan import Plan, run_directory
from llmsr.grpo.run_files import RUN_FILE, load_run_problem, read_run
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.loading import Problem, load_problem
from llmsr.run_directory import changed_settings, check_unchanged

# what may differ between a run and its continuation: how long it is, what it costs and what it leaves.
# gpus and nnodes may not: VERL's checkpoints are in as many parts as there are GPUs
FREE_ON_RESUME = frozenset(
    {
        "epochs",
        "budget",
        "resume",
        "dry_run",
        "json",
        "output_dir",
        "logger",
        "save_freq",
        "keep_checkpoints",
        "test_freq",
        "workers",
        "device",
        "tensor_parallel",
        "gpu_memory_utilization",
        "micro_batch_size",
        "offload",
        "gradient_checkpointing",
        "attention",
        "trust_remote_code",
    }
)
OF_ONE_START = ("resume", "dry_run", "json", "output_dir")  # a continuation does not take them over
RESOLVED = ("trainer", "model_path")  # compared as what they came to, since their defaults depend on devices


def stored_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that the flags `given` ask to continue; empty where there is none."""
    problem_name = given.get("problem_name") or GrpoConfig.problem_name
    run_dir = run_directory(GrpoConfig(problem_name=problem_name, output_dir=given.get("output_dir")))
    if not (run_dir / RUN_FILE).is_file():
        return {}
    record = read_run(run_dir)
    known = {item.name for item in fields(GrpoConfig)} - set(OF_ONE_START)
    stored = {name: value for name, value in record["settings"].items() if name in known}
    stored["trainer"] = record["trainer"]
    if stored.get("model_path") is not None:
        stored["model_path"] = record["model_path"]
    if "epochs" in given:  # a budget would take their place
        stored.pop("budget", None)
    return stored


def check_start(plan: Plan) -> None:
    """`UserError` if the run's directory is not fit for this start: before anything is written to it."""
    if plan.config.resume:
        _check_continuation(plan)
    if plan.config.resume and not plan.config.dry_run:
        return
    if _holds_results(plan.run_dir):
        advice = "choose" if plan.config.dry_run else "continue it with --resume, or choose"
        dry = ", whose files --dry_run would replace" if plan.config.dry_run else ""
        raise UserError(f"{plan.run_dir} already holds a run{dry}: {advice} another --output_dir")


def load_problems(plan: Plan) -> list[Problem]:
    """The problems of a run; `UserError` if a run that is continued was begun with another spec or rows."""
    config = plan.config
    problems = [load_problem(name, config.spec_path, config.data_dir) for name in config.problems]
    for problem in problems if config.resume else ():
        begun = load_run_problem(plan.run_dir, problem.name)
        changed = begun.spec.text != problem.spec.text or begun.splits.keys() != problem.splits.keys()
        if changed or not all(begun.splits[name].equals(rows) for name, rows in problem.splits.items()):
            raise UserError(
                f"the spec or the rows of {problem.name} are not those that the run in {plan.run_dir} was "
                "begun with; put those back, or begin a new run"
            )
    return problems


def _holds_results(run_dir: Path) -> bool:
    return holds_records(run_dir) or any((run_dir / "checkpoints").glob("*/*/global_step_*"))


def _check_continuation(plan: Plan) -> None:
    """`UserError` if there is no run to continue, or one with other settings."""
    record = read_run(plan.run_dir) if (plan.run_dir / RUN_FILE).is_file() else None
    if record is None or record["settings"].get("dry_run"):
        raise UserError(f"there is no run to continue in {plan.run_dir}; leave out --resume to begin one")
    stored, settings = record["settings"], as_mapping(plan.config)
    changed = changed_settings(stored, settings, FREE_ON_RESUME.union(RESOLVED))
    if record["trainer"] != plan.trainer:
        changed.append("trainer")
    # the default model is the same wherever this checkout lies
    default = stored.get("model_path") is None and settings["model_path"] is None
    if record["model_path"] != plan.model_path and not default:
        changed.append("model_path")
    check_unchanged(plan.run_dir, changed)
