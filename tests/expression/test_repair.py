"""Small slips of models are read as meant, ambiguous ones refused; what can be read stays as it is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from llmsr.expression import Expression, Refusal, parse
from llmsr.expression.repair import repaired
from llmsr.problem.loading import load_problem
from llmsr.problem.spec import Meant, read_as_meant

SPEC = load_problem("oscillator1").spec

MEANT = {
    "return params[0] * exp(-x) + sqrt(v) * pi": "return params[0] * np.exp(-x) + np.sqrt(v) * np.pi",
    "return param[0] * x + Params[1] * v": "return params[0] * x + params[1] * v",
    "return PARAMS[0] * x + parameters[1]": "return params[0] * x + params[1]",
    "return params[0] * x^2 + params[1] * v^3": "return params[0] * x**2 + params[1] * v**3",
    "y = x * 1\ny ^= 2\nreturn params[0] * y": "y = x * 1\ny **= 2\nreturn params[0] * y",
    "return params[10] * x + params[12] * v": "return params[0] * x + params[1] * v",
    "return params[1] * x + params[10] * v + params[10]": "return params[1] * x + params[0] * v + params[0]",
    "return params[0] * (x + np.sin(v": "return params[0] * (x + np.sin(v))",
    "return params[0] * (x + v  # the sum\n": "return params[0] * (x + v)  # the sum\n",
    "return=params[0] * x": "return params[0] * x",
    "return param[11] * exp(x^2": "return params[0] * np.exp(x**2)",
    "# params[10], exp(x) and x^2\nreturn param[0] * x": "# params[10], exp(x) and x^2\nreturn params[0] * x",
    "return np.where(x > 0, x^2, v) * params[0]": "return np.where(x > 0, x**2, v) * params[0]",
    r"return params[0] * \exp(x) + \ 0.6 * (\v)": "return params[0] * np.exp(x) +  0.6 * (v)",
    "return params[0] * x +.params[1] * v": "return params[0] * x +params[1] * v",
    "return params[0] * np*cos(x) + np sin(v)": "return params[0] * np.cos(x) + np.sin(v)",
    "return params[0] * np * cos(x)": "return params[0] * np.cos(x)",
    "return params[0] * x + # more": "return params[0] * x  # more",
    "return params[0] * x + (": "return params[0] * x ",
    "return params[0] * x + # the sum\n    params[1] * v": "return params[0] * x + params[1] * v",
    "return params[0] * np.exp(x)) + v)": "return params[0] * np.exp(x) + v",
    "return params[0] * x**2}": "return params[0] * x**2",
    "return alpha * x + params[0] * v + params[11] * alpha": (
        "return params[2] * x + params[0] * v + params[1] * params[2]"
    ),
    "return params[0] * X + V_": "return params[0] * x + v",
}


@pytest.mark.parametrize("written", MEANT)
def test_a_slip_is_read_as_meant_and_said(written: str) -> None:
    meant = read_as_meant(SPEC, written)
    assert meant.body == MEANT[written]
    assert meant.repairs
    again = parse(MEANT[written], SPEC.columns)
    assert isinstance(meant.expression, Expression)
    assert isinstance(again, Expression)
    assert meant.expression.nodes == again.nodes


AMBIGUOUS = [
    "return (x > 0) ^ 2 * x",
    "return params[0] * (x > 0)^2",
    "return params[0] * x + params[10] * len(params)",
    "return params[10] * x + params[:3].sum()",
    "for i in range(2):\n    x = x + params[i]\nreturn x * params[11]",
    "p = params\nreturn p[0] * x + params[10]",
    " + ".join(["return x", *(f"params[{i}] * x**{i}" for i in range(11))]),
    "return params[0] * x + np.tan(x +",
    "return params[0] * x + params[1",
    "return np.maximum(params[0] * x + v",
    "return params[0] * exp + x",
    "return paramx[0] * x",
    "return (((((params[0] * x",
    "return [params[0] * x",
    "return params[0] * x * ",
    "return params[0] * x**",
    "return params[0] * np.exp(x +",
    "return params[0] * x + v) * x",
    "return (params[0] * x] + v",
    "return params[0] * (x)))))) + v",
    "return params[0] * x +\nThis is the equation",
    "return params[0] * x + beta(v)",
    "return params[0] * x + a * v",
    "return params[0] * X[0]",
    "return params.sum() * x * alpha",
    " + ".join(["return alpha * x", *(f"params[{i}] * x**{i}" for i in range(10))]),
]


@pytest.mark.parametrize("written", AMBIGUOUS)
def test_what_is_ambiguous_is_refused_with_the_reason_of_the_text_as_written(written: str) -> None:
    meant = read_as_meant(SPEC, written)
    assert isinstance(meant.expression, Refusal)
    assert meant == Meant(parse(written, SPEC.columns), written)


def test_names_that_the_body_gives_a_meaning_keep_it() -> None:
    written = "param = x * 2\nexp = lambda z: z + 1\nreturn exp(x) + param[0] * params[10]"
    body, notes = repaired(written, ("x", "v", "params"), 10)
    assert body == written.replace("10", "0")
    assert notes == ("params beyond 9 renumbered: 10 as 0",)
    written = "alpha = x * v\nX = v\nreturn alpha * X + params[0] * exp(x)"
    assert read_as_meant(SPEC, written).body == written.replace("exp", "np.exp")
    given = ("beta", "V")
    body, _ = repaired("return beta * V * exp(x)", ("x", "v", "params"), 10, given)
    assert body == "return beta * V * np.exp(x)"


def test_what_stands_in_strings_and_comments_is_left_alone() -> None:
    written = "s = '+.x np*cos(x) + ('  # return = 1 +.x\nreturn params[0] * \\exp(x)"
    assert read_as_meant(SPEC, written).body == written.replace("\\exp", "np.exp")


def test_a_body_that_can_be_read_is_never_changed() -> None:
    bodies = Path(__file__).parents[1] / "support" / "bodies" / "honest.jsonl"
    for line in bodies.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        if case["columns"] == list(SPEC.columns):
            assert read_as_meant(SPEC, case["body"])[1:] == (case["body"], ())
    assert read_as_meant(SPEC, "return (x > 0) ^ (v > 0)")[1:] == ("return (x > 0) ^ (v > 0)", ())


def test_hostile_text_takes_no_time() -> None:
    texts = [
        "(" * 39_000,
        "'''\"\"\"" * 6_000,
        "params[10]" * 4_000,
        "exp(" * 10_000,
        "^" * 40_000,
        "'\\" * 20_000,
        "\\ " * 19_000,
        "+" * 39_000,
        "+\n" * 19_000,
        "+" + "\n" * 39_000,
        "np" + " " * 39_000,
        "np " * 13_000,
        "x" + ")" * 39_000,
        "alpha+" * 6_600,
        "X+" * 19_000,
    ]
    start = time.process_time()
    for text in texts:
        repaired(text, ("x", "params"), 10)
    assert time.process_time() - start < 5.0
