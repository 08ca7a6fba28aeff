"""Every way out of an expression says the same function as the graph."""

from __future__ import annotations

import ast
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latex_reader import LatexReader
from strategies import COLUMNS, build, random_expression

from llmsr.expression import parse
from llmsr.expression.graph import Expression, Graph, evaluate
from llmsr.expression.operations import OPS
from llmsr.expression.printing import (
    callable_for,
    fill,
    lambdify,
    latex_name,
    safe_names,
    to_latex,
    to_numpy_source,
    to_sympy,
    to_text,
    to_torch_source,
)

ROWS = np.vstack([np.random.default_rng(5).normal(0, 2, (40, 3)), [[1, 1, 1], [-2, 3, 0.5], [0, 1, -1]]])
PARAMS = np.array([0.7, -1.3, 2.25, 0.031])
JUMPS = {
    "floor",
    "ceil",
    "rint",
    "trunc",
    "sign",
    "mod",
    "fmod",
    "floordiv",
    "heaviside",
    "copysign",
    "arctan2",
}
JUMPS |= {op for op in OPS if OPS[op].boolean} | {"where"}
SMOOTH = tuple(op for op in OPS if op not in JUMPS)


def agree(got, want: np.ndarray, bound: np.ndarray, nonfinite_may_differ: bool = False) -> bool:
    """Equal to 1e-9 on rows where rounding decides nothing (`bound` is finite and moderate)."""
    got = np.broadcast_to(np.asarray(got, dtype=float), want.shape)
    rows = bound < 1e5
    if nonfinite_may_differ:
        rows &= np.isfinite(want) & np.isfinite(got)
    return np.allclose(got[rows], want[rows], rtol=1e-9, atol=1e-9, equal_nan=True)


def condition(
    expression: Expression, params: np.ndarray = PARAMS, every_step_finite: bool = False
) -> np.ndarray:
    """Per row the largest size of any intermediate value, inf where a change of 1e-13 moves one by 1e-10."""
    result = np.zeros(len(ROWS))
    for index in range(len(expression.nodes)):
        part = Expression(expression.nodes[: index + 1], expression.columns)
        value = evaluate(part, ROWS, params)
        result = np.fmax(result, np.where(np.isinf(value), np.inf, np.abs(value)))
        if every_step_finite:
            result = np.where(np.isfinite(value), result, np.inf)
        for shift in (1e-13, -1e-13):
            moved = evaluate(part, ROWS * (1 + shift) + shift, params * (1 + shift))
            with np.errstate(all="ignore"):
                sound = (np.abs(moved - value) <= 1e-10 * (1 + np.abs(value))) | (
                    np.isnan(moved) & np.isnan(value)
                )
            result = np.where(sound, result, np.inf)
    return result


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
@pytest.mark.parametrize("op", OPS)
def test_every_operation_is_written_in_both_dialects(op, dialect):
    """Over columns, parameters, numbers and conditions as operands; edge rows included."""
    rows = np.array(
        [
            [a, b, c]
            for a in (-2.5, -1.0, 0.0, 0.3, 0.5, 2.0)
            for b in (-1.5, 0.0, 1.0, 3.0)
            for c in (0.5, 0.0)
        ]
    )
    operands = [
        "x",
        "v",
        "t",
        "p0",
        "p1",
        "2.5",
        "-0.5",
        "(x > v)",
        "-x",
        "x + v",
        "p0 > p1",
        "sqrt(x)",
        "1/v",
    ]
    for shift in range(len(operands)):
        chosen = [operands[(shift + k) % len(operands)] for k in range(OPS[op].arity)]
        if op == "copysign" and chosen[1] == "sqrt(x)":
            continue  # which sign a nan has is nobody's promise
        expression = build(f"op({op!r}, {', '.join(chosen)})")
        want = evaluate(expression, rows, PARAMS)
        f = callable_for(expression, dialect)
        if dialect == "torch":
            import torch

            got = f(*torch.tensor(rows).T, torch.tensor(PARAMS)).numpy()
        else:
            got = f(*rows.T, PARAMS)
        assert np.shape(got) == (len(rows),), to_text(expression)
        assert np.asarray(got).dtype == np.float64, to_text(expression)
        finite = np.isfinite(want)
        assert np.allclose(got[finite], want[finite], rtol=1e-12, atol=1e-14), to_text(expression)
        assert not np.isfinite(got[~finite]).any(), to_text(expression)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_expression())
