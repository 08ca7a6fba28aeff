"""The shell scripts: what main.py is called with, from any folder and whatever is set around them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def called(tmp_path):
    """The arguments that a script gives to main.py, one started in `tmp_path` with these variables."""
    venv = tmp_path / "venv of tests"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").write_text(f"export PATH='{venv}/bin':$PATH\n")
    (venv / "bin" / "python").write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    (venv / "bin" / "python").chmod(0o755)
    for name in ("requirements.txt", "requirements-gpu.txt"):
        shutil.copy(ROOT / name, venv / f".installed-{name}")

    def call(script, *arguments, **variables):
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            [str(ROOT / script), *arguments],
            cwd=tmp_path, env={**known, "LLMSR_VENV": str(venv), **variables},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    return call


@pytest.mark.parametrize(
    ("script", "first"), [("run_llmsr.sh", ["main.py"]), ("run_llmsr_grpo.sh", ["main.py", "--use_rl"])]
)
def test_what_is_not_set_is_left_to_the_program(called, script, first):
    assert called(script) == first
    assert called(script, "--resume", "--budget", "9") == [*first, "--resume", "--budget", "9"]
    assert called(script, SEED="7", PROBLEM_NAME="bactgrow") == [
        *first, "--problem_name", "bactgrow", "--seed", "7",
    ]  # fmt: skip


def test_the_environment_comes_before_the_arguments(called):
    told = called("run_llmsr.sh", "--budget", "9", BUDGET="40")
    assert told == ["main.py", "--budget", "40", "--budget", "9"]


@pytest.mark.parametrize("script", ["run_llmsr.sh", "run_llmsr_grpo.sh"])
def test_a_configuration_is_found_from_where_the_script_is_called(called, tmp_path, script):
    (tmp_path / "my own.yaml").write_text("budget: 77\n")
    path = str(tmp_path / "my own.yaml")
    assert called(script, "--config", "my own.yaml")[-2:] == ["--config", path]
    assert called(script, "--config=my own.yaml")[-1:] == [f"--config={path}"]
    assert called(script, "--config", "configs/recipe.yaml")[-1] == "configs/recipe.yaml"


def test_paths_of_a_training_are_those_of_the_callers_folder(called, tmp_path):
    (tmp_path / "model").mkdir()
    told = called("run_llmsr_grpo.sh", TRAINER="local", MODEL_PATH="model", OUTPUT_DIR="new run")
    assert told[2:] == [
        "--trainer", "local", "--model_path", f"{tmp_path}/model", "--output_dir", f"{tmp_path}/new run",
    ]  # fmt: skip
    assert "Qwen/Qwen2.5-1.5B-Instruct" in called(
        "run_llmsr_grpo.sh", MODEL_PATH="Qwen/Qwen2.5-1.5B-Instruct"
    )
