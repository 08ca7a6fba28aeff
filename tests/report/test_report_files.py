"""The files of a result say what the archive says, to 1e-9, and hold nothing that a model wrote."""

import csv
import importlib.util
import io
import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from latex_reader import LatexReader
from report_cases import make_problem, make_sample
from strategies import random_expression

from llmsr.expression import Refusal, parse
from llmsr.expression.canonical import canonical
from llmsr.expression.graph import Expression, evaluate
from llmsr.expression.operations import OPS
from llmsr.expression.printing import lambdify, latex_unit, to_numpy_source
from llmsr.problem.columns import Labels, table_problem
from llmsr.problem.split import Loss
from llmsr.proposers.grammar import random_body
from llmsr.report.equation import Equation
from llmsr.report.front import CSV_COLUMNS, PickedFront
from llmsr.report.runs import Outputs

COLUMNS = ("x", "v", "t")
PROBLEM = make_problem()
ROWS = np.random.default_rng(3).uniform(-2, 2, (60, 3))


def csv_of(equation):
    return PickedFront((equation,), (0.0,), 0).to_csv()


def load_module(text, directory):
    # a name of its own: a cached program of the same second and size would be taken for this one's
    path = directory / f"best_equation_{len(list(directory.glob('*.py')))}.py"
    path.write_text(text, encoding="utf-8")
    module_spec = importlib.util.spec_from_file_location("best_equation", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def steady_rows(expression, params):
    """Rows on which every step is finite and moves little when everything moves by 1e-13."""
    params = np.asarray(params)
    steady = np.ones(len(ROWS), dtype=bool)
    size = np.zeros(len(ROWS))
    for index in range(len(expression.nodes)):
        part = Expression(expression.nodes[: index + 1], expression.columns)
        value = evaluate(part, ROWS, params)
        moved = evaluate(part, ROWS * (1 + 1e-13) + 1e-13, params * (1 + 1e-13))
        with np.errstate(all="ignore"):
            steady &= np.isfinite(value) & (np.abs(moved - value) <= 1e-11 * (1 + np.abs(value)))
            size = np.maximum(size, np.abs(value))
    return steady & (size < 1e4)


def agree(found, want, rows):
    found = np.broadcast_to(np.asarray(found, dtype=float), want.shape)
    return bool(np.all(np.abs(found - want)[rows] <= 1e-9 * (1 + np.abs(want[rows]))))


def read_equation(text):
    """The value of the CSV's equation column, read by our own parser."""
    special = ("expit", "erf", "erfc", "gamma", "gammaln", "digamma")
    code = re.sub(r"\b(\w+)\(", lambda m: ("special." if m[1] in special else "np.") + m[0], text)
    *before, last = code.partition(" = ")[2].split("; ") if "; " not in text else code.split("; ")
    last = last.removeprefix("a = ")
    body = "from scipy import special\n" + "\n".join(
        [line.removeprefix("a = ") for line in before] + [f"return {last}"]
    )
    found = parse(body, COLUMNS)
    assert not isinstance(found, Refusal), (text, found)
    return evaluate(found, ROWS, np.ones(10))


def check(body, params, directory):
    expression = parse(body, COLUMNS)
    if isinstance(expression, Refusal):
        return False
    want = evaluate(expression, ROWS, np.array(params))
    rows = steady_rows(expression, params)
    equation = Equation.of(make_sample(PROBLEM, body, params), PROBLEM)
    module = load_module(equation.python(), directory)
    with np.errstate(all="ignore"):
        assert agree(module.equation(*ROWS.T), want, rows), body
        rounded = evaluate(equation.simplified.expression, ROWS, np.zeros(0))
        assert agree(
            module.rounded(*ROWS.T), rounded, rows & steady_rows(equation.simplified.expression, [])
        ), body
        (line,) = csv.DictReader(io.StringIO(csv_of(equation)))
        assert tuple(line) == CSV_COLUMNS
        wordy = {n.op for n in expression.nodes} & {"and", "or", "not", "xor"}
        if not wordy and not re.search(r"\b(nan|inf)\b", line["equation"]):
            assert agree(read_equation(line["equation"]), want, rows), line["equation"]
        names = {name: ROWS[:, i] for i, name in enumerate(COLUMNS)}
        latex = line["latex"].removeprefix("a = ")
        assert agree(LatexReader(latex, names).value(), want, rows), latex
        if line["sympy"]:
            check_sympy(line["sympy"], expression, want, rows)
    return bool(rows.any())


def check_sympy(text, expression, want, rows):
    import sympy as sp

    names = {name: sp.Symbol(name) for name in COLUMNS}
    names |= {op: sp.Function(op) for op in OPS if op in text and not hasattr(sp, op)}
    formula = sp.sympify(text, locals=names)
    found = np.broadcast_to(lambdify(expression, formula)(*ROWS.T), want.shape).astype(complex)
    # sympy simplifies while it builds: sqrt(x)**2 is x there, so only rows count on which both are real
    both = rows & np.isfinite(found) & (np.abs(found.imag) < 1e-9)
    assert agree(found.real, want, both), text


def test_two_hundred_bodies_of_a_model_agree_with_the_archive(tmp_path):
    random = Random(11)
    told = 0
    for _ in range(200):
        body = random_body(random, COLUMNS, 10)
        told += check(
            body, [round(random.gauss(0, 1), random.choice([1, 3, 16])) for _ in range(10)], tmp_path
        )
    assert told > 150


SMOOTH = tuple(op for op in OPS if op not in ("gammaln", "digamma", "gamma"))


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate])
@given(random_expression(columns=COLUMNS, ops=SMOOTH), st.integers(0, 10**6))
def test_two_hundred_random_graphs_agree_with_the_archive(tmp_path_factory, expression, seed):
    random = Random(seed)
    body = to_numpy_source(expression).split("\n", 1)[1]
    check(body, [random.gauss(0, 1) for _ in range(10)], tmp_path_factory.mktemp("files"))


