"""A whole benchmark by its command line: every cell run, measured, tabled; interrupted and gone on with."""

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmsr.cli import main

ROOT = Path(__file__).parents[2]
CONFIG = """
problems: oscillator1
seeds: 2
budget: 12
baseline: islands
shared: {search: {proposer: grammar, workers: 1, sample_files: false, refine: "off"}}
arms:
  islands: {search: islands}
  random: {search: best_of_n}
"""
TRAINED = """
  grpo: {use_rl: true, trainer: local, workers: 1, batch_size: 2, rollout_n: 3, memory: puct, against: random}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "benchmark.yaml"
    path.write_text(CONFIG)
    return path


def paired(output):
    """How many pairs every arm with a test has."""
    tests = json.loads((output / "results.json").read_text())["tests"]["train"]
    return {arm: test["pairs"] for arm, test in tests.items()}


def cells(output):
    return sorted(output.glob("cells/*/*/seed*"))


@pytest.mark.slow
def test_a_tiny_benchmark_from_flags_to_figures(config, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["benchmark", "--config", str(config), "--output_dir", str(output), "--jobs", "2"]) == 0
    assert "4 runs finished, 0 failed" in capsys.readouterr().out
    measured = [json.loads((cell / "measures.json").read_text()) for cell in cells(output)]
    assert [m["samples"] for m in measured] == [12] * 4
    for m in measured:
        assert m["cpu_seconds"] > 0.3
        assert m["peak_host_bytes"] > 50e6
        assert m["improvements"][-1][6] == pytest.approx(m["final"]["nmse"]["train"], rel=1e-3)
    for name in ("summary.md", "index.html", "results.csv", "runs.csv", "figures/oscillator1.html"):
        assert (output / name).stat().st_size > 100
    assert paired(output) == {"random": 2}
    # a trained arm more, with a baseline of its own: what is finished is not run anew
    config.write_text(CONFIG + TRAINED)
    assert main(["benchmark", "--config", str(config), "--output_dir", str(output), "--jobs", "2"]) == 0
    capsys.readouterr()
    assert paired(output) == {"random": 2, "grpo": 2}
    words = [sys.executable, ROOT / "benchmarks" / "claim.py", config, output]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "| grpo | random |" in told
    assert "grpo: peak host memory is" in told
    # again: nothing is run anew, and the tables are those of before
    before = (output / "results.json").read_text()
    stamps = [(cell / "measures.json").stat().st_mtime_ns for cell in cells(output)]
    assert main(["benchmark", "--config", str(config), "--output_dir", str(output)]) == 0
    assert (output / "results.json").read_text() == before
    assert [(cell / "measures.json").stat().st_mtime_ns for cell in cells(output)] == stamps


@pytest.fixture(scope="module")
def one_of_four(tmp_path_factory):
    """The flags of a benchmark of which one run is made, its directory, and what was told of it."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "benchmark.yaml").write_text(CONFIG)
    words = ["benchmark", "--config", str(folder / "benchmark.yaml"), "--only", "*/random/seed1"]
    told = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(told):
        assert main([*words, "--output_dir", str(folder / "out")]) == 0
    return words, folder / "out", told.getvalue()


def test_only_the_named_runs_are_made(config, one_of_four, tmp_path, capsys):
    words, output, told = one_of_four
    assert [str(cell.relative_to(output / "cells")) for cell in cells(output)] == ["oscillator1/random/seed1"]
    assert "1 runs finished, 0 failed, 3 to do" in told
    assert main([*words, "--output_dir", str(tmp_path / "out"), "--dry_run"]) == 0
    assert "1 runs to do" in capsys.readouterr().out
    assert main([*words[:-1], "random", "--output_dir", str(output)]) == 2
    assert capsys.readouterr().err == (
        "llmsr: no run matches 'random'; they are named like oscillator1/islands/seed0\n"
    )


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_ended_is_only_measured(config, one_of_four, tmp_path, status):
    words, made, _ = one_of_four
    output = shutil.copytree(made, tmp_path / "out")
    (cell,) = cells(output)
    state = json.loads((cell / "cell.json").read_text())
    (cell / "cell.json").write_text(json.dumps(state | {"status": status, "reason": "its measures: killed"}))
    before = json.loads((cell / "measures.json").read_text())
    (cell / "measures.json").unlink()
    archived = (cell / "run" / "archive" / "search.jsonl").stat().st_mtime_ns
    assert main([*words, "--output_dir", str(output), "--retry_failed"]) == 0
    assert json.loads((cell / "cell.json").read_text()) == state
    assert json.loads((cell / "measures.json").read_text()) == before
    assert (cell / "run" / "archive" / "search.jsonl").stat().st_mtime_ns == archived
    assert [path.name for path in cell.glob("usage-*.json")] == ["usage-1.json"]


