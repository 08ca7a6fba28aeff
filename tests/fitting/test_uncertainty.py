"""Weights, other losses than squares, and errors of fitted constants, against certified figures and scipy.

The data sets of nist.json are from the Statistical Reference Datasets of NIST (nonlinear regression), with
certified constants and standard deviations; works of the United States government, in the public domain.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import curve_fit, linprog, minimize
from small_spec import spec_of

from llmsr.declarations import Declarations, with_declarations
from llmsr.fitting import fit, split_nmse, split_nmse_by_engine
from llmsr.fitting.uncertainty import bootstrapped, uncertainty
from llmsr.problem.loading import Problem
from llmsr.problem.spec import parse_spec, read_body
from llmsr.problem.split import make_split
from llmsr.refinement.rows import Rows

NIST = json.loads(Path(__file__).with_name("nist.json").read_text())
EXPONENTIAL = "return params[0]*np.exp(params[1]*x) + params[2]"


def problem_of(x, y, columns=None, **asked):
    said = Declarations(**asked)
    spec = parse_spec(with_declarations(spec_of(["x"], "A task.", "y"), said))
    split = make_split(
        np.array(x, dtype=float)[:, None], np.array(y, dtype=float), said, columns or {}, "here"
    )
    return Problem("small", spec, "y", {"train": split})


def decaying(rows=120, wild=0, seed=0):
    """x, y of 2 exp(-0.7 x) + 0.3 with noise of 0.05, and some wild rows."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 4, rows)
    y = 2 * np.exp(-0.7 * x) + 0.3 + 0.05 * rng.standard_normal(rows)
    y[:wild] += rng.uniform(2, 4, wild)
    return x, y, rng.uniform(0.2, 3, rows)


@pytest.mark.parametrize("name", NIST)
def test_standard_errors_are_nists_certified_ones(name):
    case = NIST[name]
    problem = problem_of(case["x"], case["y"])
    expression = read_body(problem.spec, case["body"])
    at = uncertainty(expression, [*case["constants"], *[1.0] * 8], problem.train)
    assert at.standard_errors == pytest.approx(case["standard_deviations"], rel=1e-8)
    assert at.noise == pytest.approx(case["residual_standard_deviation"], rel=1e-8)
    assert at.freedom == len(case["y"]) - len(case["constants"])
    # and so they are where our own fit ends
    found = fit(expression, problem)
    assert found.params[: len(case["constants"])] == pytest.approx(case["constants"], rel=1e-4)
    ours = uncertainty(expression, found.params, problem.train)
    assert ours.standard_errors == pytest.approx(case["standard_deviations"], rel=1e-3)


def test_weighted_fits_are_scipys_with_their_errors_and_correlations():
    x, y, w = decaying()
    sigma = 0.05 / np.sqrt(w)
    wanted, covariance = curve_fit(
        lambda x, a, b, c: a * np.exp(b * x) + c, x, y, [2, -1, 0], sigma=sigma, xtol=1e-14, ftol=1e-14
    )
    for asked, columns in (({"sigma": "s"}, {"sigma": sigma}), ({"weights": "w"}, {"weights": w})):
        problem = problem_of(x, y, columns, **asked)
        expression = read_body(problem.spec, EXPONENTIAL)
        found = fit(expression, problem)
        assert np.abs(found.params[:3] - wanted).max() < 1e-2 * np.sqrt(np.diag(covariance)).min()
        known = uncertainty(expression, found.params, problem.train)
        assert known.covariance == pytest.approx(covariance, rel=1e-3)
        assert np.diag(known.correlations) == pytest.approx(1.0)
        share = w / w.mean()
        mean = np.average(y, weights=w)
        nmse = np.mean(share * (y - (wanted[0] * np.exp(wanted[1] * x) + wanted[2])) ** 2)
        nmse /= np.mean(share * (y - mean) ** 2)
        errors = split_nmse(expression, found.params, problem)
        assert errors["train"] == pytest.approx(nmse, rel=1e-6)
        assert split_nmse_by_engine(expression, found.params, problem) == pytest.approx(errors, rel=1e-10)


def test_a_row_of_weight_two_is_that_row_twice_and_one_of_weight_zero_none():
    x, y, _ = decaying(40)
    w = np.random.default_rng(1).integers(0, 3, 40).astype(float)
    weighted = problem_of(x, y, {"weights": w}, weights="w")
    repeated = problem_of(np.repeat(x, w.astype(int)), np.repeat(y, w.astype(int)))
    assert len(weighted.train) == np.count_nonzero(w)
    for body in (EXPONENTIAL, "return params[0]*x + params[1]"):
        ours, theirs = (fit(read_body(p.spec, body), p) for p in (weighted, repeated))
        assert ours.params == pytest.approx(theirs.params, rel=1e-5)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-9)


