"""The files of a training run's directory, so that it can be moved or read on another node.

run.json                  what the reward must know: problems, fitter, reward shape
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
from pathlib import Path
from typing import Any

from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.plan import Plan
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

from llmsr.grpo.verl.reward import compute_score_of

compute_score = compute_score_of(RUN_DIR)
'''


def write_run_files(plan: Plan, problems: list[Problem], elapsed: float = 0.0, finished: int = 0) -> None:
    """Write what does not depend on prompts or trainer: run.json, problems/ and llmsr_reward.py.

    `elapsed` are the seconds that the run took before it was resumed, `finished` the steps that it did.
    """
    run_dir = plan.run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for problem in problems:
            _copy_problem(problem, Path(plan.config.data_dir), run_dir / "problems")
    except OSError as error:
        raise UserError(f"cannot write to {run_dir}: {error.strerror}") from None
    record: dict[str, Any] = {
        "settings": as_mapping(plan.config),
        "trainer": plan.trainer,
        "model_path": plan.model_path,
        "problems": [problem.name for problem in problems],
        "answers_per_step": plan.answers_per_step,
        "steps": plan.steps,
        "finished_steps": finished,
        "began": time.time() - elapsed,  # for the record of samples alone
    }
    write_file(run_dir / RUN_FILE, json.dumps(record, indent=2) + "\n")
    package = os.path.relpath(PACKAGE_PARENT, run_dir)
    write_file(run_dir / "llmsr_reward.py", _REWARD_FILE.format(package=package))


def read_run(run_dir: Path) -> dict[str, Any]:
    """What `run.json` says."""
    try:
        return json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{run_dir} holds no training run: {RUN_FILE} is missing") from None


def load_run_problem(run_dir: Path, name: str) -> Problem:
    """A problem as it was when the run began."""
    folder = run_dir / "problems"
    return load_problem(name, folder.resolve() / name / "specification.txt", folder.resolve())


def _copy_problem(problem: Problem, data_dir: Path, target: Path) -> None:
    folder = target / problem.name
    rows = folder / STAND_IN if problem.synthetic else folder
    rows.mkdir(parents=True, exist_ok=True)
    write_file(folder / "specification.txt", problem.spec.text)
    source = (
        data_dir
        if data_dir.is_absolute() or (data_dir / problem.name).is_dir()
        else PACKAGE_PARENT / data_dir
    )
    source = source / problem.name / (STAND_IN if problem.synthetic else "")
    for split in SPLITS:
        if split in problem.splits:
            shutil.copyfile(source / f"{split}.csv", rows / f"{split}.csv")
