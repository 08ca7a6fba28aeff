"""An equation that is called again on the same rows gives the bits of the whole one, and repeats no work."""

import random

import numpy as np
import pytest

from llmsr.expression import Expression, parse
from llmsr.expression.printing import callable_for, to_text
from llmsr.fitting import reference
from llmsr.fitting.reference import RepeatedEquation, features_of
from llmsr.proposers.grammar import mutate, random_body

COLUMNS = ("x", "v", "temp")


def read(body):
    found = parse("\n".join(f"    {line}" for line in body.split("\n")), COLUMNS)
    assert isinstance(found, Expression), found
    return found


def rows(seed, count=60):
    return np.random.default_rng(seed).normal(size=(len(COLUMNS), count))


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    ("body", "features", "rest"),
    [
        ("return params[0]*np.sin(x)*np.exp(params[1]*v) + x**3", {"sin(x)", "x**3"}, True),
        ("return params[0]*x*v + np.abs(x - v)/params[1]", set(), True),
        ("return np.where(x > 0, params[0], x*v)", {"x > 0"}, True),
        ("return x*np.sin(v)", {"x*sin(v)"}, False),
        ("return x", set(), False),
    ],
)
def test_the_largest_parts_without_parameters_are_features_if_they_take_long(body, features, rest):
    found, remaining = features_of(read(body))
    assert {to_text(feature).rpartition(" = ")[2] for feature in found} == features
    assert remaining.columns == (*COLUMNS, *(f"feature{k}" for k in range(len(features))))
    assert bool(remaining.params) is rest


@pytest.mark.parametrize("most_bytes", [2**28, 0])
def test_every_bit_is_that_of_the_whole_equation(monkeypatch, most_bytes):
    monkeypatch.setattr(reference, "MOST_BYTES", most_bytes)
    rng, data = random.Random(0), rows(0)
    body = random_body(rng, COLUMNS, 10)
    for _ in range(300):
        body = mutate(rng, body, COLUMNS, 10) if rng.random() < 0.5 else random_body(rng, COLUMNS, 10)
        expression = read(body)
        equation, whole = RepeatedEquation(expression), callable_for(expression)
        for seed in range(3):
            params = np.random.default_rng(seed).normal(size=10)
            assert same(equation(*data, params), whole(*data, params)), body


def test_other_or_changed_columns_are_seen():
    expression = read("return params[0]*np.sin(x) + params[1]*v**3")
    equation, whole, params = RepeatedEquation(expression), callable_for(expression), np.array([2.0, 3.0])
    data = rows(1)
    for _ in range(3):
        assert same(equation(*data, params), whole(*data, params))
        data[0, 5] += 1.0
    batch = data[:, ::2]
    assert same(equation(*batch, params), whole(*batch, params))
    data[1, 0] = np.nan
    assert same(equation(*data, params), whole(*data, params))


def test_a_second_call_leaves_the_features_alone():
    expression = read("return params[0]*np.tanh(np.sin(np.exp(x))*np.cos(v)**np.abs(temp))")
    equation, params = RepeatedEquation(expression), np.ones(1)
    computed = []
    equation.features = [lambda *args, f=f: computed.append(1) or f(*args) for f in equation.features]
    data = rows(2)
    for _ in range(5):
        equation(*data, params)
    assert len(computed) == 1


def test_a_spec_may_go_row_by_row_with_plain_numbers():
    expression = read("return params[0]*x**3 + np.sin(v)")
    equation, whole, params = RepeatedEquation(expression), callable_for(expression), [1.5]
    for row in rows(3).T.tolist():
        assert equation(*row, params) == whole(*row, params)
