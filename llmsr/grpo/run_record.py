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
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.plan import Plan
from llmsr.grpo.settings import Settled
from llmsr.problem.loading import SPLITS, STAND_IN, Problem, load_problem

RUN_FILE = "run.json"
PACKAGE_PARENT = Path(__file__).resolve().parents[2]

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
    def of(cls, plan: Plan, problems: Sequence[str], elapsed: float = 0.0, finished: int = 0) -> RunRecord:
        """The record of a start: `elapsed` seconds and `finished` steps lie behind it."""
        return cls(
            settings=plan.config,
            trainer=plan.trainer,
            model_path=plan.model_path,
            problems=tuple(problems),
            answers_per_step=plan.config.answers_per_step,
            steps=plan.config.steps,
            finished_steps=finished,
            began=time.time() - elapsed,
        )

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
    """Write what does not depend on prompts or trainer: run.json, problems/ and llmsr_reward.py."""
    run_dir = plan.run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for problem in problems:
            _copy_problem(problem, Path(plan.config.data_dir), run_dir / "problems")
    except OSError as error:
        raise UserError(f"cannot write to {run_dir}: {error.strerror}") from None
    RunRecord.of(plan, [problem.name for problem in problems], elapsed, finished).write(run_dir)
    package = os.path.relpath(PACKAGE_PARENT, run_dir)
    write_file(run_dir / "llmsr_reward.py", _REWARD_FILE.format(package=package))


def load_run_problem(run_dir: Path, name: str) -> Problem:
    """A problem as it was when the run began."""
    folder = run_dir / "problems"
    return load_problem(name, folder.resolve() / name / "specification.txt", folder.resolve())


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
