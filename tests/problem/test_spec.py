"""Specs are read as text: every spelling of LLM-SR's format, and one sentence for what is wrong."""

import ast
import textwrap
from pathlib import Path

import pytest

from llmsr.errors import UserError
from llmsr.problem.spec import load_spec, parse_spec, read_body, without_markers
from llmsr.prompt import Version, build_prompt

SPECS = Path(__file__).resolve().parents[2] / "specs"

EVALUATE = """
def evaluate(data: dict) -> float:
    inputs, outputs = data['inputs'], data['outputs']
    x, v = inputs[:, 0], inputs[:, 1]
    def loss(params):
        y_pred = equation(x, v, params)
        return np.mean((y_pred - outputs) ** 2)
    result = minimize(loss, [1.0] * MAX_NPARAMS, method='BFGS')
    loss = result.fun
    if np.isnan(loss) or np.isinf(loss):
        return None
    else:
        return -loss
"""
EQUATION = '''
def equation(x: np.ndarray, v: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Acceleration."""
    return params[0] * x + params[1] * v + params[2]
'''
HEAD = """'Find the acceleration.'
import numpy as np
from scipy.optimize import minimize
MAX_NPARAMS = 10
"""


def spec_text(
    evaluate=EVALUATE, equation=EQUATION, head=HEAD, run="@evaluate.run", evolve="@equation.evolve"
):
    parts = [head, run, evaluate.strip("\n"), "", evolve, equation.strip("\n"), ""]
    return "\n".join(parts)


def parsed(**kwargs):
    return parse_spec(spec_text(**kwargs), "mine.txt")


# --- what is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.txt")), ids=lambda p: p.stem)
def test_shipped_specs_load_and_make_prompts(path):
    spec = load_spec(path)
    assert spec.max_params == 10
    assert spec.dialect == ("torch" if "torch" in path.name else "numpy")
    assert spec.least_squares == (spec.dialect == "numpy")
    assert spec.constants == {"MAX_NPARAMS": 10}
    assert "evolve" not in spec.preface
    assert spec.preface.startswith('"""\nFind an equation')
    assert all(f"{c}: " in spec.docstring for c in (*spec.columns, "params"))
    prompt = build_prompt(spec, [Version(spec.seed_body, 0.0)])
    ast.parse(prompt.split("\n", 1)[1] + "    return 0\n")  # all below the instruction is Python


def test_fields_of_a_plain_spec():
    spec = parsed()
    assert spec.path == "mine.txt"
    assert spec.columns == ("x", "v")
    assert (spec.params_name, spec.function_name, spec.evaluate_name) == ("params", "equation", "evaluate")
    assert spec.header == "def equation(x: np.ndarray, v: np.ndarray, params: np.ndarray) -> np.ndarray:"
    assert spec.docstring == "Acceleration."
    assert spec.seed_body == "return params[0] * x + params[1] * v + params[2]"
    assert spec.preface == HEAD.strip("\n")
    assert spec.least_squares


@pytest.mark.parametrize("run", ["@evaluate.run", "@evaluate.run()", "@ evaluate . run", "@funsearch.run"])
@pytest.mark.parametrize("evolve", ["@equation.evolve", "@equation.evolve()", "@law.evolve"])
def test_decorators_in_attribute_and_call_form(run, evolve):
    assert parsed(run=run, evolve=evolve).columns == ("x", "v")