def test_no_cell_begins_like_a_formula():
    sample = make_sample(PROBLEM, "return -params[0]*x", [0.5])
    text = csv_of(Equation.of(sample, PROBLEM))
    for row in csv.reader(io.StringIO(text)):
        assert not any(cell[:1] in ("=", "+", "-", "@") for cell in row), row


def test_a_comment_of_the_model_reaches_no_file(tmp_path):
    body = 'x2 = x*x  # =cmd|"/C calc"!A0 <script>alert(1)</script> \\input{/etc/passwd}\nreturn params[0]*x2'
    equation = Equation.of(make_sample(PROBLEM, body, [2.0]), PROBLEM)
    for text in (csv_of(equation), equation.python(), equation.tex()):
        assert "cmd" not in text
        assert "script" not in text
        assert "passwd" not in text


def test_names_that_would_break_out_of_a_docstring_do_not(tmp_path):
    problem = make_problem(note='a "note"""\nimport os; os._exit(3)\n"""\\')
    equation = Equation.of(make_sample(problem, "return params[0]*x", [2.0]), problem)
    module = load_module(equation.python(), tmp_path)
    assert module.equation(1.5, 0.0, 0.0) == 3.0
    assert "os._exit" in module.__doc__


def test_the_tex_file_has_one_equation_in_digits_that_matter():
    equation = Equation.of(make_sample(PROBLEM, "return params[0]*np.sin(x)", [0.79999998]), PROBLEM)
    text = equation.tex()
    assert text.count("\\begin{equation}") == text.count("\\end{equation}") == 1
    assert all(line.startswith("%") for line in text.splitlines() if "0.79999998" in line)
    outside = [line for line in text.splitlines() if not line.startswith("%")]
    assert any(r"\sin\left(x\right)" in line for line in outside)


@pytest.mark.parametrize(
    ("unit", "latex"),
    [
        ("m/s^2", "m/s^{2}"), ("kg m-3", r"kg\ m^{-3}"), ("m*s**-1", r"m\,s^{-1}"), ("1/s", "1/s"),
        ("10^3 m", r"10\hat{}3\ m"), ("%", r"\%"), (r"\input{x}", r"\backslash{}input\{x\}"),
        ("m^(1/2)", "m^{1/2}"),
    ],
)  # fmt: skip
def test_a_unit_in_latex_is_upright_and_escaped(unit, latex):
    assert latex_unit(unit) == rf"\mathrm{{{latex}}}"


def test_the_tex_file_says_the_units_that_are_known():
    labels = Labels(("x", "speed (m/s)"), "y", units={"speed (m/s)": "m/s", "y": "m/s^2"})
    problem = table_problem(ROWS[:, :2], ROWS[:, 0] + ROWS[:, 1], labels)
    names = problem.spec.columns
    body = f"return {names[0]} + params[0]*{names[1]}"
    text = Equation.of(make_sample(problem, body, [1.0]), problem, ("x", "speed")).tex()
    assert r"with $\mathrm{speed}$ in $\mathrm{m/s}$, $y$ in $\mathrm{m/s^{2}}$." in text.splitlines()


def test_a_very_long_equation_names_its_parts_first():
    body = "y = params[0]*x\n" + "y = np.sin(y*y + v*y)*y + t*y\n" * 12 + "return y"
    equation = Equation.of(make_sample(PROBLEM, body, [0.3]), PROBLEM)
    want = evaluate(equation.expression, ROWS, np.full(10, 0.3))
    assert "; a = " in equation.text(exact=True)
    assert agree(read_equation(equation.text(exact=True)), want, steady_rows(equation.expression, [0.3] * 10))
    assert equation.latex(exact=True).startswith(r"\begin{aligned} s_{0} &= ")
    assert r" \\ a &= " in equation.latex(exact=True)


def test_the_canonical_form_is_not_what_files_show_unless_it_is_smaller():
    equation = Equation.of(make_sample(PROBLEM, "return params[1]*v + params[0]*x", [2.0, 3.0]), PROBLEM)
    assert equation.text(exact=True) == "a = 3*v + 2*x"
    assert canonical(equation.expression) is not None


def test_r2_and_rmse_are_those_of_squares_alone(tmp_path):
    problem = make_problem()
    sample = make_sample(problem, "return params[0]*x + v", [0.7])
    absolute = replace(
        problem, splits={name: replace(split, loss=Loss("mae")) for name, split in problem.splits.items()}
    )
    for asked in (problem, absolute):
        outputs = Outputs(tmp_path, asked, {})
        outputs.add(sample)
        pick = outputs.finish()["pick"]
        for name, split in asked.splits.items():
            residual = outputs.picked_front().pick.predict(split.inputs) - split.target
            rmse = None if asked is absolute else pytest.approx(float(np.sqrt(np.mean(residual**2))))
            assert pick["rmse"][name] == rmse
            assert (pick["r2"][name] is None) == (asked is absolute)
        assert "R<sup>2</sup>" in (tmp_path / "report.html").read_text()
