"""Specs that train constants in torch run as they are: from the search, from training's reward, by hand."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grpo_problem import write_problem

from llmsr.archive import read_archive
from llmsr.evaluator import Evaluator
from llmsr.fitting import fit_reference
from llmsr.grpo.answer_archive import set_number
from llmsr.grpo.plan import make_plan
from llmsr.grpo.reward_function import RewardFunction
from llmsr.grpo.run_record import write_run_files
from llmsr.grpo.settings import GrpoConfig
from llmsr.problem.loading import load_problem
from llmsr.problem.spec import parse_spec, read_body
from llmsr.sample import is_llm_sample

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
MODEL = Path(__file__).with_name("torch_model.txt")
LAW = "    return params[3] * x + params[1] * z + params[4] * x**3\n"
FITTED = {3: 2.0, 1: -0.5, 4: 0.1}


@pytest.fixture
def files(tmp_path):
    """The spec's path and the data folder of the problem `plane`, y = 2 x - 0.5 z + 0.1 x**3."""
    _, data = write_problem(tmp_path)
    return str(MODEL), data


@pytest.fixture
def problem(files):
    return load_problem("plane", *files)


def fitted(problem, body=LAW, seconds=60):
    return fit_reference(read_body(problem.spec, body), problem, seconds)


def changed(problem, **texts):
    text = problem.spec.text
    for old, new in texts.values():
        assert old in text
        text = text.replace(old, new)
    return replace(problem, spec=parse_spec(text, "mine.txt"))


def close(params):
    return all(abs(params[index] - value) < 0.02 for index, value in FITTED.items())


def test_a_module_with_a_parameter_list_is_trained_and_its_constants_are_read_back(problem):
    assert problem.spec.dialect == "torch"
    assert not problem.spec.least_squares
    fit = fitted(problem)
    assert (fit.status, fit.evaluations) == ("ok", 400), fit.reason
    assert close(fit.params)
    assert fit.loss < 1e-3
    assert -fit.score == pytest.approx(fit.loss, rel=0.5)


@pytest.mark.parametrize(
    "params",
    [
        "torch.ones(MAX_NPARAMS, dtype=torch.float64, requires_grad=True)",
        "torch.nn.Parameter(torch.ones(MAX_NPARAMS))",
        "torch.nn.ParameterList([torch.tensor(1.0) for _ in range(MAX_NPARAMS)])",
        "[torch.ones((), requires_grad=True) for _ in range(MAX_NPARAMS)]",
        "tuple(torch.ones((), requires_grad=True) for _ in range(MAX_NPARAMS))",
    ],
)
def test_gradients_flow_to_parameters_of_every_kind(problem, params):
    text = problem.spec.text
    head, rest = text.split("    class Model", 1)
    tail = rest.split("    if torch.isnan", 1)[1]
    loop = f"""    params = {params}
    leaves = [params] if isinstance(params, torch.Tensor) else list(params)
    optimizer = torch.optim.Adam(leaves, lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = ((equation(x, z, params) - outputs) ** 2).mean()
        loss.backward()
        optimizer.step()
"""
    problem = replace(problem, spec=parse_spec(f"{head}{loop}    if torch.isnan{tail}", "mine.txt"))
    fit = fitted(problem)
    assert fit.status == "ok", fit.reason
    assert close(fit.params)


@pytest.mark.parametrize(
    "data",
    [
        "torch.as_tensor(data['inputs']), torch.as_tensor(data['outputs'])",
        "torch.tensor(data['inputs']), torch.tensor(data['outputs'])",
        "torch.from_numpy(data['inputs']), torch.from_numpy(data['outputs'])",
        "torch.FloatTensor(data['inputs']), torch.FloatTensor(data['outputs'])",
        "torch.tensor(data['inputs'].astype('float32')), torch.tensor(data['outputs'].astype('float32'))",
        "data['inputs'].float(), data['outputs'].float()",
    ],
)
def test_data_may_be_made_tensors_by_the_spec(problem, data):
    fit = fitted(changed(problem, data=('data["inputs"], data["outputs"]', data)))
    assert fit.status == "ok", fit.reason
    assert close(fit.params)


