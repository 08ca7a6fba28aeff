"""Units: consistent equations pass, others are told; the solution of the linear equations is exact."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsr.expression import evaluate, parse
from llmsr.expression.canonical import canonicalize
from llmsr.expression.dimensions import Dimensions

# over (m, s): x in m, t in s, v in m/s, n a number, u unknown; the target in m
GIVEN = Dimensions(
    ("m", "s"),
    tuple(
        None if pair is None else tuple(map(Fraction, pair))
        for pair in [(1, 0), (0, 1), (1, -1), (0, 0), None]
    ),
    (Fraction(1), Fraction(0)),
)
COLUMNS = ["x", "t", "v", "n", "u"]


def fault(body, given=GIVEN):
    expression = parse(f"return {body}", COLUMNS)
    assert not hasattr(expression, "reason"), expression
    return given.fault(expression)


@pytest.mark.parametrize(
    "body",
    [
        "x + v*t", "params[0]*t + params[1]", "x*np.exp(-t/params[0])", "np.sqrt(x**2 + (v*t)**2)",
        "2*x - 0.5*v*t",
        "np.where(t > 0, x, v*t)", "np.maximum(x, 0)", "params[0]*x**params[1]", "x*(x/params[0])**params[1]",
        "v**2/params[0]", "x*np.sin(params[0]*t + params[1])", "u*t", "u + x", "params[0]*np.tanh(u*x)",
        "x*n**(t/params[0])", "np.hypot(x, v*t)", "x*np.arctan2(x, v*t)",
        "np.abs(x)*np.sign(v)", "np.cbrt(x**3)", "params[0]*np.log(t/params[1])", "x*np.heaviside(t, 0.5)",
        "x % (v*t)", "np.copysign(x, v)", "params[0]*x*t*v**2 + params[1]*np.exp(n)",
        "x*(1 + params[0]*t + params[1]*t**2)", "params[0]*(x + params[1])**params[2]",
    ],
)  # fmt: skip
def test_units_that_agree_pass(body):
    assert fault(body) == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("x + t", "add of x is in m and t is in s"),
        ("x + 1", "1 is in 1"),
        ("v*t + v", "in m*s**-1"),
        ("x*np.exp(t)", "exp takes a number without a unit, t is in s"),
        ("x*np.sin(t)", "sin takes a number"),
        ("v", "the result is in m*s**-1, the target in m"),
        ("params[0]*(x + t)", "add of"),
        ("np.where(n > x, x, 2*x)", "gt of"),
        ("np.where(n > 0, x, t)", "where of"),
        ("x*n**t", "exponent is a number"),
        ("params[0]*x**n", "one power for all rows"),
        ("(x + params[0])/t + (t + params[0])", "add of"),
        ("x*np.exp(params[0]*t)*np.exp(params[0]*x)", "exp takes"),
        ("np.floor(x)", "floor takes"),
        ("x**2/x**0.5", "the result is in m**3/2"),
    ],
)
def test_units_that_do_not_agree_are_told(body, words):
    told = fault(body)
    assert told.startswith("units: ")
    assert words in told
    assert "\n" not in told


def test_one_constant_cannot_have_two_units():
    assert fault("params[0]*t + x") == ""
    assert fault("params[0]*t + x + params[0]*x") != ""


EXPONENTS = st.fractions(-3, 3, max_denominator=2)


@given(
    st.lists(st.tuples(EXPONENTS, EXPONENTS), min_size=3, max_size=3),
    st.lists(EXPONENTS, min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_a_product_of_powers_has_the_sum_of_its_exponents(vectors, powers):
    target = tuple(
        sum((v[i] * p for v, p in zip(vectors, powers, strict=True)), Fraction(0)) for i in range(2)
    )
    columns = (*vectors, None, None)
    body = "*".join(f"{name}**({float(p)!r})" for name, p in zip("xtv", powers, strict=True))
    expression = parse(f"return {body}", COLUMNS)
    if hasattr(expression, "reason"):  # all powers are 0: a number
        return
    right = Dimensions(("m", "s"), columns, target)
    wrong = Dimensions(("m", "s"), columns, (target[0] + 1, target[1]))
    assert right.fault(expression) == ""
    assert wrong.fault(expression) != ""


SAFE = [
    "x", "v*t", "params[0]", "params[1]*t", "x*np.exp(-n)", "params[2]*v", "x*np.cos(params[3]*t)",
    "v**2/params[4]",
]  # fmt: skip


@given(st.lists(st.sampled_from(SAFE), min_size=1, max_size=5), st.floats(0.1, 10), st.floats(0.1, 10))
@settings(max_examples=80, deadline=None)
def test_what_is_consistent_is_the_same_law_in_other_units(terms, metre, second):
    """In units of `metre` and `second`, with constants converted, a consistent sum gives converted values."""
    body = " + ".join(terms)
    expression = parse(f"return {body} + 0*x", COLUMNS)
    assert GIVEN.fault(expression) == ""
    assert GIVEN.fault(canonicalize(expression).expression) == ""
    scale = np.array([metre, second, metre / second, 1.0, 1.0])
    units = np.array([metre, metre / second, second, 1 / second, metre / second**2])
    rows = np.random.default_rng(0).uniform(0.5, 2, (4, 5))
    params = np.array([0.3, 1.2, 0.7, 2.0, 1.5])
    here = evaluate(expression, rows, np.pad(params, (0, 5)))
    there = evaluate(expression, rows * scale, np.pad(params * units, (0, 5)))
    np.testing.assert_allclose(there, here * metre, rtol=1e-9)


def test_a_hundred_terms_are_solved():
    terms = " + ".join(f"params[{i % 10}]*x**{i % 7}*t**{i % 5}" for i in range(100))
    assert fault(terms).startswith("units: add of")
    assert fault(" + ".join(f"params[{i % 10}]*x*n**{i}" for i in range(100))) == ""
