"""Every way out of an expression in one place: source code, one line of text, LaTeX, sympy."""

from __future__ import annotations

from llmsr.expression.printing.latex import to_latex
from llmsr.expression.printing.line import to_text
from llmsr.expression.printing.source import callable_for, to_numpy_source, to_torch_source
from llmsr.expression.printing.symbolic import to_sympy

__all__ = ["callable_for", "to_latex", "to_numpy_source", "to_sympy", "to_text", "to_torch_source"]
