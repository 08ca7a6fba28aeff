"""Keeps the laws of the four shipped problems out of the training text.

The grammar knows no problem, but a general grammar can draw any law by chance. A body counts as a law when
it says the law with free or fixed constants anywhere, under any naming of the variables, with or without
further terms or factors. Sine and cosine count as the same wave, and every offset inside a function is
ignored, so the filter refuses somewhat more than the laws themselves. The building blocks stay.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations

from llmsr.proposers.grammar import read_body
from llmsr.proposers.grammar.trees import PAIRS, Tree, children, rebuild, subtrees, variables

_HARDENING = "(params[1] - params[2] * strain**params[3])"
_PLAIN = "params[4] * temp**params[5]"
_SOFTENING = "((temp - params[6]) / params[7])**params[8]"
# several spellings where the filter's own normal form does not unite them
LAWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "oscillator1": (
        ("x", "v"),
        (
            "return params[0] * np.sin(x) + params[1] * v**3 + params[2] * x**3 + params[3] * x * v"
            " + params[4] * x * np.cos(x)",
        ),
    ),
    "oscillator2": (
        ("t", "x", "v"),
        (
            "return params[0] * np.sin(params[1] * t) + params[2] * v**3 + params[3] * x * v"
            " + params[4] * x * np.exp(params[5] * x)",
        ),
    ),
    "bactgrow": (
        ("b", "s", "temp", "pH"),
        (
            "return params[0] * b * s / (params[1] + s) * np.tanh(params[2] * (temp - params[3]))"
            " / (1 + params[4] * (temp - params[5])**4) * np.exp(-params[6] * np.abs(pH - params[7]))"
            " * np.sin(params[8] * (pH - params[9]))**2",
        ),
    ),
    "stressstrain": (
        ("strain", "temp"),
        (
            f"return np.minimum(params[0] * strain, {_HARDENING} * (1 - {_PLAIN}))",
            f"return np.minimum(params[0] * strain, {_HARDENING} * (1 - {_SOFTENING}))",
            f"return np.where(strain < params[9], params[0] * strain, {_HARDENING} * (1 - {_PLAIN}))",
            f"return np.where(strain < params[9], params[0] * strain, {_HARDENING} * (1 - {_SOFTENING}))",
        ),
    ),
}
_MOST_TERMS = 80


def factors(tree: Tree) -> dict:
    """The factors of a product with their exponents, constants left out."""
    kind = tree[0]
    if kind in "pc":
        return {}
    if kind == "v":
        return {tree: 1}
    if kind == "neg":
        return factors(tree[1])
    if kind in ("*", "/"):
        found: dict = {}
        for i, part in enumerate(children(tree)):
            sign = -1 if kind == "/" and i == 1 else 1
            for base, exponent in factors(part).items():
                if "free" in (exponent, found.get(base)):
                    found[base] = "free"
                else:
                    found[base] = found.get(base, 0) + sign * exponent
        return found
    if kind == "^":
        if tree[2][0] == "c" and tree[2][1].isdigit():
            times = int(tree[2][1])
            return {base: e if e == "free" else e * times for base, e in factors(tree[1]).items()}
        return dict.fromkeys(factors(_without_offset(tree[1])), "free")
    if kind == "+":
        terms = frozenset(key for key in map(_key, tree[1:]) if key)
        return {("+", terms): 1} if terms else {}
    if kind in ("<", ">"):
        return {("if", frozenset(_key(part) for part in tree[3:])): 1}
    if kind in PAIRS:
        return {(kind, frozenset(_key(part) for part in tree[1:])): 1}
    name = "wave" if kind in ("sin", "cos") else kind
    return {(name, _key(_without_offset(tree[1]))): 1}


def _key(tree: Tree) -> frozenset:
    return frozenset(factors(tree).items())


def _without_offset(tree: Tree) -> Tree:
    """The tree without its additive constants and scales, where that leaves a single term."""
    if tree[0] == "+":
        rest = [part for part in tree[1:] if variables(part)]
        return _without_offset(rest[0]) if len(rest) == 1 else tree
    if tree[0] == "neg":
        return _without_offset(tree[1])
    if tree[0] in ("*", "/"):
        parts = [part for part in children(tree) if variables(part)]
        return _without_offset(parts[0]) if len(parts) == 1 and parts[0] == children(tree)[0] else tree
    return tree


def terms(tree: Tree) -> list[Tree]:
    """The terms of the tree when products of sums are multiplied out, as far as that stays small."""
    kind = tree[0]
    if kind == "+":
        return [term for part in tree[1:] for term in terms(part)]
    if kind == "neg":
        return terms(tree[1])
    if kind == "*":
        products: list[tuple[Tree, ...]] = [()]
        for part in tree[1:]:
            options = terms(part)
            if len(products) * len(options) > _MOST_TERMS:
                return [tree]
            products = [(*product, option) for product in products for option in options]
        return [("*", *product) for product in products]
    if kind == "/":
        return [("/", term, tree[2]) for term in terms(tree[1])]
    return [tree]


def _renamed(tree: Tree, order: tuple[int, ...]) -> Tree:
    if tree[0] == "v":
        return ("v", order[tree[1]])
    return rebuild(tree, [_renamed(child, order) for child in children(tree)])


@cache
def _laws(columns: int) -> list[tuple[str, bool, frozenset]]:
    """Every law under every naming of its variables: its name, whether it is a sum, its keys."""
    found = []
    for name, (roles, bodies) in LAWS.items():
        for body in bodies:
            tree = read_body(body, roles)
            assert tree is not None
            for order in permutations(range(columns), len(roles)):
                renamed = _renamed(tree, order)
                if renamed[0] == "+":
                    found.append((name, True, frozenset(map(_key, renamed[1:]))))
                else:
                    found.append((name, False, _key(renamed)))
    return found


def law_in(tree: Tree, columns: int) -> str | None:
    """The name of the law that the tree says, or None."""
    names = {node[0] for node in subtrees(tree)}
    wave = "sin" in names or "cos" in names
    bound = bool({"minimum", "<", ">"} & names)
    if not (wave or bound):
        return None
    expanded = terms(tree)
    keys = {_key(term) for term in expanded}
    plain = [_key(term) for term in (tree[1:] if tree[0] == "+" else (tree,))]
    if not bound and len(keys) < 4 and not {"tanh", "abs", "exp"} <= names:
        return None
    for name, is_sum, law in _laws(columns):
        if is_sum and law <= keys:
            return name
        if not is_sum and any(law <= key for key in (*plain, *keys)):
            return name
    return None
