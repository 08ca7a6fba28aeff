"""The form that equations may have: operators, size, depth, columns and nesting; a check with its reason."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmsr.config import listed
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.expression.graph import CEILING, Expression, Node
from llmsr.expression.operations import OPS
from llmsr.expression.shape import SHAPES

SYMBOLS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "^": "pow", "%": "mod"}
SHOWN = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "mod": "%"}
LEAVES = {"column": "column", "constant": "param"}
# what a piecewise equation is made of, and what a minus sign is
TOGETHER = {"where": ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "xor"), "sub": ("neg",)}


@dataclass(frozen=True)
class Form:
    """What equations are held to; nothing is where a field is empty.

    `sizes` are complexities other than 1; `nesting` are groups of operations with how many of a group may
    stand inside one of it. Columns are numbers, `names` what they are called. `part` says which part of an
    equation is asked for, where it is not all; `shapes` are what fitted ones must be in a column.
    """

    names: tuple[str, ...] = ()
    operators: frozenset[str] = frozenset()
    shown: tuple[str, ...] = ()
    most_size: int | None = None
    most_depth: int | None = None
    required: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()
    nesting: tuple[tuple[tuple[str, ...], int], ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    part: str = ""
    shapes: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, asked: Declarations, columns: Sequence[str], where: str) -> Form:
        """The form that is asked for of equations in these columns; `UserError` for unknown names."""
        names = tuple(columns)
        allowed = [_operator(name, where) for name in listed(asked.operators)]
        required, forbidden = (
            tuple(_column(name, names, where) for name in listed(text))
            for text in (asked.required, asked.forbidden)
        )
        if both := set(required) & set(forbidden):
            raise UserError(f"{where}: {names[min(both)]} is both required and forbidden; keep one.")
        if len(set(forbidden)) == len(names):
            raise UserError(f"{where}: all columns are forbidden; allow one.")
        shapes = [_shape(part, names, where) for part in listed(asked.shape)]
        for one, other in (("even", "odd"), ("increasing", "decreasing")):
            for column, name in shapes:
                if name == one and (column, other) in shapes:
                    raise UserError(f"{where}: {names[column]} is to be {one} and {other}; keep one.")
        nesting, sizes = [], {}
        for group, count in _numbers(asked.nesting, "nesting", 0, where):
            nesting.append((tuple(_operator(name, where) for name in group.split("/")), count))
        for name, count in _numbers(asked.complexities, "complexities", 1, where):
            sizes[LEAVES.get(name) or _operator(name, where)] = count
        return cls(
            names, frozenset(allowed).union(*(TOGETHER.get(op, ()) for op in allowed)),
            tuple(SHOWN.get(op, op) for op in allowed), asked.max_complexity, asked.max_depth,
            required, forbidden, tuple(nesting), sizes, shapes=tuple(shapes),
        )  # fmt: skip

    def size(self, expression: Expression) -> int:
        """The complexity: operators plus leaves of the tree, each with its own size, at most `CEILING`."""
        sizes: list[int] = []
        for node in expression.nodes:
            own = self.sizes.get("param" if node.op == "const" else node.op, 1)
            sizes.append(min(CEILING, own + sum(sizes[a] for a in node.args)))
        return sizes[-1]

    def fault(self, expression: Expression) -> str:
        """Why the form forbids an expression; empty where it does not."""
        nodes, inputs = expression.nodes, expression.inputs
        if self.operators:
            for node in nodes:
                if node.args and node.op not in self.operators and not self._is_product(node, nodes):
                    told = SHOWN.get(node.op, "-" if node.op == "neg" else node.op)
                    return f"{told} is not among the allowed operators {', '.join(self.shown)}"
        for column in self.forbidden:
            if column in inputs:
                return f"the column {self.names[column]} is forbidden"
        for column in self.required:
            if column not in inputs:
                return f"the column {self.names[column]} is required, and not there"
        if self.most_size is not None and (size := self.size(expression)) > self.most_size:
            return f"its complexity is {size}, more than {self.most_size}"
        if self.most_depth is not None and (depth := _deepest(nodes, ())) > self.most_depth:
            return f"its depth is {depth}, more than {self.most_depth}"
        for group, most in self.nesting:
            if _deepest(nodes, group) > most + 1:
                return f"more than {most} of {'/'.join(group)} inside one of them"
        return ""

    def _is_product(self, node: Node, nodes: Sequence[Node]) -> bool:
        """Whether a power is what multiplying could write."""
        power = nodes[node.args[1]] if node.op == "pow" else node
        return "mul" in self.operators and power.op == "const" and float(power.value or 0) in range(2, 5)

    @property
    def words(self) -> str:
        """The form in sentences for a model; empty where nothing is asked."""
        told = [self.part] if self.part else []
        if self.shown:
            told.append(f"Use only the operators {', '.join(self.shown)}.")
        if self.most_size is not None:
            told.append(f"Complexity (operators, columns and constants) is at most {self.most_size}.")
        if self.most_depth is not None:
            told.append(f"The tree is at most {self.most_depth} deep, its leaves counted.")
        for verb, columns in (("Use", self.required), ("Do not use", self.forbidden)):
            if columns:
                told.append(f"{verb} {', '.join(self.names[c] for c in columns)}.")
        for group, most in self.nesting:
            count = "None" if not most else f"At most {most}"
            told.append(f"{count} of {', '.join(group)} may stand inside one of them.")
        if self.shapes:
            asked = ", ".join(f"{name} in {self.names[column]}" for column, name in self.shapes)
            told.append(f"The equation must be {asked}.")
        return " ".join(told)


def _deepest(nodes: Sequence[Node], group: tuple[str, ...]) -> int:
    """The most operations of a group, of an empty one nodes of any kind, on a way down."""
    deep: list[int] = []
    for node in nodes:
        own = not group or node.op in group
        deep.append(own + max((deep[a] for a in node.args), default=0))
    return deep[-1]


def _operator(name: str, where: str) -> str:
    name = name.strip().removeprefix("np.")
    if (found := SYMBOLS.get(name, name)) in OPS:
        return found
    near = difflib.get_close_matches(name, OPS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SHOWN.values())}, sin, exp, ..."
    raise UserError(f"{where}: no operator is called {name!r}; {hint}")


def _shape(text: str, names: tuple[str, ...], where: str) -> tuple[int, str]:
    """`x=even` as the column and the shape; `UserError` for a column or a shape that there is not."""
    column, _, name = (piece.strip() for piece in text.partition("="))
    if name not in SHAPES:
        raise UserError(f"{where}: a shape must be like {names[0]}={'|'.join(SHAPES)}; got {text!r}.")
    return _column(column, names, where, "shape"), name


def _column(name: str, columns: Sequence[str], where: str, what: str = "require or forbid") -> int:
    if name in columns:
        return columns.index(name)
    raise UserError(f"{where}: no column {name!r} to {what}; there are {', '.join(columns)}.")


def _numbers(text: str, setting: str, least: int, where: str) -> list[tuple[str, int]]:
    """`a=1,b=2` as pairs; `UserError` for a number below `least` or none."""
    found = []
    for part in listed(text):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if not (number.isascii() and number.isdigit() and least <= int(number) <= 1000):
            raise UserError(
                f"{where}: {setting} must be like sin={least}, whole numbers from {least}; got {part!r}."
            )
        found.append((name, int(number)))
    return found