@pytest.mark.parametrize(
    ("change", "label"),
    [
        (lambda t: t.replace("\n", "\r\n"), "crlf"),
        (lambda t: t.replace("\n", "\r"), "cr"),
        (lambda t: "\ufeff" + t, "bom"),
        (lambda t: t.replace("    ", "\t"), "tabs"),
        (lambda t: t.rstrip("\n"), "no newline at the end"),
        (lambda t: t + "\n\n# the end\n", "trailing comment"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_line_ends_and_indents_change_nothing(tmp_path, change, label):
    path = tmp_path / "spec.txt"
    path.write_bytes(change(spec_text()).encode())
    spec, plain = load_spec(path), parsed()
    for name in ("columns", "header", "docstring", "seed_body", "preface", "max_params", "least_squares"):
        assert getattr(spec, name) == getattr(plain, name), name


def test_equation_above_evaluate_cuts_the_preface_there():
    text = f"{HEAD}\n@equation.evolve{EQUATION}\n\n@evaluate.run{EVALUATE}"
    spec = parse_spec(text)
    assert spec.preface == HEAD.strip("\n")
    assert spec.least_squares


def test_helpers_between_functions_are_allowed():
    helper = "\n\ndef helper(a):\n    return a + 1\n"
    spec = parse_spec(f"{HEAD}{helper}\n@evaluate.run{EVALUATE}{helper}\n@equation.evolve{EQUATION}{helper}")
    assert "helper" in spec.preface
    assert spec.seed_body.startswith("return params[0]")
    assert "helper" not in spec.seed_body


def test_multi_line_header_is_kept_as_written():
    header = "def law(\n    a,  # first: of all\n    b: dict[str, int] = {1: 2},\n    *, theta\n):"
    with pytest.raises(UserError, match="one by one"):
        parsed(equation=f"{header}\n    return theta[0] * a\n")
    header = header.replace("    *, theta", "    theta=None")
    spec = parsed(equation=f"{header}\n    # why\n    return theta[0] * a\n")
    assert spec.header == header
    assert (spec.columns, spec.params_name, spec.function_name) == (("a", "b"), "theta", "law")
    assert spec.docstring == ""
    assert spec.seed_body == "# why\nreturn theta[0] * a"


@pytest.mark.parametrize(
    ("equation", "docstring", "body"),
    [
        ("def equation(x, params): return params[0] * x", "", "return params[0] * x"),
        ('def equation(x, params): "Doc"; return params[0] * x', "Doc", "return params[0] * x"),
        (
            'def equation(x, params):\n    "Doc"  # note\n    return params[0] * x',
            "Doc",
            "return params[0] * x",
        ),
        ("async def equation(x, params):\n    y = 1\n\n    return y * x\n", "", "y = 1\n\nreturn y * x"),
        (
            "def equation(x, params):\n  if 1:\n    return x\n  return params[0]",
            "",
            "if 1:\n  return x\nreturn params[0]",
        ),
        ('def equation(x, params):\n    """Ünicode — doc""" ; return x', "Ünicode — doc", "return x"),
        (
            'def equation(x, params):\n    \'say """this""" "now"\'\n    return x',
            "say '''this''' \"now\" ",
            "return x",
        ),
        ('def equation(x, params):\n    """Only words."""', "Only words.", ""),
    ],
)
def test_bodies_and_docstrings_are_cut_exactly(equation, docstring, body):
    spec = parsed(equation=equation)
    assert spec.docstring == docstring
    assert spec.seed_body == body
    assert spec.header == "def equation(x, params):"


def test_long_docstring_keeps_its_lines_at_four_spaces():
    equation = 'def equation(x, params):\n  """Title.\n\n  Args:\n    x: input\n  """\n  return x'
    assert parsed(equation=equation).docstring == "Title.\n\n    Args:\n      x: input\n    "


@pytest.mark.parametrize(
    ("last", "body"),
    [("params", "x"), ("my_params", "x"), ("p", "p[0] * x"), ("c", "a * x + b"), ("theta", "theta[2:] * x")],
)
def test_last_argument_is_recognised_as_the_params(last, body):
    unpack = "    a, b = c\n" if last == "c" else ""
    spec = parsed(equation=f"def equation(x, {last}):\n{unpack}    return {body}\n")
    assert spec.params_name == last


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_any_number_of_columns(n):
    names = [f"c{i}" for i in range(n)]
    spec = parsed(equation=f"def equation({', '.join(names)}, params):\n    return c0\n")
    assert spec.columns == tuple(names)


@pytest.mark.parametrize(
    ("head", "evaluate_start", "expected"),
    [
        ("MAX_NPARAMS = 4\n", "[1.0] * MAX_NPARAMS", 4),
        ("MAX_NPARAMS: int = 4\n", "[1.0] * MAX_NPARAMS", 4),
        ("MAX_NPARAMS = 2 * 3\n", "[1.0] * MAX_NPARAMS", 6),
        ("A, MAX_NPARAMS = 1, 3\n", "[1.0] * MAX_NPARAMS", 3),
        ("MAX_NPARAMS = 4\nMAX_NPARAMS = 5\nPRAMS_INIT = [1.0] * MAX_NPARAMS\n", "PRAMS_INIT", 5),
        ("", "[1.0] * 7", 7),
        ("", "[1.0, 1.0, 1.0]", 3),
        ("", "np.ones(6)", 6),
        ("params = [1.0] * 8\n", "params", 8),
        ("N = 9\nPRAMS_INIT = [1.0] * N\n", "PRAMS_INIT", 9),
    ],
)
def test_number_of_params_is_stated_or_inferred(head, evaluate_start, expected):
    head = "import numpy as np\nfrom scipy.optimize import minimize\n" + head
    spec = parsed(head=head, evaluate=EVALUATE.replace("[1.0] * MAX_NPARAMS", evaluate_start))
    assert spec.max_params == expected


def test_constants_are_plain_numbers_only():
    head = (
        HEAD
        + "G = -9.81\nTAU = 2 * np.pi\nFLAG = True\nW = 'a'\nBIG = 10 ** 10 ** 10\nK = 1\nK += 1\nX = f()\n"
    )
    assert parsed(head=head).constants == {"MAX_NPARAMS": 10, "G": -9.81, "TAU": 6.283185307179586}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("2 * 3 - 1", 5), ("2**5", 32), ("2**-1", 0.5), ("6 / 2", 3.0),
        ("2 + 1.0", 3.0), ("2**53", 2**53), ("2**53 + 1", 2.0**53),
        ("10**30", 1e30), ("10**400", None), ("(-8)**0.5", None),
        ("9" * 400, None), ("1 / 0", None), ("0**-1", None),
    ],
)  # fmt: skip
def test_constants_have_pythons_type_as_far_as_a_float64_holds_them(text, value):
    found = parsed(head=f"{HEAD}N = {text}\n").constants.get("N")
    assert (found, type(found)) == (value, type(value))


def test_a_constant_counts_in_a_body():
    body = "return sum(params[i] * x**i for i in range(MAX_NPARAMS)) + params[LAST]*v\n"
    spec = parsed(head=f"{HEAD}LAST = MAX_NPARAMS - 1\n")
    assert read_body(spec, body).params == tuple(range(10))


def test_a_spec_is_never_executed(tmp_path):
    flag = tmp_path / "flag"
    head = HEAD + f"open({str(flag)!r}, 'w')\nraise SystemExit\n"
    parsed(head=head)
    assert not flag.exists()


def test_torch_is_seen_under_any_name():
    assert parsed(head=HEAD + "import torch\n").dialect == "numpy"  # imported and not used
    evaluate = EVALUATE.replace("inputs[:, 0]", "th.tensor(inputs[:, 0])")
    assert parsed(head=HEAD + "import torch as th\n", evaluate=evaluate).dialect == "torch"
    evaluate = EVALUATE.replace(
        "    inputs,",
        "    from torch import tensor\n    data['inputs'] = tensor(data['inputs'])\n    inputs,",
        1,
    )
    spec = parsed(evaluate=evaluate)
    assert (spec.dialect, spec.least_squares) == ("torch", False)


def test_markers_are_removed_and_other_decorators_kept():
    tree = without_markers(ast.parse(spec_text(run="@evaluate.run()\n@other.thing")))
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef)]
    assert [[ast.unparse(d) for d in f.decorator_list] for f in functions] == [["other.thing"], []]


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no function is decorated @evaluate.run"),
        ("def f(:\n", "line 1: not valid Python"),
        (HEAD + "x = (\n", "not valid Python"),
        ("\0", "not valid Python"),
        ("(" * 10_000, "not valid Python"),
        (spec_text(run=""), "no function is decorated @evaluate.run"),
        (spec_text(evolve=""), "no function is decorated @equation.evolve"),
        (spec_text() + "\n@equation.evolve\ndef other(x, params):\n    return x\n", "decorates 2 functions"),
        (spec_text() + "\n@evaluate.run\ndef other(data):\n    return 0\n", "decorates 2 functions"),
        (spec_text(evolve="@equation.evolve\n@equation.evolve"), "stands twice"),
        (spec_text(evolve="@equation.evolve\n@evaluate.run"), "decorates 2 functions"),
        ("if True:\n" + textwrap.indent(spec_text(), "    "), "nested"),
        (spec_text(equation="def equation(x, v):\n    return x\n"), "has no params"),
        (spec_text(equation="def equation():\n    return 1\n"), "has no params"),
        (spec_text(equation="def equation(params):\n    return 1\n"), "no input column"),
        (spec_text(equation="def equation(params, x):\n    return x\n"), "params must be the last argument"),
        (spec_text(equation="def equation(*columns, params):\n    return 1\n"), "one by one"),
        (spec_text(equation="def equation(x, params, **rest):\n    return 1\n"), "one by one"),
        (spec_text(evaluate="async " + EVALUATE.strip()), "is async"),
        (spec_text(evaluate="def evaluate():\n    return 0\n"), "takes no argument"),
        (spec_text(head=HEAD.replace("MAX_NPARAMS = 10", "MAX_NPARAMS = 0")), "whole number from 1"),
        (spec_text(head=HEAD.replace("MAX_NPARAMS = 10", "MAX_NPARAMS = 2.5")), "whole number from 1"),
        (spec_text(head=HEAD.replace("MAX_NPARAMS = 10", "MAX_NPARAMS = 1e999")), "whole number from 1"),
        (spec_text(head=HEAD.replace("MAX_NPARAMS = 10", "")), "add a line MAX_NPARAMS = 10"),
        (
            spec_text(head=HEAD.replace("MAX_NPARAMS = 10", "MAX_NPARAMS = len('ab')")),
            "add a line MAX_NPARAMS",
        ),
    ],
)
def test_a_bad_spec_is_one_sentence_with_its_name(text, message):
    with pytest.raises(UserError) as caught:
        parse_spec(text, "mine.txt")
    sentence = str(caught.value)
    assert sentence.startswith("mine.txt: ")
    assert message in sentence
    assert "\n" not in sentence


def test_syntax_errors_name_the_line():
    with pytest.raises(UserError, match=r"line 8: not valid Python"):
        parse_spec(spec_text(evaluate="def evaluate(data):\n    return (\n"))


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "specification_a_numpy.txt").write_text("")
    with pytest.raises(UserError, match=r"no such spec file; did you mean specification_a_numpy.txt\?"):
        load_spec(tmp_path / "specification_a_nunpy.txt")
    with pytest.raises(UserError, match="is a folder"):
        load_spec(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        load_spec(tmp_path / "latin.txt")
    (tmp_path / "big.txt").write_text("#" * 1_000_001)
    with pytest.raises(UserError, match="larger than a megabyte"):
        load_spec(tmp_path / "big.txt")
