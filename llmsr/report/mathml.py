"""An equation as MathML, which browsers typeset by themselves: no fonts, no scripts, no network."""

from __future__ import annotations

import math
import re

from llmsr.expression.graph import Expression, Node
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
)
from llmsr.expression.printing.line import number_text
from llmsr.expression.printing.symbols import GREEK, SQUARED, name_and_index
from llmsr.report.markup import escape

_NAMES = {
    "minimum": "min",
    "maximum": "max",
    "gamma": "Γ",
    "gammaln": "ln Γ",
    "log": "ln",
    "sign": "sgn",
    "arctan2": "atan2",
}
_RELATIONS = {"lt": "&lt;", "le": "≤", "gt": "&gt;", "ge": "≥", "eq": "=", "ne": "≠"}
_TIMES = '<mspace width="0.14em"/>'
_APPLY = "<mo>&#x2061;</mo>"
_DOT = '<mo lspace="0.15em" rspace="0.15em">·</mo>'
PLUS, MINUS = '<mo form="infix">+</mo>', '<mo form="infix">−</mo>'
_SQUARED = re.compile(f"<mi>({'|'.join(SQUARED)})</mi>")
_MARKUP_FACTOR = 12  # characters of markup per character of LaTeX-like text, about


def _row(content: str) -> str:
    return f"<mrow>{content}</mrow>"


def _identifier(text: str) -> str:
    text = GREEK.get(text, text)
    return f"<mi>{escape(text)}</mi>"


def name_markup(name: str) -> str:
    """A column's name as a symbol, with what follows a first underscore or letter as its index."""
    head, tail = name_and_index(name)
    if not tail:
        return _identifier(name)
    index = (
        f"<mn>{tail}</mn>"
        if re.fullmatch(r"[0-9]+", tail)
        else f'<mi mathvariant="normal">{escape(tail)}</mi>'
    )
    return f"<msub>{_identifier(head)}{index}</msub>"


def number_markup(number: float, digits: int | None) -> str:
    """A number of at least 0, with a power of ten where `number_text` has an exponent."""
    if not math.isfinite(number):
        return "<mi>∞</mi>" if math.isinf(number) else '<mi mathvariant="normal">nan</mi>'
    mantissa, e, exponent = number_text(number, digits).partition("e")
    if not e:
        return f"<mn>{mantissa}</mn>"
    sign = "<mo>−</mo>" if exponent.startswith("-") else ""
    power = f"<msup><mn>10</mn><mrow>{sign}<mn>{exponent.lstrip('-+')}</mn></mrow></msup>"
    return power if mantissa == "1" else _row(f"<mn>{mantissa}</mn>{_DOT}{power}")


