"""Every way out of an expression in one place: source code, one line of text, LaTeX, MathML, sympy."""

from __future__ import annotations

from llmsr.expression.printing.infix import fill, safe_names, to_text
from llmsr.expression.printing.source import callable_for, to_numpy_body, to_numpy_source, to_torch_source
from llmsr.expression.printing.symbolic import lambdify, to_sympy
from llmsr.expression.printing.typeset import latex_name, latex_unit, to_latex, to_mathml

__all__ = [
    "callable_for",
    "fill",
    "lambdify",
    "latex_name",
    "latex_unit",
    "safe_names",
    "to_latex",
    "to_mathml",
    "to_numpy_body",
    "to_numpy_source",
    "to_sympy",
    "to_text",
    "to_torch_source",
]
