"""Which names a piece of Python sets in its own scope."""

from __future__ import annotations

import ast

OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BARE = (ast.expr_context, ast.operator, ast.unaryop)
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Name: (),
    ast.Constant: (),
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.Subscript: ("value", "slice"),
    ast.Attribute: ("value",),
}
"""Of the most frequent nodes, the fields that hold nodes."""


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly below, without operators and contexts."""
    found: list[ast.AST] = []
    kind = type(node)
    for name in _FIELDS.get(kind, node._fields):
        below = getattr(node, name, None)
        if isinstance(below, list):
            found += [item for item in below if isinstance(item, ast.AST)]
        elif isinstance(below, ast.AST) and not isinstance(below, _BARE):
            found.append(below)
    return found


def names_stored(target: ast.AST) -> frozenset[str]:
    """The names in an assignment's target."""
    return frozenset(
        n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )


def names_of_arguments(arguments: ast.arguments) -> frozenset[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return frozenset(a.arg for a in every)


def names_set_in(body: list[ast.stmt]) -> frozenset[str]:
    """The names that are local to a function with this body, its arguments apart."""
    names: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, OWN_SCOPE):
            continue
        stack += children(node)
    return frozenset(names)
