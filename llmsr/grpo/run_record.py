"""What a training run's directory holds, so that it can be moved, resumed, or read on another node.

run.json                  what its processes must know: settings, problems, steps (RunRecord)
problems/<name>/          the spec and the data as they were when the run began
llmsr_reward.py           the reward function that VERL imports
llmsr_train.parquet       prompts;  llmsr_val.parquet  those of validation
memory_seeds.json         what the memory in prompts begins with (--memory)
grpo_config.yaml          VERL's configuration
archive/                  every answer
metrics/                  one JSON line per step
logs/                     what VERL printed
checkpoints/              global_step_N and final

Without --output_dir every run of a problem has a numbered folder, so that a loop over settings overwrites
nothing, and one name stands for the model of the run that finished last, so that a curriculum can go on:

    llmsr_grpo_outputs/<problem>/runs/001, 002, ...
    llmsr_grpo_outputs/<problem>/checkpoints/final     a link to that run's checkpoints/final
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from llmsr.archive import holds_records
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.plan import FINISHED_FILE, Plan, run_directory
from llmsr.grpo.progress import say
from llmsr.grpo.settings import GrpoConfig, Settled
from llmsr.problem.loading import SPLITS, STAND_IN, Problem, load_problem, matching_names
from llmsr.problem.units import with_units
from llmsr.run_directory import changed_settings, check_unchanged
from llmsr.search.population import Member

RUN_FILE, SEEDS_FILE = "run.json", "memory_seeds.json"
PACKAGE_PARENT = Path(__file__).resolve().parents[2]

# what may differ between a run and its continuation: how long it is, what it costs and what it leaves.
# gpus and nnodes may not: VERL's checkpoints are in as many parts as there are GPUs
FREE_ON_RESUME = frozenset(
    (
        "epochs", "budget", "resume", "dry_run", "json", "output_dir", "logger", "save_freq",
        "keep_checkpoints", "test_freq", "stop_when_stuck", "workers", "device", "tensor_parallel",
        "gpu_memory", "offload", "attention", "trust_remote_code",
    )
)  # fmt: skip
OF_ONE_START = ("resume", "dry_run", "json", "output_dir")  # a continuation does not take them over
RESOLVED = ("trainer", "model_path")  # compared as what they came to, since their defaults depend on devices

_REWARD_FILE = '''"""The reward function of this run, as VERL calls it: one answer in, score and flags out.

Everything it needs lies beside it; the folder may be moved, and LLMSR_RUN_DIR names another one.
"""

import os
import sys

RUN_DIR = os.environ.get("LLMSR_RUN_DIR") or os.path.dirname(os.path.abspath(__file__))

try:
    import llmsr  # noqa: F401
except ImportError:  # not installed and not on PYTHONPATH: the checkout that wrote this file
    sys.path.append(os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), {package!r})))

from llmsr.grpo.reward_function import compute_score_of

compute_score = compute_score_of(RUN_DIR)
'''


@dataclass(frozen=True)
class RunRecord:
    """What the processes of a run must know of it; only this type writes and reads `run.json`.

    `finished_steps` are the steps that a checkpoint held when the run was last started. `began` is the time
    of its begin in seconds since 1970, moved on by the pauses between its starts.
    """

    settings: Settled
    trainer: str
    model_path: str
    problems: tuple[str, ...]
    answers_per_step: int
    steps: int
    finished_steps: int
    began: float

    @classmethod
    def read(cls, run_dir: Path) -> RunRecord:
        """The record in a run's directory; `UserError` if there is none."""
        try:
            content = json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{run_dir} holds no training run: {RUN_FILE} is missing") from None
        known = {item.name for item in fields(Settled)}
        settings = {name: value for name, value in content["settings"].items() if name in known}
        own: dict[str, Any] = {item.name: content[item.name] for item in fields(cls)}
        return cls(**own | {"settings": Settled(**settings), "problems": tuple(content["problems"])})

    def write(self, run_dir: Path) -> None:
        """Write run.json, whole or not at all."""
        write_file(run_dir / RUN_FILE, json.dumps(asdict(self), indent=2) + "\n")


