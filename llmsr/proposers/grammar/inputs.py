"""What the grammar may know of the columns, and which forms suit columns that can be negative."""

from __future__ import annotations

from dataclasses import dataclass

from llmsr.proposers.grammar.tree import Tree, children


@dataclass(frozen=True)
class Inputs:
    """What the grammar may know of the columns; only their number is needed.

    `signed` numbers those that can be negative. `kinds` names the sort of quantity of each (a key of
    `factors.KINDS`, or anything else for an unknown sort), which makes the forms more frequent that textbooks
    use for it; `product` is the share of product forms.
    """

    count: int
    signed: frozenset[int] = frozenset()
    kinds: tuple[str, ...] = ()
    product: float | None = None


def _loose(tree: Tree, signed: frozenset[int]) -> bool:
    """Whether the tree can be negative because a signed input is."""
    kind = tree[0]
    if kind == "v":
        return tree[1] in signed
    if kind == "f" and tree[1] in ("abs", "exp", "cosh"):
        return False
    if kind == "^" and tree[2][0] == "c":
        return tree[2][1] not in ("2", "4") and _loose(tree[1], signed)
    return any(_loose(child, signed) for child in children(tree))


def tame(tree: Tree, signed: frozenset[int]) -> bool:
    """Whether no root, logarithm, free power or denominator meets the bare value of a signed input."""
    if not signed:
        return True
    kind = tree[0]
    if kind == "/" and _loose(tree[2], signed):
        return False
    if kind == "^" and (tree[2][0] != "c" or tree[2][1] == "0.5") and _loose(tree[1], signed):
        return False
    if kind == "f" and tree[1] in ("sqrt", "log", "log1p") and _loose(tree[2], signed):
        return False
    return all(tame(child, signed) for child in children(tree))
