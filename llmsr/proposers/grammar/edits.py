"""Random edits of a skeleton: terms and factors come, go and change; two skeletons are combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from llmsr.proposers.grammar.forms import Grammar
from llmsr.proposers.grammar.trees import (
    LEAVES,
    ONE,
    P,
    Path,
    Tree,
    children,
    count_params,
    key,
    made,
    nodes,
    replace,
    size,
    variables,
)

MAX_NODES = 90
_TRIES = 20  # at an edit that changes anything, before the tree is given back as it is
_MOST_DEGREE = 6
_FAMILIES = (
    ("sin", "cos", "tanh", "arctan"),
    ("exp", "tanh", "sinh", "log1p", "cosh"),
    ("abs", "sqrt", "sign", "log1p"),
)

Spots = list[tuple[Path, Tree]]
Edit = Callable[[Random, Tree, Grammar], Tree | None]  # None where the tree has no place for it


# ---- in order


def tidy(tree: Tree | None) -> Tree | None:
    """The tree without repeated terms, spare constants and factors of one; None if no column is left."""
    tidied = None if tree is None else _tidy(tree)
    return tidied if tidied and variables(tidied) else None


def _tidy(tree: Tree) -> Tree:
    if tree[0] in LEAVES:
        return tree
    tree = made(tree[0], *map(_tidy, tree[1:]))
    if tree[0] != "neg" and not variables(tree):
        return P if count_params(tree) else ONE
    match tree:
        case ("/", above, below) if below == ONE:
            return above
        case ("neg", ("neg", inner)):
            return inner
        case ("^", base, ("c", exponent)) if _degree(base) > 1 and exponent in "23456":
            return _power(base[1], _degree(base) * int(exponent))
        case ("+", *terms):
            # the first of equal terms stays, whatever its sign: their constants say the same
            kept: dict[Tree, Tree] = {}
            for term in terms:
                kept.setdefault(key(term[1] if term[0] == "neg" else term), term)
            return made("+", *kept.values())
        case ("*", *factors):
            return _tidy_product(factors)
    return tree


def _tidy_product(factors: list[Tree]) -> Tree:
    """The product with one free constant at most, and one power of every column."""
    kept: list[Tree] = []
    degrees: dict[Tree, int] = {}
    for part in factors:
        degree = _degree(part)
        column = part if degree == 1 else part[1]
        if degree:
            degrees[column] = degrees.get(column, 0) + degree
        if degree and column not in kept:
            kept.append(column)
        elif not degree and part != ONE and not (_is_free(part) and any(map(_is_free, kept))):
            kept.append(part)
    return made("*", *(_power(part, degrees.get(part, 1)) for part in kept)) if kept else ONE


def _is_free(tree: Tree) -> bool:
    return tree in (P, ("neg", P))


def _power(base: Tree, degree: int) -> Tree:
    return base if degree == 1 else ("^", base, ("c", str(min(degree, _MOST_DEGREE))))


def _degree(tree: Tree) -> int:
    """The exponent of a whole power of a variable; 0 for anything else."""
    match tree:
        case ("v", _):
            return 1
        case ("^", ("v", _), ("c", exponent)) if exponent in "23456":
            return int(exponent)
    return 0


def limit_params(rng: Random, tree: Tree, most: int) -> Tree | None:
    """The tree with at most `most` free constants: terms go first, then coefficients, then shifts."""
    while count_params(tree) > most:
        sums = _spots(tree, "+")
        # the order of what goes is drawn, so that one large equation has many smaller ones
        draw = rng.random()
        changed = None
        if sums and draw < 0.6:
            path, node = max(sums, key=lambda spot: len(spot[1]))
            changed = replace(tree, (*path, rng.randrange(len(node) - 1)), None)
        else:
            path, _ = rng.choice(_spots(tree, "p"))
            # a factor or a term can go; anything else becomes a number
            changed = (replace(tree, path, None) if draw < 0.8 else None) or replace(tree, path, ONE)
        tidied = tidy(changed)
        if tidied is None:
            return None
        tree = tidied
    return tree


# ---- the places of edits


def _spots(tree: Tree, *heads: str) -> Spots:
    return [(path, node) for path, node in nodes(tree) if node[0] in heads]


def _products(tree: Tree) -> Spots:
    return [(path, node) for path, node in _spots(tree, "*") if variables(node)]


def _curves(tree: Tree, path: Path = ()) -> Spots:
    """The subtrees of one variable that are factors or terms of their own, plain variables included."""
    columns = variables(tree)
    if tree[0] not in ("+", "*", "neg") and len(columns) <= 1:
        return [(path, tree)] if columns else []
    found = [spot for i, child in enumerate(children(tree)) for spot in _curves(child, (*path, i))]
    return found + ([(path, tree)] if tree[0] == "+" and path and len(columns) == 1 else [])


def _in_a_sum(rng: Random, tree: Tree, change: Callable[[list[Tree]], None]) -> Tree | None:
    """The tree with the terms of one of its sums changed, the outermost one preferred."""
    sums = _spots(tree, "+")
    if not sums:
        return None
    # what is changed far inside moves the values little, and the fit hides it
    path, node = sums[0] if rng.random() < 0.7 else rng.choice(sums)
    terms = list(node[1:])
    change(terms)
    return replace(tree, path, made("+", *terms))


# ---- the edits


def drop_term(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A sum loses one or more terms."""

    def change(terms: list[Tree]) -> None:
        for _ in range(min(len(terms) - 1, rng.choices((1, 2, 3), (75, 18, 7))[0])):
            del terms[rng.randrange(len(terms))]

    return _in_a_sum(rng, tree, change)


