"""A template: the fixed form of an equation, with holes that are functions of some of its columns.

    f(x)*exp(-g(t)) + p0

A body of this form defines every hole and returns the template, so that whatever stands in the holes, it is
of the form:

    def f(x):
        return params[1] * x
    def g(t):
        return params[2] * t
    return f(x) * np.exp(-g(t)) + params[0]
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.errors import UserError
from llmsr.expression.graph import Expression
from llmsr.expression.printing import to_numpy_body

_ARGUMENTS = ("u", "v", "w", "z")


@dataclass(frozen=True)
class Template:
    """`holes` maps their names to their arguments, of which `once` tells the holes of plain columns.

    `text` is what the user wrote, `last` the statement that returns it, `constants` the number of its own.
    """

    text: str
    last: str
    holes: Mapping[str, tuple[str, ...]]
    once: frozenset[str]
    constants: int
    params_name: str

    @classmethod
    def of(cls, text: str, columns: Sequence[str], params_name: str, where: str) -> Template:
        """The template that a text says; `UserError`, beginning with `where`, for what is none."""
        where = f"{where}: the template {text!r}"
        try:
            tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UserError(f"{where} cannot be read: {error}") from None
        constants = _Names(columns, params_name)
        last, calls = f"return {ast.unparse(constants.visit(tree))}", constants.calls
        if not calls:
            raise UserError(f"{where} has no hole; write one like f({columns[0]})")
        holes = {}
        for name, uses in calls.items():
            if name in (*columns, params_name):
                raise UserError(f"{where} calls {name}, which is no function; give the hole another name")
            if not uses[0] or len({len(arguments) for arguments in uses}) > 1:
                raise UserError(f"{where} gives {name} no argument, or now this and now that number of them")
            plain = [ast.unparse(argument) for argument in uses[0]]
            same = len(set(plain)) == len(plain) and all(
                [ast.unparse(argument) for argument in use] == plain for use in uses
            )
            named = same and set(plain) <= set(columns)
            free = [n for n in _ARGUMENTS if n not in columns]
            if not named and len(plain) > len(free):
                raise UserError(f"{where} has a hole {name} of {len(plain)} arguments; give it columns alone")
            holes[name] = tuple(plain if named else free[: len(plain)])
        once = frozenset(n for n, uses in calls.items() if len(uses) == 1 and set(holes[n]) <= set(columns))
        return cls(text.strip(), last, holes, once, len(constants.indices), params_name)

    def call(self, name: str) -> str:
        """A hole as it is called, such as `f(x)`."""
        return f"{name}({', '.join(self.holes[name])})"

    def parts(self, body: str) -> dict[str, str] | None:
        """What stands in the holes of a body of this form, as bodies themselves; None for another form."""
        try:
            tree = ast.parse(textwrap.dedent(body))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        *defined, last = tree.body or [ast.Pass()]
        if ast.unparse(last) != ast.unparse(ast.parse(self.last)) or len(defined) != len(self.holes):
            return None
        found = {}
        for node, (name, arguments) in zip(defined, self.holes.items(), strict=True):
            if not isinstance(node, ast.FunctionDef) or node.decorator_list:
                return None
            if (node.name, ast.unparse(node.args)) != (name, ", ".join(arguments)):
                return None
            found[name] = "\n".join(ast.unparse(statement) for statement in node.body)
        return found

    def body(self, found: Mapping[str, Expression]) -> str:
        """The body with these expressions in the holes; constants are numbered from the template's own on."""
        texts, taken = {}, self.constants
        for name in self.holes:
            place = {index: taken + i for i, index in enumerate(found[name].params)}
            taken += len(place)
            nodes = tuple(
                n._replace(value=place[int(n.value or 0)]) if n.op == "param" else n
                for n in found[name].nodes
            )
            texts[name] = to_numpy_body(Expression(nodes, self.holes[name]), self.params_name)
        return self.written(texts)

    def written(self, texts: Mapping[str, str]) -> str:
        """The body whose holes have these bodies."""
        defined = (f"def {self.call(name)}:\n{textwrap.indent(texts[name], '    ')}" for name in self.holes)
        return "\n".join([*defined, self.last])

    @property
    def seed(self) -> str:
        """The body to begin with: every hole linear."""
        texts, taken = {}, self.constants
        for name, arguments in self.holes.items():
            terms = [f"{self.params_name}[{taken + i}] * {a}" for i, a in enumerate(arguments)]
            taken += len(arguments) + 1
            texts[name] = f"return {' + '.join([*terms, f'{self.params_name}[{taken - 1}]'])}"
        return self.written(texts)


class Constants(ast.NodeTransformer):
    """Puts `params[i]` in the place of names that are not `known`, equal ones alike."""

    def __init__(self, known: Collection[str], params_name: str) -> None:
        self.known, self.params_name = known, params_name
        self.indices: dict[object, int] = {}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        # what is called is a function, whatever its name
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return node if node.id in self.known else self.param(node.id)

    def param(self, key: object) -> ast.AST:
        """The constant that stands for `key`."""
        index = self.indices.setdefault(key, len(self.indices))
        return ast.Subscript(ast.Name(self.params_name), ast.Constant(index))


class _Names(Constants):
    """Reads functions of numpy by their names too, and notes in `calls` what is called and is none."""

    def __init__(self, columns: Sequence[str], params_name: str) -> None:
        super().__init__({*columns, params_name, "np"}, params_name)
        self.calls: dict[str, list[list[ast.expr]]] = {}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        super().visit_Call(node)
        if isinstance(node.func, ast.Name):
            if callable(getattr(np, node.func.id, None)):
                node.func = ast.Attribute(ast.Name("np"), node.func.id)
            else:
                self.calls.setdefault(node.func.id, []).append(node.args)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in ("pi", "e") and node.id not in self.known:
            return ast.Attribute(ast.Name("np"), node.id)
        return super().visit_Name(node)
