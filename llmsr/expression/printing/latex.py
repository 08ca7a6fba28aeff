"""An equation in LaTeX, for papers and reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from llmsr.expression.graph import Expression
from llmsr.expression.printing.infix import INLINE_LIMIT, fill, rendered
from llmsr.expression.printing.typeset import GREEK, Spelling, Typeset, name_and_index

_COMMANDS = {
    "|": "|", "(": "(", ")": ")", "[": "[", "]": "]", "⌊": r"\lfloor ", "⌋": r"\rfloor", "⌈": r"\lceil ",
    "⌉": r"\rceil", "¬": r"\lnot ", "∧": r" \land ", "∨": r" \lor ", "⊕": r" \oplus ", "mod": r" \bmod ",
    "<": " < ", "≤": r" \leq ", ">": " > ", "≥": r" \geq ", "=": " = ", "≠": r" \neq ",
    "Γ": r"\Gamma", "ψ": r"\psi", "log Γ": r"\log\Gamma", "log_2": r"\log_{2}",
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


_SPELLING = Spelling(
    templates={
        "number": "%s",
        "infinite": r"\infty",
        "undefined": r"\mathrm{nan}",
        "indexed": "%s_{%s}",
        "base": "%s",
        "operator": "%s",
        "fence": r"\left%s%s\right%s",
        "arguments": r"\left(%s\right)",
        "comma": ", ",
        "fraction": r"\frac{%s}{%s}",
        "root 2": r"\sqrt{%s}",
        "root 3": r"\sqrt[3]{%s}",
        "raised": "%s^{%s}",
        "negated": "-%s",
        "plus": "%s + %s",
        "minus": "%s - %s",
        "cases": r"\begin{cases} %s & \text{if } %s \\ %s & \text{otherwise} \end{cases}",
    },
    symbol=_COMMANDS.__getitem__,
    word=lambda word: _COMMANDS.get(word) or rf"\operatorname{{{word}}}",
    dot=r" \cdot ",
    space=r" \, ",
    high="^",
    tall=r"\\frac|\^|.{61}",
    joining=r"\0\d|\d\0\\frac",
    width=400,
)


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
    named, result = rendered(
        lambda limit: Typeset(expression, symbols, "s", limit, digits, spelling=_SPELLING), INLINE_LIMIT
    )
    if not named:
        return result
    lines = [f"{name} &= {text}" for name, text in named] + [f"& {result}"]
    return r"\begin{aligned} " + r" \\ ".join(lines) + r" \end{aligned}"
