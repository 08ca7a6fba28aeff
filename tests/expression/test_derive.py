"""Derivatives against finite differences, and what counts as linear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmsr.expression import parse
from llmsr.expression.engine.tape import derivatives
from llmsr.expression.graph import Expression, Graph, evaluate, linear_params
from llmsr.expression.operations import OPS

UNARY = sorted(name for name, op in OPS.items() if op.arity == 1 and not op.boolean and name != "digamma")
SMOOTH_BINARY = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "arctan2",
    "hypot",
    "minimum",
    "maximum",
    "logaddexp",
    "mod",
)
# arguments inside every function's domain, away from jumps
DOMAIN = {"arccosh": (1.3, 2.5), "arctanh": (-0.8, 0.8), "arcsin": (-0.8, 0.8), "arccos": (-0.8, 0.8)}


def partial(expression: Expression, param: int, inputs: np.ndarray, theta: np.ndarray) -> np.ndarray:
    found = derivatives(expression)
    graph = Graph(100_000)
    place: list[int] = []
    for node in found.nodes:
        place.append(graph.intern(node._replace(args=tuple(place[a] for a in node.args))))
    part = graph.expression(place[found.partials[found.params.index(param)]], expression.columns)
    return evaluate(part, inputs, theta)


def difference(expression: Expression, param: int, inputs: np.ndarray, theta: np.ndarray) -> np.ndarray:
    step = 1e-6
    up, down = theta.copy(), theta.copy()
    up[param] += step
    down[param] -= step
    return (evaluate(expression, inputs, up) - evaluate(expression, inputs, down)) / (2 * step)


@pytest.mark.parametrize("op", UNARY)
def test_every_function_of_one_argument(op: str) -> None:
    low, high = DOMAIN.get(op, (0.3, 0.9))
    graph = Graph()
    inner = graph.add("add", graph.column(0), graph.param(0))
    expression = graph.expression(graph.add(op, inner), ("x",))
    inputs = np.linspace(low, high, 8)[:, None] - 0.011
    theta = np.array([0.011])
    expected = difference(expression, 0, inputs, theta)
    np.testing.assert_allclose(partial(expression, 0, inputs, theta), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("op", SMOOTH_BINARY)
@pytest.mark.parametrize("param", [0, 1])
def test_every_function_of_two_arguments(op: str, param: int) -> None:
    graph = Graph()
    first = graph.add("mul", graph.param(0), graph.column(0))
    second = graph.add("add", graph.param(1), graph.column(1))
    expression = graph.expression(graph.add(op, first, second), ("x", "y"))
    inputs = np.random.default_rng(1).uniform(0.4, 2.3, (9, 2))
    theta = np.array([1.31, 0.47])
    expected = difference(expression, param, inputs, theta)
    np.testing.assert_allclose(partial(expression, param, inputs, theta), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_random_graphs_agree_with_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = Graph()
    pool = [graph.column(0), graph.column(1), *(graph.param(i) for i in range(3)), graph.const(0.7)]
    for _ in range(12):
        op = str(rng.choice(["add", "sub", "mul", "tanh", "sin", "where", "arctan", "div"]))
        args = [int(rng.choice(pool)) for _ in range(OPS[op].arity)]
        if op == "where":
            args[0] = graph.add("lt", graph.column(0), graph.const(0.1))
        if op == "div":
            args[1] = graph.add("add", graph.const(1.5), graph.add("mul", args[1], args[1]))
        pool.append(graph.add(op, *args))
    expression = graph.expression(pool[-1], ("x", "y"))
    inputs = rng.uniform(-1, 1, (5, 2))
    theta = rng.uniform(-1, 1, 3)
    for param in expression.params:
        expected = difference(expression, param, inputs, theta)
        scale = 1.0 + np.abs(expected).max()
        assert np.abs(partial(expression, param, inputs, theta) - expected).max() < 1e-5 * scale


def test_power_of_zero_has_a_finite_derivative_by_the_exponent() -> None:
    expression = parse("return x ** params[0]", ["x"])
    assert partial(expression, 0, np.array([[0.0], [2.0]]), np.array([2.0]))[0] == 0.0


@pytest.mark.parametrize("name", ["fmin", "fmax"])
def test_where_one_argument_is_nan_the_other_one_has_the_derivative(name: str) -> None:
    expression = parse(f"return np.{name}(params[0]*np.log(x), params[1]*np.log(v))", ["x", "v"])
    inputs = np.array([[-1.0, 2.0], [2.0, -1.0], [2.0, 3.0]])
    theta = np.array([1.0, 1.0])
    for param in (0, 1):
        expected = difference(expression, param, inputs, theta)
        np.testing.assert_allclose(
            np.nan_to_num(partial(expression, param, inputs, theta)), expected, atol=1e-8
        )


def test_heavisides_value_at_zero_has_its_derivative() -> None:
    expression = parse("return np.heaviside(x, params[0])", ["x"])
    inputs = np.array([[-1.0], [0.0], [2.0]])
    assert partial(expression, 0, inputs, np.array([0.3])).tolist() == [0.0, 1.0, 0.0]


def linear(body: str) -> tuple[int, ...]:
    return linear_params(parse(body, ["x", "v"]))


def test_linear_parameters_are_found() -> None:
    assert linear("return params[0]*np.sin(params[1]*x) + params[2]*v + params[3]") == (0, 2, 3)
    assert linear("return (params[0] + params[1]*x) / (1 + params[2]*v**2)") == (0, 1)
    assert linear("return np.where(x > params[0], params[1]*x, params[2]*v)") == (1, 2)
    assert linear("return np.exp(params[0]*x + params[1])") == ()


def test_of_a_product_of_parameters_only_one_is_linear() -> None:
    assert len(linear("return params[0]*params[1]*x")) == 1
    assert linear("return params[0]*(1 + params[1]*x + params[2]*v)") == (1, 2)


def test_jumps_do_not_hide_a_dependence() -> None:
    assert linear("return params[0]*x + np.floor(params[0]*v)") == ()
    assert linear("return params[0]*np.floor(params[1]*x)") == (0,)
    assert linear("return params[0]*np.sign(params[0])*x") == ()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_what_is_called_linear_is_affine(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = Graph()
    pool = [graph.column(0), *(graph.param(i) for i in range(4))]
    for _ in range(8):
        op = str(rng.choice(["add", "sub", "mul", "tanh", "neg", "floor"]))
        pool.append(graph.add(op, *(int(rng.choice(pool)) for _ in range(OPS[op].arity))))
    expression = graph.expression(pool[-1], ("x",))
    chosen = list(linear_params(expression))
    inputs = rng.uniform(-1, 1, (5, 1))
    base, step = rng.normal(size=4), np.zeros(4)
    step[chosen] = rng.normal(size=len(chosen))
    values = [evaluate(expression, inputs, base + t * step) for t in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(values[2] - values[1], values[1] - values[0], atol=1e-9)
