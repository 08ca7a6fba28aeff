"""An equation as LaTeX, for papers, and as MathML, which browsers typeset: no fonts, no scripts, no network.

How an operation is set follows from its row of `OPS`. `Operation.notation` is empty for functions, else one
of: `fence | |`, `root 3`, `exponential e`, `prefix ¬`, `infix ∧`, `relation <`, `modulo`, `floored quotient`,
`cases`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import ClassVar

from llmsr.expression.graph import Expression
from llmsr.expression.operations import OPS
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
    fill,
    number_text,
    rendered,
)

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ",
    "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
SQUARED = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
"""Functions whose powers are written behind the name, as in sin² x."""


def _name_and_index(name: str) -> tuple[str, str]:
    """A column's name as symbol and index, which is empty where it has none: `v_max`, `x1`, `pH`."""
    head, underscore, tail = name.partition("_")
    letters = re.fullmatch(r"([A-Za-z])(\d+)", name)
    if letters and not underscore:
        head, tail = letters.groups()
    return (head, tail) if head else (name, "")


class _Typeset(Infix):
    """Renders for typesetting; the markup languages say how each template, symbol and function looks."""

    fraction: ClassVar = (OR, OR)
    exponent: ClassVar = OR
    dot: ClassVar[str]
    """Between factors that would run together."""
    space: ClassVar[str]
    """Between other factors."""
    high: ClassVar[str]
    """What every power in a text has in it."""
    tall: ClassVar[str]
    """A pattern found in texts that make a bad exponent."""
    joining: ClassVar[str]
    """A pattern found in two factors, a zero character between them, that would look like one number."""

    def symbol(self, symbol: str) -> str:
        """A fence, a relation or an operator."""
        raise NotImplementedError

    def word(self, word: str) -> str:
        """A function's name."""
        raise NotImplementedError

    def number(self, value: float) -> str:
        if not math.isfinite(value):
            return self.templates["infinite" if math.isinf(value) else "undefined"]
        mantissa, e, exponent = number_text(value, self.digits).partition("e")
        if not e:
            return self.put("number", mantissa)
        size = self.put("number", exponent.lstrip("-"))
        signed = self.put("negated", size) if exponent[0] == "-" else size
        power = self.put("raised", self.put("number", "10"), signed)
        return power if mantissa == "1" else self.put("number", mantissa) + self.dot + power

    def number_binding(self, text: str) -> int:
        return PRODUCT if self.dot in text else POWER if self.high in text else ATOM

    def fence(self, left: str, text: str, right: str) -> str:
        return self.put("fence", self.symbol(left), text, self.symbol(right))

    def operator(self, symbol: str) -> str:
        """A relation or an operator between two texts, or before one."""
        return self.put("operator", self.symbol(symbol))

    def as_number(self, piece: Piece) -> Piece:
        return Piece(self.fence("[", piece.text, "]"))

    def product(self, a: Piece, b: Piece) -> Piece:
        left, right = self.wrap(a, PRODUCT), self.wrap(b, PRODUCT)
        # 2 x^2 needs no sign between its factors, 2 times 3 does
        together = b.number or re.search(self.joining, f"{left}\0{right}")
        return Piece(left + (self.dot if together else self.space) + right, PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        raised_to = self.wrap(exponent, OR)
        whole = exponent.number and re.sub("<.*?>", "", raised_to).isdigit() and not exponent.negative
        opening = self.templates["arguments"].partition("%s")[0]
        for function in SQUARED if whole and base.binding == POWER and not base.negative else ():
            head = self.word(function)
            if base.text.startswith(head + opening):
                return Piece(self.put("raised", head, raised_to) + base.text[len(head) :], POWER)
        return super().power(base, exponent)

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        relation = self.operator(OPS[op].notation.split()[1])
        return Piece(self.wrap(a, SUM) + relation + self.wrap(b, SUM), COMPARE)

    def call(self, op: str, args: list[Piece]) -> Piece:
        plain = [self.wrap(a, OR) for a in args]
        match OPS[op].notation.split():
            case ["fence", left, right]:
                return Piece(self.fence(left, plain[0], right))
            case ["root", degree]:
                return Piece(self.put(f"root {degree}", plain[0]))
            # a fraction or a power in an exponent is hard to read: exp(...) then
            case ["exponential", base] if base != "e" or not re.search(self.tall, plain[0]):
                return Piece(self.put("raised", self.put("base", base), plain[0]), POWER)
            case ["prefix", symbol]:
                return Piece(self.operator(symbol) + self.wrap(args[0], ATOM), NOT)
            case ["infix", symbol]:
                left, right = (self.wrap(a, COMPARE) for a in args)
                return Piece(left + self.operator(symbol) + right, AND if op == "and" else OR)
            case ["modulo"]:
                left, right = (self.wrap(a, POWER) for a in args)
                return Piece(left + self.operator("mod") + right, COMPARE)
            case ["floored", _]:
                return Piece(self.fence("⌊", self.put("quotient", *plain), "⌋"))
            case ["cases"]:
                condition, yes, no = plain
                return Piece(self.put("cases", yes, condition, no), SUM)
        arguments = self.put("arguments", self.templates["comma"].join(plain))
        return Piece(self.word(OPS[op].word or op) + arguments, POWER)


# ---- LaTeX


_COMMANDS = {
    "|": "|", "(": "(", ")": ")", "[": "[", "]": "]", "⌊": r"\lfloor ", "⌋": r"\rfloor", "⌈": r"\lceil ",
    "⌉": r"\rceil", "¬": r"\lnot ", "∧": r" \land ", "∨": r" \lor ", "⊕": r" \oplus ", "mod": r" \bmod ",
    "<": " < ", "≤": r" \leq ", ">": " > ", "≥": r" \geq ", "=": " = ", "≠": r" \neq ",
    "Γ": r"\Gamma", "ψ": r"\psi", "log Γ": r"\log\Gamma", "log_2": r"\log_{2}",
    "log_10": r"\log_{10}",
}  # fmt: skip
_FUNCTIONS = ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "exp")
_COMMANDS |= {name: rf"\{name}" for name in (*_FUNCTIONS, "min", "max")}


