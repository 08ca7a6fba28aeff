"""Bodies from the grammar: drawn afresh, or by changing bodies that are given as text."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from random import Random

from llmsr.proposers.grammar import edits, forms
from llmsr.proposers.grammar.inputs import Inputs
from llmsr.proposers.grammar.tree import Style, Tree, add, body_text, mul

_OPERATORS = {ast.Lt: "<", ast.LtE: "<", ast.Gt: ">", ast.GtE: ">"}
_MAX_TEXT = 4000


def drawn_tree(rng: Random, inputs: Inputs, max_params: int) -> Tree:
    """A tree of the grammar that keeps within `max_params` free constants."""
    while True:
        tree = edits.tidy(forms.random_tree(rng, inputs))
        tree = tree and edits.limit_params(rng, tree, max_params)
        if tree is not None:
            return tree


def _inputs(columns: Sequence[str], signed: Iterable[str]) -> Inputs:
    return Inputs(len(columns), frozenset(columns.index(name) for name in signed))


def random_body(
    rng: Random,
    columns: Sequence[str],
    max_params: int,
    *,
    signed: Iterable[str] = (),
    module: str = "np",
    params_name: str = "params",
) -> str:
    """A function body drawn from the grammar, indented by four spaces.

    `columns` are the names of the input arguments; the body uses at least one of them and only
    `params[0]` to `params[max_params - 1]`, numbered as they appear. Columns named in `signed` can be
    negative and meet no root, logarithm, free power or denominator as they are. `module` is the prefix of the
    functions.
    """
    tree = drawn_tree(rng, _inputs(columns, signed), max_params)
    return body_text(tree, columns, style=Style(module), params_name=params_name)


def mutate(
    rng: Random,
    body: str,
    columns: Sequence[str],
    max_params: int,
    *,
    other: str | None = None,
    signed: Iterable[str] = (),
    module: str = "np",
    params_name: str = "params",
) -> str:
    """A changed body: one to three random edits, or a combination with `other`; indented by four spaces.

    With an `other`, the edits start from `body` in two cases of three: give the better one first.

    A body that `read_body` cannot read counts as absent; without any readable body a fresh one is drawn.
    """
    signed = tuple(signed)
    trees = [read_body(text, columns, params_name) for text in (body, other) if text]
    known = [tree for tree in trees if tree is not None]
    if not known:
        return random_body(rng, columns, max_params, signed=signed, module=module, params_name=params_name)
    tree: Tree | None = None
    if len(known) == 2 and rng.random() < 0.3:
        tree = edits.combine(rng, known[0], known[1], max_params)
    if tree is None:
        start = known[0] if len(known) == 1 or rng.random() < 0.65 else known[1]
        steps = rng.choices((1, 2, 3), (60, 28, 12))[0]
        tree = edits.vary(rng, start, _inputs(columns, signed), max_params, steps)
    return body_text(tree, columns, style=Style(module), params_name=params_name)


class _Unreadable(Exception):
    """The text says something that a tree of the grammar has no word for."""


def read_body(body: str, columns: Sequence[str], params_name: str = "params") -> Tree | None:
    """The tree of a body in the grammar's own manner: assignments to names, then one return; None for others.

    The text is never executed.
    """
    lines = body.strip("\n").splitlines()
    if not lines or len(body) > _MAX_TEXT:
        return None
    margin = len(lines[0]) - len(lines[0].lstrip())
    try:
        module = ast.parse("\n".join(line[margin:] for line in lines))
        names: dict[str, Tree] = {name: ("v", i) for i, name in enumerate(columns)}
        for statement in module.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                names[statement.targets[0].id] = _read(statement.value, names, params_name)
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue
            else:
                return None if not _returns(statement) else _root(statement, names, params_name, body)
    except (_Unreadable, SyntaxError, RecursionError, ValueError, MemoryError):
        return None
    return None


def _returns(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Return) and statement.value is not None


def _root(statement: ast.stmt, names: dict[str, Tree], params_name: str, body: str) -> Tree | None:
    tree = _read(statement.value, names, params_name)  # type: ignore[attr-defined]
    uses: dict[int, int] = {}
    _count_tags(tree, uses)
    tidied = edits.tidy(_untag(tree, {tag for tag, count in uses.items() if count == 1}))
    return tidied if tidied is None or edits.size(tidied) <= 3 * edits.MAX_NODES else None


def _count_tags(tree: Tree, uses: dict[int, int]) -> None:
    for _, node in edits.nodes(tree):
        if node[0] == "p":
            uses[node[1]] = uses.get(node[1], 0) + 1


def _untag(tree: Tree, single: set[int]) -> Tree:
    if tree[0] == "p":
        return ("p", 0) if tree[1] in single else tree
    return edits.rebuild(tree, [_untag(child, single) for child in edits.children(tree)])


def _read(node: ast.expr, names: dict[str, Tree], params_name: str) -> Tree:
    def read(part: ast.expr) -> Tree:
        return _read(part, names, params_name)

    match node:
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return ("c", repr(node.value))
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int() as index)) if (
            name == params_name
        ):
            return ("p", index + 1)
        case ast.Attribute(value=ast.Name(), attr="pi"):
            return ("c", "np.pi")
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return ("neg", read(part))
        case ast.UnaryOp(op=ast.UAdd(), operand=part):
            return read(part)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return add(read(left), read(right))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return add(read(left), ("neg", read(right)))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return mul(read(left), read(right))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return ("/", read(left), read(right))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return ("^", read(left), read(right))
        case ast.Call(func=ast.Attribute(value=ast.Name(), attr=name), args=arguments, keywords=[]):
            return _call(name, arguments, read)
    raise _Unreadable(ast.dump(node)[:80])


def _call(name: str, arguments: list[ast.expr], read) -> Tree:
    if name == "where" and len(arguments) == 3:
        test = arguments[0]
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _OPERATORS:
            left, right = read(test.left), read(test.comparators[0])
            return ("if", _OPERATORS[type(test.ops[0])], left, right, read(arguments[1]), read(arguments[2]))
        raise _Unreadable("condition")
    if name in ("power", "pow") and len(arguments) == 2:
        return ("^", read(arguments[0]), read(arguments[1]))
    if name in ("minimum", "maximum", "arctan2", "hypot") and len(arguments) == 2:
        return ("g", name, read(arguments[0]), read(arguments[1]))
    if len(arguments) == 1:
        return ("f", name, read(arguments[0]))
    raise _Unreadable(name)
