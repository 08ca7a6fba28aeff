"""Fits: exact recovery, the order of the modes, equal forms, and every kind of bad input."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from llmsr.expression import engine, parse
from llmsr.expression.engine.tape import compile_tape, derivatives
from llmsr.fitting import Fit, fit, fit_many
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.loading import Problem, load_problem
from llmsr.problem.spec import load_spec, read_body
from llmsr.problem.split import Split

ROOT = Path(__file__).resolve().parents[2]
SPEC = load_spec(ROOT / "specs" / "specification_oscillator1_numpy.txt")
OSCILLATOR1 = (
    "return params[0]*np.sin(params[1]*x) + params[2]*v**3 + params[3]*x**3 + params[4]*x*v"
    " + params[5]*x*np.cos(params[6]*x)"
)
OSCILLATOR2 = (
    "return params[0]*np.sin(params[1]*t) + params[2]*v**3 + params[3]*x*v + params[4]*x*np.exp(params[5]*x)"
)
BACTGROW = (
    "return params[0]*b*s/(params[1]+s)*np.tanh(params[2]*(temp-params[3]))/(1+params[4]*(temp-params[5])**4)"
    "*np.exp(-np.abs(pH-params[6]))*np.sin(params[7]*(pH-params[8]))**2"
)


def problem(inputs: np.ndarray, target: np.ndarray) -> Problem:
    """A problem with the columns x and v."""
    spec = replace(SPEC, columns=("x", "v"))
    split = Split(np.ascontiguousarray(inputs, dtype=float), np.asarray(target, dtype=float))
    return Problem("test", spec, "a", {"train": split})


def cloud(rows: int = 2000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, (rows, 2))


def fitted(
    body: str, inputs: np.ndarray, target: np.ndarray, mode: str = "best", seconds: float = 20.0
) -> Fit:
    return fit(parse(body, ["x", "v"]), problem(inputs, target), mode, seconds)


def train_nmse(found: Fit, data: Problem) -> float:
    assert found.status == "ok"
    assert found.loss is not None
    return found.loss / float(np.var(data.train.target))


@pytest.mark.parametrize(
    ("name", "body", "bar"),
    [("oscillator1", OSCILLATOR1, 1e-20), ("oscillator2", OSCILLATOR2, 1e-20), ("bactgrow", BACTGROW, 1e-12)],
)
def test_true_skeletons_are_recovered(name: str, body: str, bar: float) -> None:
    data = load_problem(name, data_dir=ROOT / "data")
    found = fit(parse(body, data.spec.columns), data)
    assert train_nmse(found, data) < bar


BODIES = [
    "return params[0]*np.sin(params[1]*x + params[2]) + params[3]*v**3",
    "return params[0]*x/(params[1] + v**2) + params[2]*np.tanh(params[3]*x)",
    "return params[0]*np.exp(-params[1]*x**2)*v + params[2]",
    "return np.where(x > params[0], params[1]*v, params[2]*x)",
    "return params[0]*np.abs(v)**params[1] + params[2]*x",
]


@pytest.mark.parametrize("body", BODIES)
def test_best_is_never_worse_than_bfgs(body: str) -> None:
    inputs = cloud()
    target = np.sin(2.3 * inputs[:, 0]) + 0.3 * inputs[:, 1] ** 3 + 0.1 * np.cos(9 * inputs[:, 1])
    best, bfgs = fitted(body, inputs, target), fitted(body, inputs, target, "bfgs")
    assert best.loss <= bfgs.loss * 1.0005


@pytest.mark.parametrize("body", BODIES)
def test_bfgs_stops_where_scipys_bfgs_stops(body: str) -> None:
    inputs = cloud(500)
    x, v = inputs.T
    target = np.sin(2.3 * x) + 0.3 * v**3
    expression = parse(body, ["x", "v"])

    tape = compile_tape(derivatives(expression))
    program = engine.bind(tape, tape.features(np.ascontiguousarray(inputs.T)), target)

    def value_and_slope(theta: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.empty(tape.n_params)
        return engine.gradient(program.handle, theta, slope), slope

    ones = np.ones(tape.n_params)
    theirs = optimize.minimize(value_and_slope, ones, jac=True, method="BFGS")
    ours = fitted(body, inputs, target, "bfgs")
    assert ours.loss == pytest.approx(theirs.fun, rel=1e-3)


def test_equal_equations_get_equal_bits() -> None:
    inputs = cloud()
    target = np.sin(3 * inputs[:, 0]) + inputs[:, 1]
    spellings = [
        ("return params[0]*np.sin(params[1]*x + params[2]) + params[3]*v", (0, 1, 2, 3)),
        ("wave = np.sin(params[7] + x*params[3])\nreturn v*params[5] + wave*params[1]", (1, 3, 7, 5)),
        ("a, b = params[4], params[2]\nreturn params[9]*v + b*np.sin(a*x + params[0])", (2, 4, 0, 9)),
    ]
    results = []
    for body, order in spellings:
        found = fitted(body, inputs, target)
        results.append([found.params[i] for i in order])
    assert results[0] == results[1] == results[2]


def test_unused_parameters_stay_one() -> None:
    inputs = cloud()
    found = fitted("return params[3]*x + 0*params[5]", inputs, 2 * inputs[:, 0])
    assert len(found.params) == SPEC.max_params
    assert [p for i, p in enumerate(found.params) if i != 3] == [1.0] * (SPEC.max_params - 1)
    assert found.params[3] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("body", "law"),
    [
        (
            "return np.where(x > params[0], params[1]*x, params[2]*v)",
            lambda x, v: np.where(x > 0.7, 2 * x, 3 * v),
        ),
        ("return params[0]*np.sin(params[1]*x + params[2])", lambda x, v: 1.5 * np.sin(40 * x + 0.3)),
        (
            "return params[0]*np.exp(-((x-params[1])/params[2])**2)",
            lambda x, v: 3 * np.exp(-(((x - 1.2) / 0.1) ** 2)),
        ),
        (
            "return params[0]/(1 + np.exp(-params[1]*(x - params[2])))",
            lambda x, v: 4 / (1 + np.exp(-25 * (x + 0.9))),
        ),
        ("return params[0]*np.abs(x)**params[1] + params[2]", lambda x, v: 2e-3 * np.abs(x) ** 6.5 + 5),
    ],
)
def test_constants_far_from_one_are_found(body: str, law) -> None:
    inputs = cloud()
    found = fitted(body, inputs, law(*inputs.T))
    assert found.loss < 1e-3 * np.var(law(*inputs.T))


@pytest.mark.parametrize("mode", ["best", "bfgs", "reference"])
def test_a_branch_that_is_undefined_on_the_other_rows_is_fitted(mode: str) -> None:
    inputs = cloud()
    x, v = inputs.T
    with np.errstate(invalid="ignore"):
        target = np.where(x > 0, 2.5 * np.sqrt(x), 0.7 * v)
    found = fitted("return np.where(x > 0, params[0]*np.sqrt(x), params[1]*v)", inputs, target, mode)
    assert found.loss < 1e-10 * np.var(target)


def test_columns_of_very_different_scales() -> None:
    rng = np.random.default_rng(2)
    inputs = np.column_stack([rng.uniform(300, 1500, 3000), rng.uniform(1e-3, 5e-3, 3000)])
    target = 4e5 * np.exp(-5200 / inputs[:, 0]) * inputs[:, 1] ** 1.3
    found = fitted("return params[0]*np.exp(-params[1]/x)*v**params[2]", inputs, target)
    assert found.loss < 1e-20 * np.var(target)


@pytest.mark.parametrize(
    "body",
    [
        "return params[0]*np.exp(params[1]*x**2*1e3)",
        "return params[0]*np.log(x*params[1])",
        "return params[0]*np.sqrt(x + params[1])",
        "return params[0]*params[1]*params[2]*x + params[3]*x",
        "return params[0]/(x - params[1])",
        "return np.exp(np.exp(np.exp(params[0]*x*v)))",
        "return params[0]**(params[1]*x*100)",
        "return np.floor(params[0]*x)*params[1]",
    ],
)
@pytest.mark.parametrize("mode", ["best", "bfgs"])
def test_bad_equations_end_in_a_status(body: str, mode: str) -> None:
    inputs = cloud()
    found = fitted(body, inputs, np.sin(inputs[:, 0]), mode)
    assert found.status in ("ok", "nonfinite")
    assert (found.loss is None) == (found.status != "ok")
    assert np.isfinite(found.params).all()


def test_parameters_that_run_out_of_float64_are_no_crash() -> None:
    body = (
        "return params[0] * s**params[1] / (params[2] + s**params[1]) * temp**2 * pH / (pH + params[3])"
        " * np.abs(pH - params[4]) + params[5] * pH**2 * np.log1p(np.abs(pH))"
        " + params[6] * np.cos(params[7] * pH + temp) + params[8] * np.exp(-params[9] * b)"
    )
    data = load_problem("bactgrow")
    assert fit(parse(body, data.spec.columns), data).status == "ok"


def test_never_finite_is_told() -> None:
    inputs = cloud()
    found = fitted("return params[0]*np.log(-x**2 - 1)", inputs, inputs[:, 0])
    assert found.status == "nonfinite"
    assert found.reason
    assert found.loss is None


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_fewer_rows_than_parameters(rows: int) -> None:
    inputs = cloud(rows)
    body = "return params[0]*x + params[1]*v + params[2]*np.sin(params[3]*x + params[4]) + params[5]"
    found = fitted(body, inputs, inputs[:, 0] * 3)
    assert found.status == "ok"
    assert found.loss < 1e-12


@pytest.mark.parametrize("value", [0.0, 3.0, 1e-200, 1e120])
def test_constant_target(value: float) -> None:
    inputs = cloud()
    found = fitted(
        "return params[0]*x + params[1] + params[2]*np.exp(params[3]*v)", inputs, np.full(2000, value)
    )
    assert found.status == "ok"
    assert found.loss <= 1e-20 * max(value * value, 1e-100)


def test_constant_column() -> None:
    inputs = cloud()
    inputs[:, 1] = 2.0
    found = fitted(
        "return params[0]*x*np.exp(params[1]*v) + params[2]*v + params[3]", inputs, inputs[:, 0] + 1
    )
    assert found.loss < 1e-20


def test_deadline_gives_the_best_so_far() -> None:
    inputs = cloud(200_000)
    body = (
        "return params[0]*np.sin(params[1]*x + params[2])"
        " + params[3]*np.exp(params[4]*v)*np.tanh(params[5]*x)"
    )
    target = inputs[:, 0] ** 5 + np.cos(7 * inputs[:, 1])
    fitted(body, inputs[:300], target[:300])
    began = time.perf_counter()
    found = fitted(body, inputs, target, seconds=0.02)  # some evaluations of the hundreds of a whole fit
    assert time.perf_counter() - began < 1.5
    assert found.deadline_reached
    assert found.status == "ok"
    assert found.loss <= np.mean(target**2)


def test_threads_get_the_bits_of_a_single_thread() -> None:
    inputs = cloud()
    target = np.sin(3 * inputs[:, 0]) + inputs[:, 1] ** 3
    data = problem(inputs, target)
    alone = [fit(parse(body, ["x", "v"]), data).params for body in BODIES]
    together: list = [None] * len(BODIES)

    def work(i: int) -> None:
        together[i] = fit(parse(BODIES[i], ["x", "v"]), data).params

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(BODIES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_fit_many_keeps_order_and_passes_refusals_on() -> None:
    inputs = cloud()
    results = fit_many(
        problem(inputs, inputs[:, 0]), ["return params[0]*x", "import os", "return params[0]*v"]
    )
    assert isinstance(results[0], Fit)
    assert not isinstance(results[1], Fit)
    assert results[0].loss < results[2].loss


def test_fit_many_fits_equal_forms_once_in_each_ones_numbering() -> None:
    inputs = cloud()
    data = problem(inputs, 3 * np.sin(2 * inputs[:, 0]) + inputs[:, 1])
    bodies = ["return params[0]*np.sin(params[1]*x) + v", "return v + np.sin(x*params[4])*params[7]"]
    first, second = fit_many(data, bodies)
    assert isinstance(first, Fit)
    assert isinstance(second, Fit)
    assert (first.params[0], first.params[1]) == (second.params[7], second.params[4])
    assert abs(first.params[0]) == pytest.approx(3.0)
    assert first.cpu_seconds == second.cpu_seconds  # one fit, shown twice
    assert second.params == fit(parse(bodies[1], ["x", "v"]), data).params


def test_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="best"):
        fitted("return params[0]*x", cloud(), np.ones(2000), "fastest")


def test_ties_prefer_small_parameters() -> None:
    inputs = cloud()
    noise = np.random.default_rng(3).normal(size=2000)
    found = fitted("return params[0]*x/(params[1] + x**2)", inputs, 2 * inputs[:, 0] + 0.3 * noise)
    assert np.abs(found.params).max() < 1e6


def test_many_rows_cost_no_more_than_their_share() -> None:
    body = "return params[0]*np.sin(params[1]*x + params[2]) + params[3]*v**3"

    def seconds(rows: int) -> float:
        inputs = cloud(rows)
        noise = np.random.default_rng(1).normal(size=rows)
        found = fitted(body, inputs, np.sin(2 * inputs[:, 0]) + 0.1 * noise, seconds=60.0)
        assert found.status == "ok"
        assert found.loss == pytest.approx(0.01, rel=0.1)
        return found.cpu_seconds

    assert seconds(400_000) < 40 * min(seconds(10_000) for _ in range(3))


@pytest.mark.parametrize("amplitude", [40.0, 70.0])
def test_two_bumps_on_a_decay_are_told_apart(amplitude):
    """A sum of an exponential and two bumps, five constants that need a start: both bumps are found."""
    x = np.arange(1.0, 251.0)
    y = 99 * np.exp(-0.011 * x) + 100 * np.exp(-(((x - 67) / 23) ** 2))
    y += amplitude * np.exp(-(((x - 179) / 18) ** 2)) + np.random.default_rng(0).normal(0, 2, len(x))
    problem = table_problem(x[:, None], y, Labels(("x",)))
    bumps = " + ".join(f"params[{i}]*np.exp(-(x-params[{i + 1}])**2/params[{i + 2}]**2)" for i in (2, 5))
    found = fit(read_body(problem.spec, f"return params[0]*np.exp(-params[1]*x) + {bumps}"), problem)
    assert found.loss < 1.05 * 4
    assert sorted(found.params[i] for i in (3, 6)) == pytest.approx([67, 179], abs=2)