def test_numpy_source_equals_the_graph(expression):
    want, bound = evaluate(expression, ROWS, PARAMS), condition(expression)
    assert agree(callable_for(expression)(*ROWS.T, PARAMS), want, bound), to_numpy_source(expression)
    assert agree(callable_for(expression, params=PARAMS)(*ROWS.T), want, bound), to_numpy_source(expression)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_expression())
def test_torch_source_equals_the_graph(expression):
    import torch

    want, bound = evaluate(expression, ROWS, PARAMS), condition(expression)
    columns, params = torch.tensor(ROWS).T, torch.tensor(PARAMS)
    text = to_torch_source(expression)
    assert agree(callable_for(expression, "torch")(*columns, params).numpy(), want, bound), text
    assert agree(callable_for(expression, "torch", params=PARAMS)(*columns).numpy(), want, bound), text


def read_text(text: str, names: dict[str, np.ndarray]):
    """The value of one line of `to_text`, by Python itself with numpy's functions."""

    class Arrays(ast.NodeTransformer):
        def visit_BoolOp(self, node):
            self.generic_visit(node)
            result = node.values[0]
            for value in node.values[1:]:
                result = ast.BinOp(
                    result, ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr(), value
                )
            return result

        def visit_UnaryOp(self, node):
            self.generic_visit(node)
            return ast.UnaryOp(ast.Invert(), node.operand) if isinstance(node.op, ast.Not) else node

        def visit_Constant(self, node):
            return ast.Call(ast.Name("float64", ast.Load()), [node], [])

    functions = {op: spec.kernel for op, spec in OPS.items()}
    functions["where"] = np.where
    values = {**functions, "float64": np.float64, "nan": np.nan, "inf": np.inf, **names}
    *assignments, last = text.split("; ")
    with np.errstate(all="ignore"):
        for assignment in [*assignments, f"result = {last}"]:
            name, _, right = assignment.partition(" = ")
            tree = ast.fix_missing_locations(Arrays().visit(ast.parse(right, mode="eval")))
            values[name] = eval(compile(tree, "text", "eval"), {"__builtins__": {}}, values)
    return values["result"]


ARITHMETIC = tuple(op for op in OPS if not OPS[op].boolean)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(random_expression(ops=ARITHMETIC))
def test_full_precision_text_equals_the_graph(expression):
    text = to_text(expression, digits=None)
    names = {name: ROWS[:, i] for i, name in enumerate(COLUMNS)}
    names |= {f"p{i}": np.float64(p) for i, p in enumerate(PARAMS)}
    want = evaluate(expression, ROWS, PARAMS)
    bound = condition(expression)
    assert agree(read_text(text, names), want, bound, True), text
    filled = to_text(expression, PARAMS, digits=None)
    assert agree(read_text(filled, names), want, bound, True), filled


@settings(max_examples=200, deadline=None, derandomize=True)
@given(random_expression(ops=tuple(op for op in ARITHMETIC if op != "digamma")))
def test_our_parser_reads_the_text_back(expression):
    text = to_text(expression, digits=None)
    special = ("expit", "erf", "erfc", "gamma", "gammaln", "digamma")
    code = re.sub(r"\b(\w+)\(", lambda m: ("special." if m[1] in special else "np.") + m[0], text)
    code = re.sub(r"\b(nan|inf)\b", r"np.\1", code)
    lines = re.sub(r"\bp(\d)\b", r"params[\1]", code).split("; ")
    lines[-1] = "return " + lines[-1]
    lines.insert(0, "from scipy import special")
    again = parse("\n".join("    " + line for line in lines), COLUMNS)
    assert isinstance(again, Expression), (text, again)
    want = evaluate(expression, ROWS, PARAMS)
    assert agree(evaluate(again, ROWS, PARAMS), want, condition(expression)), text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(random_expression(max_operations=8))
