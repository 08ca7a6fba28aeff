"""An equation in other languages: C, Julia and a spreadsheet by sympy's printers, torch and jax trainable.

All of them say the equation with all digits of its fitted constants, which torch and jax hold as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmsr.expression.operations import OPS
from llmsr.expression.printing import callable_for, to_numpy_source, to_torch_source
from llmsr.expression.printing.infix import safe_names

if TYPE_CHECKING:
    import pandas as pd

    from llmsr.report.equation import Equation

# sympy's functions by Excel's; ATAN2 takes its arguments in the other order
EXCEL = {
    "Abs": "ABS", "Max": "MAX", "Min": "MIN", "Mod": "MOD", "sign": "SIGN", "floor": "INT", "exp": "EXP",
    "log": "LN", "gamma": "GAMMA", "loggamma": "GAMMALN", "And": "AND", "Or": "OR", "Not": "NOT",
    "erf": "ERF", "erfc": "ERFC", "atan2": "ATAN2",
    **{name: name.upper() for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
                                       "asinh", "acosh", "atanh")},
}  # fmt: skip
EXCEL_RELATIONS = {"==": "=", "!=": "<>"}


def to_sympy_text(equation: Equation) -> str:
    """A line that `sympy.sympify` reads; ValueError where sympy cannot say it on real numbers."""
    if not equation.exact_sympy:
        raise ValueError("sympy has no form of this equation")
    return f"{equation.exact_sympy}\n"


def to_c(equation: Equation) -> str:
    """A C function `double equation(double x, ...)` of C99's math.h; ValueError where C cannot say it."""
    from sympy.printing.c import C99CodePrinter

    # strict C99 has no macros such as M_LN2
    printer = C99CodePrinter({"math_macros": {}})
    names, formula = _formula(equation, printer.reserved_words)
    arguments = ", ".join(f"double {name}" for name in names) or "void"
    body = _printed(printer.doprint, formula)
    return f"#include <math.h>\n\ndouble equation({arguments}) {{\n  return {body};\n}}\n"


def to_julia(equation: Equation) -> str:
    """A Julia function `equation(x, ...)` of numbers; erf and gamma need the package SpecialFunctions."""
    from sympy.printing.julia import JuliaCodePrinter

    printer = JuliaCodePrinter()
    names, formula = _formula(equation, printer.reserved_words)
    return f"equation({', '.join(names)}) = {_printed(printer.doprint, formula)}\n"


def to_excel(equation: Equation) -> str:
    """A line for a cell of row 2: `=0.8*SIN(A2)`, where A2, B2, ... hold the columns in their order."""
    from sympy.printing.precedence import PRECEDENCE
    from sympy.printing.str import StrPrinter

    class Excel(StrPrinter):
        """Writes calls, relations and powers as a spreadsheet reads them."""

        def _print_Function(self, call: Any) -> str:
            name, args = type(call).__name__, [self._print(a) for a in call.args]
            if name == "ceiling":
                return f"(-INT(-({args[0]})))"
            if name not in EXCEL:
                raise ValueError(f"a spreadsheet has no {name}")
            return f"{EXCEL[name]}({','.join(args[::-1] if name == 'atan2' else args)})"

        def _print_Piecewise(self, cases: Any) -> str:
            *first, (last, _) = cases.args
            text = self._print(last)
            for value, condition in reversed(first):
                text = f"IF({self._print(condition)},{self._print(value)},{text})"
            return text

        def _print_Relational(self, relation: Any) -> str:
            symbol = EXCEL_RELATIONS.get(relation.rel_op, relation.rel_op)
            return f"({self._print(relation.lhs)}{symbol}{self._print(relation.rhs)})"

        def _print_Pow(self, power: Any, rational: bool = False) -> str:
            # a spreadsheet reads -x^2 as (-x)^2 and a^b^c from the left
            parts = (self.parenthesize(part, PRECEDENCE["Func"], strict=True) for part in power.args)
            return f"({'^'.join(parts)})"

        _print_Max = _print_Min = _print_Mod = _print_And = _print_Or = _print_Not = _print_Function
        _print_Abs = _print_Function

    cells = [f"{_letters(index)}2" for index in range(len(equation.labels))]
    return f"={_printed(Excel().doprint, _formula(equation, (), cells)[1])}".replace(" ", "")


