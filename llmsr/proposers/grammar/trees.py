"""Equation skeletons as nested tuples: made, walked, changed, read from text and written as text.

A tree is `(head, *subtrees)` or a leaf:

    ("p", tag)       a free constant; equal tags other than 0 are the same constant
    ("v", index)     an input column
    ("c", text)      a fixed number

Heads are "+" and "*" (any number of subtrees), "/", "^", "neg", the names of numpy's element-wise functions,
and "<" and ">" with four subtrees: where(first < second, third, fourth).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

Tree = tuple
Path = tuple[int, ...]

P: Tree = ("p", 0)
ONE: Tree = ("c", "1.0")
PAIRS = ("minimum", "maximum", "arctan2", "hypot")
LEAVES = ("p", "v", "c")
_COMPARISONS = {ast.Lt: "<", ast.LtE: "<", ast.Gt: ">", ast.GtE: ">"}
_BINARY = {ast.Mult: "*", ast.Div: "/", ast.Pow: "^"}


def made(head: str, *parts: Tree) -> Tree:
    """The tree of a head over subtrees; sums and products are flat, and a lone term or factor is itself."""
    if head not in ("+", "*"):
        return (head, *parts)
    flat = [piece for part in parts for piece in (part[1:] if part[0] == head else (part,))]
    return flat[0] if len(flat) == 1 else (head, *flat)


def children(tree: Tree) -> tuple[Tree, ...]:
    """The direct subtrees, in the order in which they are written."""
    return () if tree[0] in LEAVES else tree[1:]


def rebuild(tree: Tree, parts: Sequence[Tree]) -> Tree:
    """The same node over other subtrees; a leaf stays as it is."""
    return made(tree[0], *parts) if parts else tree


def nodes(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """Every subtree with the path that leads to it, parents first."""
    yield path, tree
    for i, child in enumerate(children(tree)):
        yield from nodes(child, (*path, i))


def replace(tree: Tree, path: Path, new: Tree | None) -> Tree | None:
    """The tree with the subtree at `path` replaced; None removes it from its sum or product.

    None comes back where nothing is left.
    """
    if not path:
        return new
    parts = list(children(tree))
    changed = replace(parts[path[0]], path[1:], new)
    if changed is None and tree[0] not in ("+", "*"):
        return None
    parts[path[0] : path[0] + 1] = [] if changed is None else [changed]
    return rebuild(tree, parts) if parts else None


def subtrees(tree: Tree) -> list[Tree]:
    """Every subtree, the whole first, parents before their children."""
    found = [tree]
    for node in found:  # it grows while it is gone through
        if node[0] not in LEAVES:
            found += node[1:]
    return found


def variables(tree: Tree) -> set[int]:
    """The input columns that the tree uses."""
    return {node[1] for node in subtrees(tree) if node[0] == "v"}


def count_params(tree: Tree) -> int:
    """How many free constants the tree has, shared ones counted once."""
    tags = [node[1] for node in subtrees(tree) if node[0] == "p"]
    return tags.count(0) + len({*tags} - {0})


def size(tree: Tree) -> int:
    """The number of nodes."""
    return len(subtrees(tree))


def key(tree: Tree) -> Tree:
    """A form that does not depend on the order of terms and factors, to tell trees apart."""
    if tree[0] in LEAVES:
        # which constants are shared is left out: the fit may make any two equal
        return ("p",) if tree[0] == "p" else tree
    parts = [key(child) for child in children(tree)]
    return (tree[0], *(sorted(parts, key=repr) if tree[0] in "+*" else parts))


# ---- from text


class Unreadable(Exception):
    """The text says something that a tree has no word for."""


def tree_of(node: ast.expr, names: Mapping[str, Tree], params_name: str = "params") -> Tree:
    """The tree of a parsed expression, whose names stand for the trees in `names`; else `Unreadable`."""

    def read(part: ast.expr) -> Tree:
        return tree_of(part, names, params_name)

    match node:
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return ("c", repr(node.value))
        case ast.Attribute(value=ast.Name(), attr="pi"):
            return ("c", "np.pi")
        case ast.Subscript(ast.Name(id=name), ast.Constant(value=int() as index)) if name == params_name:
            # 0 is the tag of a constant that nothing else shares
            return ("p", index + 1)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return ("neg", read(part))
        case ast.UnaryOp(op=ast.UAdd(), operand=part):
            return read(part)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=right):
            second = read(right)
            return made("+", read(left), second if isinstance(sign, ast.Add) else ("neg", second))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return made(_BINARY[type(sign)], read(left), read(right))
        case ast.Call(func=ast.Attribute(attr="where"), args=[ast.Compare(left, [sign], [right]), a, b]) if (
            type(sign) in _COMPARISONS
        ):
            return (_COMPARISONS[type(sign)], *map(read, (left, right, a, b)))
        case ast.Call(func=ast.Attribute(ast.Name(), name), args=arguments, keywords=[]) if name != "where":
            power = name in ("power", "pow") and len(arguments) == 2
            return made("^" if power else name, *map(read, arguments))
    raise Unreadable(ast.dump(node)[:80])


# ---- to text


class Printer:
    """Writes one body; free constants are numbered as they appear."""

    def __init__(
        self, columns: Sequence[str], module: str = "np", params_name: str = "params", power: str = "**"
    ) -> None:
        self.columns, self.module, self.params_name, self.power = columns, module, params_name, power
        self.count = 0
        self.shared: dict[int, int] = {}

    def param(self, tag: int) -> str:
        index = self.shared.get(tag) if tag else None
        if index is None:
            index, self.count = self.count, self.count + 1
            self.shared[tag] = index
        return f"{self.params_name}[{index}]"

    def text(self, tree: Tree, least: int = 0) -> str:
        """The text, in brackets where it binds less than `least`.

        1 stands for a sum, 2 for a product, 3 for a minus sign, 4 for a power, 5 for the rest.
        """
        text, strength = self._shown(tree)
        return f"({text})" if strength < least else text

    def _shown(self, tree: Tree) -> tuple[str, int]:
        head, *parts = tree
        if head == "p":
            return self.param(tree[1]), 5
        if head == "v":
            return self.columns[tree[1]], 5
        if head == "c":
            return tree[1], 5
        if head == "+":
            text = self.text(parts[0], 1)
            for part in parts[1:]:
                sign, part = ("-", part[1]) if part[0] == "neg" else ("+", part)
                text += f" {sign} {self.text(part, 2)}"
            return text, 1
        if head == "*":
            text = self.text(parts[0], 2)
            for part in parts[1:]:
                if part[:2] == ("/", ONE):
                    text += f" / {self.text(part[2], 4)}"
                else:
                    text += f" * {self.text(part, 2 if part[0] == '/' else 4)}"
            return text, 2
        if head == "/":
            return f"{self.text(parts[0], 2)} / {self.text(parts[1], 4)}", 2
        if head == "^":
            return f"{self.text(parts[0], 5)}{self.power}{self.text(parts[1], 4)}", 4
        if head == "neg":
            return f"-{self.text(parts[0], 2)}", 3
        if head in "<>":
            left, right, then, otherwise = parts
            condition = f"{self.text(left, 2)} {head} {self.text(right, 2)}"
            return f"{self.module}.where({condition}, {self.text(then)}, {self.text(otherwise)})", 5
        return f"{self.module}.{head}({', '.join(self.text(part) for part in parts)})", 5


def body_text(tree: Tree, columns: Sequence[str], module: str = "np", params_name: str = "params") -> str:
    """The tree as the body of a function: one return line, indented by four spaces."""
    return f"    return {Printer(columns, module, params_name).text(tree)}"
