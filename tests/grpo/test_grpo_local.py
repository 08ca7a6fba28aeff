"""Training without a GPU, from flags to a model on disk."""

import csv
import json
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from grpo_problem import write_problem
from programs import ROOT, called, running
from small_spec import spec_of

pytest.importorskip("torch")
pytest.importorskip("transformers")

from llmsr.archive import read_archive
from llmsr.grpo.export import read_weights
from llmsr.grpo.plan import EMBEDDED

SMALL = [
    "--trainer", "local", "--batch_size", "2", "--rollout_n", "3", "--max_response_length", "24",
    "--workers", "1",
    "--prompts", "2", "--validation_prompts", "2", "--save_freq", "1", "--keep_checkpoints", "0",
]  # fmt: skip


def run(*flags, problem=None, check=True):
    where = []
    if problem is not None:
        where = ["--problem_name", "plane", "--spec_path", problem[0], "--data_dir", problem[1]]
    done = called("--use_rl", *where, *flags)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    return write_problem(tmp_path_factory.mktemp("problem"))


@pytest.fixture(scope="module")
def finished(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    done = run(*SMALL, "--epochs", "2", "--output_dir", str(folder), problem=problem)
    return folder, done


def test_all_promised_files_are_there(finished):
    folder, _ = finished
    checkpoints = folder / "checkpoints" / "llm_sr_grpo" / "llmsr_grpo_plane"
    for path in (
        folder / "grpo_config.yaml", folder / "llmsr_train.parquet", folder / "llmsr_val.parquet",
        folder / "llmsr_reward.py", folder / "result.json", folder / "curve.csv", folder / "report.html",
        checkpoints / "global_step_1", checkpoints / "global_step_2",
        folder / "checkpoints" / "final" / "config.json",
    ):  # fmt: skip
        assert path.exists(), path


def test_what_was_chosen_is_said_aloud(finished):
    _, done = finished
    assert "skeleton-lm" in done.stderr
    assert "step 2/2" in done.stderr


def test_every_answer_is_archived_once(finished):
    folder, _ = finished
    samples = read_archive(folder)
    training = [sample for sample in samples if sample.proposer == "policy"]
    assert len(training) == 2 * 6
    assert [sample.number for sample in samples] == list(range(1, len(samples) + 1))
    assert [sample.step for sample in training] == [1] * 6 + [2] * 6
    assert all(sample.tokens > 0 for sample in training)


def test_the_report_tells_the_archive(finished):
    folder, done = finished
    result = json.loads((folder / "result.json").read_text())
    points = list(csv.DictReader((folder / "curve.csv").open()))
    training = [sample for sample in read_archive(folder) if sample.proposer == "policy"]
    assert [int(point["samples"]) for point in points] == [6, 12]
    assert float(points[0]["reward"]) == pytest.approx(sum(s.reward for s in training[:6]) / 6)
    assert result["curve"][1]["samples"] == 12
    assert result["finished"]
    assert result["valid"] == sum(s.evaluation.ok for s in training)
    errors = [s.evaluation.nmse["train"] for s in training if s.evaluation.ok]
    assert (result["best"] or {"nmse": {"train": None}})["nmse"]["train"] == min(errors, default=None)
    assert result["pick"] is None or result["pick"]["rounded"]["equation"] in done.stdout


def test_the_final_model_differs_from_its_base_and_can_be_trained_on(finished, problem, tmp_path):
    folder, _ = finished
    final = folder / "checkpoints" / "final"
    base, trained = dict(read_weights(EMBEDDED)), dict(read_weights(final))
    assert any((base[name] != trained[name]).any() for name in base)
    run(
        *SMALL,
        "--epochs",
        "1",
        "--model_path",
        str(final),
        "--output_dir",
        str(tmp_path / "next"),
        problem=problem,
    )
    assert (tmp_path / "next" / "checkpoints" / "final" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["none", "puct"])
def test_the_embedded_model_is_trained_on_columns_of_any_name(tmp_path, memory):
    columns = ("year", "grain_diameter_um")
    (tmp_path / "spec.txt").write_text(spec_of(columns, "Find an equation for the shift.", "Shift."))
    _, data = write_problem(tmp_path)
    for path in Path(data).rglob("*.csv"):
        path.write_text(path.read_text().replace("x,z,y", "year,grain_diameter_um,shift"))
    run(
        *SMALL, "--max_response_length", "64", "--rollout_n", "8", "--budget", "32", "--memory", memory,
        "--output_dir", str(tmp_path / "run"), problem=(str(tmp_path / "spec.txt"), data),
    )  # fmt: skip
    answers = [s for s in read_archive(tmp_path / "run") if s.proposer == "policy"]
    valid = [s for s in answers if s.evaluation.ok]
    assert len(valid) > len(answers) / 2
    assert any("year" in s.completion for s in valid)
    best = json.loads((tmp_path / "run" / "result.json").read_text())["best"]
    assert best["nmse"]["train"] < 0.5


@pytest.mark.slow
def test_prompts_show_the_runs_own_answers_and_a_resumed_run_equals_a_whole_one(problem, tmp_path):
    flags = [
        *SMALL, "--memory", "puct", "--advantage", "entropic", "--novelty", "--test_freq", "0",
    ]  # fmt: skip
    run(*flags, "--budget", "18", "--output_dir", str(tmp_path / "whole"), problem=problem)
    run(*flags, "--budget", "6", "--output_dir", str(tmp_path / "parts"), problem=problem)
    run(*flags, "--budget", "18", "--resume", "--output_dir", str(tmp_path / "parts"), problem=problem)
    assert _answers(tmp_path / "parts") == _answers(tmp_path / "whole")
    samples = [s for s in read_archive(tmp_path / "whole") if s.proposer == "policy"]
    assert [s.prompt for s in samples] == [i // 3 for i in range(18)]
    assert any(any(s.parents) for s in samples)
    assert all(parent < s.number for s in samples for parent in s.parents)
    base, trained = (dict(read_weights(f)) for f in (EMBEDDED, tmp_path / "whole" / "checkpoints" / "final"))
    assert any((base[name] != trained[name]).any() for name in base)


@pytest.mark.slow
def test_a_run_with_a_memory_that_was_killed_in_a_step_equals_one_left_alone(problem, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = [*SMALL, "--memory", "puct", "--refine", "run", "--refine_fits", "4", "--test_freq", "0"]
    run(*flags, "--budget", "24", "--output_dir", str(whole), problem=problem)
    shutil.copytree(whole, killed)
    checkpoints = killed / "checkpoints" / "llm_sr_grpo" / "llmsr_grpo_plane"
    for step in (2, 3, 4):
        shutil.rmtree(checkpoints / f"global_step_{step}")
    (checkpoints / "latest_checkpointed_iteration.txt").write_text("1")
    (checkpoints / "latest_finished_iteration.txt").unlink()
    for path in (killed / "archive").glob("*.jsonl"):  # as in the midst of step 3
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if json.loads(line)["number"] <= 6 + 6 + 3))
    run(*flags, "--budget", "24", "--resume", "--output_dir", str(killed), problem=problem)
    assert _prompted(killed) == _prompted(whole)
    assert any(parent > 6 for *_, parents in _prompted(whole) for parent in parents)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(finished, problem, tmp_path):
    folder, _ = finished
    run(*SMALL, "--epochs", "1", "--output_dir", str(tmp_path), problem=problem)
    run(*SMALL, "--epochs", "2", "--resume", "--output_dir", str(tmp_path), problem=problem)
    whole = dict(read_weights(folder / "checkpoints" / "final"))
    parts = dict(read_weights(tmp_path / "checkpoints" / "final"))
    assert all((whole[name] == parts[name]).all() for name in whole)
    assert _answers(tmp_path) == _answers(folder)


@pytest.mark.slow
def test_ctrl_c_ends_with_the_results_so_far_and_how_to_go_on(problem, tmp_path):
    where = ["--problem_name", "plane", "--spec_path", problem[0], "--data_dir", problem[1]]
    command = [sys.executable, "main.py", "--use_rl", *where, *SMALL, "--epochs", "500"]
    folder = tmp_path / "my run"
    with running([*command, "--output_dir", str(folder)], cwd=ROOT) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and not list((folder / "checkpoints").glob("*/*/global_step_2")):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "plane: " in out
    told = err.splitlines()[-1].removeprefix("interrupted; go on with: ")
    assert shlex.split(told) == ["python", "main.py", "--use_rl", "--resume", "--output_dir", str(folder)]
    steps = len(list((folder / "checkpoints").glob("*/*/global_step_*")))
    run(*shlex.split(told)[3:], "--epochs", str(steps + 1))


def test_a_second_run_into_the_same_folder_is_refused(finished, problem):
    folder, _ = finished
    done = run(*SMALL, "--output_dir", str(folder), problem=problem, check=False)
    assert done.returncode == 2
    assert "--resume" in done.stderr


def test_a_dry_run_writes_all_files_and_needs_no_gpu(problem, tmp_path):
    done = run(
        "--trainer", "verl", "--model_path", str(EMBEDDED), "--dry_run", "--output_dir", str(tmp_path),
        "--workers", "1",
        "--prompts", "8", "--batch_size", "4", "--", "trainer.val_before_train=False", problem=problem,
    )  # fmt: skip
    for name in ("grpo_config.yaml", "llmsr_train.parquet", "llmsr_val.parquet", "llmsr_reward.py"):
        assert (tmp_path / name).is_file()
    assert "python -m llmsr.grpo.verl.main --config-path" in done.stdout
    assert done.stdout.count("trainer.val_before_train=False") == 1
    assert "4 prompts x 12 answers = 48 answers per step" in done.stdout
    assert "GiB" in done.stdout
    assert "adv_estimator: llmsr_grpo" in done.stdout
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--trainer", "verl"], "verl"),
        (["--model_path", "./no/such/model"], "no model directory"),
        (["--problem_name", "oscilator1"], "oscillator1"),
        (["--", "trainer.total_epochs=1"], "VERL's"),
        (["--trainer", "verl", "--batch_size", "3", "--rollout_n", "5", "--gpus", "2"], "--batch_size"),
        (["--rollouts", "3"], "did you mean --rollout_n?"),
    ],
)
def test_troubles_are_one_sentence_and_exit_code_two(flags, wanted, tmp_path):
    done = run("--output_dir", str(tmp_path / "run"), *flags, check=False)
    assert done.returncode == 2
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr


def _prompted(folder):
    """Every sample with the prompt that it answers."""
    samples = read_archive(folder)
    return [(s.number, s.step, s.proposer, s.prompt, s.completion, s.reward, s.parents) for s in samples]


def _answers(folder):
    return [(s.completion, s.reward) for s in read_archive(folder) if s.proposer == "policy"]
