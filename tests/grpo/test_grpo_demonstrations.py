"""What an archive teaches: answers that are read back as the better equations, in the words of a search."""

import pandas as pd
import pytest
from programs import called

from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "run"
    argv = [
        "run",
        "--problem_name",
        "stressstrain",
        "--budget",
        "120",
        "--proposer",
        "grammar",
        "--workers",
        "1",
    ]
    done = called(*argv, "--log_path", str(directory), "--structure_seconds", "0", "--refine_fits", "12")
    assert done.returncode == 0, done.stderr
    return directory


def rows_of(run, tmp_path, *more):
    done = called("export", str(run), "--output", str(tmp_path / "rows.parquet"), *more)
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(tmp_path / "rows.parquet").to_dict("records")


@pytest.mark.parametrize("begun", ["return", "header", "none"])
def test_a_demonstration_is_read_back_as_the_better_equation(run, tmp_path, begun):
    rows = rows_of(run, tmp_path, "--begin_answer", begun)
    assert len(rows) >= 4
    with Evaluator(load_problem("stressstrain"), workers=1) as evaluator:
        for row in rows:
            system, question, answer = row["messages"]
            assert (system["role"], question["role"], answer["role"]) == ("system", "user", "assistant")
            assert "Earlier equations" in question["content"]
            found = evaluator.evaluate(answer["content"])
            assert found.nmse["train"] == pytest.approx(row["nmse"], rel=0.02)
            assert found.nmse["train"] < row["shown_nmse"] / 1.2


def test_a_better_answer_is_preferred_to_a_worse_one_of_the_same_prompt(run, tmp_path):
    rows = rows_of(run, tmp_path, "--kind", "preferences")
    assert rows
    with Evaluator(load_problem("stressstrain"), workers=1) as evaluator:
        for row in rows:
            better, worse = (evaluator.evaluate(row[key][0]["content"]) for key in ("chosen", "rejected"))
            assert better.ok
            assert not worse.ok or worse.nmse["train"] > 1.2 * better.nmse["train"]


def test_a_run_without_an_improvement_is_said(tmp_path):
    replay = tmp_path / "texts.jsonl"
    replay.write_text('{"completion": "return params[0]"}\n' * 4)
    argv = ["run", "--problem_name", "stressstrain", "--budget", "4", "--refine", "off", "--workers", "1"]
    done = called(*argv, "--log_path", str(tmp_path / "run"), "--replay_path", str(replay))
    assert done.returncode == 0, done.stderr
    done = called("export", str(tmp_path / "run"), "--output", str(tmp_path / "rows.parquet"))
    assert done.returncode == 2
    assert "no demonstrations in these runs" in done.stderr
    assert not (tmp_path / "rows.parquet").exists()