def test_constants_that_are_plain_numbers_are_taken_too(problem):
    # no gradient is asked for: a grid of one step
    grid = ("loss = distance(model(x, z), outputs)", "loss = distance(equation(x, z, [0.5] * 6), outputs)")
    steps = ("range(400)", "range(1)")
    backward = ("        loss.backward()\n", "")
    fit = fitted(
        changed(problem, grid=grid, steps=steps, backward=backward), "    return torch.exp(params[0]) * x\n"
    )
    assert fit.status == "ok", fit.reason
    assert fit.params[0] == 0.5


def test_a_fault_of_a_torch_spec_names_its_line(problem):
    fit = fitted(changed(problem, fault=("loss.backward()", "loss.backwards()")))
    assert fit.status == "error"
    assert "line 28 of mine.txt: AttributeError" in fit.reason


def test_a_training_that_takes_too_long_says_which_flag_lengthens_it(problem):
    endless = changed(problem, steps=("range(400)", "range(10**9)"))
    fit = fitted(endless, seconds=0.5)
    assert fit.deadline_reached
    assert "did not end within 0.5 s; --fit_timeout gives it longer" in fit.reason
    with Evaluator(endless, fit_timeout=0.5, workers=1) as evaluator:
        evaluation = evaluator.evaluate(LAW)
    assert (evaluation.status, evaluation.score) == ("timeout", None)
    assert evaluation.reason == fit.reason


def test_a_search_over_a_torch_spec_ends_with_its_constants_and_says_whose_they_are(files, tmp_path):
    spec, data = files
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"completion": body}) + "\n" for body in ["    return params[0] * x\n", LAW])
    )
    command = [sys.executable, "main.py", "--problem_name", "plane", "--spec_path", spec, "--data_dir", data]
    command += ["--proposer", "replay", "--replay_path", str(texts), "--budget", "2", "--workers", "1"]
    command += ["--fit_timeout", "60", "--refine", "off", "--log_path", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "fits the constants" in line]
    assert len(told) == 1
    assert "line 15: class Model(torch.nn.Module)" in told[0]
    assert "# llmsr: least_squares" in told[0]
    samples = [s for s in read_archive(tmp_path / "run") if is_llm_sample(s)]
    assert [s.evaluation.status for s in samples] == ["ok", "ok"]
    assert close(samples[1].evaluation.params)
    assert samples[1].evaluation.nmse["test_ood"] < 1e-2


def test_a_declaration_makes_the_projects_own_optimiser_fit(files, tmp_path):
    spec = tmp_path / "declared.txt"
    spec.write_text(f"# llmsr: least_squares\n{MODEL.read_text()}")
    problem = load_problem("plane", spec, files[1])
    assert problem.spec.search_note() == ""
    assert "llmsr:" not in problem.spec.preface
    with Evaluator(problem, workers=1) as evaluator:
        evaluation = evaluator.evaluate(LAW)
    assert evaluation.fitter == "best"
    assert evaluation.nmse["test_ood"] < 1e-20
    again = fitted(problem)
    assert (again.status, again.score != -again.loss) == ("ok", True)
    assert "--fitter reference" in problem.spec.search_note("reference")


def test_the_reward_of_training_comes_from_a_torch_spec(files, tmp_path):
    spec, data = files
    config = GrpoConfig(
        problem_name="plane", spec_path=spec, data_dir=data, output_dir=str(tmp_path / "run"), batch_size=2,
        rollout_n=3, workers=1, fit_timeout=60.0,
    )  # fmt: skip
    plan = make_plan(config, cuda=False)
    write_run_files(plan, [load_problem("plane", spec, data)])
    set_number(plan.run_dir, 0)
    info = {"problem": "plane", "index": 3, "split": "train", "versions": "{}", "shown": "[]"}
    with RewardFunction(plan.run_dir) as function:
        poor, good = (
            function.compute_score("llmsr/plane", text, "plane", info)
            for text in ("    return params[0] * z\n", LAW)
        )
    assert [score["status"] for score in (poor, good)] == ["ok", "ok"]
    assert good["score"] > poor["score"] + 0.1
    sample = read_archive(plan.run_dir)[-1]
    assert close(sample.evaluation.params)
    assert np.isfinite(sample.evaluation.score)
