"""Units from a table to the search: they are read, and equations are held to them where that is asked for."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from llmsr.errors import UserError
from llmsr.estimator.regressor import SymbolicRegressor
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.problem.new_problem import NewProblem, make_problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.units import dimension_of, with_units
from llmsr.refinement.proposals import proposals
from llmsr.reward import reward


@pytest.mark.parametrize(
    ("unit", "exponents"),
    [
        ("m/s^2", {"m": 1, "s": -2}), ("m s-2", {"m": 1, "s": -2}), ("m·s⁻²", {"m": 1, "s": -2}),
        ("km/h", {"m": 1, "s": -1}),
        ("K", {"K": 1}), ("degC", {"K": 1}), ("°C", {"K": 1}), ("mM", {"mol": 1, "m": -3}), ("min", {"s": 1}),
        ("µm", {"m": 1}), ("rad", {}), ("%", {}), ("1", {}), ("-", {}), ("N m", {"kg": 1, "m": 2, "s": -2}),
        ("m**0.5", {"m": Fraction(1, 2)}), ("yr", {"s": 1}), ("AU", {"m": 1}),
    ],
)  # fmt: skip
def test_units_are_read_as_people_write_them(unit, exponents):
    assert dimension_of(unit) == exponents


@pytest.mark.parametrize(
    "unit",
    ["", "foo", "m/", "9**9**9**9", "m**99999", "__import__('os')", "a" * 99, "m;s", "\n", "{", "1000"],
)
def test_what_is_no_unit_is_one_sentence(unit):
    with pytest.raises(UserError, match="is no unit") as told:
        dimension_of(unit)
    assert "\n" not in str(told.value)


@pytest.fixture
def falling(tmp_path, monkeypatch):
    """A falling body: height h of start height s (m), speed v and time t."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.uniform(0.5, 3, (80, 3)), columns=["s (m)", "v [m/s]", "t [s]"])
    s, v, t = table.to_numpy().T
    table["h (m)"] = s + v * t - 4.905 * t**2
    table.to_csv("d.csv", index=False)
    return lambda **asked: (
        make_problem(
            NewProblem(**({"name": "fall", "csv": "d.csv", "target": "h (m)", "force": True} | asked))
        ).problem
    )


def test_units_travel_from_the_header_to_the_dimensions(falling):
    falling()
    problem = with_units(load_problem("fall"), "strict")
    assert problem.spec.units == {"s": "m", "v": "m/s", "t": "s", "h": "m"}
    assert problem.dimensions.base == ("m", "s")
    assert problem.dimensions.columns == ((1, 0), (1, -1), (0, 1))
    assert problem.dimensions.target == (1, 0)


BODIES = {
    "return s + v*t + params[0]*t**2": "",
    "return params[0]*s + params[1]*np.exp(params[2]*t)": "",
    "return s + v": "units: add of",
    "return s*np.sin(t)": "units: sin takes",
    "return params[0]*s + params[0]*t": "units: ",
}


def test_strict_refuses_and_penalty_counts_less(falling):
    problem = falling()
    found = {}
    for mode in ("words", "strict", "penalty"):
        with Evaluator(with_units(problem, mode), workers=1) as evaluator:
            found[mode] = [evaluator.evaluate(f"    {body}\n") for body in BODIES]
    for words, strict, penalty, told in zip(*found.values(), BODIES.values(), strict=True):
        assert words.ok
        assert not words.reason
        assert penalty.ok
        assert penalty.nmse == words.nmse
        if told:
            assert strict.status == "units"
            assert told in strict.reason
            assert penalty.reason.startswith("units: ")
            assert penalty.score < words.score - 0.9 * np.var(problem.train.target)
            assert reward(penalty) < reward(words)
        else:
            assert strict.ok
            assert penalty.score == strict.score == words.score
            assert reward(penalty) == reward(words)


def test_refinement_proposes_only_what_is_consistent(falling):
    problem = falling()
    body, params = "return params[0]*s + params[1]*t", (1.0, 0.5)
    free = proposals(problem, body, params, 40)
    strict = with_units(problem, "strict")
    held = proposals(strict, body, params, 40)
    with Evaluator(strict, workers=1) as evaluator:
        assert {evaluator.evaluate(p.body).status for p in held} == {"ok"}
        assert "units" in {evaluator.evaluate(p.body).status for p in free}


def test_units_that_are_missing_or_unreadable_are_told(falling):
    problem = falling(units="s (m)=furlongs per moon")
    assert with_units(problem, "words") is problem
    with pytest.raises(UserError, match="the unit of s: 'furlongs per moon' is no unit"):
        with_units(problem, "strict")
    pd.DataFrame({"x": np.arange(20), "y": np.arange(20) ** 2}).to_csv("d.csv", index=False)
    with pytest.raises(UserError, match="--units strict needs units"):
        with_units(falling(target="y"), "strict")


def test_a_unit_of_no_column_is_told(falling):
    problem = falling()
    text = problem.spec.text.replace("# llmsr: units s=m", "# llmsr: units q=m")
    spec = parse_spec(text)
    with pytest.raises(UserError, match="'q', which is no column"):
        with_units(type(problem)("fall", spec, "h", problem.splits), "penalty")


def test_the_estimator_takes_units_as_pysr_does():
    generator = np.random.default_rng(0)
    X = generator.uniform(0.5, 3, (60, 2))
    y = 3.0 * X[:, 0] / X[:, 1]
    model = SymbolicRegressor(budget=8, proposer="grammar", check_units="strict", random_state=0)
    model.fit(X, y, X_units=["m", "s"], y_units="m/s")
    assert model.score(X, y) > 0.9
    with pytest.raises(ValueError, match="'foo' is no unit"):
        model.fit(X, y, X_units=["m", "foo"], y_units="m/s")
    with pytest.raises(ValueError, match="one text per column"):
        model.fit(X, y, X_units=["m"], y_units="m/s")
    with pytest.raises(ValueError, match="not both"):
        model.fit(X, y, units=["m", "s"], y_units="m/s")
