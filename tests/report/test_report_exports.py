"""Every form of an equation computes what the archive's equation computes, to 1e-9."""

import math
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import sympy
import torch
from report_cases import make_sample
from scipy import special

from llmsr.problem.columns import Labels, table_problem
from llmsr.report.equation import Equation
from llmsr.report.exports import FORMS, latex_table, to_c, to_excel, to_jax, to_julia, to_torch

PARAMS = [1.7, -0.6, 0.8]
BODIES = {
    "power": "return params[0]*np.abs(x0)**params[1] + params[2]*x1",
    "root": "return params[0]*np.sqrt(x0**2) + params[1]*np.cbrt(x1)",
    "signs": "return params[0]*(-x0)**2 + params[1]*-x0**2 - params[2]*(x0 - (x1 - 1))",
    "logs": "return params[0]*np.log10(np.abs(x0) + 1) + params[1]*np.log2(1 + x1**2) + np.log1p(x0**2)",
    "where": "return np.where(x0 > 0, params[0]*x0, params[1]*x1)",
    "largest": "return params[0]*np.maximum(x0, x1) + params[1]*np.minimum(x0, 0.5)",
    "nested": "return np.maximum(np.minimum(x0, np.maximum(x1, 0.1)), np.minimum(x0*x1, params[1]))",
    "modulo": "return params[0]*np.mod(x0, 0.7) + params[1]*x1",
    "remainder": "return params[0]*np.fmod(x0, 0.7) + params[1]*x1",
    "floors": "return params[0]*np.floor(x0) + params[1]*np.round(x1) + params[2]*np.trunc(x0) + np.ceil(x1)",
    "floored": "return (x0//0.3)*params[0] + x1",
    "angle": "return params[0]*np.arctan2(x0, x1) + params[1]*x1",
    "hyperbolic": "return params[0]*np.arcsinh(x0) + params[1]*np.cosh(x1)/np.sinh(x0)",
    "sigmoid": "return params[0]*np.exp(-x0**2/2)/(1 + np.exp(-params[1]*x1))",
    "step": "return params[0]*np.heaviside(x0, 0.5) + params[1]*np.sign(x1)",
    "small": "return params[0]*np.expm1(x0) + params[1]*np.sinc(x1) + params[2]*np.hypot(x0, x1)",
    "added": "return np.logaddexp(params[0]*x0, x1) + np.copysign(x0, x1) + np.fmax(x0, params[1])",
    "either": "return np.where((x0 > 0) ^ (x1 > 0), x0, params[0])",
    "sizes": "return params[0]*1e-7*x0 + params[1]*123456789.123*x1",
    "degrees": "return params[0]*np.sin(np.deg2rad(90*x0)) + params[1]*np.degrees(x1)",
    "error": "from scipy.special import erf\n    return params[0]*erf(x0) + params[1]*x1",
    "gamma": "from scipy.special import gamma, gammaln\n    return params[0]*gamma(x0 + 5) + gammaln(x1 + 4)",
}  # fmt: skip
ROWS = np.random.default_rng(1).uniform(-2, 2, (60, 2))
PROBLEM = table_problem(ROWS, ROWS @ [1.0, 0.5], Labels(("x0", "x1"), "y"), 10)
CC = shutil.which("cc")


@pytest.fixture(params=BODIES, scope="module")
def equation(request):
    return Equation.of(make_sample(PROBLEM, BODIES[request.param], PARAMS), PROBLEM)


def close(found, equation, rows=ROWS):
    np.testing.assert_allclose(np.asarray(found, dtype=float), equation.predict(rows), rtol=1e-9, atol=1e-9)


