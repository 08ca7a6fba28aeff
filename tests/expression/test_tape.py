"""The tape: both engines give the Gram matrix that plain numpy and the symbolic derivatives give."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from llmsr.expression import parse
from llmsr.expression.engine import numpy_engine
from llmsr.expression.engine.tape import compile_tape, derivatives
from llmsr.expression.graph import Graph, evaluate
from llmsr.expression.operations import OPS

numba_engine = pytest.importorskip("llmsr.expression.engine.numba_engine")
ENGINES = [numpy_engine, numba_engine]
BODIES = [
    "return params[0]*x + params[1]",
    "return params[0]*np.sin(params[1]*x)*np.exp(-params[2]*v**2) + params[3]*np.cos(x*params[1])",
    "return np.where((x > params[0]) & (v < 1.0), params[1]*x, params[2]/(1.5 + v**2))",
    "return np.exp(params[0]) * np.exp(params[0]) + params[1]*x",
    "return np.exp(params[0]*x)",
    "return np.maximum(params[0]*x, params[1]*v) + np.abs(x)**params[2]",
    "return params[0]*np.log(x**2 + params[1]**2) + np.clip(params[2]*v, -0.5, 0.5)",
    "return x*v + 0*params[0]",
    "return params[0]*x**3 + params[1]*x**3 + params[2]*np.tanh(params[3]*v + params[4])",
]


def reference(expression, inputs, target, theta):
    """The Gram matrix from the derivative graph, evaluated by plain numpy."""
    found = derivatives(expression)
    full = np.ones(10)
    full[list(found.params)] = theta
    graph, place = Graph(100_000), []
    for node in found.nodes:
        place.append(graph.intern(node._replace(args=tuple(place[a] for a in node.args))))
    rows = [evaluate(graph.expression(place[p], expression.columns), inputs, full) for p in found.partials]
    matrix = np.vstack([*rows, target - evaluate(expression, inputs, full)])
    return matrix @ matrix.T


def both(expression, inputs, target, theta, max_features=64):
    tape = compile_tape(derivatives(expression), max_features)
    features = tape.features(np.ascontiguousarray(inputs.T))
    k = tape.n_params
    out = []
    for engine in ENGINES:
        g = np.empty((k + 1, k + 1))
        program = engine.bind(tape, features, target)
        good = engine.gram(program.handle, theta, g)
        out.append((good, g))
    return out


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("rows", [1, 3, 511, 513, 9000])
def test_engines_agree_with_plain_numpy(body: str, rows: int) -> None:
    expression = parse(body, ["x", "v"])
    rng = np.random.default_rng(rows)
    inputs, target = rng.uniform(-2, 2, (rows, 2)), rng.normal(size=rows)
    theta = rng.uniform(0.3, 1.5, len(expression.params))
    expected = reference(expression, inputs, target, theta)
    for max_features in (64, 0):
        for good, g in both(expression, inputs, target, theta, max_features):
            assert good
            np.testing.assert_allclose(g, expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("op", sorted(OPS.keys() - {"digamma"}))
def test_every_operation_agrees_on_rows_and_uniforms(op: str) -> None:
    graph = Graph()
    x, p = graph.column(0), graph.param(0)
    row = graph.add("mul", x, p)
    args = {1: [(row,), (p,)], 2: [(row, p), (p, row), (row, x)], 3: [(x, row, p), (row, p, x)]}[
        OPS[op].arity
    ]
    rng = np.random.default_rng(3)
    inputs, target = rng.uniform(0.1, 0.9, (700, 1)), rng.normal(size=700)
    inputs[::7] *= -1.0
    for chosen in args:
        # the logistic function keeps what is infinite or undefined out of the sums
        node = graph.add(op, *chosen)
        safe = graph.add("where", graph.add("isfinite", node), node, graph.const(2.0))
        expression = graph.expression(graph.add("add", safe, graph.add("mul", row, x)), ("x",))
        (good_a, a), (good_b, b) = both(expression, inputs, target, np.array([0.37]))
        assert good_a == good_b
        np.testing.assert_allclose(a[-1, -1], b[-1, -1], rtol=1e-12)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, 2.7, 31.0])
@pytest.mark.parametrize("low", [-2.0, 0.0, 0.5])
@pytest.mark.parametrize(
    "body",
    ["return x**params[0]", "return (v + params[1]*x)**params[0]", "return params[0]**x + params[1]"],
)
def test_powers_are_numpys(body: str, low: float, exponent: float) -> None:
    expression = parse(body, ["x", "v"])
    inputs = np.column_stack([np.linspace(low, 2.0, 701), np.zeros(701)])
    theta = np.array([exponent, 1.0])[: len(expression.params)]
    value = evaluate(expression, inputs, theta)
    (_, theirs), (_, ours) = both(expression, inputs, np.zeros(701), theta)
    expected = value @ value if np.isfinite(value).all() else np.inf
    np.testing.assert_allclose([theirs[-1, -1], ours[-1, -1]], expected, rtol=1e-13)
    if np.isfinite(expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11 * expected)


def test_products_of_features_are_those_of_every_evaluation() -> None:
    expression = parse("return params[0]*x + params[1]*np.sin(params[2]*v) + params[3]*x*v", ["x", "v"])
    rng = np.random.default_rng(7)
    inputs, target = rng.uniform(-1, 1, (1300, 2)), rng.normal(size=1300)
    tape = compile_tape(derivatives(expression))
    features = tape.features(np.ascontiguousarray(inputs.T))
    used = numba_engine.bind(tape, features, target)
    g, fresh = np.empty((5, 5)), np.empty((5, 5))
    for theta in rng.normal(size=(3, 4)):
        numba_engine.gram(used.handle, theta, g)
        new = numba_engine.bind(tape, features, target)
        numba_engine.gram(new.handle, theta, fresh)
        assert (g == fresh).all()
        np.testing.assert_allclose(g, reference(expression, inputs, target, theta), rtol=1e-11, atol=1e-11)


def test_a_value_that_is_not_finite_is_told() -> None:
    expression = parse("return params[0]*np.log(x)", ["x"])
    inputs = np.linspace(-0.1, 1, 2000)[:, None]
    for good, g in both(expression, inputs, np.zeros(2000), np.ones(1)):
        assert not good
        assert g[-1, -1] == np.inf


def test_a_derivative_that_is_not_finite_counts_as_zero() -> None:
    expression = parse("return np.sqrt(params[0]*x) + params[1]*x", ["x"])
    inputs = np.array([[0.0], [1.0], [4.0]])
    for good, g in both(expression, inputs, np.zeros(3), np.ones(2)):
        assert good
        np.testing.assert_allclose(g[0, 0], 0.25 + 1.0)


@pytest.mark.parametrize(
    "masked",
    ["np.sqrt(x)", "np.log(x)", "v/x", "x**1.5", "np.log(x)*v**0.5 - 1/x"],
)
def test_a_derivative_that_a_mask_keeps_out_of_the_value_counts_as_zero(masked: str) -> None:
    expression = parse(
        f"return params[0]*np.tanh(params[1]*v) + np.where(x > 0, params[2]*({masked}), 0)", ["x", "v"]
    )
    rng = np.random.default_rng(5)
    inputs = rng.uniform(-1, 1, (1500, 2))
    inputs[:200, 0] = 0.0
    inputs[:, 1] = np.abs(inputs[:, 1])
    target = rng.normal(size=1500)
    inside = inputs[:, 0] > 0
    column = np.zeros(1500)
    x, v = inputs[inside].T
    column[inside] = eval(masked, {"np": np, "x": x, "v": v})  # this test's own words
    for good, g in both(expression, inputs, target, np.array([0.7, 1.3, 0.4])):
        assert good
        np.testing.assert_allclose(g[2, 2], column @ column, rtol=1e-12)
        residual = target - 0.7 * np.tanh(1.3 * inputs[:, 1]) - 0.4 * column
        np.testing.assert_allclose(g[2, 3], column @ residual, rtol=1e-10)
        np.testing.assert_allclose(g[3, 3], residual @ residual, rtol=1e-12)


def test_one_to_an_infinite_power_is_one() -> None:
    expression = parse("return params[0]**(v/x)", ["x", "v"])
    inputs = np.array([[0.0, 1.0], [0.0, -1.0], [0.5, 1.0]])
    for good, g in both(expression, inputs, np.zeros(3), np.ones(1)):
        assert good
        assert g[-1, -1] == 3.0


def test_huge_angles_keep_their_sines() -> None:
    expression = parse("return np.sin(params[0]*x)", ["x"])
    inputs = np.array([[1e3], [1e6], [1e9], [1e15], [-1e7]])
    for _, g in both(expression, inputs, np.zeros(5), np.ones(1)):
        np.testing.assert_allclose(g[-1, -1], np.sum(np.sin(inputs) ** 2), rtol=1e-12)


@pytest.mark.parametrize("op", ["exp", "log", "tanh"])
def test_own_kernels_are_numpys_to_the_last_digits(op: str) -> None:
    from llmsr.expression.engine.interpreter import unary

    rng = np.random.default_rng(11)
    edges = [
        0.0,
        -0.0,
        5e-324,
        1e-310,
        2.2e-308,
        1e-9,
        1.0,
        709.7,
        710.0,
        -740.0,
        -746.0,
        1e308,
        np.inf,
        np.nan,
    ]
    sample = np.concatenate([edges, np.negative(edges), rng.uniform(-745, 709, 5000), rng.normal(size=5000)])
    sample = np.concatenate([sample, np.exp(rng.uniform(-700, 700, 5000))])
    out = np.empty_like(sample)
    unary(OPS[op].opcode, sample, out)
    with np.errstate(all="ignore"):
        want = getattr(np, op)(sample)
    np.testing.assert_array_equal(np.isfinite(out), np.isfinite(want))
    np.testing.assert_allclose(out, want, rtol=7e-16, atol=5e-324)


def test_gradient_is_the_grams_last_row() -> None:
    expression = parse(BODIES[1], ["x", "v"])
    rng = np.random.default_rng(0)
    inputs, target = rng.uniform(-1, 1, (3000, 2)), rng.normal(size=3000)
    tape = compile_tape(derivatives(expression))
    features = tape.features(np.ascontiguousarray(inputs.T))
    k, theta = tape.n_params, rng.normal(size=tape.n_params)
    for engine in ENGINES:
        program = engine.bind(tape, features, target)
        g, slope = np.empty((k + 1, k + 1)), np.empty(k)
        engine.gram(program.handle, theta, g)
        value = engine.gradient(program.handle, theta, slope)
        np.testing.assert_allclose(value, g[k, k] / 3000, rtol=1e-13)
        np.testing.assert_allclose(slope, -2 * g[k, :k] / 3000, rtol=1e-10, atol=1e-13)


def test_programs_of_different_threads_do_not_disturb_each_other() -> None:
    expression = parse(BODIES[1], ["x", "v"])
    rng = np.random.default_rng(5)
    inputs, target = rng.uniform(-1, 1, (5000, 2)), rng.normal(size=5000)
    tape = compile_tape(derivatives(expression))
    features = tape.features(np.ascontiguousarray(inputs.T))
    thetas = rng.normal(size=(8, tape.n_params))
    k = tape.n_params
    alone = np.empty((8, k + 1, k + 1))
    for i, theta in enumerate(thetas):
        program = numba_engine.bind(tape, features, target)
        numba_engine.gram(program.handle, theta, alone[i])
    together = np.empty((8, k + 1, k + 1))

    def work(i: int) -> None:
        program = numba_engine.bind(tape, features, target)
        for _ in range(50):
            numba_engine.gram(program.handle, thetas[i], together[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (alone == together).all()
