"""An equation as one line that a person reads, with functions by their bare names."""

from __future__ import annotations

from collections.abc import Sequence

from llmsr.expression.graph import Expression
from llmsr.expression.printing.infix import (
    AND,
    ATOM,
    COMPARE,
    INLINE_LIMIT,
    NOT,
    OR,
    POWER,
    SUM,
    Infix,
    Piece,
    fill,
    rendered,
    safe_names,
    unused_prefix,
)


class _Text(Infix):
    def call(self, op: str, args: list[Piece]) -> Piece:
        if op == "not":
            return Piece(f"not {self.wrap(args[0], COMPARE)}", NOT)
        if op in ("and", "or"):
            binding = AND if op == "and" else OR
            a, b = (self.wrap(a, binding + 1 if a.binding != binding else binding) for a in args)
            return Piece(f"{a} {op} {b}", binding)
        if op == "xor":
            return Piece(f"{self.wrap(args[0], ATOM)} != {self.wrap(args[1], ATOM)}", COMPARE)
        if op in ("mod", "floordiv"):
            symbol = "%" if op == "mod" else "//"
            return Piece(f"{self.wrap(args[0], POWER)} {symbol} {self.wrap(args[1], POWER)}", SUM)
        return Piece(f"{op}({', '.join(self.wrap(a, OR) for a in args)})")


def to_text(expression: Expression, params: Sequence[float] | None = None, digits: int | None = 4) -> str:
    """The right-hand side in infix notation, such as `0.8*sin(x) - 0.5*v**3 - x*cos(x)`.

    `params`: values to show in place of p0, p1, ...; `digits`: significant digits of every number, None for
    full precision. Terms keep their order; parentheses of sums of sums and products of products are left out,
    so the text is equal to the expression up to rounding. Conditions count as 0 and 1. When the line would
    pass 4000 characters or nest deeper than 40, intermediate results are named first:
    `t0 = ...; t1 = ...; t0*t1`. Raises ValueError when `params` is too short.
    """
    if params is not None:
        expression = fill(expression, params)
    prefix = unused_prefix(expression.columns, ["p", "param", "params"])
    temporary = unused_prefix(expression.columns, ["t", "s", "term"])
    names = safe_names(expression.columns, ())
    named, result = rendered(
        lambda limit: _Text(expression, names, temporary, limit, digits, prefix), INLINE_LIMIT
    )
    return "; ".join([f"{name} = {text}" for name, text in named] + [result])