class _Markup(Infix):
    def __init__(self, expression: Expression, limit: int | None, digits: int | None) -> None:
        names = [name_markup(name) for name in expression.columns]
        super().__init__(expression, names, "s", limit)
        self.digits = digits
        self.width = 120 * _MARKUP_FACTOR

    def temporary_name(self, index: int) -> str:
        return f"<msub><mi>s</mi><mn>{index}</mn></msub>"

    def number(self, value: float) -> str:
        return number_markup(value, self.digits)

    def number_binding(self, text: str) -> int:
        return ATOM if text.startswith("<mn>") or text.startswith("<mi>") else PRODUCT

    def param(self, index: int) -> str:
        return f"<msub><mi>p</mi><mn>{index}</mn></msub>"

    def parentheses(self, text: str) -> str:
        return _row(f'<mo fence="true">(</mo>{text}<mo fence="true">)</mo>')

    def wrap(self, piece: Piece, binding: int) -> str:
        text, own = piece.text, piece.binding
        if piece.negative:
            text = _row("<mo>−</mo>" + (self.parentheses(text) if own < PRODUCT else text))
            own = SUM
        return self.parentheses(text) if own < binding else text

    def combine(self, node: Node, args: list[Piece]) -> Piece:
        if node.op not in ("add", "sub"):
            return super().combine(node, args)
        a, b = (self.as_number(x) if x.boolean else x for x in args)
        minus = b.negative != (node.op == "sub")
        sign = MINUS if minus else PLUS
        right = self.wrap(b._replace(negative=False), PRODUCT if minus else SUM)
        return Piece(f"{self.wrap(a, SUM)}{sign}{right}", SUM)

    def product(self, a: Piece, b: Piece) -> Piece:
        left, right = self.wrap(a, PRODUCT), self.wrap(b, PRODUCT)
        numeral = b.number or re.match(r"(<mrow>|<msup>|<mfrac>)*<mn>", right)
        return Piece(left + (_DOT if numeral else _TIMES) + right, PRODUCT)

    def quotient(self, a: Piece, b: Piece) -> Piece:
        above, below = _row(self.wrap(a, OR)), _row(self.wrap(b, OR))
        return Piece(f"<mfrac>{above}{below}</mfrac>", PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        function = _SQUARED.match(base.text)
        whole = exponent.number and not exponent.negative and exponent.text in ("<mn>2</mn>", "<mn>3</mn>")
        if function and whole and base.binding == ATOM and not base.negative:
            return Piece(f"<msup>{function[0]}{exponent.text}</msup>{base.text[function.end() :]}", POWER)
        raised = self.wrap(base, ATOM)
        return Piece(f"<msup>{_row(raised)}{_row(self.wrap(exponent, OR))}</msup>", POWER)

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        relation = f"<mo>{_RELATIONS[op]}</mo>"
        return Piece(f"{self.wrap(a, SUM)}{relation}{self.wrap(b, SUM)}", COMPARE)

    def as_number(self, piece: Piece) -> Piece:
        return Piece(_row(f'<mo fence="true">[</mo>{piece.text}<mo fence="true">]</mo>'))

    def call(self, op: str, args: list[Piece]) -> Piece:
        plain = [self.wrap(a, OR) for a in args]
        if op == "sqrt":
            return Piece(f"<msqrt>{plain[0]}</msqrt>")
        if op == "cbrt":
            return Piece(f"<mroot>{_row(plain[0])}<mn>3</mn></mroot>")
        if op == "abs":
            return Piece(_row(f'<mo fence="true">|</mo>{plain[0]}<mo fence="true">|</mo>'))
        if op in ("floor", "ceil"):
            left, right = ("⌊", "⌋") if op == "floor" else ("⌈", "⌉")
            return Piece(_row(f'<mo fence="true">{left}</mo>{plain[0]}<mo fence="true">{right}</mo>'))
        if op in ("exp", "exp2") and "<mfrac>" not in plain[0]:
            base = "<mi>e</mi>" if op == "exp" else "<mn>2</mn>"
            return Piece(f"<msup>{base}{_row(plain[0])}</msup>", POWER)
        if op == "not":
            return Piece(f"<mo>¬</mo>{self.wrap(args[0], ATOM)}", NOT)
        if op in ("and", "or", "xor"):
            symbol = {"and": "∧", "or": "∨", "xor": "⊕"}[op]
            a, b = (self.wrap(a, COMPARE) for a in args)
            return Piece(f"{a}<mo>{symbol}</mo>{b}", AND if op == "and" else OR)
        if op == "where":
            condition, yes, no = plain
            rows = "".join(
                f'<mtr><mtd style="text-align:left">{value}</mtd>'
                f'<mtd style="text-align:left"><mtext>{when}</mtext>{test}</mtd></mtr>'
                for value, when, test in ((yes, "if\u00a0", condition), (no, "otherwise", ""))
            )
            return Piece(_row(f'<mo fence="true">{{</mo><mtable>{rows}</mtable>'), SUM)
        word = _NAMES.get(op, op)
        if op in ("log2", "log10"):
            name = f"<msub><mi>log</mi><mn>{op[3:]}</mn></msub>"
        else:
            name = f'<mi mathvariant="normal">{word}</mi>' if len(word) == 1 else f"<mi>{word}</mi>"
        return Piece(name + _APPLY + self.parentheses("<mo>,</mo>".join(plain)))


def to_mathml(target: str, expression: Expression, digits: int | None = 4) -> list[str]:
    """`target = expression` as `<math>` elements to stand in one line, one for each term of an outermost sum.

    A browser breaks lines between them. Parameters show as p with an index. An equation too long for that
    becomes one element, a table of named intermediate results.
    """
    left = f"{name_markup(target)}<mo>=</mo>"
    try:
        printer = _Markup(expression, INLINE_LIMIT * _MARKUP_FACTOR, digits)
        terms = _terms(printer.wrap(printer.render(), OR))
        return [_math(left + terms[0]), *(_math(term) for term in terms[1:])]
    except TooLong:
        printer = _Markup(expression, None, digits)
        result = printer.wrap(printer.render(), OR)
        lines = [f"{name}<mo>=</mo>{text}" for name, text in printer.assignments] + [left + result]
        rows = "".join(f'<mtr><mtd style="text-align:left">{line}</mtd></mtr>' for line in lines)
        return [_math(f"<mtable>{rows}</mtable>")]


def _math(content: str) -> str:
    return f'<math displaystyle="true">{_row(content)}</math>'


def _terms(text: str) -> list[str]:
    """The markup cut before every plus or minus between two terms that lies in no other element."""
    cuts, depth = [0], 0
    for tag in re.finditer(r"<(/?)[a-z]+[^>]*?(/?)>", text):
        if not depth and text.startswith((PLUS, MINUS), tag.start()):
            cuts.append(tag.start())
        if tag[1]:
            depth -= 1
        elif not tag[2]:
            depth += 1
    return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
