"""The parser means what Python and numpy mean, where the two are easy to confuse, and says why when it refuses."""

from __future__ import annotations

import ast
import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_honest_bodies import BODIES, VERSIONS, inputs_for, run_by_numpy

from llmsr.expression import Expression, Limits, Refusal, evaluate, parse

TRAPS = {
    "two names, one array": "    a = b = np.zeros_like(x)\n    a += params[0] * x\n    b += v\n    return a * b\n",
    "a copy is no alias": "    a = np.zeros_like(x)\n    b = a.copy()\n    a += x\n    return a + b + v\n",
    "a slice is a view": "    a = x * 2\n    b = a[:]\n    b += v\n    return a\n",
    "a column of a matrix is a view": "    m = np.stack([x, v], 1)\n    c = m[:, 0]\n    c *= 3\n    return m.sum(1)\n",
    "a transpose is a view": "    m = np.stack([x, v])\n    t = m.T\n    t[:, 1] = 7\n    return m[0] * m[1]\n",
    "a list index is a copy": "    m = np.stack([x, v])\n    c = m[[0, 1]]\n    c += 1\n    return m[0] + m[1]\n",
    "plus is a copy": "    a = +x\n    a += 1\n    return a + x\n",
    "asarray is no copy": "    a = x * 1\n    b = np.asarray(a)\n    b += 1\n    return a\n",
    "array is a copy": "    a = x * 1\n    b = np.array(a)\n    b += 1\n    return a + b\n",
    "numbers are replaced": "    a = b = params[0]\n    a += 1\n    return (a + 2 * b) * x\n",
    "a function changes its argument": "    def f(z):\n        z += v\n        return 0\n    a = x * 1\n    f(a)\n    return a\n",
    "a function returns its argument": "    f = lambda z: z\n    a = x * 1\n    b = f(a)\n    b += 1\n    return a\n",
    "late binding": "    fs = [lambda z: z * i for i in range(3)]\n    return sum(f(x) for f in fs)\n",
    "early binding": "    fs = [lambda z, i=i: z * i for i in range(3)]\n    return sum(f(x) for f in fs)\n",
    "late binding of a name": "    k = 1\n    f = lambda z: k * z\n    k = 3\n    return f(x)\n",
    "a shared default": "    def f(a, s=[]):\n        s.append(a)\n        return sum(s)\n    return f(x) + f(v) + f(x)\n",
    "one list, two names": "    a = b = []\n    a.append(x)\n    b += [v]\n    return a[0] + 2 * a[1]\n",
    "a list added is new": "    a = b = [x]\n    a = a + [v]\n    return sum(b) + 0 * v\n",
    "repeated lists share": "    z = [[x * 1]] * 2\n    z[0][0] += v\n    return z[1][0]\n",
    "an iterator is used up": "    g = (i for i in range(4))\n    a = sum(g)\n    return (a + sum(g)) * x\n",
    "zip stops early": "    return sum(a * b for a, b in zip(params, [x, v, x * v]))\n",
    "swapping": "    a, b = x, v\n    a, b = b, a\n    return a - 2 * b\n",
    "chained assignment order": "    i = 0\n    l = [0, 0]\n    i = l[i] = 1\n    return x * l[0] + v * l[1]\n",
    "loop variables stay": "    for i in range(3):\n        pass\n    return x * i\n",
    "comprehension variables do not": "    i = 5\n    l = [i for i in range(3)]\n    return x * i + l[2]\n",
    "for and else": "    for i in range(3):\n        if i == 5:\n            break\n    else:\n        i = 10\n    return x * i\n",
    "while, continue, break": "    i = s = 0\n    while True:\n        i += 1\n        if i % 2:\n            continue\n"
    "        if i > 7:\n            break\n        s += i\n    return s * x\n",
    "floor division and modulo": "    return x // 0.3 + v % -0.7 + (-7 // 2) + (-7 % 3) + np.fmod(v, 0.3)\n",
    "power binds tighter than minus": "    return -x ** 2 + 2 ** -1 * v - 2 ** 3 ** 2\n",
    "comparison chains": "    return ((-0.5 < x) & (x <= v)) * params[0] + (0 < 1 < 2) * x\n",
    "booleans add to or": "    return ((x > 0) + (v > 0)) * params[0] + (x > 0) * (v > 0) + ((x > 0) ^ (v > 0))\n",
    "booleans count in sums": "    return np.sum([x > 0, v > 0, x > v], axis=0) * 1.5 + sum([x > 0, v > 0])\n",
    "boolean over number": "    return (x > 0) / 2 + 1.0 * (x > 0) - (1 - (v > 0))\n",
    "not a number": "    y = np.log(x)\n    return np.where(np.isnan(y), v, y) + np.fmax(y, 0) + (y != y)\n",
    "maximum keeps nan": "    return np.maximum(np.sqrt(x), 0.5)\n",
    "rounding to even": "    return np.round(4 * x) / 4 + np.round(v, 1) + round(2.5) + np.rint(x * 3)\n",
    "integers of arrays": "    return (np.arange(4) ** 2)[3] * x + (np.array([7, -7]) // 2)[1] + np.array([-7])[0] % 3 * v\n",
    "integer division": "    k = np.arange(1, 4)\n    return (x[:, None] / k).sum(axis=1) + (k / 2)[0]\n",
    "float range": "    return x * np.arange(0, 1, 0.25)[3] + np.linspace(0, 1, 5)[1]\n",
    "negative parameter index": "    return params[-1] * x + params[-10] * v\n",
    "slices with steps": "    a, b, c = params[1:7:2]\n    d = params[::-1][0]\n    return a * x + b * v + c + d\n",
    "powers of polyval": "    return np.polyval([1, 2, 3], x) + np.polynomial.polynomial.polyval(v, [1, 2, 3])\n",
    "matrix by rows": "    m = np.array([x, v])\n    w = np.array([[1, 2], [3, 4]])\n    return (w @ m)[1] + (m.T @ w)[:, 1]\n",
    "outer of parameters": "    return (np.outer(params[:2], params[2:4]) @ np.stack([x, v])).sum(axis=0)\n",
    "concatenated features": "    m = np.concatenate([np.stack([x, v]), np.stack([x * v, v])], axis=0)\n    return m.prod(axis=0)\n",
    "mean, variance, extrema": "    m = np.stack([x, v, x * v])\n    return m.mean(0) + m.var(axis=0) + m.max(0) - np.min(m, 0)\n",
    "all and any over features": "    m = np.stack([x > 0, v > 0])\n    return m.all(axis=0) * x + np.any(m, axis=0) * v\n",
    "keepdims": "    m = np.stack([x, v], axis=1)\n    return (m / np.sum(m * m, axis=1, keepdims=True))[:, 0]\n",
    "reshape and squeeze": "    return (x.reshape(-1, 1) * v.reshape((len(v), 1))).squeeze() + x.reshape(x.shape)\n",
    "masks of masks": "    y = x * 1\n    m = v > 0\n    t = y[m]\n    t[x[m] > 0] = 5\n    y[m] = t\n    return y\n",
    "masked addition": "    y = np.zeros_like(x)\n    y[x > 0] += v[x > 0] * 2\n    y[x <= 0] -= 1\n    return y\n",
    "mask for an opposite": "    y = np.empty(len(x))\n    m = x > v\n    y[~m] = v[~m]\n    y[m] = x[m]\n    return y\n",
    "select takes the first": "    return np.select([x > 0, x > -1], [v, 2 * v], -1)\n",
    "piecewise takes the last": "    return np.piecewise(x, [x > -1, x > 0], [1, lambda z: z * z])\n",
    "piecewise otherwise": "    return np.piecewise(x, [x > 0.5], [lambda z, k: k * z, -2], 3) if False else np.piecewise(x, [x > 0.5], [1, 2])\n",
    "clip with crossed limits": "    return np.clip(x, 0.5, -0.5) + v.clip(min=0) + np.clip(v, None, params[0])\n",
    "nan_to_num": "    return np.nan_to_num(np.log(x), nan=1.0, neginf=-3) + np.nan_to_num(np.sqrt(v))\n",
    "special points of functions": "    return np.sinc(x) + np.heaviside(v, 0.5) + np.sign(x) + np.cbrt(v) + np.logaddexp2(x, v)\n",
    "isclose": "    return np.isclose(np.round(x), np.round(v)) * x + np.isclose(x, x)\n",
    "conditions on parameters": "    a = params[0] if params[1] > 0 else -params[2]\n    return a * x + max(params[3], 0) * v + min(params)\n",
    "and, or, not on numbers": "    k = params[0] and params[1] or 2\n    return k * x + (not params[2]) * v + (params[0] > 0 and 3)\n",
    "returns under conditions": "    if params[0] > 1:\n        return x\n    elif params[1] > 0:\n        if params[2] > 0:\n"
    "            return v\n        return x * v\n    y = x - v\n    return y\n",
    "an array changed under a condition": "    y = x * 1\n    z = y\n    if params[0] > 0:\n        y += v\n        y *= 2\n    else:\n"
    "        y -= 5\n    return z\n",
    "changed and returned under a condition": "    y = x * 2\n    if params[0] > 0:\n        y += 1\n        return y\n"
    "    y *= 3\n    return y\n",
    "conditions in loops": "    y = np.zeros_like(x)\n    for p in params[:4]:\n        if p > 0.5:\n            y += p * x\n"
    "        elif p < 0:\n            y = y - v\n    return y\n",
    "a helper with conditions": "    def f(p, z):\n        if p < 0:\n            return -z\n        if p > 1:\n            return z * z\n"
    "        return z\n    return f(params[0], x) + f(params[9], v)\n",
    "names bound in both branches": "    if params[0] > 0:\n        a, b = x, 2\n    else:\n        a, b = v, 3\n    return a ** b\n",
    "try, else, finally": "    try:\n        y = x * 2\n    except ValueError:\n        y = x * 3\n    else:\n        y = y + v\n"
    "    finally:\n        k = 2\n    return y * k\n",
    "star arguments": "    def f(a, *b, c=2):\n        return a + c * sum(b)\n    return f(*[x, v, x], *(v,)) + f(*params[:3], c=x)\n",
    "keyword only": "    def f(a, /, b, *, c=2):\n        return a * b + c\n    return f(x, b=v) + f(*[x, v], **{'c': 3})\n",
    "functools.reduce": "    from functools import reduce\n    return reduce(lambda a, b: a * b, [x, v, params[0]], 1)\n",
    "dictionaries": "    d = {i: p for i, p in enumerate(params[:3])}\n    d['k'] = v\n    return sum(d[i] * x**i for i in range(3)) + d['k']\n",
    "integer parameters of functions": "    return np.power(x, 3) + np.power(2, v) + np.float_power(2, v) + pow(x, 2)\n",
    "shadowed names": "    sum = x + v\n    x = sum * 2\n    e = np.e\n    return x * e\n",
    "a nested default": "    def f(z, k=params[0]):\n        def g(w, m=k * 2):\n            return w * m\n        return g(z)\n    return f(x)\n",
    "greek names": "    α, ω = params[0], params[1]\n    Δ = x - v\n    return α * np.sin(ω * Δ)  # µm²\n",
    "einsum": "    W = np.array([[1., 2.], [3., 4.]])\n    return np.einsum('ij,jn,in->n', W, np.stack([x, v]), np.stack([v, x]))\n",
    "vander": "    return np.vander(x, 4) @ params[:4] + np.vander(v, 3, increasing=True) @ params[4:7]\n",
    "an unset row is filled": "    y = np.empty((2, len(x)))\n    y[0] = x\n    y[1, :] = v\n    return y[0] - y[1]\n",
    "fill": "    y = np.zeros_like(x)\n    y.fill(params[0])\n    return y * x\n",
    "string keys and numbers": "    return x * {True: 2, 2: 3}[1] + [1, 2, 3][-1] * v + (4, 5)[True + 0]\n",
    "float strings": "    return np.minimum(x, float('inf')) * float(3) + int(2.9) * v\n",
}  # fmt: skip


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
    "F.softplus(25 * x) + torch.nn.functional.silu(v)": "np.where(x * 25 > 20, 25 * x, np.log1p(np.exp(25 * x)))"
    " + v / (1 + np.exp(-v))",
    "torch.max(x, v) + torch.exp(-x.pow(2)) * torch.pi": "np.maximum(x, v) + np.exp(-(x**2)) * np.pi",
    "x.unsqueeze(1).squeeze() + torch.zeros_like(v) + v.size(0) * 0": "",
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = run_by_numpy(body, columns, inputs, params)
            except (ZeroDivisionError, ValueError, OverflowError, TypeError, IndexError) as error:
                # numpy stops where the row-by-row meaning goes on: a condition or a scalar function on a column
                assert isinstance(error, ValueError) and "ambiguous" in str(error) or "math" in body, (
                    body,
                    error,
                )
                return
        result = evaluate(expression, inputs, params)
        np.testing.assert_allclose(
            result,
            np.broadcast_to(expected, result.shape),
            rtol=1e-7,
            atol=1e-9,
            equal_nan=True,
            err_msg=body,
        )
