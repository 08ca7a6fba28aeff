"""A run goes on with its own settings alone, and nothing that it left is written over."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from grpo_problem import write_problem

from llmsr.archive import Archive
from llmsr.cli import main
from llmsr.config import resolve
from llmsr.errors import UserError
from llmsr.grpo.dataset import prompt_encoder, write_prompts
from llmsr.grpo.plan import EMBEDDED, make_plan
from llmsr.grpo.reward_function import Evaluators
from llmsr.grpo.run_record import check_start, read_seeds, stored_settings, write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.loading import load_problem
from llmsr.sample import Evaluation, Sample


@pytest.fixture
def begun(tmp_path):
    """The flags of a run that has one answer, and its directory."""
    spec, data = write_problem(tmp_path)
    given = {
        "problem_name": "plane", "spec_path": spec, "data_dir": data, "output_dir": str(tmp_path / "run"),
        "trainer": "local", "temperature": 0.7, "rollout_n": 3, "budget": 48, "seed": 4,
    }  # fmt: skip
    write(given)
    with Archive(tmp_path / "run", "reward-here") as archive:
        archive.append(Sample(number=1, completion="", evaluation=Evaluation(status="empty"), step=1))
    return given, tmp_path / "run"


def write(given):
    plan = make_plan(GrpoConfig(**given), cuda=False)
    write_run_files(plan, [load_problem("plane", given["spec_path"], given["data_dir"])])
    return plan


def flags(given):
    return ["run", "--use_rl", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


def continued(**given):
    """The plan of `--resume` with these flags."""
    (config,) = resolve(GrpoConfig, given=stored_settings(given) | given | {"resume": True})
    plan = make_plan(config, cuda=False)
    check_start(plan)
    return plan


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature": 1.0}, "another temperature;"),
        ({"seed": 5, "reward": "r2"}, "another reward, seed;"),
        ({"problem_name": "oscillator1", "spec_path": "x.txt"}, "another problem_name, spec_path;"),
        ({"model_path": str(EMBEDDED.parent)}, "another model_path;"),
    ],
)
def test_a_run_is_not_continued_with_other_settings(begun, capsys, change, named):
    given, run_dir = begun
    before = contents(run_dir)
    assert main(flags(given | change | {"resume": True})) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert named in said
    assert "leave these out" in said
    assert contents(run_dir) == before


@pytest.mark.parametrize("changed", ["train.csv", "test_id.csv", "the spec"])
def test_a_run_is_not_continued_on_other_data(begun, capsys, changed):
    given, run_dir = begun
    before = contents(run_dir)
    path = Path(given["spec_path"] if changed == "the spec" else f"{given['data_dir']}/plane/{changed}")
    path.write_text(path.read_text().replace("1", "2"))
    assert main(flags(given | {"resume": True})) == 2
    assert "the spec or the rows of plane are not those" in capsys.readouterr().err.splitlines()[-1]
    assert contents(run_dir) == before


def test_a_continued_run_keeps_the_seeds_of_its_memory(begun, tmp_path):
    given, run_dir = begun
    shutil.rmtree(run_dir)
    with Archive(tmp_path / "earlier", "search") as archive:
        evaluation = Evaluation(status="ok", body="return params[0]*x*z", canonical="a", score=-1.0)
        archive.append(Sample(number=1, completion="", evaluation=evaluation))
    given |= {"memory": "puct", "warm_start": str(tmp_path / "earlier"), "workers": 1}
    problems = [load_problem("plane", given["spec_path"], given["data_dir"])]
    plan = write(given)
    with contextlib.closing(Evaluators(run_dir)) as evaluators:
        write_prompts(plan, problems, prompt_encoder(plan), evaluators)
    before = read_seeds(run_dir)
    assert len(before["plane"]) == 2
    shutil.rmtree(tmp_path / "earlier")
    plan = continued(**given)
    with contextlib.closing(Evaluators(run_dir)) as evaluators:
        write_prompts(plan, problems, prompt_encoder(plan), evaluators)
    assert read_seeds(run_dir) == before


def test_another_trainer_does_not_continue_a_run(begun):
    given, _ = begun
    with pytest.raises(UserError, match="another trainer;"):
        continued(**given | {"trainer": "verl", "model_path": str(EMBEDDED)})


def test_what_is_not_given_is_as_the_run_has_it(begun):
    given, run_dir = begun
    first = make_plan(GrpoConfig(**given), cuda=False)
    plan = continued(output_dir=str(run_dir))
    assert (plan.config.temperature, plan.config.rollout_n, plan.config.steps) == (0.7, 3, first.config.steps)
    assert plan.run_dir == run_dir
    assert not plan.config.json


def test_length_and_what_changes_no_answer_are_free(begun):
    given, run_dir = begun
    where = {"output_dir": str(run_dir)}
    assert continued(**where, budget=240).config.steps == 10
    assert continued(**where, epochs=5).config.steps == 15  # the budget of before does not hold it back
    continued(**where, workers=3, device="cpu", save_freq=2, test_freq=0, keep_checkpoints=9, logger="file")
    continued(**given, gpu_memory=70.0)


@pytest.mark.parametrize("left", ["nothing", "a dry run"])
def test_where_no_run_is_none_is_continued(tmp_path, capsys, left):
    spec, data = write_problem(tmp_path)
    given = {
        "problem_name": "plane",
        "spec_path": spec,
        "data_dir": data,
        "output_dir": str(tmp_path / "run"),
    }
    given["trainer"] = "local"
    if left == "a dry run":
        write(given | {"dry_run": True})
    assert main(flags(given | {"resume": True})) == 2
    assert "there is no run to continue" in capsys.readouterr().err
    assert (tmp_path / "run").exists() == (left == "a dry run")


@pytest.mark.parametrize("left", ["answers", "checkpoints"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_dry_run_writes_over_no_run(begun, capsys, left, resume):
    given, run_dir = begun
    if left == "checkpoints":
        (run_dir / "archive" / "reward-here.jsonl").unlink()
        (run_dir / "checkpoints" / "llm_sr_grpo" / "llmsr_grpo_plane" / "global_step_1").mkdir(parents=True)
    before = contents(run_dir)
    assert main(flags(given | {"dry_run": True, "resume": resume})) == 2
    assert "already holds a run, whose files --dry_run would replace" in capsys.readouterr().err
    assert contents(run_dir) == before
    assert not json.loads((run_dir / "run.json").read_text())["settings"]["dry_run"]
