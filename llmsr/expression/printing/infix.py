"""The common part of all printers: a graph becomes infix text with few parentheses and bounded length."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llmsr.expression.graph import Expression, Graph, Node
from llmsr.expression.operations import OPS

OR, AND, NOT, COMPARE, SUM, PRODUCT, POWER, ATOM = range(8)
"""Binding strengths, weakest first."""

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
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


def number_text(value: float, digits: int | None) -> str:
    """A number of at least 0 to so many significant digits; None: as many as tell it from every other."""
    text = repr(float(value)) if digits is None else f"{value:.{digits}g}"
    mantissa, e, exponent = text.removesuffix(".0").partition("e")
    return mantissa + (f"e{int(exponent)}" if e else "")


class TooLong(Exception):
    """The text without named intermediate results would pass the limit."""


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


def fill(expression: Expression, params: Sequence[float]) -> Expression:
    """The expression with numbers for its parameters; constant operations, factors 1 and -1 are folded.

    Raises ValueError when `params` is shorter than the largest parameter index needs.
    """
    if expression.params and len(params) <= expression.params[-1]:
        raise ValueError(
            f"the expression uses params[{expression.params[-1]}], only {len(params)} values given"
        )
    graph = Graph(max_nodes=2 * len(expression.nodes) + 1)
    made: list[int] = []
    for op, args, value in expression.nodes:
        if op == "const":
            made.append(graph.const(value))  # type: ignore[arg-type]
        elif op == "column":
            made.append(graph.column(int(value)))  # type: ignore[arg-type]
        elif op == "param":
            made.append(graph.const(float(params[int(value)])))  # type: ignore[arg-type]
        else:
            a = [made[i] for i in args]
            ones = [graph.nodes[i] == ("const", (), 1.0) for i in a]
            if op == "mul" and ones[0]:
                made.append(a[1])
            elif op == "mul" and ("const", (), -1.0) in (graph.nodes[a[0]], graph.nodes[a[1]]):
                made.append(graph.add("neg", a[graph.nodes[a[0]] == ("const", (), -1.0)]))
            elif op in ("mul", "div", "pow") and ones[1]:
                made.append(a[0])
            else:
                made.append(graph.add(op, *a))
    return graph.expression(made[-1], expression.columns)


@dataclass
class Infix:
    """Renders the nodes of a graph in order; a dialect says how calls, and what it writes otherwise, look.

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
    width: int = 80
    assignments: list[tuple[str, str]] = field(default_factory=list, init=False)

    times = "*"
    flat = True  # a + (b + c) is shown as a + b + c

    def render(self) -> Piece:
        nodes = self.expression.nodes
        uses = [0] * len(nodes)
        for node in nodes:
            for a in node.args:
                uses[a] += 1
        pieces: list[Piece] = []
        for index, node in enumerate(nodes):
            if node.args:
                piece = self.combine(node, [pieces[a] for a in node.args])
                piece = piece._replace(depth=1 + max(pieces[a].depth for a in node.args))
                if self.limit is not None:
                    if len(piece.text) > self.limit or piece.depth > INLINE_DEPTH:
                        raise TooLong
                elif index + 1 < len(nodes) and (
                    uses[index] > 1 or len(piece.text) > self.width or piece.depth > INLINE_DEPTH // 2
                ):
                    piece = self.assign(piece)
            else:
                piece = self.leaf(node)
            pieces.append(piece)
        return pieces[-1]

    def assign(self, piece: Piece) -> Piece:
        name = self.temporary_name(len(self.assignments))
        self.assignments.append((name, self.wrap(piece, OR)))
        return Piece(name, boolean=piece.boolean)

    def temporary_name(self, index: int) -> str:
        return f"{self.temporary}{index}"

    # what a dialect says ---------------------------------------------------------------------------------

    def number(self, value: float) -> str:
        return number_text(value, self.digits)

    def param(self, index: int) -> str:
        return f"{self.prefix}{index}"

    def call(self, op: str, args: list[Piece]) -> Piece:
        raise NotImplementedError

    def parentheses(self, text: str) -> str:
        return f"({text})"

    def negated(self, text: str) -> str:
        return f"-{text}"

    def sum(self, left: str, minus: bool, right: str) -> str:
        return f"{left} {'-' if minus else '+'} {right}"

    def quotient(self, a: Piece, b: Piece) -> Piece:
        return Piece(f"{self.wrap(a, PRODUCT)}/{self.wrap(b, POWER)}", PRODUCT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        return Piece(f"{self.wrap(base, ATOM)}**{self.wrap(exponent, ATOM)}", POWER)

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        return Piece(f"{self.wrap(a, SUM)} {COMPARISONS[op]} {self.wrap(b, SUM)}", COMPARE)

    def as_number(self, piece: Piece) -> Piece:
        """A condition as the number 1 or 0."""
        return Piece(self.parentheses(piece.text)) if piece.binding < ATOM else piece

    # shared rules ----------------------------------------------------------------------------------------

    def leaf(self, node: Node) -> Piece:
        if node.op == "column":
            name = self.names[int(node.value)]  # type: ignore[arg-type]
            return Piece(name, POWER if "^" in name else ATOM)  # no second hat in LaTeX
        if node.op == "param":
            return Piece(self.param(int(node.value)))  # type: ignore[arg-type]
        value = float(node.value)  # type: ignore[arg-type]
        if math.isnan(value):
            value = math.nan  # a sign on it says nothing
        text = self.number(abs(value))
        return Piece(text, self.number_binding(text), math.copysign(1.0, value) < 0, number=True)

    def number_binding(self, text: str) -> int:
        return ATOM

    def wrap(self, piece: Piece, binding: int) -> str:
        """The text with its sign, in parentheses where it binds weaker than its place asks."""
        text, own = piece.text, piece.binding
        if piece.negative:
            text = self.negated(self.parentheses(text) if own < PRODUCT else text)
            own = SUM
        return self.parentheses(text) if own < binding else text

    def combine(self, node: Node, args: list[Piece]) -> Piece:
        op = node.op
        if op in ("add", "sub", "neg", "mul", "div", "pow"):
            args = [self.as_number(a) if a.boolean else a for a in args]
        if op == "neg":
            return args[0]._replace(negative=not args[0].negative, number=False)
        if op in ("add", "sub"):
            a, b = args
            minus = b.negative != (op == "sub")
            right = self.wrap(b._replace(negative=False), PRODUCT if minus or not self.flat else SUM)
            if right.startswith("-"):  # a sum that starts with a minus: x + (-a + b)
                minus, right = True, right[1:]
            return Piece(self.sum(self.wrap(a, SUM), minus, right), SUM)
        if op in ("mul", "div"):
            a, b = args
            sign = a.negative != b.negative
            a, b = a._replace(negative=False), b._replace(negative=False)
            if op == "div":
                return self.quotient(a, b)._replace(negative=sign)
            if b.number:  # numbers stand first
                a, b = b, a
            return self.product(a, b)._replace(negative=sign)
        if op == "pow":
            return self.power(*args)
        if op in COMPARISONS:
            args = [self.as_number(a) if a.boolean else a for a in args]
            return self.compare(op, *args)._replace(boolean=True)
        if op in ("and", "or", "xor", "not", "where"):
            conditions = 1 if op in ("not", "where") else 2
            args = [
                a
                if a.boolean
                else self.compare("ne", a, Piece(self.number(0.0), number=True))._replace(boolean=True)
                for a in args[:conditions]
            ] + [self.as_number(a) if a.boolean else a for a in args[conditions:]]
        else:
            args = [self.as_number(a) if a.boolean else a for a in args]
        return self.call(op, args)._replace(boolean=OPS[op].boolean)

    def product(self, a: Piece, b: Piece) -> Piece:
        return Piece(
            f"{self.wrap(a, PRODUCT)}{self.times}{self.wrap(b, PRODUCT if self.flat else POWER)}", PRODUCT
        )


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