def write_run_files(plan: Plan, problems: Sequence[Problem], elapsed: float = 0.0, finished: int = 0) -> None:
    """Write what does not depend on prompts or trainer: run.json, problems/ and llmsr_reward.py.

    `elapsed` seconds and `finished` steps lie behind this start.
    """
    run_dir, config = plan.run_dir, plan.config
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for problem in problems:
            _copy_problem(problem, Path(config.data_dir), run_dir / "problems")
    except OSError as error:
        raise UserError(f"cannot write to {run_dir}: {error.strerror}") from None
    RunRecord(
        settings=config,
        trainer=plan.trainer,
        model_path=plan.model_path,
        problems=tuple(problem.name for problem in problems),
        answers_per_step=config.answers_per_step,
        steps=config.steps,
        finished_steps=finished,
        began=time.time() - elapsed,
    ).write(run_dir)
    package = os.path.relpath(PACKAGE_PARENT, run_dir)
    write_file(run_dir / "llmsr_reward.py", _REWARD_FILE.format(package=package))


def load_run_problem(run_dir: Path, name: str, units: str = "words") -> Problem:
    """A problem as it was when the run began, held to its units as `--units` asks."""
    folder = (run_dir / "problems").resolve()
    return with_units(load_problem(name, folder / name / "specification.txt", folder), units)


def _copy_problem(problem: Problem, data_dir: Path, target: Path) -> None:
    folder = target / problem.name
    rows = folder / STAND_IN if problem.synthetic else folder
    rows.mkdir(parents=True, exist_ok=True)
    write_file(folder / "specification.txt", problem.spec.text)
    found = data_dir.is_absolute() or (data_dir / problem.name).is_dir()
    source = data_dir if found else PACKAGE_PARENT / data_dir
    source = source / problem.name / (STAND_IN if problem.synthetic else "")
    for split in SPLITS:
        if split in problem.splits:
            shutil.copyfile(source / f"{split}.csv", rows / f"{split}.csv")


def write_seeds(run_dir: Path, seeds: Mapping[str, Sequence[Member]]) -> None:
    """Write the members by problem that a memory begins with."""
    record = {name: [asdict(member) for member in members] for name, members in seeds.items()}
    write_file(run_dir / SEEDS_FILE, json.dumps(record, indent=1) + "\n")


def read_seeds(run_dir: Path) -> dict[str, list[Member]]:
    """The members by problem that `write_seeds` wrote."""
    record = json.loads((run_dir / SEEDS_FILE).read_text(encoding="utf-8"))
    return {
        name: [Member(**{**member, "params": tuple(member["params"])}) for member in members]
        for name, members in record.items()
    }


# ---- which directory a start trains in


def located(config: GrpoConfig) -> GrpoConfig:
    """The settings with all problems by name, and the directory that --resume or --dry_run means.

    --resume means the newest run that has not finished, --dry_run a folder that the next one writes over;
    `UserError` where there is nothing to resume.
    """
    config = replace(config, problem_name=",".join(matching_names(config.problems)))
    if config.output_dir or not (config.resume or config.dry_run):
        return config
    home = run_directory(config)
    if config.dry_run and not config.resume:
        return replace(config, output_dir=str(home / "dry_run"))
    begun = [path for path in (*_numbered(home), home) if _is_unfinished(path)]
    if not begun:
        raise UserError(
            f"there is no run to continue in {home}: leave out --resume to begin one, or name a finished "
            "one with --output_dir to train it for longer"
        )
    # a start that failed before its first answer has nothing to continue
    return replace(config, output_dir=str(next(filter(_holds_results, begun), begun[0])))


def claimed(plan: Plan) -> Plan:
    """The plan in its directory: a new numbered folder, which no other process gets, if none is named."""
    if plan.config.output_dir:
        return plan
    number = 1 + max((int(path.name) for path in _numbered(plan.run_dir)), default=0)
    while True:
        run_dir = plan.run_dir / "runs" / f"{number:03d}"
        try:
            run_dir.mkdir(parents=True)
            return replace(plan, run_dir=run_dir)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(f"cannot write to {plan.run_dir}: {error.strerror}") from None


