"""An equation in LaTeX, for papers and reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from llmsr.expression.graph import Expression
from llmsr.expression.printing.infix import INLINE_LIMIT, fill, rendered
from llmsr.expression.printing.typeset import GREEK, Typeset, name_and_index

_COMMANDS = {
    "|": "|", "(": "(", ")": ")", "[": "[", "]": "]", "⌊": r"\lfloor ", "⌋": r"\rfloor", "⌈": r"\lceil ",
    "⌉": r"\rceil", "¬": r"\lnot ", "∧": r" \land ", "∨": r" \lor ", "⊕": r" \oplus ", "mod": r" \bmod ",
    "<": " < ", "≤": r" \leq ", ">": " > ", "≥": r" \geq ", "=": " = ", "≠": r" \neq ", "∞": r"\infty",
    "nan": r"\mathrm{nan}", "Γ": r"\Gamma", "ψ": r"\psi", "log Γ": r"\log\Gamma", "log_2": r"\log_{2}",
    "log_10": r"\log_{10}",
}  # fmt: skip
_FUNCTIONS = ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "exp")
_COMMANDS |= {name: rf"\{name}" for name in (*_FUNCTIONS, "min", "max")}


def latex_name(name: str) -> str:
    """A column's name as a symbol: `x`, `x_{1}`, `\\theta`, `\\mathrm{pH}`; everything special is escaped."""
    head, tail = name_and_index(name)
    if head in GREEK:
        symbol = rf"\{head}"
    elif len(head) == 1 and head.isalpha() and head.isascii():
        symbol = head
    else:
        symbol = rf"\mathrm{{{_escape(head)}}}"
    if not tail:
        return symbol
    return symbol + (
        f"_{{{tail}}}" if re.fullmatch(r"\d+|[A-Za-z]", tail) else rf"_{{\mathrm{{{_escape(tail)}}}}}"
    )


def _escape(text: str) -> str:
    named = {"\\": r"\backslash{}", "^": r"\hat{}", "~": r"\tilde{}", " ": r"\ "}
    return "".join(named.get(c, "\\" + c if c in "#$%&_{}" else c) for c in text)


class _Latex(Typeset):
    dot, times, high, tall = r" \cdot ", r" \, ", "^", r"\\frac|\^|.{61}"

    def __init__(
        self, expression: Expression, names: Sequence[str], limit: int | None, digits: int | None
    ) -> None:
        super().__init__(expression, names, "s", limit)
        self.digits = digits
        self.width = 400

    def temporary_name(self, index: int) -> str:
        return f"s_{{{index}}}"

    def param(self, index: int) -> str:
        return f"p_{{{index}}}"

    def literal(self, digits: str) -> str:
        return _COMMANDS.get(digits, digits)

    def word(self, word: str) -> str:
        return _COMMANDS.get(word) or rf"\operatorname{{{word}}}"

    def application(self, arguments: list[str]) -> str:
        return self.parentheses(", ".join(arguments))

    def fence(self, left: str, text: str, right: str) -> str:
        return rf"\left{_COMMANDS[left]}{text}\right{_COMMANDS[right]}"

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def root(self, degree: str, text: str) -> str:
        return rf"\sqrt{'' if degree == '2' else f'[{degree}]'}{{{text}}}"

    def raised(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def sign(self, symbol: str) -> str:
        return _COMMANDS[symbol]

    def cases(self, condition: str, yes: str, no: str) -> str:
        rows = rf"{yes} & \text{{if }} {condition} \\ {no} & \text{{otherwise}}"
        return rf"\begin{{cases}} {rows} \end{{cases}}"

    def runs_together(self, left: str, right: str) -> bool:
        return right[0].isdigit() or (right.startswith(r"\frac") and left[-1].isdigit())


def to_latex(
    expression: Expression,
    params: Sequence[float] | None = None,
    column_latex: Sequence[str] | Mapping[str, str] | None = None,
    digits: int | None = 4,
) -> str:
    """The right-hand side as LaTeX math without delimiters; needs amsmath.

    `params`: values in place of p_0, p_1, ...; `column_latex`: symbols of the columns, in their order or by
    name, else made from the names (`latex_name`); `digits`: significant digits, None for all. A condition
    used as a number is an Iverson bracket. When the text would pass 4000 characters, intermediate results are
    named s_0, s_1, ... in an `aligned` block. Raises ValueError when `params` or `column_latex` is too short.
    """
    if params is not None:
        expression = fill(expression, params)
    if column_latex is None or isinstance(column_latex, Mapping):
        given = column_latex or {}
        symbols = [given.get(name) or latex_name(name) for name in expression.columns]
    else:
        symbols = list(column_latex)
    if len(symbols) < len(expression.columns):
        raise ValueError(f"{len(expression.columns)} columns, only {len(symbols)} symbols in column_latex")
    named, result = rendered(lambda limit: _Latex(expression, symbols, limit, digits), INLINE_LIMIT)
    if not named:
        return result
    lines = [f"{name} &= {text}" for name, text in named] + [f"& {result}"]
    return r"\begin{aligned} " + r" \\ ".join(lines) + r" \end{aligned}"
