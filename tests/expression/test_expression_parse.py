"""The parser means what Python and numpy mean where that is easy to get wrong, and says why it refuses."""

from __future__ import annotations

import ast
import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_honest_bodies import BODIES, VERSIONS, bodies_of, inputs_for, run_by_numpy

from llmsr.expression import Expression, Limits, Refusal, evaluate, parse
from llmsr.expression.canonical import canonical_hash
from llmsr.expression.graph import complexity

TRAPS = {case["note"]: case["body"] for case in bodies_of("traps")}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_means_what_numpy_makes_of_it(name: str) -> None:
    inputs = inputs_for(["x", "v"])
    inputs[:5] = [[0, 0], [-1, 1], [0.5, 0], [0, -0.5], [1, 1]]
    expression = parse(TRAPS[name], ["x", "v"])
    assert isinstance(expression, Expression), str(expression)
    for params in (np.linspace(0.4, 2.2, 10), np.linspace(-1.3, 1.1, 10), np.linspace(3, -2, 10)):
        expected = run_by_numpy(TRAPS[name], ["x", "v"], inputs, params)
        result = evaluate(expression, inputs, params)
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


TORCH = {
    "torch.sin(x) * params[0] + x.cos()": "np.sin(x) * params[0] + np.cos(x)",
    "torch.where(x > 0, torch.sigmoid(v), torch.tensor(0.5))": "np.where(x > 0, 1 / (1 + np.exp(-v)), 0.5)",
    "torch.clamp(x, min=0.1, max=0.5) + v.clamp(min=0)": "np.clip(x, 0.1, 0.5) + np.clip(v, 0, None)",
    "torch.stack([x, v], dim=1) @ params[:2]": "np.stack([x, v], 1) @ params[:2]",
    "torch.relu(x) + F.relu(v) + x.abs().sqrt()": "np.maximum(x, 0) + np.maximum(v, 0) + np.sqrt(np.abs(x))",
    "torch.sum(torch.stack([x, v]), dim=0) + torch.pow(x, 2)": "x + v + x**2",
    "F.softplus(25 * x) + torch.nn.functional.silu(v)": "np.where(x > 0.8, 25 * x, np.log1p(np.exp(25 * x)))"
    " + v / (1 + np.exp(-v))",
    "torch.max(x, v) + torch.exp(-x.pow(2)) * torch.pi": "np.maximum(x, v) + np.exp(-(x**2)) * np.pi",
    "x.unsqueeze(1).squeeze() + torch.zeros_like(v) + v.size(0) * 0": "",
    "torch.flatten(x) + torch.stack([x, v]).flatten(0)[0] * 0 + v": "",
    "torch.flatten(params)[2] * x": "params[2] * x",
    "F.elu(x) + F.leaky_relu(v, 0.1)": "np.where(x > 0, x, np.expm1(x)) + np.where(v > 0, v, 0.1 * v)",
}  # fmt: skip


@pytest.mark.parametrize("spelled", TORCH)
def test_torch_spellings_are_the_same_equations(spelled: str) -> None:
    expression = parse(f"    return {spelled}\n", ["x", "v"])
    if not TORCH[spelled]:
        assert isinstance(expression, Refusal)
        return
    assert isinstance(expression, Expression), str(expression)
    inputs, params = inputs_for(["x", "v"]), np.linspace(0.4, 2.2, 10)
    expected = run_by_numpy(f"    return {TORCH[spelled]}\n", ["x", "v"], inputs, params)
    np.testing.assert_allclose(evaluate(expression, inputs, params), expected, rtol=1e-9, atol=1e-12)


ROW_BY_ROW = {
    "    if x > 0:\n        y = x\n    else:\n        y = v\n    return y\n": "np.where(x > 0, x, v)",
    "    if x > 0 and v > 0:\n        return x\n    return v\n": "np.where((x > 0) & (v > 0), x, v)",
    "    return x if -0.5 < x < 0.5 else 0.0\n": "np.where((x > -0.5) & (x < 0.5), x, 0)",
    "    return max(x, 0) + min(v, x)\n": "np.maximum(x, 0) + np.minimum(v, x)",
    "    return math.sin(x) + math.exp(v)\n": "np.sin(x) + np.exp(v)",
    "    y = np.zeros_like(x)\n    if x > v:\n        y += 1\n    return y\n": "np.where(x > v, 1.0, 0.0)",
}


@pytest.mark.parametrize("body", ROW_BY_ROW)
def test_conditions_on_columns_hold_row_by_row(body: str) -> None:
    expression = parse(body, ["x", "v"])
    assert isinstance(expression, Expression), str(expression)
    inputs, params = inputs_for(["x", "v"]), np.ones(10)
    expected = run_by_numpy(f"    return {ROW_BY_ROW[body]}\n", ["x", "v"], inputs, params)
    np.testing.assert_allclose(evaluate(expression, inputs, params), expected, rtol=1e-12)


