"""Random edits of a skeleton: terms and factors come, go and change; two skeletons are combined."""

from __future__ import annotations

from random import Random

from llmsr.proposers.grammar import forms
from llmsr.proposers.grammar.factors import curve, factor
from llmsr.proposers.grammar.inputs import Inputs, tame
from llmsr.proposers.grammar.tree import (
    ONE,
    P,
    Path,
    Tree,
    add,
    children,
    count_params,
    key,
    minus,
    mul,
    nodes,
    power,
    rebuild,
    replace,
    size,
    variables,
)

MAX_NODES = 90
_FAMILIES = (
    ("sin", "cos", "tanh", "arctan"),
    ("exp", "tanh", "sinh", "log1p", "cosh"),
    ("abs", "sqrt", "sign", "log1p"),
)


def tidy(tree: Tree | None) -> Tree | None:
    """The tree without repeated terms, spare constants and factors of one; None if no column is left."""
    if tree is None:
        return None
    tree = _tidy(tree)
    return tree if variables(tree) else None


def _tidy(tree: Tree) -> Tree:
    parts = [_tidy(child) for child in children(tree)]
    if not parts:
        return tree
    tree = rebuild(tree, parts)
    if tree[0] != "neg" and not variables(tree):
        return P if count_params(tree) else ONE
    if tree[0] == "/" and tree[2] == ONE:
        return tree[1]
    if tree[0] == "^" and _degree(tree[1]) > 1 and tree[2][0] == "c" and tree[2][1] in "23456":
        return power(tree[1][1], min(_degree(tree[1]) * int(tree[2][1]), 6))
    if tree[0] == "+":
        kept: dict[Tree, Tree] = {}
        for part in tree[1]:
            kept.setdefault(key(part[1] if part[0] == "neg" else part), part)
        return add(*kept.values())
    if tree[0] == "*":
        factors: list[Tree] = []
        powers: dict[int, int] = {}
        free = False
        for part in tree[1]:
            degree = _degree(part)
            if part == P or (part[0] == "neg" and part[1] == P):
                if not free:
                    factors.append(part)
                free = True
            elif degree:
                index = part[1] if part[0] == "v" else part[1][1]
                if index not in powers:
                    factors.append(("v", index))
                powers[index] = powers.get(index, 0) + degree
            elif part != ONE:
                factors.append(part)
        factors = [
            power(part, min(powers[part[1]], 6)) if part[0] == "v" and powers[part[1]] > 1 else part
            for part in factors
        ]
        return mul(*factors) if factors else ONE
    if tree[0] == "neg" and tree[1][0] == "neg":
        return tree[1][1]
    return tree


def _degree(tree: Tree) -> int:
    """The exponent of a whole power of a variable; 0 for anything else."""
    if tree[0] == "v":
        return 1
    if tree[0] == "^" and tree[1][0] == "v" and tree[2][0] == "c" and tree[2][1] in "23456":
        return int(tree[2][1])
    return 0


def limit_params(rng: Random, tree: Tree, most: int) -> Tree | None:
    """The tree with at most `most` free constants: terms go first, then coefficients, then shifts."""
    while count_params(tree) > most:
        sums = [(path, node) for path, node in nodes(tree) if node[0] == "+" and len(node[1]) > 1]
        spots = [path for path, node in nodes(tree) if node[0] == "p"]
        draw = rng.random()
        if sums and draw < 0.6:
            path, node = max(sums, key=lambda item: len(item[1][1]))
            changed = replace(tree, (*path, rng.randrange(len(node[1]))), None)
        else:
            path = rng.choice(spots)
            # a factor or a term can go; anything else becomes a number
            changed = replace(tree, path, None) if draw < 0.8 else replace(tree, path, ONE)
            if changed is None:
                changed = replace(tree, path, ONE)
        changed = tidy(changed)
        if changed is None:
            return None
        tree = changed
    return tree


def _sums(tree: Tree) -> list[tuple[Path, Tree]]:
    return [(path, node) for path, node in nodes(tree) if node[0] == "+"]


def _outer(rng: Random, spots: list[tuple[Path, Tree]]) -> tuple[Path, Tree]:
    """One of the spots, the outermost ones preferred."""
    return spots[0] if rng.random() < 0.7 else rng.choice(spots)


