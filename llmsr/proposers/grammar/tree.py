"""An equation skeleton as nested tuples, and its text as the body of a Python function.

A tree is one of

    ("p", tag)             a free constant; equal tags other than 0 are the same constant
    ("v", index)           an input column
    ("c", text)            a fixed number
    ("+", (tree, ...))     a sum
    ("*", (tree, ...))     a product
    ("/", tree, tree)      a quotient
    ("^", tree, tree)      a power
    ("neg", tree)          minus the tree
    ("f", name, tree)      an element-wise function of numpy
    ("g", name, tree, tree)  an element-wise function of two arguments
    ("if", sign, tree, tree, tree, tree)   where(left SIGN right, then, otherwise)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

Tree = tuple
Path = tuple[int, ...]

P: Tree = ("p", 0)
ONE: Tree = ("c", "1.0")
_LEAVES = frozenset("pvc")


def add(*terms: Tree) -> Tree:
    """The sum of the terms, flat."""
    flat: list[Tree] = []
    for term in terms:
        flat.extend(term[1]) if term[0] == "+" else flat.append(term)
    return flat[0] if len(flat) == 1 else ("+", tuple(flat))


def mul(*factors: Tree) -> Tree:
    """The product of the factors, flat."""
    flat: list[Tree] = []
    for factor in factors:
        flat.extend(factor[1]) if factor[0] == "*" else flat.append(factor)
    return flat[0] if len(flat) == 1 else ("*", tuple(flat))


def const(text: str) -> Tree:
    """A fixed number."""
    return ("c", text)


def fn(name: str, argument: Tree) -> Tree:
    """A numpy function of one argument."""
    return ("f", name, argument)


def power(base: Tree, exponent: int | Tree) -> Tree:
    """The base to a whole or to a given power."""
    return ("^", base, ("c", str(exponent)) if isinstance(exponent, int) else exponent)


def minus(left: Tree, right: Tree) -> Tree:
    """left - right."""
    return add(left, ("neg", right))


def children(tree: Tree) -> tuple[Tree, ...]:
    """The direct subtrees, in the order in which they are printed."""
    kind = tree[0]
    if kind in _LEAVES:
        return ()
    if kind in "+*":
        return tree[1]
    if kind in ("/", "^", "neg"):
        return tree[1:]
    return tree[2:]


def rebuild(tree: Tree, parts: Sequence[Tree]) -> Tree:
    """The same node over other subtrees."""
    kind = tree[0]
    if kind == "+":
        return add(*parts)
    if kind == "*":
        return mul(*parts)
    if kind in ("/", "^", "neg"):
        return (kind, *parts)
    return (kind, tree[1], *parts) if parts else tree


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
    if changed is None:
        if tree[0] not in ("+", "*"):
            return None
        del parts[path[0]]
        return rebuild(tree, parts) if parts else None
    parts[path[0]] = changed
    return rebuild(tree, parts)


def variables(tree: Tree) -> set[int]:
    """The input columns that the tree uses."""
    if tree[0] == "v":
        return {tree[1]}
    found: set[int] = set()
    for child in children(tree):
        found |= variables(child)
    return found


def count_params(tree: Tree) -> int:
    """How many free constants the tree has, shared ones counted once."""
    fresh, tags = _count(tree, set())
    return fresh + len(tags)


def _count(tree: Tree, tags: set[int]) -> tuple[int, set[int]]:
    if tree[0] == "p":
        if tree[1]:
            tags.add(tree[1])
            return 0, tags
        return 1, tags
    fresh = 0
    for child in children(tree):
        fresh += _count(child, tags)[0]
    return fresh, tags


def size(tree: Tree) -> int:
    """The number of nodes."""
    return 1 + sum(size(child) for child in children(tree))


def key(tree: Tree) -> Tree:
    """A form that does not depend on the order of terms and factors, to tell trees apart."""
    kind = tree[0]
    if kind in _LEAVES:
        return ("p",) if kind == "p" else tree
    parts = [key(child) for child in children(tree)]
    if kind in "+*":
        return (kind, *sorted(parts, key=repr))
    return (*tree[:1], *(tree[1:2] if kind in ("f", "g", "if") else ()), *parts)


@dataclass(frozen=True)
class Style:
    """How a body is written: the module of its functions, spaces around powers, named terms, comments."""

    module: str = "np"
    spaced_power: bool = False
    named: bool = False
    result: str = ""
    comments: bool = False


@dataclass
class _Printer:
    columns: Sequence[str]
    style: Style
    params_name: str
    count: int = 0
    tags: dict[int, int] = field(default_factory=dict)

    def param(self, tag: int) -> str:
        if tag in self.tags:
            return f"{self.params_name}[{self.tags[tag]}]"
        index = self.count
        self.count += 1
        if tag:
            self.tags[tag] = index
        return f"{self.params_name}[{index}]"

    # binding strength: 1 sum, 2 product, 3 minus sign, 4 power, 5 the rest
    def text(self, tree: Tree, least: int = 0) -> str:
        text, strength = self.show(tree)
        return f"({text})" if strength < least else text

    def show(self, tree: Tree) -> tuple[str, int]:
        kind = tree[0]
        if kind == "p":
            return self.param(tree[1]), 5
        if kind == "v":
            return self.columns[tree[1]], 5
        if kind == "c":
            return tree[1], 5
        if kind == "+":
            parts = [self.text(tree[1][0], 1)]
            for term in tree[1][1:]:
                if term[0] == "neg":
                    parts.append(f" - {self.text(term[1], 2)}")
                else:
                    parts.append(f" + {self.text(term, 2)}")
            return "".join(parts), 1
        if kind == "*":
            parts = [self.text(tree[1][0], 2)]
            for factor in tree[1][1:]:
                if factor[0] == "/" and factor[1] == ONE:
                    parts.append(f" / {self.text(factor[2], 4)}")
                else:
                    parts.append(f" * {self.text(factor, 2 if factor[0] == '/' else 4)}")
            return "".join(parts), 2
        if kind == "/":
            return f"{self.text(tree[1], 2)} / {self.text(tree[2], 4)}", 2
        if kind == "^":
            sign = " ** " if self.style.spaced_power else "**"
            return f"{self.text(tree[1], 5)}{sign}{self.text(tree[2], 4)}", 4
        if kind == "neg":
            return f"-{self.text(tree[1], 3 if tree[1][0] == 'neg' else 2)}", 3
        if kind == "f":
            return f"{self.style.module}.{tree[1]}({self.text(tree[2])})", 5
        if kind == "g":
            return f"{self.style.module}.{tree[1]}({self.text(tree[2])}, {self.text(tree[3])})", 5
        condition = f"{self.text(tree[2], 2)} {tree[1]} {self.text(tree[3], 2)}"
        return f"{self.style.module}.where({condition}, {self.text(tree[4])}, {self.text(tree[5])})", 5


def _words(text: str) -> list[str]:
    return text.split(", ")


_TERM_NAMES = _words(
    "restoring, damping, forcing, coupling, nonlinear, linear, drive, correction, cubic, quadratic, "
    "base, trend"
)
_FACTOR_NAMES = _words(
    "growth, limitation, response, effect, decay, scale, shape, saturation, inhibition, modulation, rate"
)
_COMMENTS = _words(
    "main terms, nonlinear terms, damping, coupling, saturation, temperature effect, correction"
)


def body_text(
    tree: Tree,
    columns: Sequence[str],
    *,
    style: Style = Style(),
    params_name: str = "params",
    rng: Random | None = None,
) -> str:
    """The tree as the body of a function, indented by four spaces; constants are numbered as they appear.

    `rng` names the intermediate variables of `style.named`; without it everything stands in the return line.
    """
    printer = _Printer(columns, style, params_name)
    lines: list[str] = []
    if style.comments and rng:
        lines.append(f"# {rng.choice(_COMMENTS)}")
    if style.named and rng and tree[0] in "+*" and len(tree[1]) > 1:
        taken = set(columns) | {params_name}
        sign, pool = (" + ", _TERM_NAMES) if tree[0] == "+" else (" * ", _FACTOR_NAMES)
        plain = rng.random() < 0.5
        names: list[str] = []
        pieces: list[str] = []
        for i, part in enumerate(tree[1]):
            if part[0] in _LEAVES or part[0] == "neg":
                pieces.append("")
                continue
            inside = sorted(variables(part))
            if plain or not inside:
                name = f"term{i + 1}" if sign == " + " else f"factor{i + 1}"
            elif rng.random() < 0.5 and len(inside) == 1:
                name = f"{columns[inside[0]]}_{rng.choice(pool)}"
            else:
                name = rng.choice(pool)
            while name in taken:
                name += "_2"
            taken.add(name)
            names.append(name)
            lines.append(f"{name} = {printer.text(part)}")
            pieces.append(name)
        parts = [
            piece or (printer.text(part, 2 if sign == " + " else 4))
            for piece, part in zip(pieces, tree[1], strict=True)
        ]
        result = parts[0]
        for part in parts[1:]:
            result += f" - {part[1:]}" if sign == " + " and part.startswith("-") else f"{sign}{part}"
    else:
        result = printer.text(tree)
    if style.result and style.result not in columns:
        lines += [f"{style.result} = {result}", f"return {style.result}"]
    else:
        lines.append(f"return {result}")
    return "".join(f"    {line}\n" for line in lines).rstrip("\n")
