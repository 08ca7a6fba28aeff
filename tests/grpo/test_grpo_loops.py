"""The bash loops over settings and problems, as people write them: every run is kept, and every loop ends."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from grpo_problem import write_problem

from llmsr.archive import read_archive
from llmsr.errors import UserError
from llmsr.grpo.plan import FINISHED_FILE, make_plan
from llmsr.grpo.run_record import RunRecord, claimed, located, publish, write_run_files
from llmsr.grpo.settings import GrpoConfig

ROOT = Path(__file__).resolve().parents[2]
PROBLEMS = ("oscillator1", "oscillator2", "bactgrow", "stressstrain")


@pytest.fixture
def checkout(tmp_path):
    """A checkout in which the script trains the embedded model on four small problems, with this Python."""
    home = tmp_path / "checkout"
    for name in ("llmsr", "scripts", "main.py", "requirements.txt"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "run_llmsr_grpo.sh", home)
    for name in PROBLEMS:
        spec, _ = write_problem(home, name)
        (home / "specs").mkdir(exist_ok=True)
        shutil.copy(spec, home / "specs" / f"specification_{name}_numpy.txt")
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "activate").write_text(f"export PATH='{venv}/bin':$PATH\n")
    (venv / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (venv / "bin" / "python").chmod(0o755)
    shutil.copy(ROOT / "requirements.txt", venv / ".installed-requirements.txt")
    (home / "quick.yaml").write_text(
        "workers: 1\nmax_response_length: 24\nprompts: 2\nvalidation_prompts: 1\ntest_freq: 0\n"
    )
    return home


def bash(checkout, text):
    known = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    done = subprocess.run(
        ["bash", "-c", text], cwd=checkout, capture_output=True, text=True, timeout=500,
        env={**known, "LLMSR_VENV": str(checkout.parent / "venv"), "TRAINER": "local", "EPOCHS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def runs(checkout, problem):
    return sorted((checkout / "llmsr_grpo_outputs" / problem / "runs").iterdir())


@pytest.mark.slow
def test_a_loop_over_settings_keeps_every_run_and_the_curriculum_goes_on_from_the_newest(checkout):
    bash(
        checkout,
        "for lr in 1e-5 5e-5; do for bs in 1 2; do\n"
        "  LEARNING_RATE=$lr BATCH_SIZE=$bs ROLLOUT_N=2 ./run_llmsr_grpo.sh --config quick.yaml\n"
        "done; done",
    )
    records = [RunRecord.read(path) for path in runs(checkout, "oscillator1")]
    found = [(record.settings.learning_rate, record.settings.batch_size) for record in records]
    assert found == [(1e-5, 1), (1e-5, 2), (5e-5, 1), (5e-5, 2)]
    newest = runs(checkout, "oscillator1")[-1]
    final = checkout / "llmsr_grpo_outputs" / "oscillator1" / "checkpoints" / "final"
    assert final.resolve() == newest / "checkpoints" / "final"
    bash(
        checkout,
        "MODEL_PATH=./llmsr_grpo_outputs/oscillator1/checkpoints/final PROBLEM_NAME=stressstrain "
        "BATCH_SIZE=1 ROLLOUT_N=2 ./run_llmsr_grpo.sh --config quick.yaml",
    )
    (next_run,) = runs(checkout, "stressstrain")
    assert RunRecord.read(next_run).model_path == str(newest / "checkpoints" / "final")


@pytest.mark.slow
def test_loops_over_problems_and_rollouts_start_from_one_model_and_go_on_behind_a_failure(checkout):
    shutil.copytree(ROOT / "llmsr" / "proposers" / "skeleton_lm", checkout / "model")
    (checkout / "data" / "bactgrow" / "train.csv").unlink()
    done = bash(
        checkout,
        f"for problem in {' '.join(PROBLEMS)}; do\n"
        "  MODEL_PATH=./model PROBLEM_NAME=$problem BATCH_SIZE=1 ROLLOUT_N=2 ./run_llmsr_grpo.sh"
        " --config quick.yaml\n"
        "done\n"
        "for n in 2 3; do ROLLOUT_N=$n BATCH_SIZE=1 ./run_llmsr_grpo.sh --config quick.yaml; done",
    )
    assert done.stderr.count("train.csv") >= 1
    outputs = checkout / "llmsr_grpo_outputs"
    assert not (outputs / "bactgrow").exists()
    for problem in ("oscillator2", "stressstrain"):
        (run,) = runs(checkout, problem)
        assert RunRecord.read(run).model_path == str(checkout / "model")
        assert (outputs / problem / "checkpoints" / "final" / "config.json").is_file()
    sizes = [RunRecord.read(run).settings.rollout_n for run in runs(checkout, "oscillator1")]
    assert sizes == [2, 2, 3]
    assert all(len(read_archive(run)) >= 2 for run in runs(checkout, "oscillator1"))


def config(**settings):
    return GrpoConfig(trainer="local", **settings)


def begun(number, finished=False, dry_run=False):
    """A run's folder with a record; where it finished, as a run leaves it."""
    plan = claimed(make_plan(config(dry_run=dry_run), cuda=False))
    assert plan.run_dir.name == f"{number:03d}"
    write_run_files(plan, [])
    if finished:
        plan.checkpoints.mkdir(parents=True)
        (plan.checkpoints / FINISHED_FILE).write_text("1")
        plan.final.mkdir()
        publish(plan)
    return plan


def test_resume_without_a_directory_means_the_newest_unfinished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run to continue"):
        located(config(resume=True))
    first = begun(1)
    second = begun(2)
    begun(3, finished=True)
    assert located(config(resume=True)).output_dir == str(second.run_dir)
    (first.run_dir / "archive").mkdir()
    (first.run_dir / "archive" / "reward.jsonl").write_text("{}\n")
    # the second failed before its first answer
    assert located(config(resume=True)).output_dir == str(first.run_dir)
    assert located(config(resume=True, output_dir="elsewhere")).output_dir == "elsewhere"


def test_a_dry_run_takes_no_number_and_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dry = located(config(dry_run=True))
    assert Path(dry.output_dir).name == "dry_run"
    assert claimed(make_plan(dry, cuda=False)).run_dir == Path(dry.output_dir)
    begun(1, dry_run=True)
    with pytest.raises(UserError, match="no run to continue"):
        located(config(resume=True))


def test_the_final_model_is_the_one_that_was_finished_last_and_no_other_is_replaced(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    final = tmp_path / "llmsr_grpo_outputs" / "oscillator1" / "checkpoints" / "final"
    first, second = begun(1, finished=True), begun(2, finished=True)
    assert final.resolve() == second.final
    publish(first)  # it was continued, and finished again
    assert final.resolve() == first.final
    final.unlink()
    final.mkdir()
    (final / "config.json").write_text("of a run in the problem's own folder")
    publish(second)
    assert not final.is_symlink()
    assert json.dumps(os.listdir(final.parent)) == '["final"]'
    assert str(second.final) in capsys.readouterr().err


def test_processes_that_start_at_once_get_a_folder_each(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.chdir(tmp_path)
    plan = make_plan(config(), cuda=False)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: claimed(plan).run_dir.name, range(40)))
    assert sorted(found) == [f"{number:03d}" for number in range(1, 41)]