def test_sympy_by_numpy_by_text_and_by_numbers_put_in(equation):
    formula = equation.sympy(exact=True)
    assert formula.free_symbols <= set(sympy.symbols("x0 x1"))
    compiled = sympy.lambdify(sympy.symbols("x0 x1"), formula, modules=["numpy", "scipy"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a branch that is not taken
        close(compiled(*ROWS.T), equation)
    for read in (formula, sympy.sympify(equation.exact_sympy)):
        close([float(read.subs({"x0": a, "x1": b}).evalf()) for a, b in ROWS[:5]], equation, ROWS[:5])


def test_torch_computes_it_and_trains_its_constants(equation):
    module = to_torch(equation)
    found = module(torch.tensor(ROWS))
    close(found.detach(), equation)
    found.sum().backward()
    assert module.params.grad is not None
    names = {"torch": torch}
    exec(FORMS["torch"](equation), names)
    close(names["equation"](*torch.tensor(ROWS).T, names["params"]).detach(), equation)


def test_jax_computes_it(equation):
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install jax")
    with jax.enable_x64(True):
        function, params = to_jax(equation)
        close(jax.jit(function)(jax.numpy.asarray(ROWS), params), equation)


def test_python_computes_it(equation):
    names = {}
    exec(FORMS["python"](equation), names)
    close(names["equation"](*ROWS.T), equation)


@pytest.mark.skipif(CC is None, reason="no C compiler here")
def test_c_computes_it(equation, tmp_path):
    calls = "".join(f'  printf("%.17g\\n", equation({a!r}, {b!r}));\n' for a, b in ROWS.tolist())
    source = f"#include <stdio.h>\n{to_c(equation)}int main(void) {{\n{calls}  return 0;\n}}\n"
    (tmp_path / "e.c").write_text(source)
    subprocess.run([CC, "-std=c99", "-Werror", "e.c", "-o", "e", "-lm"], cwd=tmp_path, check=True)
    told = subprocess.run([tmp_path / "e"], capture_output=True, text=True, check=True).stdout
    close([float(line) for line in told.split()], equation)


def test_julia_computes_it(equation, tmp_path):
    julia = shutil.which("julia")
    if julia is None:
        pytest.skip("no Julia here")
    calls = "".join(f"println(equation({a!r}, {b!r}))\n" for a, b in ROWS.tolist())
    (tmp_path / "e.jl").write_text(to_julia(equation) + calls)
    told = subprocess.run([julia, tmp_path / "e.jl"], capture_output=True, text=True, check=True).stdout
    close([float(line) for line in told.split()], equation)


def excel(text, a, b):
    """The value of a spreadsheet's line, by the meaning of each of its functions."""
    names = {name: getattr(math, name.lower()) for name in
             ("SIN", "COS", "TAN", "ASINH", "SINH", "COSH", "TANH", "EXP", "ERF", "GAMMA")}  # fmt: skip
    names |= {"A2": a, "B2": b, "LN": math.log, "MAX": max, "MIN": min, "ABS": abs, "INT": math.floor}
    names |= {"IF": lambda c, yes, no: yes if c else no, "SIGN": np.sign, "GAMMALN": special.gammaln}
    names |= {"AND": lambda *c: all(c), "OR": lambda *c: any(c), "ATAN2": lambda x, y: math.atan2(y, x)}
    code = re.sub(r"(?<![<>])=", "==", text.removeprefix("=").replace("<>", "!=")).replace("^", "**")
    return eval(code, names)


def test_a_spreadsheet_computes_it(equation):
    line = to_excel(equation)
    assert line.startswith("=")
    assert "\n" not in line
    close([excel(line, a, b) for a, b in ROWS.tolist()], equation)


def test_a_language_that_lacks_an_operation_says_so():
    body = "return np.where(np.isnan(x0), params[0], x1)"
    equation = Equation.of(make_sample(PROBLEM, body, PARAMS), PROBLEM)
    for to in (to_c, to_julia, to_excel):
        with pytest.raises(ValueError, match="isnan"):
            to(equation)


def test_names_that_mean_something_in_a_language_do_not_hide_it():
    labels = ("exp", "int")
    problem = table_problem(ROWS, ROWS @ [1.0, 0.5], Labels(labels, "y"), 10)
    first, second = problem.spec.columns
    body = f"return params[0]*np.exp({first}) + params[1]*{second}"
    equation = Equation.of(make_sample(problem, body, PARAMS), problem, labels)
    assert "double c0, double c1" in to_c(equation)
    assert "equation(c0, int)" in to_julia(equation)
    assert to_excel(equation).count("A2") == 1


def test_the_text_for_sympy_is_read_back_whatever_the_columns_are_called():
    labels = ("E", "beta (1/s)")
    problem = table_problem(ROWS, ROWS @ [1.0, 0.5], Labels(labels, "y"), 10)
    first, second = problem.spec.columns
    body = f"return params[0]*np.exp({first}) + params[1]*{second}"
    equation = Equation.of(make_sample(problem, body, PARAMS), problem, labels)
    formula = sympy.sympify(equation.exact_sympy)
    assert {str(symbol) for symbol in formula.free_symbols} == {"E_", second}
    close([float(formula.subs({"E_": a, second: b})) for a, b in ROWS[:5]], equation, ROWS[:5])
    assert {str(symbol) for symbol in equation.sympy().free_symbols} == set(labels)


def test_the_latex_table_has_a_row_per_equation(equation):
    import pandas as pd

    table = pd.DataFrame({"latex": [equation.latex()], "complexity": [3], "loss": [1.5e-12]})
    text = latex_table(table, ("complexity", "latex", "loss"))
    assert r"\toprule" in text
    assert rf"3 & ${equation.latex()}$ & $1.5 \cdot 10^{{-12}}$ \\" in text