@pytest.mark.slow
def test_a_training_that_came_to_its_end_with_a_dead_meter_is_only_measured(config, tmp_path):
    config.write_text("keep: all\n" + CONFIG + TRAINED)
    output = tmp_path / "out"
    words = ["benchmark", "--config", str(config), "--output_dir", str(output), "--only", "*/grpo/seed0"]
    words += ["--retry_failed"]
    assert main(words) == 0
    (cell,) = cells(output)
    before = json.loads((cell / "measures.json").read_text())
    state = json.loads((cell / "cell.json").read_text())
    (cell / "cell.json").write_text(json.dumps(state | {"status": "interrupted", "reason": "killed"}))
    told = json.loads((cell / "usage-1.json").read_text())
    (cell / "usage-1.json").write_text(json.dumps(told | {"returncode": None}))
    (cell / "measures.json").unlink()
    assert main(words) == 0
    assert json.loads((cell / "measures.json").read_text()) == before
    assert [path.name for path in cell.glob("usage-*.json")] == ["usage-1.json"]


def test_a_dry_run_shows_the_matrix_and_runs_nothing(config, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["benchmark", "--config", str(config), "--output_dir", str(output), "--dry_run"]) == 0
    assert "4 runs to do" in capsys.readouterr().out
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("budget: 12", "budgett: 12"), "did you mean budget"),
        (("{search: best_of_n}", "{serch: best_of_n}"), "did you mean search"),
        (("{search: best_of_n}", "{search: hillclimb}"), "must be one of"),
        (("baseline: islands", "baseline: grpo"), "is no arm"),
        (("{search: best_of_n}", "{search: best_of_n, against: grpo}"), "is no arm"),
        (("{search: best_of_n}", "{search: best_of_n, seed: 3}"), "set by the benchmark"),
        (("seeds: 2", "seeds: [1, 1]"), "once"),
        (("{search: best_of_n}", "{search: best_of_n, budget: lots}"), "arm random: budget"),
        (("{search: best_of_n}", "{search: best_of_n, budget: 0}"), "arm random: budget must be at least 1"),
        (("{search: best_of_n}", "{search: best_of_n, timeout: -5}"), "arm random: timeout must be a finite"),
    ],
)
def test_a_configuration_that_cannot_run_is_told_in_one_sentence(config, capsys, change, words):
    config.write_text(CONFIG.replace(*change))
    assert main(["benchmark", "--config", str(config), "--dry_run"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_no_run_begins_where_a_problem_is_not_there(config, tmp_path, capsys):
    config.write_text(CONFIG.replace("problems: oscillator1", "problems: oscillator1, nosuch"))
    output = tmp_path / "out"
    assert main(["benchmark", "--config", str(config), "--output_dir", str(output)]) == 2
    assert "nosuch" in capsys.readouterr().err
    assert not cells(output)


def test_a_benchmark_of_failures_alone_does_not_succeed(config, tmp_path, capsys):
    config.write_text(CONFIG.replace("proposer: grammar", "proposer: replay, replay_path: gone.jsonl"))
    argv = ["benchmark", "--config", str(config), "--output_dir", str(tmp_path / "out")]
    assert main([*argv, "--only", "oscillator1/random/seed0"]) == 1
    assert "gone.jsonl" in capsys.readouterr().err


@pytest.mark.slow
def test_a_benchmark_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(config, tmp_path):
    budget = 40
    config.write_text(
        CONFIG.replace("budget: 12", f"budget: {budget}")
        .replace("seeds: 2", "seeds: [3]")
        .replace("  random: {search: best_of_n}\n", "")
    )
    output = tmp_path / "out"
    words = [sys.executable, "-m", "llmsr", "benchmark", "--config", str(config), "--output_dir", str(output)]
    archive = output / "cells" / "oscillator1" / "islands" / "seed3" / "run" / "archive" / "search.jsonl"
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        while running.poll() is None and (not archive.is_file() or archive.read_bytes().count(b"\n") < 3):
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=120)
    (cell,) = cells(output)
    done_before = archive.read_bytes().count(b"\n")
    assert json.loads((cell / "cell.json").read_text())["status"] == "interrupted"
    assert 3 <= done_before < budget
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    measured = json.loads((cell / "measures.json").read_text())
    plain = tmp_path / "plain"
    flags = "--proposer grammar --refine off --workers 1 --search islands --seed 3"
    flags += f" --budget {budget} --log_path {plain}"
    assert main(["run", *flags.split()]) == 0
    best = json.loads((plain / "result.json").read_text())["best"]
    assert measured["starts"] == 2
    assert measured["samples"] == budget
    assert measured["final"]["nmse"] == best["nmse"]
    # both starts are paid for
    spent = [json.loads(path.read_text())["cpu_seconds"] for path in cell.glob("usage-*.json")]
    assert len(spent) == 2
    assert measured["cpu_seconds"] == pytest.approx(sum(spent), abs=0.02)
