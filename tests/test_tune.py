"""llmsr tune: trials are runs, an interrupted study goes on, the best settings are a file for --config."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from llmsr.cli import main
from llmsr.cli.tune import Plan, curve
from llmsr.errors import UserError

ROOT = Path(__file__).parents[1]
PLAN = {
    "problem_name": "oscillator1", "proposer": "grammar", "budget": 12, "workers": 1, "refine": "off",
    "structure_seconds": 0, "sample_files": False,
    "space": {"islands": {"low": 1, "high": 4}, "search": ["islands", "best_of_n"],
              "selection_temperature": {"low": 0.01, "high": 1.0, "log": True}},
}  # fmt: skip


def written(folder, **changes):
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **changes}))
    return path


def test_a_study_is_interrupted_goes_on_and_leaves_the_best_settings(tmp_path, capsys):
    flags = ["tune", "--config", str(written(tmp_path)), "--output_dir", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, "-m", "llmsr", *flags, "--trials", "3"], cwd=ROOT)
    end = time.monotonic() + 120
    while not list((tmp_path / "out").glob("trials/0000/archive/*")) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)  # as Ctrl-C, also where a shell has SIGINT ignored
    assert process.wait(60) == 130
    with contextlib.chdir(ROOT):
        assert main([*flags, "--trials", "3"]) == 0
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert (trials.state == "COMPLETE").sum() == 3
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    row = trials[trials.state == "COMPLETE"].sort_values("value").iloc[0]
    assert best["islands"] == row.params_islands
    assert best["search"] == row.params_search
    found = curve(tmp_path / "out" / "trials" / f"{row.number:04d}")
    assert (np.diff(found) <= 0).all()
    assert row.value == pytest.approx(found.mean())
    assert "mean log10 NMSE" in capsys.readouterr().out
    again = ["run", "--config", str(tmp_path / "out" / "best.yaml"), "--log_path", str(tmp_path / "again")]
    with contextlib.chdir(ROOT):
        assert main(again) == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space": {}}, "nothing below `space`"),
        ({"space": {"island": [1, 2]}}, "no setting 'island'"),
        ({"space": {"islands": {"low": 4, "high": 1}}}, "low below high"),
        ({"space": {"islands": []}}, "needs a list"),
        ({"budget": None}, "needs a budget"),
        ({"use_rl": True}, "no setting 'proposer'"),
    ],
)
def test_a_plan_that_cannot_be_tried_is_one_sentence(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        Plan.read(str(written(tmp_path, **changes)))


def test_a_setting_that_fails_costs_its_trials_and_says_why(tmp_path, capsys):
    path = written(tmp_path, space={"samples_per_prompt": [0]})
    with contextlib.chdir(ROOT):
        code = main(["tune", "--config", str(path), "--output_dir", str(tmp_path / "out"), "--trials", "1"])
    assert code == 2
    assert "output.log" in capsys.readouterr().err
    assert "samples_per_prompt" in (tmp_path / "out" / "trials" / "0000" / "output.log").read_text()


def test_the_plan_that_ships_can_be_tried():
    plan = Plan.read(str(ROOT / "configs" / "tune.yaml"))
    assert plan.training
