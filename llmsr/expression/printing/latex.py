"""An equation in LaTeX, for papers and reports."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from llmsr.expression.graph import Expression
from llmsr.expression.printing.infix import (
    AND,
    ATOM,
    COMPARE,
    INLINE_LIMIT,
    NOT,
    OR,
    POWER,
    PRODUCT,
    SUM,
    Infix,
    Piece,
    TooLong,
    fill,
)
from llmsr.expression.printing.line import number_text
from llmsr.expression.printing.symbols import GREEK, SQUARED, name_and_index

_FUNCTIONS = {
    **{f: rf"\{f}" for f in ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh")},
    "log": r"\log",
    "log2": r"\log_{2}",
    "log10": r"\log_{10}",
    "gamma": r"\Gamma",
    "digamma": r"\psi",
    "minimum": r"\min",
    "maximum": r"\max",
    "gammaln": r"\log\Gamma",
    "sign": r"\operatorname{sgn}",
    "expit": r"\operatorname{expit}",
    "arctan2": r"\operatorname{atan2}",
}
_COMPARISONS = {"lt": "<", "le": r"\leq", "gt": ">", "ge": r"\geq", "eq": "=", "ne": r"\neq"}


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


class _Latex(Infix):
    def __init__(self, expression, names, limit: int | None, digits: int | None) -> None:
        super().__init__(expression, names, "s", limit)
        self.digits = digits
        self.width = 400

    def temporary_name(self, index: int) -> str:
        return f"s_{{{index}}}"

    def number(self, value: float) -> str:
        if not math.isfinite(value):
            return r"\infty" if math.isinf(value) else r"\mathrm{nan}"
        mantissa, e, exponent = number_text(value, self.digits).partition("e")
        if not e:
            return mantissa
        power = f"10^{{{int(exponent)}}}"
        return power if mantissa == "1" else rf"{mantissa} \cdot {power}"

    def number_binding(self, text: str) -> int:
        return PRODUCT if r"\cdot" in text else POWER if "^" in text else ATOM

    def param(self, index: int) -> str:
        return f"p_{{{index}}}"

    def parentheses(self, text: str) -> str:
        return rf"\left({text}\right)"

    def product(self, a: Piece, b: Piece) -> Piece:
        left, right = self.wrap(a, PRODUCT), self.wrap(b, PRODUCT)
        # a dot where two numbers would run together, and after a name of several letters' power of ten
        dot = right[0].isdigit() or (right.startswith(r"\frac") and left[-1].isdigit()) or left.endswith("^")
        return Piece(left + (r" \cdot " if dot else r" \, ") + right, PRODUCT)

    def quotient(self, a: Piece, b: Piece) -> Piece:
        return Piece(rf"\frac{{{self.wrap(a, OR)}}}{{{self.wrap(b, OR)}}}", PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        power = f"^{{{self.wrap(exponent, OR)}}}"
        simple = re.match(r"\\([a-z]+)\\left\(", base.text)
        whole = (
            exponent.number and not exponent.negative and exponent.text.isdigit() and int(exponent.text) > 1
        )
        if simple and simple[1] in SQUARED and base.binding == ATOM and whole and not base.negative:
            head = f"\\{simple[1]}"
            return Piece(head + power + base.text[len(head) :], POWER)
        # a name with a subscript takes an exponent; anything with a hat already is put in parentheses
        bare = not base.negative and base.binding == ATOM and "^" not in base.text
        bare = bare and (
            not base.text.startswith("\\") or bool(re.fullmatch(r"\\[a-zA-Z]+({[^{}]*})?(_{.*})?", base.text))
        )
        bare = bare or (
            base.text.startswith((r"\left(", r"\left|")) and base.binding == ATOM and not base.negative
        )
        return Piece((base.text if bare else self.parentheses(self.wrap(base, OR))) + power, POWER)

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        return Piece(f"{self.wrap(a, SUM)} {_COMPARISONS[op]} {self.wrap(b, SUM)}", COMPARE)

    def as_number(self, piece: Piece) -> Piece:
        return Piece(rf"\left[{piece.text}\right]")

    def call(self, op: str, args: list[Piece]) -> Piece:
        plain = [self.wrap(a, OR) for a in args]
        if op == "sqrt":
            return Piece(rf"\sqrt{{{plain[0]}}}")
        if op == "cbrt":
            return Piece(rf"\sqrt[3]{{{plain[0]}}}")
        if op == "abs":
            return Piece(rf"\left|{plain[0]}\right|")
        if op in ("floor", "ceil"):
            return Piece(rf"\left\l{op} {plain[0]}\right\r{op}")
        if op in ("exp", "exp2"):
            if op == "exp" and (len(plain[0]) > 60 or r"\frac" in plain[0] or "^" in plain[0]):
                return Piece(rf"\exp\left({plain[0]}\right)")
            return Piece(f"{'e' if op == 'exp' else '2'}^{{{plain[0]}}}", POWER)
        if op == "not":
            return Piece(rf"\lnot {self.wrap(args[0], ATOM)}", NOT)
        if op in ("and", "or", "xor"):
            symbol = {"and": r"\land", "or": r"\lor", "xor": r"\oplus"}[op]
            a, b = (self.wrap(a, COMPARE) for a in args)
            return Piece(f"{a} {symbol} {b}", AND if op == "and" else OR)
        if op == "where":
            condition, yes, no = plain
            rows = rf"{yes} & \text{{if }} {condition} \\ {no} & \text{{otherwise}}"
            return Piece(rf"\begin{{cases}} {rows} \end{{cases}}", SUM)
        if op == "mod":
            return Piece(rf"{self.wrap(args[0], POWER)} \bmod {self.wrap(args[1], POWER)}", COMPARE)
        if op == "floordiv":
            return Piece(rf"\left\lfloor\frac{{{plain[0]}}}{{{plain[1]}}}\right\rfloor")
        name = _FUNCTIONS.get(op, rf"\operatorname{{{op}}}")
        return Piece(rf"{name}\left({', '.join(plain)}\right)")


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
    try:
        printer = _Latex(expression, symbols, INLINE_LIMIT, digits)
        return printer.wrap(printer.render(), OR)
    except TooLong:
        printer = _Latex(expression, symbols, None, digits)
        result = printer.wrap(printer.render(), OR)
        lines = [f"{name} &= {text}" for name, text in printer.assignments] + [f"& {result}"]
        return r"\begin{aligned} " + r" \\ ".join(lines) + r" \end{aligned}"