INDENTS = [
    "return x * params[0]",
    "y = x\nreturn y * params[0]",
    "y = x\n    return y * params[0]\n",
    "\n\n    y = x\n    return y * params[0]\n\n\n",
    "\ty = x\n\treturn y * params[0]\n",
    "        y = x\n        return y * params[0]",
    " return x * params[0]",
    "if True:\n        y = x\n    return y * params[0]\n",
    "if True:\n        return x * params[0]\n",
    "if True:\n    y = x\nreturn y * params[0]\n",
    "    # comment\n# comment without indent\n    return x * params[0]\n",
    '"""Docstring\nwithout indent."""\n    return x * params[0]\n',
    "    return (x *\nparams[0])\n",
    "    return x * params[0]\r\n",
    "\ufeff    return x * params[0]\n",
    "    if True:\n\treturn x * params[0]\n",
    "    y = x\n\treturn y * params[0]\n",
]


@pytest.mark.parametrize("body", INDENTS)
def test_the_indent_does_not_matter(body: str) -> None:
    assert parse(body, ["x"]) == parse("    return x * params[0]\n", ["x"])


@pytest.mark.parametrize(
    ("body", "kind", "line", "words"),
    [
        ("", "empty", None, "nothing"),
        ("    # hm\n", "empty", None, "nothing"),
        ("    y = x\n    return y +\n", "syntax", 2, "Python"),
        ("return x\n\nSo this is it.\n", "syntax", 3, "Python"),
        ("    y = x\n\n    z = undefined\n    return z\n", "unsupported", 3, "undefined"),
        ("    y = (x\n         + unknown)\n    return y\n", "unsupported", 2, "unknown"),
        ("    y = x\n    return np.gradient(y)\n", "unsupported", 2, "gradient"),
        ("    f = lambda z: z[0]\n    return f(x)\n", "unsupported", 1, "row"),
        ("    y = params[0]\n    return y\n", "constant", 2, "no input column"),
        ("    y = 10 ** 10 ** 10\n    return x\n", "too_large", 1, "integer"),
        ("    y = x\n", "unsupported", 1, "no return"),
    ],
)
def test_a_refusal_tells_what_and_where(body: str, kind: str, line: int | None, words: str) -> None:
    refusal = parse(body, ["x"])
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.line) == (kind, line)
    assert words in refusal.reason


def test_versions_are_inlined_and_recursion_is_refused() -> None:
    versions = {
        "equation_v0": "    return params[0] * x\n",
        "equation_v1": "return equation_v0(x, params) + x**2",
    }
    inlined = parse("    return equation_v1(2 * x, params[1:])\n", ["x"], versions=versions)
    assert inlined == parse("    z = 2 * x\n    return params[1] * z + z**2\n", ["x"])
    circle = {
        "equation_v0": "    return equation_v1(x, params)\n",
        "equation_v1": "    return equation_v0(x, params)\n",
    }
    refusal = parse("\n    return equation_v0(x, params)\n", ["x"], versions=circle)
    assert isinstance(refusal, Refusal)
    assert refusal.line == 2
    assert "calls itself" in refusal.reason


def test_a_version_cannot_see_the_names_of_its_caller() -> None:
    refusal = parse(
        "    k = 2\n    return equation_v0(x, params)\n", ["x"], versions={"equation_v0": "return k * x"}
    )
    assert isinstance(refusal, Refusal)
    assert "k" in refusal.reason


def test_names_of_the_specification_are_known() -> None:
    constants = {"MAX_NPARAMS": 4, "G": 9.81}
    assert parse(
        "    return G * x + params[MAX_NPARAMS - 1]\n", ["x"], max_params=4, constants=constants
    ) == parse("    return 9.81 * x + params[3]\n", ["x"])
    assert parse("    return x * theta[1]\n", ["x"], params_name="theta").params == (1,)
    assert isinstance(parse("    return x * params[4]\n", ["x"], max_params=4), Refusal)


def test_the_authors_parameter_indices_stay() -> None:
    expression = parse("    a = params[9]\n    unused = params[5]\n    return a * x + params[2]\n", ["x"])
    assert isinstance(expression, Expression)
    assert expression.params == (2, 9)


def test_limits_are_kept() -> None:
    body = "    y = x\n" + "    y = np.sin(y)\n" * 50 + "    return y\n"
    assert isinstance(parse(body, ["x"]), Expression)
    for limits in (Limits(nodes=20), Limits(steps=50), Limits(cells=100), Limits(text=100), Limits(line=5)):
        refusal = parse(body, ["x"], limits=limits)
        assert isinstance(refusal, Refusal)
        assert refusal.kind == "too_large"