class _Latex(_Typeset):
    templates: ClassVar = Infix.templates | {
        "number": "%s", "infinite": r"\infty", "undefined": r"\mathrm{nan}", "param": "%s_{%s}",
        "temporary": "%s_{%s}", "base": "%s", "operator": "%s", "fence": r"\left%s%s\right%s",
        "parentheses": r"\left(%s\right)", "arguments": r"\left(%s\right)", "comma": ", ",
        "quotient": r"\frac{%s}{%s}", "root 2": r"\sqrt{%s}", "root 3": r"\sqrt[3]{%s}", "raised": "%s^{%s}",
        "cases": r"\begin{cases} %s & \text{if } %s \\ %s & \text{otherwise} \end{cases}",
    }  # fmt: skip
    dot, space, high = r" \cdot ", r" \, ", "^"
    tall, joining = r"\\frac|\^|.{61}", r"\0\d|\d\0\\frac"
    width: ClassVar = 400

    def symbol(self, symbol: str) -> str:
        return _COMMANDS[symbol]

    def word(self, word: str) -> str:
        return _COMMANDS.get(word) or rf"\operatorname{{{word}}}"


def latex_name(name: str) -> str:
    """A column's name as a symbol: `x`, `x_{1}`, `\\theta`, `\\mathrm{pH}`; everything special is escaped."""
    head, tail = _name_and_index(name)
    if head in GREEK:
        symbol = rf"\{head}"
    elif len(head) == 1 and head.isalpha() and head.isascii():
        symbol = head
    else:
        symbol = rf"\mathrm{{{_escape(head)}}}"
    if not tail:
        return symbol
    plain = re.fullmatch(r"\d+|[A-Za-z]", tail)
    return symbol + (f"_{{{tail}}}" if plain else rf"_{{\mathrm{{{_escape(tail)}}}}}")


def latex_unit(unit: str) -> str:
    """A unit as people write it, such as m/s^2 or kg m-3, in upright letters with raised exponents."""
    power = re.compile(r"(?<=[^\W\d])(?:\*\*|\^)?\(?(-?\d+(?:[./]\d+)?)\)?")
    pieces = power.split(unit.strip())
    texts = [_escape(text).replace("*", r"\,").replace("·", r"\,") for text in pieces[::2]]
    powers = [f"^{{{exponent}}}" for exponent in pieces[1::2]]
    return rf"\mathrm{{{''.join(itertools.chain(*itertools.zip_longest(texts, powers, fillvalue='')))}}}"


def _escape(text: str) -> str:
    named = {"\\": r"\backslash{}", "^": r"\hat{}", "~": r"\tilde{}", " ": r"\ "}
    return "".join(named.get(c, "\\" + c if c in "#$%&_{}" else c) for c in text)


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
    named, result = rendered(lambda limit: _Latex(expression, symbols, "s", limit, digits), INLINE_LIMIT)
    if not named:
        return result
    lines = [f"{name} &= {text}" for name, text in named] + [f"& {result}"]
    return r"\begin{aligned} " + r" \\ ".join(lines) + r" \end{aligned}"


# ---- MathML