def publish(plan: Plan) -> None:
    """Let <problem>/checkpoints/final be the model of this run, if the run has a numbered folder."""
    home = run_directory(replace(plan.config, output_dir=None))
    if plan.run_dir.parent != home / "runs":
        return
    link = home / "checkpoints" / "final"
    new = link.with_name(f"final.{os.getpid()}.part")
    try:
        link.parent.mkdir(exist_ok=True)
        new.symlink_to(os.path.relpath(plan.final, link.parent))
        new.replace(link)
    except OSError as error:  # it holds another run's own model, or the disk knows no links
        new.unlink(missing_ok=True)
        say(f"{link} is not the model of this run ({error.strerror}), which is {plan.final}")


def stored_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that the flags `given` ask to continue; empty where there is none."""
    names = {item.name for item in fields(GrpoConfig)}
    where = {name: given[name] for name in ("problem_name", "output_dir") if given.get(name)}
    run_dir = run_directory(located(GrpoConfig(**where, resume=True)))
    if not (run_dir / RUN_FILE).is_file():
        return {}
    record = RunRecord.read(run_dir)
    stored = {k: v for k, v in as_mapping(record.settings).items() if k in names and k not in OF_ONE_START}
    stored |= {"trainer": record.trainer, "output_dir": str(run_dir)}
    if stored.get("model_path") is not None:
        stored["model_path"] = record.model_path
    if "epochs" in given:  # a budget would take their place
        stored.pop("budget", None)
    return stored


def check_start(plan: Plan) -> None:
    """`UserError` if the run's directory is not fit for this start: before anything is written to it."""
    if plan.config.resume:
        _check_continuation(plan)
    if plan.config.resume and not plan.config.dry_run:
        return
    if plan.config.output_dir and _holds_results(plan.run_dir):
        advice = "choose" if plan.config.dry_run else "continue it with --resume, or choose"
        dry = ", whose files --dry_run would replace" if plan.config.dry_run else ""
        raise UserError(f"{plan.run_dir} already holds a run{dry}: {advice} another --output_dir")


def load_problems(plan: Plan) -> list[Problem]:
    """The problems of a run; `UserError` if a run that is continued was begun with another spec or rows."""
    config = plan.config
    problems = [
        with_units(load_problem(name, config.spec_path, config.data_dir, config), config.units)
        for name in config.problems
    ]
    if any(problem.spec.template for problem in problems):
        raise UserError(
            "--template belongs to the search, whose prompts ask for one hole; leave out --use_rl"
        )
    for problem in problems if config.resume else ():
        begun = load_run_problem(plan.run_dir, problem.name)
        changed = begun.spec.text != problem.spec.text or begun.splits.keys() != problem.splits.keys()
        if changed or not all(begun.splits[name].equals(rows) for name, rows in problem.splits.items()):
            raise UserError(
                f"the spec or the rows of {problem.name} are not those that the run in {plan.run_dir} was "
                "begun with; put those back, or begin a new run"
            )
    return problems


def _numbered(home: Path) -> Iterator[Path]:
    """The runs' folders of a problem, the newest first."""
    found = (path for path in (home / "runs").glob("*") if path.name.isdigit())
    yield from sorted(found, key=lambda path: int(path.name), reverse=True)


def _is_unfinished(run_dir: Path) -> bool:
    begun = (run_dir / RUN_FILE).is_file() and not RunRecord.read(run_dir).settings.dry_run
    return begun and not any(run_dir.glob(f"checkpoints/*/*/{FINISHED_FILE}"))


def _holds_results(run_dir: Path) -> bool:
    return holds_records(run_dir) or any((run_dir / "checkpoints").glob("*/*/global_step_*"))


def _check_continuation(plan: Plan) -> None:
    """`UserError` if there is no run to continue, or one with other settings."""
    record = RunRecord.read(plan.run_dir) if (plan.run_dir / RUN_FILE).is_file() else None
    if record is None or record.settings.dry_run:
        raise UserError(f"there is no run to continue in {plan.run_dir}; leave out --resume to begin one")
    stored, settings = as_mapping(record.settings), as_mapping(plan.config)
    changed = changed_settings(stored, settings, FREE_ON_RESUME.union(RESOLVED))
    if record.trainer != plan.trainer:
        changed.append("trainer")
    # the default model is the same wherever this checkout lies
    default = stored.get("model_path") is None and settings["model_path"] is None
    if record.model_path != plan.model_path and not default:
        changed.append("model_path")
    check_unchanged(plan.run_dir, changed)
