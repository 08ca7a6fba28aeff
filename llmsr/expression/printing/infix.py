"""The printer of all dialects: a graph becomes infix text with few parentheses and bounded length.

`Infix` itself writes the line that a person reads, `to_text`; source code and typesetting say what they write
otherwise. Every rule of signs, parentheses and named intermediate results stands here once.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from llmsr.expression.graph import Expression, Graph, Node
from llmsr.expression.operations import OPS

OR, AND, NOT, COMPARE, SUM, PRODUCT, POWER, ATOM = range(8)
"""Binding strengths, weakest first."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
ARITHMETIC = ("add", "sub", "neg", "mul", "div", "pow", *COMPARISONS)
CONDITIONS = {"not": 1, "where": 1, "and": 2, "or": 2, "xor": 2}
"""How many arguments of an operation, from the first on, are conditions."""
INLINE_LIMIT = 4000
INLINE_DEPTH = 40


class Piece(NamedTuple):
    """The text of a sub-expression without its sign, how strongly it binds, and how deep it nests."""

    text: str
    binding: int = ATOM
    negative: bool = False
    depth: int = 0
    boolean: bool = False
    number: bool = False


class TooLong(Exception):
    """The text without named intermediate results would pass the limit."""


@dataclass
class Infix:
    """Renders the nodes of a graph in order.

    With `limit` the text is one piece or `TooLong`; without, nodes used twice and long pieces get names
    (`assignments`), so that the text is linear in the nodes of the graph. `digits` are those of numbers, None
    for all; parameters are `prefix` and their index.
    """

    expression: Expression
    names: Sequence[str]
    temporary: str
    limit: int | None = None
    digits: int | None = None
    prefix: str = "p"
    assignments: list[tuple[str, str]] = field(default_factory=list, init=False)

    templates: ClassVar[dict[str, str]] = {
        "param": "%s%s", "temporary": "%s%s", "parentheses": "(%s)", "negated": "-%s", "plus": "%s + %s",
        "minus": "%s - %s", "times": "%s*%s", "quotient": "%s/%s", "raised": "%s**%s",
    }  # fmt: skip
    fraction: ClassVar[tuple[int, int]] = (PRODUCT, POWER)  # what both sides of a quotient must bind
    exponent: ClassVar[int] = ATOM
    flat: ClassVar[bool] = True  # a + (b + c) is shown as a + b + c
    width: ClassVar[int] = 80  # of the longest piece without a name, where the text as a whole is too long

    def render(self) -> Piece:
        """The piece of the whole expression."""
        nodes = self.expression.nodes
        uses = [0] * len(nodes)
        for node in nodes:
            for a in node.args:
                uses[a] += 1
        pieces: list[Piece] = []
        for index, node in enumerate(nodes):
            piece = self.combine(node, [pieces[a] for a in node.args]) if node.args else self.leaf(node)
            if node.args:
                piece = piece._replace(depth=1 + max(pieces[a].depth for a in node.args))
                long = len(piece.text) > (self.width if self.limit is None else self.limit)
                deep = piece.depth > (INLINE_DEPTH // 2 if self.limit is None else INLINE_DEPTH)
                if self.limit is not None and (long or deep):
                    raise TooLong
                if self.limit is None and index + 1 < len(nodes) and (uses[index] > 1 or long or deep):
                    name = self.put("temporary", self.temporary, str(len(self.assignments)))
                    self.assignments.append((name, self.wrap(piece, OR)))
                    piece = Piece(name, boolean=piece.boolean)
            pieces.append(piece)
        return pieces[-1]

    # what a dialect says ---------------------------------------------------------------------------------

    def put(self, what: str, *parts: str) -> str:
        """Some texts in a template."""
        return self.templates[what] % parts

    def number(self, value: float) -> str:
        return number_text(value, self.digits)

    def number_binding(self, text: str) -> int:
        return ATOM

    def as_number(self, piece: Piece) -> Piece:
        """A condition as the number 1 or 0."""
        return Piece(self.put("parentheses", piece.text)) if piece.binding < ATOM else piece

    def product(self, a: Piece, b: Piece) -> Piece:
        right = self.wrap(b, PRODUCT if self.flat else POWER)
        return Piece(self.put("times", self.wrap(a, PRODUCT), right), PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        raised_to = self.wrap(exponent, self.exponent)
        return Piece(self.put("raised", self.wrap(base, ATOM), raised_to), POWER)

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        return Piece(f"{self.wrap(a, SUM)} {COMPARISONS[op]} {self.wrap(b, SUM)}", COMPARE)

    def call(self, op: str, args: list[Piece]) -> Piece:
        """Any operation that is neither arithmetic nor a comparison."""
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

    # shared rules ----------------------------------------------------------------------------------------

    def leaf(self, node: Node) -> Piece:
        if node.op == "column":
            name = self.names[int(node.value)]  # type: ignore[arg-type]
            return Piece(name, POWER if "^" in name else ATOM)  # no second hat in LaTeX
        if node.op == "param":
            return Piece(self.put("param", self.prefix, str(node.value)))
        value = float(node.value)  # type: ignore[arg-type]
        if math.isnan(value):
            value = math.nan  # a sign on it says nothing
        text = self.number(abs(value))
        return Piece(text, self.number_binding(text), math.copysign(1.0, value) < 0, number=True)

    def wrap(self, piece: Piece, binding: int) -> str:
        """The text with its sign, in parentheses where it binds weaker than its place asks."""
        text, own = piece.text, piece.binding
        if piece.negative:
            text = self.put("negated", self.put("parentheses", text) if own < PRODUCT else text)
            own = SUM
        return self.put("parentheses", text) if own < binding else text

    def condition(self, piece: Piece) -> Piece:
        """The piece where it is a condition, else whether it differs from 0."""
        return piece if piece.boolean else self.compare("ne", piece, Piece(self.number(0.0), number=True))

    def combine(self, node: Node, args: list[Piece]) -> Piece:
        op = node.op
        conditions = CONDITIONS.get(op, 0)
        args = [
            self.condition(a) if i < conditions else self.as_number(a) if a.boolean else a
            for i, a in enumerate(args)
        ]
        if op not in ARITHMETIC:
            return self.call(op, args)._replace(boolean=OPS[op].boolean)
        if op in COMPARISONS:
            return self.compare(op, *args)._replace(boolean=True)
        if op == "neg":
            return args[0]._replace(negative=not args[0].negative, number=False)
        a, b = args
        if op == "pow":
            return self.power(a, b)
        if op in ("add", "sub"):
            minus = b.negative != (op == "sub")
            right = self.wrap(b._replace(negative=False), PRODUCT if minus or not self.flat else SUM)
            if right.startswith("-"):  # a sum that starts with a minus: x + (-a + b)
                minus, right = True, right[1:]
            return Piece(self.put("minus" if minus else "plus", self.wrap(a, SUM), right), SUM)
        sign = a.negative != b.negative
        a, b = a._replace(negative=False), b._replace(negative=False)
        if op == "div":
            sides = (self.wrap(side, binding) for side, binding in zip((a, b), self.fraction, strict=True))
            return Piece(self.put("quotient", *sides), PRODUCT, sign)
        if b.number:  # numbers stand first
            a, b = b, a
        return self.product(a, b)._replace(negative=sign)


def rendered(printer: Callable[[int | None], Infix], limit: int) -> tuple[list[tuple[str, str]], str]:
    """(named intermediate results, the result's text): none of them where the text stays below the limit.

    `printer` makes one for a limit, or for a text of any length.
    """
    try:
        whole = printer(limit)
        return [], whole.wrap(whole.render(), OR)
    except TooLong:
        parts = printer(None)
        result = parts.wrap(parts.render(), OR)
        return parts.assignments, result


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
        lambda limit: Infix(expression, names, temporary, limit, digits, prefix), INLINE_LIMIT
    )
    return "; ".join([f"{name} = {text}" for name, text in named] + [result])


# ---- numbers and names


def fill(expression: Expression, params: Sequence[float]) -> Expression:
    """The expression with numbers for its parameters; constant operations, factors 1 and -1 are folded.

    Raises ValueError when `params` is shorter than the largest parameter index needs.
    """
    if expression.params and len(params) <= expression.params[-1]:
        raise ValueError(
            f"the expression uses params[{expression.params[-1]}], only {len(params)} values given"
        )
    graph = Graph(max_nodes=2 * len(expression.nodes) + 3)
    one, minus_one = graph.const(1.0), graph.const(-1.0)
    made: list[int] = []
    for node in expression.nodes:
        op, a = node.op, [made[i] for i in node.args]
        if op == "param":
            made.append(graph.const(float(params[int(node.value)])))  # type: ignore[arg-type]
        elif not a:
            made.append(graph.intern(node))
        elif op == "mul" and a[0] == one:
            made.append(a[1])
        elif op == "mul" and minus_one in a:
            made.append(graph.add("neg", a[a[0] == minus_one]))
        elif op in ("mul", "div", "pow") and a[1] == one:
            made.append(a[0])
        else:
            made.append(graph.add(op, *a))
    return graph.expression(made[-1], expression.columns)


def number_text(value: float, digits: int | None) -> str:
    """A number of at least 0 to so many significant digits; None: as many as tell it from every other."""
    text = repr(float(value)) if digits is None else f"{value:.{digits}g}"
    mantissa, e, exponent = text.removesuffix(".0").partition("e")
    return mantissa + (f"e{int(exponent)}" if e else "")


def safe_names(columns: Sequence[str], reserved: Iterable[str]) -> tuple[str, ...]:
    """The column names where they are plain ASCII identifiers, unique and not reserved; else c0, c1, ..."""
    taken = set(reserved) | set(keyword.kwlist)
    valid = [n if re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", n) and n not in taken else None for n in columns]
    names: list[str] = []
    for index, name in enumerate(valid):
        if name is None or name in names:
            name = f"c{index}"
            while name in taken or name in valid or name in names:
                name += "_"
        names.append(name)
    return tuple(names)


def unused_prefix(names: Iterable[str], wanted: Sequence[str]) -> str:
    """The first wanted prefix p for which no name looks like p0, p1, ..."""
    names = list(names)
    for prefix in wanted:
        if not any(re.fullmatch(re.escape(prefix) + r"\d+", n) for n in names):
            return prefix
    return unused_prefix(names, [wanted[-1] + "_" * n for n in range(1, len(names) + 2)])