def test_sympy_equals_the_graph(expression):
    if any(n.op == "const" and np.isnan(n.value) for n in fill(expression, PARAMS).nodes):
        return  # sympy has no comparisons with nan
    formula = to_sympy(expression, PARAMS)
    with np.errstate(all="ignore"):
        got = lambdify(expression, formula)(*ROWS.T)
    want = evaluate(expression, ROWS, PARAMS)
    got = np.asarray(got)
    if np.iscomplexobj(got):
        got = np.where(got.imag == 0, got.real, np.nan)
    assert agree(got, want, condition(expression, every_step_finite=True), True), formula


@pytest.mark.parametrize(
    ("text", "params", "shown"),
    [
        ("p0*sin(x) + p1*v**3 + x*p2*cos(x)", [0.8, -0.5, -1.0], "0.8*sin(x) - 0.5*v**3 - x*cos(x)"),
        ("p0*x + p1*v", [0.3333333333, 2], "0.3333*x + 2*v"),
        ("x - (v - t)", None, "x - (v - t)"),
        ("x - (v + p0*t)", [-2], "x - (v - 2*t)"),
        ("x/(v*t)", None, "x/(v*t)"),
        ("(x/v)/t", None, "x/v/t"),
        ("(x + v)*t", None, "(x + v)*t"),
        ("(-x)**2", None, "(-x)**2"),
        ("-x**2", None, "-x**2"),
        ("x**(v + 1)", None, "x**(v + 1)"),
        ("(x**v)**t", None, "(x**v)**t"),
        ("2**(-x)", None, "2**(-x)"),
        ("x*(v/t)", None, "x*v/t"),
        ("x + (v + t)", None, "x + v + t"),
        ("x % 2 * 3", None, "3*(x % 2)"),
        ("where((x > 0) & (v < 1), x, 0)", None, "where(x > 0 and v < 1, x, 0)"),
        ("(x > 0)*v", None, "(x > 0)*v"),
        ("1e-9*x", None, "1e-9*x"),
    ],
)
def test_text_is_as_a_person_would_write_it(text, params, shown):
    assert to_text(build(text), params) == shown


