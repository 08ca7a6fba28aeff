"""The classic equations: their data, their specs, and whether a found equation is the law."""

import sys
from pathlib import Path

import numpy as np
import pytest

from llmsr.expression import evaluate, parse
from llmsr.problem.loading import load_problem
from llmsr.problem.split import nmse

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from classic import bench, bench_spec, draw, main  # noqa: E402
from judge import law_of, laws, match  # noqa: E402

LAW = "0.8*np.sin(x) - 0.5*v**3 - 0.2*x**3 - 0.5*x*v - x*np.cos(x)"


@pytest.mark.parametrize("name", bench())
def test_every_spec_is_the_one_that_its_columns_make_and_does_not_tell_the_law(name):
    text = (ROOT / "specs" / "bench" / f"specification_{name}_numpy.txt").read_text()
    assert text == bench_spec(name)
    assert bench()[name].law.body.removeprefix("return ") not in text


@pytest.mark.parametrize("name", bench())
def test_rows_are_finite_repeatable_and_where_they_should_be(name):
    splits = draw(name)
    again = draw(name)
    low, high = np.array([c.inside for c in bench()[name].columns]).T
    for split, rows in splits.items():
        assert np.isfinite(rows).all()
        assert np.array_equal(rows, again[split])
        outside = ((rows[:, :-1] < low) | (rows[:, :-1] > high)).any(axis=1)
        assert outside.all() if split == "test_ood" else not outside.any()


def test_noise_lies_on_the_training_targets_alone():
    clean, noisy = draw("budworm"), draw("budworm-noise0.05")
    assert np.array_equal(clean["train"][:, :-1], noisy["train"][:, :-1])
    residual = noisy["train"][:, -1] - clean["train"][:, -1]
    assert residual.std() / clean["train"][:, -1].std() == pytest.approx(0.05, rel=0.05)
    for split in ("test_id", "test_ood"):
        assert np.array_equal(clean[split], noisy[split])


def test_a_problem_with_noise_is_written_with_its_spec_and_has_its_law(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench/doppler_shift-noise0.1"]) == 0
    assert capsys.readouterr().out == "data/bench/doppler_shift-noise0.1\n"
    problem = load_problem("bench/doppler_shift-noise0.1")
    assert np.array_equal(problem.train.inputs, draw("doppler_shift")["train"][:, :-1])
    assert problem.spec.text == bench_spec("doppler_shift")
    assert law_of(problem) == laws()["bench/doppler_shift"]
    assert main(["bench/doppler_shift-noisex"]) == 2


@pytest.mark.parametrize("name", [name for name in laws() if "/" not in name])
def test_the_mission_s_laws_give_the_mission_s_data(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    problem = load_problem(name)
    if laws()[name].synthetic and not problem.synthetic:
        pytest.skip("measured data are here, whose law nobody knows")
    law = law_of(problem)
    skeleton = law.expression(problem.spec.columns)
    for split in problem.splits.values():
        predicted = evaluate(skeleton, split.inputs, np.array(law.constants))
        assert nmse(predicted, split.target) < 1e-20


def is_law(problem, name, body, params=()):
    expression = parse(body, problem.spec.columns, params_name="params", max_params=10)
    return match(expression, params, problem)


@pytest.fixture(scope="module")
def oscillator():
    return load_problem("oscillator1", ROOT / "specs/specification_oscillator1_numpy.txt", ROOT / "data")


def test_the_law_written_in_another_way_is_a_match(oscillator):
    body = "return x*(-0.2*x**2 - 0.5*v - np.cos(x)) + np.sin(x)*0.8 - v*v*v/2"
    assert is_law(oscillator, "oscillator1", body)


def test_the_law_with_constants_as_noise_leaves_them_is_a_match(oscillator):
    body = "return params[0]*np.sin(x) - 0.501*v**3 - 0.2003*x**3 - 0.5002*x*v - 0.999*x*np.cos(x)"
    assert is_law(oscillator, "oscillator1", body, [0.801])


def test_what_is_only_close_to_the_law_is_none(oscillator):
    assert is_law(oscillator, "oscillator1", f"return {LAW} + 1e-6*v**5")
    assert not is_law(oscillator, "oscillator1", f"return {LAW} + 1e-3*v**5")


def test_the_law_without_a_term_is_none_although_a_constant_of_0_would_give_it(oscillator):
    for body in ("0.8*np.sin(x) - 0.5*v**3 - 0.2*x**3 - x*np.cos(x)", "0.8*np.sin(x)", "-0.5*v**3"):
        assert not is_law(oscillator, "oscillator1", f"return {body}")


def test_an_equation_that_is_not_finite_in_the_box_is_none(oscillator):
    assert not is_law(oscillator, "oscillator1", f"return {LAW} + 0*np.log(x)")
