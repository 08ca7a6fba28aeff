"""An equation as MathML, which browsers typeset by themselves: no fonts, no scripts, no network."""

from __future__ import annotations

import re
from html import escape

from llmsr.expression.graph import Expression
from llmsr.expression.printing.infix import INLINE_LIMIT, rendered
from llmsr.expression.printing.typeset import GREEK, Spelling, Typeset, name_and_index

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


def _word(word: str) -> str:
    name, _, index = word.partition("_")
    if index:
        return f"<msub><mi>{name}</mi><mn>{index}</mn></msub>"
    return f'<mi mathvariant="normal">{word}</mi>' if len(word) == 1 else f"<mi>{word}</mi>"


_IF, _OTHERWISE = "<mtext>if\u00a0</mtext>%s", "<mtext>otherwise</mtext>"
_CELL = '<mtd style="text-align:left">%s</mtd>'
_SPELLING = Spelling(
    templates={
        "number": "<mn>%s</mn>",
        "infinite": "<mi>∞</mi>",
        "undefined": '<mi mathvariant="normal">nan</mi>',
        "indexed": "<msub><mi>%s</mi><mn>%s</mn></msub>",
        "base": "<mi>%s</mi>",
        "operator": "<mo>%s</mo>",
        "fence": '<mrow><mo fence="true">%s</mo>%s<mo fence="true">%s</mo></mrow>',
        "arguments": '<mo>&#x2061;</mo><mrow><mo fence="true">(</mo>%s<mo fence="true">)</mo></mrow>',
        "comma": "<mo>,</mo>",
        "fraction": "<mfrac><mrow>%s</mrow><mrow>%s</mrow></mfrac>",
        "root 2": "<msqrt>%s</msqrt>",
        "root 3": "<mroot><mrow>%s</mrow><mn>3</mn></mroot>",
        "raised": "<msup><mrow>%s</mrow><mrow>%s</mrow></msup>",
        "negated": "<mrow><mo>−</mo>%s</mrow>",
        "plus": f"%s{PLUS}%s",
        "minus": f"%s{MINUS}%s",
        "cases": '<mrow><mo fence="true">{</mo><mtable>'
        f"<mtr>{_CELL}{_CELL % _IF}</mtr><mtr>{_CELL}{_CELL % _OTHERWISE}</mtr></mtable></mrow>",
    },
    symbol=escape,
    word=_word,
    dot='<mo lspace="0.15em" rspace="0.15em">·</mo>',
    space='<mspace width="0.14em"/>',
    high="<msup>",
    tall="<mfrac>",
    joining=r"\0(<mrow>|<msup>|<mfrac>)*<mn>",
    width=120 * _MARKUP_FACTOR,
)


def to_mathml(target: str, expression: Expression, digits: int | None = 4) -> list[str]:
    """`target = expression` as `<math>` elements to stand in one line, one for each term of an outermost sum.

    A browser breaks lines between them. Parameters show as p with an index. An equation too long for that
    becomes one element, a table of named intermediate results.
    """
    left = f"{name_markup(target)}<mo>=</mo>"
    limit = INLINE_LIMIT * _MARKUP_FACTOR
    names = [name_markup(name) for name in expression.columns]
    named, result = rendered(
        lambda limit: Typeset(expression, names, "s", limit, digits, spelling=_SPELLING), limit
    )
    if not named:
        terms = _terms(result)
        return [_math(left + terms[0]), *(_math(term) for term in terms[1:])]
    lines = [f"{name}<mo>=</mo>{text}" for name, text in named] + [left + result]
    rows = "".join(f"<mtr>{_CELL % line}</mtr>" for line in lines)
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