@pytest.mark.parametrize(
    ("text", "params", "shown"),
    [
        ("p0*sin(x)**2 - x/v", [0.5], r"0.5 \, \sin^{2}\left(x\right) - \frac{x}{v}"),
        ("sqrt(x)*exp(-x)", None, r"\sqrt{x} \, e^{-x}"),
        ("p0*x", None, r"p_{0} \, x"),
        ("p0*x", [1.5e-7], r"1.5 \cdot 10^{-7} \, x"),
        ("x**(p0*v)", [2], r"x^{2 \, v}"),
        ("2*(3*x + 1)", None, r"2 \, \left(3 \, x + 1\right)"),
        ("x*2**v", None, r"x \cdot 2^{v}"),
        (
            "where(x > 0, v, 0)",
            None,
            r"\begin{cases} v & \text{if } x > 0 \\ 0 & \text{otherwise} \end{cases}",
        ),
        ("logaddexp(x, v)", None, r"\operatorname{logaddexp}\left(x, v\right)"),
        ("abs(x - v)**2", None, r"\left|x - v\right|^{2}"),
    ],
)
def test_latex_is_as_a_person_would_write_it(text, params, shown):
    assert to_latex(build(text), params) == shown


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("x", "x"),
        ("pH", r"\mathrm{pH}"),
        ("x_1", "x_{1}"),
        ("x1", "x_{1}"),
        ("theta", r"\theta"),
        ("omega_max", r"\omega_{\mathrm{max}}"),
        ("a_b_c", r"a_{\mathrm{b\_c}}"),
        ("50%", r"\mathrm{50\%}"),
        ("_", r"\mathrm{\_}"),
    ],
)
def test_column_names_become_symbols(name, symbol):
    assert latex_name(name) == symbol


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_expression(), st.booleans())
def test_latex_is_balanced(expression, filled):
    text = to_latex(expression, PARAMS if filled else None)
    depth = 0
    for mark in re.findall(r"\\[{}]|[{}]", text):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        assert depth >= 0
    assert depth == 0
    assert len(re.findall(r"\\left[^a-z]|\\left\\", text)) == len(
        re.findall(r"\\right[^a-z]|\\right\\", text)
    )
    assert text.count(r"\begin") == text.count(r"\end")
    assert not re.search(r"\\(l|r)(floor|ceil)[a-z]", text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(random_expression(), st.booleans())
def test_latex_read_as_a_person_reads_it_equals_the_graph(expression, filled):
    text = to_latex(expression, PARAMS if filled else None, digits=None)
    names = {name: ROWS[:, i] for i, name in enumerate(COLUMNS)}
    names |= {f"p_{{{i}}}": np.float64(p) for i, p in enumerate(PARAMS)}
    got = LatexReader(text, names).value()
    assert agree(got, evaluate(expression, ROWS, PARAMS), condition(expression), True), text


def test_signs_of_filled_constants_are_folded_into_the_line():
    assert to_text(build("x + p0*v - p1*t"), [-0.5, -2]) == "x - 0.5*v + 2*t"


def test_constant_results_have_one_value_per_row():
    graph = Graph()
    expression = graph.expression(graph.const(2.5), ("x",))
    assert callable_for(expression)(np.arange(4.0), []).tolist() == [2.5] * 4
    import torch

    assert callable_for(expression, "torch")(torch.arange(4.0), []).tolist() == [2.5] * 4


@pytest.mark.parametrize(
    "names", [("x y", "def", "x"), ("np", "params", "t0"), ("x", "x", "c1"), ("1a", "__import__('os')", "p0")]
)
def test_hostile_column_names_never_reach_the_source(names):
    expression = Expression(build("sin(x)*p0 + sin(x)/v + t").nodes, names)
    for source in (to_numpy_source(expression), to_torch_source(expression)):
        header = ast.parse(source).body[0].args.args
        assert len({a.arg for a in header}) == 4
        assert "import" not in source
    got = callable_for(expression)(*ROWS.T, PARAMS)
    assert np.allclose(got, evaluate(expression, ROWS, PARAMS))


def test_safe_names_keep_what_is_usable():
    assert safe_names(["x", "b-1", "lambda", "x"], {"np"}) == ("x", "c1", "c2", "c3")


def test_a_short_parameter_vector_is_an_error():
    with pytest.raises(ValueError, match=r"params\[3\]"):
        fill(build("p3*x"), [1.0])
    with pytest.raises(ValueError, match="dialect"):
        callable_for(build("x"), "fortran")
    with pytest.raises(ValueError, match="name"):
        to_numpy_source(build("x"), name="a b")


def test_what_sympy_cannot_say_is_a_value_error():
    body = "return np.where(x > 0, 1.0, v)**-1.0 > 2*np.where(v > 0, 0.0, x)**-1.0"
    with pytest.raises(ValueError, match="sympy has no form of this equation"):
        to_sympy(parse(body, COLUMNS))


@pytest.mark.parametrize("shape", ["doubling", "nest"])
def test_texts_of_astronomic_trees_are_bounded_and_right(shape):
    graph = Graph()
    node = graph.column(0)
    for _ in range(60 if shape == "doubling" else 1500):
        if shape == "doubling":
            node = graph.add("mul", graph.add("add", node, graph.const(0.5)), graph.add("tanh", node))
        else:
            node = graph.add("sin", graph.add("add", node, graph.const(0.1)))
    expression = graph.expression(node, COLUMNS)
    start = time.process_time()
    text, latex = to_text(expression, digits=None), to_latex(expression)
    assert len(text) < 100_000
    assert len(latex) < 200_000
    assert r"\begin{aligned}" in latex
    want = evaluate(expression, ROWS, PARAMS)
    assert np.allclose(read_text(text, {"x": ROWS[:, 0]}), want)
    precise = to_latex(expression, digits=None)
    assert np.allclose(LatexReader(precise, {"x": ROWS[:, 0]}).value(), want)
    assert np.allclose(callable_for(expression)(*ROWS.T, PARAMS), want)
    with pytest.raises(ValueError, match="too many for sympy"):
        to_sympy(expression)
    assert time.process_time() - start < 5.0


def test_light_modules_do_not_import_sympy_or_torch():
    import subprocess
    import sys

    code = "import sys, llmsr.expression.printing; print(sorted({'sympy', 'torch'} & set(sys.modules)))"
    env = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