def drop_term(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A sum loses one or more terms."""
    sums = _sums(tree)
    if not sums:
        return None
    path, node = _outer(rng, sums)
    terms = list(node[1])
    count = min(len(terms) - 1, rng.choices((1, 2, 3), (75, 18, 7))[0])
    for _ in range(count):
        del terms[rng.randrange(len(terms))]
    return replace(tree, path, add(*terms))


def add_term(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A sum gains a term; anything else becomes a sum."""
    sums = _sums(tree)
    new = forms.term(rng, inputs)
    if not sums or rng.random() < 0.15:
        return add(tree, new)
    path, node = _outer(rng, sums)
    terms = list(node[1])
    terms.insert(rng.randrange(len(terms) + 1) if rng.random() < 0.3 else len(terms), new)
    return replace(tree, path, add(*terms))


def change_term(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A term of a sum gives way to a fresh one."""
    sums = _sums(tree)
    if not sums:
        return None
    path, node = _outer(rng, sums)
    terms = list(node[1])
    terms[rng.randrange(len(terms))] = forms.term(rng, inputs)
    return replace(tree, path, add(*terms))


def _products(tree: Tree) -> list[tuple[Path, Tree]]:
    return [(path, node) for path, node in nodes(tree) if node[0] == "*" and variables(node)]


def drop_factor(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A product loses a factor that holds a variable."""
    spots = [
        (*path, i)
        for path, node in _products(tree)
        for i, part in enumerate(node[1])
        if variables(part) and len(node[1]) > 1
    ]
    return replace(tree, rng.choice(spots), None) if spots else None


def add_factor(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A product or a term gains a factor."""
    new = factor(rng, ("v", rng.randrange(inputs.count)), inputs)
    spots = _products(tree)
    if not spots or rng.random() < 0.15:
        return mul(tree, new)
    path, node = rng.choice(spots)
    return replace(tree, path, mul(node, new))


def _curves(tree: Tree) -> list[tuple[Path, Tree]]:
    """The subtrees of one variable that are factors or terms of their own, plain variables included."""
    found = []
    stack: list[tuple[Path, Tree]] = [((), tree)]
    while stack:
        path, node = stack.pop()
        if node[0] in ("+", "*", "neg") or len(variables(node)) > 1:
            stack += [((*path, i), child) for i, child in enumerate(children(node))]
            if node[0] == "+" and path and len(variables(node)) == 1:
                found.append((path, node))
        elif variables(node):
            found.append((path, node))
    return found


def change_factor(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A function of one variable gives way to another function of the same variable."""
    path, node = rng.choice(_curves(tree))
    x = ("v", next(iter(variables(node))))
    return replace(tree, path, factor(rng, x, inputs) if rng.random() < 0.6 else curve(rng, x, inputs))


def simplify(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A function of one variable becomes the variable itself, or one of its arguments."""
    spots = [(path, node) for path, node in _curves(tree) if node[0] != "v"]
    if not spots:
        return None
    path, node = rng.choice(spots)
    parts = [child for child in children(node) if variables(child)]
    new = rng.choice(parts) if parts and rng.random() < 0.5 else ("v", next(iter(variables(node))))
    return replace(tree, path, new)


def swap_variable(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """One occurrence of a variable becomes another variable."""
    if inputs.count == 1:
        return None
    path, node = rng.choice([(path, node) for path, node in nodes(tree) if node[0] == "v"])
    other = rng.choice([i for i in range(inputs.count) if i != node[1]])
    return replace(tree, path, ("v", other))


def swap_function(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A function's name changes to a related one."""
    spots = [(path, node) for path, node in nodes(tree) if node[0] == "f" and variables(node)]
    if not spots:
        return None
    path, node = rng.choice(spots)
    related = [name for family in _FAMILIES if node[1] in family for name in family if name != node[1]]
    return replace(tree, path, ("f", rng.choice(related), node[2])) if related else None


def change_power(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """An exponent changes or becomes free; a plain variable may get one."""
    spots = [(path, node) for path, node in nodes(tree) if node[0] == "^" and node[2][0] in "pc"]
    if not spots or rng.random() < 0.2:
        spots = [(path, node) for path, node in nodes(tree) if node[0] == "v"]
        path, node = rng.choice(spots)
        return replace(tree, path, power(node, rng.choice((2, 2, 3))))
    path, node = rng.choice(spots)
    draw = rng.random()
    if draw < 0.3:
        return replace(tree, path, node[1])
    return replace(tree, path, power(node[1], rng.choice((2, 3, 4)) if draw < 0.75 else P))


def free_or_fix(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A free constant goes or becomes a number; or a variable inside a function gets a scale or a shift."""
    if rng.random() < 0.5:
        path = rng.choice([path for path, node in nodes(tree) if node[0] == "v"])
        x = _at(tree, path)
        return replace(tree, path, mul(P, x) if rng.random() < 0.5 else minus(x, P))
    spots = [path for path, node in nodes(tree) if node[0] == "p" and not node[1]]
    if not spots:
        return None
    path = rng.choice(spots)
    gone = replace(tree, path, None) if rng.random() < 0.7 else None
    return gone or replace(tree, path, rng.choice((ONE, ONE, ("c", "0.5"), ("c", "2.0"))))


def _at(tree: Tree, path: Path) -> Tree:
    for i in path:
        tree = children(tree)[i]
    return tree


def wrap(rng: Random, tree: Tree, inputs: Inputs) -> Tree | None:
    """A branch, a bound or a denominator around the whole, or one of them taken away."""
    if tree[0] in ("g", "if", "/"):
        return rng.choice([child for child in children(tree) if variables(child)])
    draw = rng.random()
    if draw < 0.3:
        return ("g", "minimum", tree, forms.sum_form(rng, inputs, rng.choice((1, 2))))
    if draw < 0.6:
        other = rng.choice((P, forms.sum_form(rng, inputs, rng.choice((1, 2)))))
        return ("if", rng.choice("<>"), ("v", rng.randrange(inputs.count)), P, tree, other)
    if draw < 0.8:
        return ("/", tree, add(ONE, forms.term(rng, inputs)))
    return mul(tree, add(ONE, forms.term(rng, inputs)))


_EDITS = {
    edit.__name__: edit
    for edit in (
        drop_term, add_term, change_term, drop_factor, add_factor, change_factor, simplify, swap_variable,
        swap_function, change_power, free_or_fix, wrap,
    )
}  # fmt: skip


def _edits(weighted: str) -> tuple[list, list[float]]:
    """Edits and their weights, from text such as "drop_term 34, wrap 2"."""
    pairs = [pair.split() for pair in weighted.split(",")]
    return [_EDITS[name] for name, _ in pairs], [float(weight) for _, weight in pairs]


# what an earlier version lacks of a later one ...
_DAMAGE = _edits(
    "drop_term 34, drop_factor 14, change_factor 15, change_term 11, simplify 9, swap_function 3, "
    "swap_variable 3, change_power 3, free_or_fix 3, add_term 5, add_factor 2, wrap 2"
)
# ... and what a step of a search tries
_MUTATE = _edits(
    "add_term 30, add_factor 11, change_factor 15, change_term 16, drop_term 8, drop_factor 3, simplify "
    "2, swap_function 3, swap_variable 3, change_power 4, free_or_fix 5, wrap 3"
)


def _apply(rng: Random, tree: Tree, inputs: Inputs, most: int, table: tuple[list, list], steps: int) -> Tree:
    start = key(tree)
    for _ in range(20):
        changed = tree
        for _ in range(steps):
            edited = tidy(rng.choices(table[0], table[1])[0](rng, changed, inputs))
            if edited is not None and size(edited) <= MAX_NODES and tame(edited, inputs.signed):
                changed = edited
        limited = limit_params(rng, changed, most)
        if limited is not None and key(limited) != start:
            return limited
    return limit_params(rng, tree, most) or tree


def damage(rng: Random, tree: Tree, inputs: Inputs, most: int, steps: int = 1) -> Tree:
    """An earlier, poorer version of the tree: mostly with less in it."""
    return _apply(rng, tree, inputs, most, _DAMAGE, steps)


def vary(rng: Random, tree: Tree, inputs: Inputs, most: int, steps: int = 1) -> Tree:
    """A variant to try after the tree: mostly with more in it."""
    return _apply(rng, tree, inputs, most, _MUTATE, steps)


def combine(rng: Random, first: Tree, second: Tree, most: int) -> Tree | None:
    """Some terms, or some factors, of both trees; None where nothing comes of it."""
    kind = "*" if first[0] == "*" and second[0] == "*" else "+"
    parts = [part for tree in (first, second) for part in (tree[1] if tree[0] == kind else (tree,))]
    kept = [part for part in parts if rng.random() < 0.65] or parts
    joined = tidy(add(*kept) if kind == "+" else mul(*kept))
    if joined is None or size(joined) > MAX_NODES:
        return None
    return limit_params(rng, joined, most)
