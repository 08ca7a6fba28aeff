"""The common part of LaTeX and MathML: how an operation is set follows from its row of `OPS`.

`Operation.notation` is empty for functions, else one of: `fence | |`, `root 3`, `exponential e`, `prefix ¬`,
`infix ∧`, `relation <`, `modulo`, `floored quotient`, `cases`.
"""

from __future__ import annotations

import math
import re

from llmsr.expression.operations import OPS
from llmsr.expression.printing.infix import AND, ATOM, COMPARE, NOT, OR, POWER, PRODUCT, SUM, Infix, Piece
from llmsr.expression.printing.line import number_text

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


class Typeset(Infix):
    """Renders for typesetting; a markup says how its elements are written, texts in, text out."""

    digits: int | None
    dot: str
    """Between factors where numbers would run together; `times` elsewhere."""
    high: str
    """What every power in a text has in it."""
    tall: str
    """A pattern found in texts that make a bad exponent."""

    def word(self, word: str) -> str:
        """A function's name."""
        raise NotImplementedError

    def application(self, arguments: list[str]) -> str:
        """What follows a function's name."""
        raise NotImplementedError

    def fence(self, left: str, text: str, right: str) -> str:
        raise NotImplementedError

    def fraction(self, above: str, below: str) -> str:
        raise NotImplementedError

    def root(self, degree: str, text: str) -> str:
        raise NotImplementedError

    def raised(self, base: str, exponent: str) -> str:
        raise NotImplementedError

    def sign(self, symbol: str) -> str:
        """A relation or an operator between two texts, or before one."""
        raise NotImplementedError

    def cases(self, condition: str, yes: str, no: str) -> str:
        raise NotImplementedError

    def literal(self, digits: str) -> str:
        """Digits, or the names of what is no finite number."""
        raise NotImplementedError

    def runs_together(self, left: str, right: str) -> bool:
        """Whether two factors without a dot between them would look like one number."""
        raise NotImplementedError

    # what follows for every operation --------------------------------------------------------------------

    def number(self, value: float) -> str:
        if not math.isfinite(value):
            return self.literal("∞" if math.isinf(value) else "nan")
        mantissa, e, exponent = number_text(value, self.digits).partition("e")
        if not e:
            return self.literal(mantissa)
        size = self.literal(exponent.lstrip("-"))
        power = self.raised(self.literal("10"), self.negated(size) if exponent[0] == "-" else size)
        return power if mantissa == "1" else self.literal(mantissa) + self.dot + power

    def number_binding(self, text: str) -> int:
        return PRODUCT if self.dot in text else POWER if self.high in text else ATOM

    def parentheses(self, text: str) -> str:
        return self.fence("(", text, ")")

    def as_number(self, piece: Piece) -> Piece:
        return Piece(self.fence("[", piece.text, "]"))

    def product(self, a: Piece, b: Piece) -> Piece:
        left, right = self.wrap(a, PRODUCT), self.wrap(b, PRODUCT)
        between = self.dot if b.number or self.runs_together(left, right) else self.times
        return Piece(left + between + right, PRODUCT)

    def quotient(self, a: Piece, b: Piece) -> Piece:
        return Piece(self.fraction(self.wrap(a, OR), self.wrap(b, OR)), PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        raised_to = self.wrap(exponent, OR)
        whole = exponent.number and re.sub("<.*?>", "", raised_to).isdigit() and not exponent.negative
        for function in SQUARED if whole and base.binding == POWER and not base.negative else ():
            head = self.word(function)
            if base.text.startswith(head + self.application([""])[:6]):
                return Piece(self.raised(head, raised_to) + base.text[len(head) :], POWER)
        return Piece(self.raised(self.wrap(base, ATOM), raised_to), POWER)

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        relation = self.sign(OPS[op].notation.split()[1])
        return Piece(self.wrap(a, SUM) + relation + self.wrap(b, SUM), COMPARE)

    def call(self, op: str, args: list[Piece]) -> Piece:
        plain = [self.wrap(a, OR) for a in args]
        match OPS[op].notation.split():
            case ["fence", left, right]:
                return Piece(self.fence(left, plain[0], right))
            case ["root", degree]:
                return Piece(self.root(degree, plain[0]))
            case ["exponential", base] if base != "e" or not re.search(self.tall, plain[0]):
                return Piece(self.raised(base, plain[0]), POWER)
            case ["prefix", symbol]:
                return Piece(self.sign(symbol) + self.wrap(args[0], ATOM), NOT)
            case ["infix", symbol]:
                left, right = (self.wrap(a, COMPARE) for a in args)
                return Piece(left + self.sign(symbol) + right, AND if op == "and" else OR)
            case ["modulo"]:
                left, right = (self.wrap(a, POWER) for a in args)
                return Piece(left + self.sign("mod") + right, COMPARE)
            case ["floored", _]:
                return Piece(self.fence("⌊", self.fraction(*plain), "⌋"))
            case ["cases"]:
                return Piece(self.cases(*plain), SUM)
        return Piece(self.word(OPS[op].word or op) + self.application(plain), POWER)
