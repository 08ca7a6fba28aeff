"""The common part of LaTeX and MathML: how an operation is set follows from its row of `OPS`.

`Operation.notation` is empty for functions, else one of: `fence | |`, `root 3`, `exponential e`, `prefix ¬`,
`infix ∧`, `relation <`, `modulo`, `floored quotient`, `cases`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llmsr.expression.operations import OPS
from llmsr.expression.printing.infix import (
    AND,
    ATOM,
    COMPARE,
    NOT,
    OR,
    POWER,
    PRODUCT,
    SUM,
    Infix,
    Piece,
    number_text,
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


def name_and_index(name: str) -> tuple[str, str]:
    """A column's name as symbol and index, which is empty where it has none: `v_max`, `x1`, `pH`."""
    head, underscore, tail = name.partition("_")
    letters = re.fullmatch(r"([A-Za-z])(\d+)", name)
    if letters and not underscore:
        head, tail = letters.groups()
    return (head, tail) if head else (name, "")


@dataclass(frozen=True)
class Spelling:
    """How a markup language writes what LaTeX and MathML have in common."""

    templates: Mapping[str, str]
    """Texts with %s for each part, by what they write."""
    symbol: Callable[[str], str]
    """A fence, a relation or an operator."""
    word: Callable[[str], str]
    """A function's name."""
    dot: str
    """Between factors that would run together."""
    space: str
    """Between other factors."""
    high: str
    """What every power in a text has in it."""
    tall: str
    """A pattern found in texts that make a bad exponent."""
    joining: str
    """A pattern found in two factors, a zero character between them, that would look like one number."""
    width: int
    """The longest piece that gets no name where a text is too long as a whole."""


@dataclass
class Typeset(Infix):
    """Renders for typesetting by the spelling of a markup language."""

    spelling: Spelling = field(kw_only=True)

    def __post_init__(self) -> None:
        self.width = self.spelling.width

    def put(self, what: str, *parts: str) -> str:
        """Some texts in a template of the spelling."""
        return self.spelling.templates[what] % parts

    def temporary_name(self, index: int) -> str:
        return self.put("indexed", "s", str(index))

    def param(self, index: int) -> str:
        return self.put("indexed", "p", str(index))

    def number(self, value: float) -> str:
        if not math.isfinite(value):
            return self.put("infinite" if math.isinf(value) else "undefined")
        mantissa, e, exponent = number_text(value, self.digits).partition("e")
        if not e:
            return self.put("number", mantissa)
        size = self.put("number", exponent.lstrip("-"))
        signed = self.negated(size) if exponent[0] == "-" else size
        power = self.put("raised", self.put("number", "10"), signed)
        return power if mantissa == "1" else self.put("number", mantissa) + self.spelling.dot + power

    def number_binding(self, text: str) -> int:
        return PRODUCT if self.spelling.dot in text else POWER if self.spelling.high in text else ATOM

    def fence(self, left: str, text: str, right: str) -> str:
        return self.put("fence", self.spelling.symbol(left), text, self.spelling.symbol(right))

    def parentheses(self, text: str) -> str:
        return self.fence("(", text, ")")

    def negated(self, text: str) -> str:
        return self.put("negated", text)

    def sum(self, left: str, minus: bool, right: str) -> str:
        return self.put("minus" if minus else "plus", left, right)

    def operator(self, symbol: str) -> str:
        """A relation or an operator between two texts, or before one."""
        return self.put("operator", self.spelling.symbol(symbol))

    def as_number(self, piece: Piece) -> Piece:
        return Piece(self.fence("[", piece.text, "]"))

    def product(self, a: Piece, b: Piece) -> Piece:
        left, right = self.wrap(a, PRODUCT), self.wrap(b, PRODUCT)
        together = b.number or re.search(self.spelling.joining, f"{left}\0{right}")
        return Piece(left + (self.spelling.dot if together else self.spelling.space) + right, PRODUCT)

    def quotient(self, a: Piece, b: Piece) -> Piece:
        return Piece(self.put("fraction", self.wrap(a, OR), self.wrap(b, OR)), PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        raised_to = self.wrap(exponent, OR)
        whole = exponent.number and re.sub("<.*?>", "", raised_to).isdigit() and not exponent.negative
        opening = self.spelling.templates["arguments"].partition("%s")[0]
        for function in SQUARED if whole and base.binding == POWER and not base.negative else ():
            head = self.spelling.word(function)
            if base.text.startswith(head + opening):
                return Piece(self.put("raised", head, raised_to) + base.text[len(head) :], POWER)
        return Piece(self.put("raised", self.wrap(base, ATOM), raised_to), POWER)

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
            case ["exponential", base] if base != "e" or not re.search(self.spelling.tall, plain[0]):
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
                return Piece(self.fence("⌊", self.put("fraction", *plain), "⌋"))
            case ["cases"]:
                condition, yes, no = plain
                return Piece(self.put("cases", yes, condition, no), SUM)
        arguments = self.put("arguments", self.spelling.templates["comma"].join(plain))
        return Piece(self.spelling.word(OPS[op].word or op) + arguments, POWER)