@pytest.mark.parametrize("loss", ["mae", "quantile:0.9", "huber", "huber:0.2"])
@pytest.mark.parametrize("weigh", [False, True])
def test_a_robust_loss_ends_no_higher_than_scipys_best(loss, weigh):
    x, y, w = decaying(wild=12)
    problem = problem_of(x, y, {"weights": w} if weigh else {}, loss=loss, weights="w" if weigh else "")
    found = fit(read_body(problem.spec, EXPONENTIAL), problem)

    def mean_loss(p):
        return problem.train.mean_loss(p[0] * np.exp(p[1] * x) + p[2])

    tight = {"maxiter": 10_000, "maxfev": 10_000, "xatol": 1e-12, "fatol": 1e-15}
    starts = ([2, -0.7, 0.3], list(found.params[:3]))
    theirs = min(minimize(mean_loss, s, method="Nelder-Mead", options=tight).fun for s in starts)
    assert found.loss == pytest.approx(mean_loss(found.params), rel=1e-12)
    assert found.loss <= theirs * (1 + (1e-9 if "huber" in loss else 1e-4))


def test_least_absolute_deviations_of_a_line_are_those_of_linear_programming():
    x, y, _ = decaying(60, wild=10)
    problem = problem_of(x, y, loss="mae")
    found = fit(read_body(problem.spec, "return params[0]*x + params[1]"), problem)
    design, eye = np.column_stack([x, np.ones(60)]), np.eye(60)
    cost = np.concatenate([np.zeros(2), np.full(120, 1 / 60)])
    solved = linprog(
        cost, A_eq=np.hstack([design, eye, -eye]), b_eq=y, bounds=[(None, None)] * 2 + [(0, None)] * 120
    )
    assert found.loss == pytest.approx(solved.fun, rel=1e-5)


def test_wild_rows_move_a_huber_fit_little_and_squares_a_lot():
    x, y, _ = decaying(wild=12)
    law = np.array([2.0, -0.7, 0.3])
    away = {}
    for loss in ("", "huber"):
        problem = problem_of(x, y, loss=loss)
        expression = read_body(problem.spec, EXPONENTIAL)
        found = fit(expression, problem)
        away[loss] = np.abs(np.array(found.params[:3]) - law)
    known = uncertainty(expression, found.params, problem.train)
    assert (away["huber"] < 4 * known.standard_errors).all()
    assert away["huber"].max() < away[""].max() / 3


def test_bootstrap_errors_are_of_the_size_of_the_jacobians():
    x, y, _ = decaying(200)
    problem = problem_of(x, y)
    expression = read_body(problem.spec, EXPONENTIAL)
    found = fit(expression, problem)
    known = uncertainty(expression, found.params, problem.train)
    drawn = bootstrapped(expression, found.params, problem.train, 150)
    assert drawn.draws.shape == (150, 3)
    assert drawn.standard_errors == pytest.approx(known.standard_errors, rel=0.35)
    assert (drawn.intervals()[:, 0] < np.array(found.params[:3])).all()
    # of a loss with a corner the Jacobian tells nothing, the draws do
    corner = problem_of(x, y, loss="mae")
    assert uncertainty(expression, found.params, corner.train) is None
    assert np.isfinite(bootstrapped(expression, found.params, corner.train, 20).standard_errors).all()


def test_intervals_hold_the_share_that_they_promise():
    inside, hits = [], []
    for seed in range(60):
        x, y, _ = decaying(30, seed=seed)
        problem = problem_of(x[:29], y[:29])
        expression = read_body(problem.spec, EXPONENTIAL)
        found = fit(expression, problem)
        known = uncertainty(expression, found.params, problem.train)
        low, high = known.intervals(0.9).T
        inside.append((low < [2, -0.7, 0.3]) & (high > [2, -0.7, 0.3]))
        deviation = known.prediction(expression, x[29:, None])
        hits.append(
            abs(found.params[0] * np.exp(found.params[1] * x[29]) + found.params[2] - y[29]) < 2 * deviation
        )
    assert 0.78 < np.mean(inside) < 0.98
    assert np.mean(hits) > 0.85


def test_constants_that_the_rows_do_not_determine_are_told():
    x, y, _ = decaying(50)
    problem = problem_of(x, y)
    expression = read_body(problem.spec, "return params[0]*params[1]*x + params[2]")
    known = uncertainty(expression, fit(expression, problem).params, problem.train)
    told = known.to_json(["a", "b", "c"])["constants"]
    assert told["a"]["standard_error"] is None
    assert told["b"]["high"] is None
    assert told["c"]["standard_error"] > 0
    json.dumps(known.to_json(["a", "b", "c"]), allow_nan=False)
    few = replace(problem, splits={"train": problem.train.taken(slice(0, 2))})
    assert uncertainty(expression, [1.0, 1.0, 1.0], few.train).noise == np.inf


def test_refinement_looks_at_rows_as_often_as_they_weigh():
    x, y, _ = decaying(100)
    heavy = np.where(np.arange(100) < 10, 9.0, 0.1)
    rows = Rows.of(problem_of(x, y, {"weights": heavy}, weights="w").train)
    assert np.isin(rows.inputs[:, 0], x[:10]).mean() == pytest.approx(90 / 99, abs=0.01)
