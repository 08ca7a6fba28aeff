"""A policy over many problems: their names, the workers that they share, and what such a run leaves."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_spec import spec_of

from llmsr.errors import UserError
from llmsr.expression import evaluate, parse
from llmsr.grpo import reward_function
from llmsr.grpo.plan import make_plan
from llmsr.grpo.run_record import load_problems, located, write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.loading import load_problem, matching_names
from llmsr.problem.split import nmse

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"{number:04d}" for number in range(1, 5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four problems of the grammar, made by the script that users call."""
    folder = tmp_path_factory.mktemp("many")
    script = ROOT / "training" / "synthetic_problems.py"
    subprocess.run([sys.executable, script, "4", "--seed", "3"], cwd=folder, check=True)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_synthetic_problems_obey_their_law_and_do_not_tell_it(here):
    laws = json.loads((here / "data/synthetic/laws.json").read_text())
    assert sorted(laws) == NAMES
    for name, said in laws.items():
        problem = load_problem(f"synthetic/{name}")
        law = parse(said["law"], problem.spec.columns)
        for split in problem.splits.values():
            assert nmse(evaluate(law, split.inputs, np.array(said["params"])), split.target) < 1e-25
        assert said["law"] not in problem.spec.text
        assert problem.spec.least_squares


def test_a_pattern_stands_for_the_problems_that_it_matches(here):
    assert matching_names(["synthetic/*"]) == [f"synthetic/{name}" for name in NAMES]
    assert matching_names(["synthetic/0002", "synthetic/000[12]"]) == ["synthetic/0002", "synthetic/0001"]
    with pytest.raises(UserError, match="no problem is called like other/"):
        matching_names(["other/*"])


def test_problems_share_their_workers_which_hold_few_of_them(here, tmp_path, monkeypatch):
    config = located(
        GrpoConfig(problem_name="synthetic/*", trainer="local", workers=1, output_dir=str(tmp_path / "run"))
    )
    plan = make_plan(config, cuda=False)
    assert plan.config.prompts >= len(NAMES)
    problems = load_problems(plan)
    plan.run_dir.mkdir()
    write_run_files(plan, problems)
    monkeypatch.setattr(reward_function, "KEPT_PROBLEMS", 2)
    duties = reward_function.Duties(plan.run_dir)
    assert [len(duties.of(p.name).problem.train) for p in problems] == [len(p.train) for p in problems]
    assert duties.of.cache_info().currsize == 2
    with contextlib.closing(reward_function.Evaluators(plan.run_dir)) as of:
        found = {p.name: of(p.name).evaluate(p.spec.seed_body) for p in problems}
        assert len({id(of(p.name).pool) for p in problems}) == 1
        assert of(problems[0].name).pool.size == 1
    for problem in problems:
        evaluation = found[problem.name]
        expression = parse(evaluation.body, problem.spec.columns)
        told = evaluate(expression, problem.train.inputs, np.array(evaluation.params))
        assert nmse(told, problem.train.target) == pytest.approx(evaluation.nmse["train"], rel=1e-6)


def test_a_training_over_many_problems_leaves_one_result(tmp_path):
    many = 13
    for number in range(many):
        rows = np.random.default_rng(number).uniform(1, 3, (40, 2))
        table = np.column_stack([rows, (number + 1) * rows[:, 0] * rows[:, 1]])
        data = tmp_path / "data" / "products" / f"p{number}"
        data.mkdir(parents=True)
        np.savetxt(data / "train.csv", table, delimiter=",", header="x,z,y", comments="")
        spec = tmp_path / "specs" / "products" / f"specification_p{number}_numpy.txt"
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_text(spec_of(("x", "z"), "Find an equation for y.", "Equation for y."))
    done = subprocess.run(
        [sys.executable, ROOT / "main.py", "--use_rl", "--problem_name", "products/*", "--memory", "islands",
         "--batch_size", "13", "--rollout_n", "2", "--prompts", "13", "--budget", "26", "--test_freq", "0",
         "--max_response_length", "48", "--workers", "1", "--output_dir", "run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "13 problems; result.json" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["samples"] == 26
    assert sorted(found["problem"] for found in result["problems"]) == sorted(
        f"products/p{number}" for number in range(many)
    )
    assert all(found["best"] for found in result["problems"] if found["valid"])
    assert not (tmp_path / "run" / "results").exists()