def add_term(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A sum gains a term; anything else becomes a sum."""
    new = grammar.draw(rng, "term")

    def change(terms: list[Tree]) -> None:
        terms.insert(rng.randrange(len(terms) + 1) if rng.random() < 0.3 else len(terms), new)

    # now and then the whole gains a term, though it is a product or a function
    return (rng.random() >= 0.15 and _in_a_sum(rng, tree, change)) or made("+", tree, new)


def change_term(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A term of a sum gives way to a fresh one."""

    def change(terms: list[Tree]) -> None:
        terms[rng.randrange(len(terms))] = grammar.draw(rng, "term")

    return _in_a_sum(rng, tree, change)


def drop_factor(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A product loses a factor that holds a variable."""
    spots = [
        (*path, i) for path, node in _products(tree) for i, part in enumerate(node[1:]) if variables(part)
    ]
    return replace(tree, rng.choice(spots), None) if spots else None


def add_factor(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A product or a term gains a factor."""
    new = grammar.draw(rng, "factor", ("v", rng.randrange(grammar.count)))
    spots = _products(tree)
    path, node = rng.choice(spots) if spots and rng.random() >= 0.15 else ((), tree)
    return replace(tree, path, made("*", node, new))


def change_factor(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A function of one variable gives way to another function of the same variable."""
    path, node = rng.choice(_curves(tree))
    return replace(tree, path, grammar.draw(rng, "new_curve", ("v", *variables(node))))


def simplify(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A function of one variable becomes the variable itself, or one of its arguments."""
    spots = [(path, node) for path, node in _curves(tree) if node[0] != "v"]
    if not spots:
        return None
    path, node = rng.choice(spots)
    parts = [child for child in children(node) if variables(child)]
    return replace(tree, path, rng.choice(parts) if rng.random() < 0.5 else ("v", *variables(node)))


def swap_variable(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """One occurrence of a variable becomes another variable."""
    path, node = rng.choice(_spots(tree, "v"))
    others = [i for i in range(grammar.count) if i != node[1]]
    return replace(tree, path, ("v", rng.choice(others))) if others else None


def swap_function(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A function's name changes to a related one."""
    spots = [spot for spot in nodes(tree) if len(spot[1]) == 2 and spot[1][0] not in "pvcneg"]
    spots = [(path, node) for path, node in spots if variables(node)]
    if not spots:
        return None
    path, node = rng.choice(spots)
    related = [name for family in _FAMILIES if node[0] in family for name in family if name != node[0]]
    return replace(tree, path, (rng.choice(related), node[1])) if related else None


def change_power(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """An exponent changes or becomes free; a plain variable may get one."""
    spots = [(path, node) for path, node in _spots(tree, "^") if node[2][0] in "pc"]
    if spots and rng.random() >= 0.2:
        path, node = rng.choice(spots)
        return replace(tree, path, grammar.draw(rng, "other_power", node[1]))
    path, node = rng.choice(_spots(tree, "v"))
    return replace(tree, path, grammar.draw(rng, "raised", node))


def free_or_fix(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A free constant goes or becomes a number; or a variable inside a function gets a scale or a shift."""
    if rng.random() < 0.5:
        path, node = rng.choice(_spots(tree, "v"))
        return replace(tree, path, grammar.draw(rng, "freed", node))
    spots = [path for path, node in nodes(tree) if node == P]
    if not spots:
        return None
    path = rng.choice(spots)
    gone = replace(tree, path, None) if rng.random() < 0.7 else None
    return gone or replace(tree, path, grammar.draw(rng, "fixed"))


def wrap(rng: Random, tree: Tree, grammar: Grammar) -> Tree | None:
    """A branch, a bound or a denominator around the whole, or one of them taken away."""
    if tree[0] in ("/", "<", ">") or (len(tree) == 3 and tree[0] not in "+*^"):
        return rng.choice([child for child in children(tree) if variables(child)])
    return grammar.draw(rng, "wrapped", tree)


STEP: Mapping[Edit, int] = {
    add_term: 30, add_factor: 11, change_factor: 15, change_term: 16, drop_term: 8, drop_factor: 3,
    simplify: 2, swap_function: 3, swap_variable: 3, change_power: 4, free_or_fix: 5, wrap: 3,
}  # fmt: skip
"""How often a step of a search tries each edit: mostly it adds."""


def vary(
    rng: Random, tree: Tree, grammar: Grammar, most: int, steps: int = 1, weights: Mapping[Edit, int] = STEP
) -> Tree:
    """A variant of the tree after so many edits, with at most `most` constants."""
    start = key(tree)
    # an edit may find no place, or be undone by another
    for _ in range(_TRIES):
        changed = tree
        for edit in rng.choices(list(weights), list(weights.values()), k=steps):
            edited = tidy(edit(rng, changed, grammar))
            if edited is not None and size(edited) <= MAX_NODES and grammar.allows(edited):
                changed = edited
        limited = limit_params(rng, changed, most)
        if limited is not None and key(limited) != start:
            return limited
    return limit_params(rng, tree, most) or tree


def combine(rng: Random, first: Tree, second: Tree, most: int) -> Tree | None:
    """Some terms, or some factors, of both trees; None where nothing comes of it."""
    head = "*" if first[0] == "*" and second[0] == "*" else "+"
    parts = [part for tree in (first, second) for part in (tree[1:] if tree[0] == head else (tree,))]
    # a third goes, since both together are mostly too large to be better
    kept = [part for part in parts if rng.random() < 0.65] or parts
    joined = tidy(made(head, *kept))
    return limit_params(rng, joined, most) if joined and size(joined) <= MAX_NODES else None