def test_warnings_of_the_python_parser_are_not_shown() -> None:
    with warnings.catch_warnings(record=True) as shown:
        parse("    '''a \\d docstring'''\n    return x if x is 1 else v\n", ["x", "v"])
    assert not [w for w in shown if "<equation>" not in w.filename]


FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""What a mutated body may stop with when Python runs it."""
FUNCTIONS = [
    "sin",
    "cos",
    "tan",
    "exp",
    "log",
    "sqrt",
    "abs",
    "sign",
    "tanh",
    "square",
    "floor",
    "isnan",
    "cbrt",
]
TWO = ["maximum", "minimum", "power", "arctan2", "hypot", "mod", "add", "multiply", "logical_and", "greater"]
OPERATORS = [ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Mod, ast.FloorDiv]
COMPARISONS = [ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq]


def mutated(body: str, columns: list[str], seed: int, count: int) -> str:
    """The body with a few operators, numbers, functions or names of columns exchanged: always safe to run."""
    choose = random.Random(seed)
    tree = ast.parse("def f():\n" + body)
    nodes = [
        n
        for n in ast.walk(tree)
        if isinstance(n, (ast.BinOp, ast.Constant, ast.Attribute, ast.Name, ast.Compare))
    ]
    for node in choose.sample(nodes, min(count, len(nodes))):
        if isinstance(node, ast.BinOp) and not isinstance(node.op, (ast.MatMult, ast.BitAnd, ast.BitOr)):
            node.op = choose.choice(OPERATORS)()
        elif isinstance(node, ast.Compare):
            node.ops[0] = choose.choice(COMPARISONS)()
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            node.value = choose.choice([0, 1, 2, 3, -1, -2, 0.5, 1.5, 0.0, -0.0])
        elif isinstance(node, ast.Attribute) and node.attr in FUNCTIONS + TWO:
            node.attr = choose.choice(TWO if node.attr in TWO else FUNCTIONS)
        elif isinstance(node, ast.Name) and node.id in columns and isinstance(node.ctx, ast.Load):
            node.id = choose.choice([*columns, "params"])
    return "\n".join("    " + line for line in ast.unparse(tree.body[0].body).split("\n")) + "\n"


def bounded(body: str) -> bool:
    """Whether plain Python can run it without large integers."""
    return body.count("**") < 12 and "while" not in body


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    case=st.sampled_from([*BODIES, *({"columns": ["x", "v"], "body": body} for body in TRAPS.values())]),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 3),
)
def test_a_mutated_body_is_refused_or_equals_numpy(case: dict, seed: int, count: int) -> None:
    columns = case["columns"]
    body = mutated(case["body"], columns, seed, count)
    if not bounded(body):
        return
    expression = parse(body, columns, versions=VERSIONS if columns == ["x", "v"] else None)
    if isinstance(expression, Refusal):
        assert len(expression.reason) < 160
        return
    inputs = inputs_for(columns)
    for params in (np.linspace(0.4, 2.2, 10), np.linspace(-1.3, 1.1, 10)):
        expected = value_or_error(body, columns, inputs, params)
        if isinstance(expected, Exception):
            # numpy stops where the row-by-row meaning goes on: a condition or a scalar function on a column
            assert "ambiguous" in str(expected) or "math" in body, (body, expected)
            return
        result = evaluate(expression, inputs, params)
        assert np.shape(expected) == result.shape
        np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-9, equal_nan=True, err_msg=body)


def value_or_error(
    body: str, columns: list[str], inputs: np.ndarray, params: np.ndarray
) -> np.ndarray | Exception:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return run_by_numpy(body, columns, inputs, params)
        except FAILURES as error:
            return error


ALIASES = [
    "b = x*2\nc = v*3\na = b if params[0] > 0 else c\nif params[1] > 0:\n    a = a + 1\n"
    "a += 1\nreturn a + b - c",
    "a = x if params[0] > 0 else v\nif params[1] > 0:\n    a = a + 1\na += 1\nreturn a + x",
    "b = x*2\nc = v*3\nif params[0] > 0:\n    a = b\nelse:\n    a = c\nif params[1] > 0:\n    a = a + 1\n"
    "a[a > 0] = 0\nreturn a + b - c",
    "b = x*2\nc = v*3\ndef f(p):\n    a = b if params[0] > 0 else c\n    if p > 0:\n        return a\n"
    "    return a + 1\nr = f(params[1])\nr += 1\nreturn r + b - c",
]


@pytest.mark.parametrize("body", ALIASES)
def test_an_array_that_may_have_a_second_name_is_not_changed_after_further_conditions(body: str) -> None:
    refusal = parse(body, ["x", "v"])
    assert isinstance(refusal, Refusal)
    assert "second name" in refusal.reason or "input column would be changed" in refusal.reason


FOLLOWED = {
    "y = x * 1\ndef f():\n    if params[0] > 1:\n        return x\n    y[...] = v\n    return y\nz = f()\n"
    "return y - 2 * z": "np.where(params[0] > 1, x, v) - 2 * np.where(params[0] > 1, x, v)",
    "l = [x, v]\nif params[0] > 1:\n    l[0] = -v\nreturn l[0] * l[1]": "np.where(params[0] > 1, -v, x) * v",
    "t = {'p': v}\nif params[0] > 1:\n    if params[1] > 1.5:\n        t['p'] = x\nreturn t['p']": "np.where("
    "(params[0] > 1) & (params[1] > 1.5), x, v)",
    "l = [x]\nm = l if params[0] > 1 else [v]\nreturn m[0] + sum(l)": "np.where(params[0] > 1, x, v) + x",
    "k = 2\ny = x * (k := 3) if params[0] > 1 else v\nreturn y * k": "np.where(params[0] > 1, x * 9, v * 2)",
    "a = (True if params[0] > 1 else False) + (True if params[0] > 0 else False)\nreturn x * a": "x * (1 + "
    "(params[0] > 1))",
    "f = np.vectorize(lambda z: True if z > 0 else False)\nreturn x * (f(x) + f(v))": "np.where((x > 0) | "
    "(v > 0), x, 0)",
    "a = np.array([not params[0] > 1, True])\nreturn x * (a[0] + a[1])": "x",
    "k = True if params[0] > 1 else False\nreturn np.where(k & (x > 0), x, v)": "np.where((params[0] > 1) & "
    "(x > 0), x, v)",
}


@pytest.mark.parametrize("body", FOLLOWED)
def test_what_is_changed_under_a_condition_is_followed(body: str) -> None:
    expression = parse(body, ["x", "v"])
    assert isinstance(expression, Expression), str(expression)
    inputs = inputs_for(["x", "v"])
    for params in (np.linspace(0.4, 2.2, 10), np.linspace(1.4, 2.2, 10)):
        expected = run_by_numpy(f"    return {FOLLOWED[body]}\n", ["x", "v"], inputs, params)
        np.testing.assert_allclose(evaluate(expression, inputs, params), expected, rtol=1e-12)


def test_what_both_ways_change_is_one_choice_between_them() -> None:
    changed = "y = x * 1\nif params[0] > 0:\n    y += v\n    y *= 2\nelse:\n    y -= 5\nreturn y"
    chosen = "return np.where(params[0] > 0, (x * 1 + v) * 2, x * 1 - 5)"
    a, b = parse(changed, ["x", "v"]), parse(chosen, ["x", "v"])
    assert isinstance(a, Expression)
    assert isinstance(b, Expression)
    assert complexity(a) == complexity(b)
    assert canonical_hash(a) == canonical_hash(b)


UNTOLD = {
    "g = iter([x, v])\ndef f():\n    if params[0] > 0:\n        return x\n    return next(g)\n"
    "a = f()\nreturn a + next(g)": "an iterator used up in a branch",
    "def f():\n    b = x * 2\n    return lambda: b, (b if params[0] > 0 else v * 3)\n"
    "g, a = f()\na += 1\nreturn a + g()": "second name",
    "l = [x]\nm = l if params[0] > 0 else [v]\nl.append(v)\nreturn m[0] + len(m) * x": "second name",
    "l = [x]\nif params[0] > 0:\n    l.append(v)\nreturn sum(l)": "changed under a condition",
}


@pytest.mark.parametrize("body", UNTOLD)
def test_what_a_condition_leaves_untold_is_refused(body: str) -> None:
    refusal = parse(body, ["x", "v"])
    assert isinstance(refusal, Refusal)
    assert UNTOLD[body] in refusal.reason


def test_looking_through_many_names_counts_as_work() -> None:
    lines = [f"a{i} = [x]*1000" for i in range(500)]
    for i in range(20):
        lines += [f"if params[0] > {i}:", f"    b = x*{i}", "else:", f"    b = v*{i}", "b += x"]
    refusal = parse("\n".join([*lines, "return b"]), ["x", "v"])
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "too_large"


@pytest.mark.parametrize("name", ["std", "var"])
def test_a_method_that_differs_between_numpy_and_torch_is_numpys_alone(name: str) -> None:
    body = f"return x + np.stack([x, v]).{name}(axis=0)"
    assert parse(body, ["x", "v"]) == parse(f"return x + np.{name}(np.stack([x, v]), 0)", ["x", "v"])
    refusal = parse(f"return x + torch.stack([x, v]).{name}(0)", ["x", "v"], dialect="torch")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == f"the method {name} of a tensor, which divides by one less than numpy's"