PLUS, MINUS = '<mo form="infix">+</mo>', '<mo form="infix">−</mo>'
_MARKUP_FACTOR = 12  # characters of markup per character of LaTeX-like text, about
_IF, _OTHERWISE = "<mtext>if\u00a0</mtext>%s", "<mtext>otherwise</mtext>"
_CELL = '<mtd style="text-align:left">%s</mtd>'
_PARENTHESES = '<mrow><mo fence="true">(</mo>%s<mo fence="true">)</mo></mrow>'


class _MathML(_Typeset):
    templates: ClassVar = Infix.templates | {
        "number": "<mn>%s</mn>", "infinite": "<mi>∞</mi>", "undefined": '<mi mathvariant="normal">nan</mi>',
        "param": "<msub><mi>%s</mi><mn>%s</mn></msub>", "temporary": "<msub><mi>%s</mi><mn>%s</mn></msub>",
        "base": "<mi>%s</mi>", "operator": "<mo>%s</mo>",
        "fence": '<mrow><mo fence="true">%s</mo>%s<mo fence="true">%s</mo></mrow>',
        "parentheses": _PARENTHESES, "arguments": f"<mo>&#x2061;</mo>{_PARENTHESES}", "comma": "<mo>,</mo>",
        "quotient": "<mfrac><mrow>%s</mrow><mrow>%s</mrow></mfrac>", "root 2": "<msqrt>%s</msqrt>",
        "root 3": "<mroot><mrow>%s</mrow><mn>3</mn></mroot>",
        "raised": "<msup><mrow>%s</mrow><mrow>%s</mrow></msup>", "negated": "<mrow><mo>−</mo>%s</mrow>",
        "plus": f"%s{PLUS}%s", "minus": f"%s{MINUS}%s",
        "cases": '<mrow><mo fence="true">{</mo><mtable>'
        f"<mtr>{_CELL}{_CELL % _IF}</mtr><mtr>{_CELL}{_CELL % _OTHERWISE}</mtr></mtable></mrow>",
    }  # fmt: skip
    dot, space = '<mo lspace="0.15em" rspace="0.15em">·</mo>', '<mspace width="0.14em"/>'
    high, tall, joining = "<msup>", "<mfrac>", r"\0(<mrow>|<msup>|<mfrac>)*<mn>"
    width: ClassVar = 120 * _MARKUP_FACTOR

    def symbol(self, symbol: str) -> str:
        return escape(symbol)

    def word(self, word: str) -> str:
        name, _, index = word.partition("_")
        if index:
            return f"<msub><mi>{name}</mi><mn>{index}</mn></msub>"
        return f'<mi mathvariant="normal">{word}</mi>' if len(word) == 1 else f"<mi>{word}</mi>"


def _name_markup(name: str) -> str:
    """A column's name as a symbol, with what follows a first underscore or letter as its index."""
    head, tail = _name_and_index(name)
    if not tail:
        head = name
    symbol = f"<mi>{escape(GREEK.get(head, head))}</mi>"
    if not tail:
        return symbol
    number = re.fullmatch(r"[0-9]+", tail)
    index = f"<mn>{tail}</mn>" if number else f'<mi mathvariant="normal">{escape(tail)}</mi>'
    return f"<msub>{symbol}{index}</msub>"


def to_mathml(target: str, expression: Expression, digits: int | None = 4) -> list[str]:
    """`target = expression` as `<math>` elements to stand in one line, one for each term of an outermost sum.

    A browser breaks lines between them. Parameters show as p with an index. An equation too long for that
    becomes one element, a table of named intermediate results.
    """
    left = f"{_name_markup(target)}<mo>=</mo>"
    names = [_name_markup(name) for name in expression.columns]
    named, result = rendered(
        lambda limit: _MathML(expression, names, "s", limit, digits), INLINE_LIMIT * _MARKUP_FACTOR
    )
    rows = _terms(left, result)
    if named:
        lines = [f"{name}<mo>=</mo>{text}" for name, text in named] + [left + result]
        rows = [f"<mtable>{''.join(f'<mtr>{_CELL % line}</mtr>' for line in lines)}</mtable>"]
    return [f'<math displaystyle="true"><mrow>{row}</mrow></math>' for row in rows]


def _terms(left: str, text: str) -> list[str]:
    """The markup cut before every plus or minus between two terms that lies in no other element."""
    cuts, depth = [0], 0
    for tag in re.finditer(r"<(/?)[a-z]+[^>]*?(/?)>", text):
        if not depth and text.startswith((PLUS, MINUS), tag.start()):
            cuts.append(tag.start())
        if tag[1]:
            depth -= 1
        elif not tag[2]:
            depth += 1
    parts = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [left + parts[0], *parts[1:]]