def to_torch(equation: Equation) -> Any:
    """A `torch.nn.Module` of X, shape (rows, columns); its float64 parameter `params` begins as fitted."""
    import torch

    function = callable_for(equation.expression, "torch")

    class TorchEquation(torch.nn.Module):
        """The equation, its constants to be trained on."""

        def __init__(self) -> None:
            super().__init__()
            self.params = torch.nn.Parameter(torch.tensor(equation.params, dtype=torch.float64))

        def forward(self, X: Any) -> Any:
            return function(*X.unbind(-1), self.params)

    return TorchEquation()


def to_jax(equation: Equation) -> tuple[Callable[[Any, Any], Any], Any]:
    """(a function of X, shape (rows, columns), and of the constants; the fitted constants as a jax array).

    jax computes in float32 unless `jax.config.update("jax_enable_x64", True)` comes first.
    """
    import jax.numpy

    names: dict[str, Any] = {"np": jax.numpy}
    exec(compile(jax_source(equation), "<equation in jax>", "exec"), names)
    function = names["equation"]
    return lambda X, params: function(*X.T, params), jax.numpy.asarray(equation.params)


def jax_source(equation: Equation) -> str:
    """`equation(x, ..., params)` for jax.numpy as `np`."""
    text = to_numpy_source(equation.expression)
    return text.replace("from scipy import special", "from jax.scipy import special")


def _trained(library: str, text: str, equation: Equation, values: str) -> str:
    return f"import {library}\n\n\n{text}\n\nparams = {values.format(list(equation.params))}\n"


FORMS: dict[str, Callable[[Equation], str]] = {
    "text": lambda e: e.text(exact=True) + "\n",
    "latex": lambda e: e.latex() + "\n",
    "sympy": to_sympy_text,
    "python": lambda e: e.python(),
    "torch": lambda e: _trained(
        "torch", to_torch_source(e.expression), e, "torch.tensor({}, dtype=torch.float64, requires_grad=True)"
    ),
    "jax": lambda e: _trained("jax.numpy as np", jax_source(e), e, "np.array({})"),
    "c": to_c,
    "julia": to_julia,
    "excel": lambda e: to_excel(e) + "\n",
}
"""What an equation can be written as, by name."""


def latex_table(table: pd.DataFrame, columns: Sequence[str], digits: int = 3) -> str:
    """Columns of a table of equations as a LaTeX tabular for booktabs and amsmath; LaTeX is set as math."""

    def told(value: float) -> str:
        mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
        return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$" if exponent else mantissa

    shown = table[list(columns)].astype(object)
    math = {name: [f"${text}$" for text in shown[name]] for name in columns if "latex" in name}
    heads = {name: "equation" if name in math else name.replace("_", r"\_") for name in columns}
    shown = shown.assign(**math).rename(columns=heads)
    text: str = shown.to_latex(index=False, escape=False, na_rep="--", float_format=told)
    return text


def _formula(
    equation: Equation, reserved: Sequence[str], names: Sequence[str] | None = None
) -> tuple[Sequence[str], Any]:
    """(names of the columns that the language takes; sympy's formula over them, free of Mod where named)."""
    import sympy as sp

    names = names or safe_names(equation.labels, {*OPS, *reserved, "equation", "e", "pi"})
    formula = replace(equation, labels=tuple(names)).sympy(exact=True)
    # C's fmod has the sign of its first argument, and no language but sympy has a step with a value at 0
    formula = formula.replace(sp.Mod, lambda a, b: a - b * sp.floor(a / b))
    return names, formula.replace(
        sp.Heaviside, lambda a, b: sp.Piecewise((b, sp.Eq(a, 0)), (1, a > 0), (0, True))
    )


def _printed(printer: Callable[[Any], str], formula: Any) -> str:
    from sympy.printing.codeprinter import PrintMethodNotImplementedError

    try:
        return printer(formula)
    except (PrintMethodNotImplementedError, NotImplementedError) as error:
        raise ValueError(f"the equation has no form in this language: {str(error).splitlines()[0]}") from None


def _letters(index: int) -> str:
    """The name of a spreadsheet's column: A, B, ..., Z, AA, ..."""
    name = chr(ord("A") + index % 26)
    return name if index < 26 else _letters(index // 26 - 1) + name
