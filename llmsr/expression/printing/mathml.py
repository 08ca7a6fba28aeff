"""An equation as MathML, which browsers typeset by themselves: no fonts, no scripts, no network."""

from __future__ import annotations

import re
from html import escape

from llmsr.expression.graph import Expression
from llmsr.expression.printing.infix import INLINE_LIMIT, rendered
from llmsr.expression.printing.typeset import GREEK, Typeset, name_and_index

PLUS, MINUS = '<mo form="infix">+</mo>', '<mo form="infix">−</mo>'
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


class _Markup(Typeset):
    dot, times = '<mo lspace="0.15em" rspace="0.15em">·</mo>', '<mspace width="0.14em"/>'
    high, tall = "<msup>", "<mfrac>"

    def __init__(self, expression: Expression, limit: int | None, digits: int | None) -> None:
        names = [name_markup(name) for name in expression.columns]
        super().__init__(expression, names, "s", limit)
        self.digits = digits
        self.width = 120 * _MARKUP_FACTOR

    def temporary_name(self, index: int) -> str:
        return f"<msub><mi>s</mi><mn>{index}</mn></msub>"

    def param(self, index: int) -> str:
        return f"<msub><mi>p</mi><mn>{index}</mn></msub>"

    def literal(self, digits: str) -> str:
        if digits == "nan":
            return '<mi mathvariant="normal">nan</mi>'
        return "<mi>∞</mi>" if digits == "∞" else f"<mn>{digits}</mn>"

    def word(self, word: str) -> str:
        name, _, index = word.partition("_")
        if index:
            return f"<msub><mi>{name}</mi><mn>{index}</mn></msub>"
        return f'<mi mathvariant="normal">{word}</mi>' if len(word) == 1 else f"<mi>{word}</mi>"

    def application(self, arguments: list[str]) -> str:
        return "<mo>&#x2061;</mo>" + self.parentheses("<mo>,</mo>".join(arguments))

    def fence(self, left: str, text: str, right: str) -> str:
        return _row(f'<mo fence="true">{left}</mo>{text}<mo fence="true">{right}</mo>')

    def fraction(self, above: str, below: str) -> str:
        return f"<mfrac>{_row(above)}{_row(below)}</mfrac>"

    def root(self, degree: str, text: str) -> str:
        return f"<msqrt>{text}</msqrt>" if degree == "2" else f"<mroot>{_row(text)}<mn>{degree}</mn></mroot>"

    def raised(self, base: str, exponent: str) -> str:
        base = base if base.startswith("<") else f"<mi>{base}</mi>"
        return f"<msup>{_row(base)}{_row(exponent)}</msup>"

    def sign(self, symbol: str) -> str:
        return f"<mo>{escape(symbol)}</mo>"

    def cases(self, condition: str, yes: str, no: str) -> str:
        rows = "".join(
            f'<mtr><mtd style="text-align:left">{value}</mtd>'
            f'<mtd style="text-align:left"><mtext>{when}</mtext>{test}</mtd></mtr>'
            for value, when, test in ((yes, "if\u00a0", condition), (no, "otherwise", ""))
        )
        return _row(f'<mo fence="true">{{</mo><mtable>{rows}</mtable>')

    def negated(self, text: str) -> str:
        return _row("<mo>−</mo>" + text)

    def sum(self, left: str, minus: bool, right: str) -> str:
        return left + (MINUS if minus else PLUS) + right

    def runs_together(self, left: str, right: str) -> bool:
        return bool(re.match(r"(<mrow>|<msup>|<mfrac>)*<mn>", right))


def to_mathml(target: str, expression: Expression, digits: int | None = 4) -> list[str]:
    """`target = expression` as `<math>` elements to stand in one line, one for each term of an outermost sum.

    A browser breaks lines between them. Parameters show as p with an index. An equation too long for that
    becomes one element, a table of named intermediate results.
    """
    left = f"{name_markup(target)}<mo>=</mo>"
    limit = INLINE_LIMIT * _MARKUP_FACTOR
    named, result = rendered(lambda limit: _Markup(expression, limit, digits), limit)
    if not named:
        terms = _terms(result)
        return [_math(left + terms[0]), *(_math(term) for term in terms[1:])]
    lines = [f"{name}<mo>=</mo>{text}" for name, text in named] + [left + result]
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
