"""The grammar: forms that textbooks of many fields use, as a table of weighted texts; and draws from it.

The table, forms.txt, has polynomials, waves, damping, saturation (Monod, Hill), inhibition, Arrhenius,
logistic and hyperbolic steps, bumps, thresholds, free powers, and sums, products, quotients and branches of
them. Nothing in it is aimed at one problem.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random

from llmsr.proposers.grammar.trees import LEAVES, P, Tree, children, made, tree_of, variables

# what these draw is drawn again where signed columns forbid it, and given up for the plain product at last
_TAMED = ("factor", "curve", "term_factor", "pair")
_TRIES = 8
_DIFFERENT = {("?", "two"): 2, ("?", "three"): 3}  # columns that a rule is given


@dataclass(frozen=True)
class Rule:
    """The alternatives of one rule with their cumulated weights; `names` are what it is given."""

    names: tuple[str, ...]
    forms: tuple[Tree, ...]
    weights: tuple[float, ...]


def read_rules(text: str) -> dict[str, Rule]:
    """The rules of a text in the manner of forms.txt, by name."""
    rules = {}
    for line in re.sub(r"\|\n", "| ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            head, alternatives = line.split(":", 1)
            name, *names = re.findall(r"[\w/]+", head)
            pairs = [part.split(maxsplit=1) for part in alternatives.split("|")]
            weights = tuple(accumulate(float(weight) for weight, _ in pairs))
            rules[name] = Rule(tuple(names), tuple(_form(form) for _, form in pairs), weights)
    return rules


def _form(text: str) -> Tree:
    """A form as a tree, in which names and calls of rules stand as they are."""
    with_module = re.sub(r"\b([a-z]\w*)\(", r"np.\1(", text)  # the manner of calls that trees are read from
    node = ast.parse(with_module, mode="eval").body
    names = {part.id: ("?", part.id) for part in ast.walk(node) if isinstance(part, ast.Name)}
    return tree_of(node, names | {"P": P})


RULES = read_rules(Path(__file__).with_name("forms.txt").read_text(encoding="utf-8"))


class Grammar:
    """Draws trees over `count` columns. Those numbered in `signed` can be negative; subclasses may know more.

    `product` is the share of product forms.
    """

    def __init__(self, count: int, signed: Collection[int] = ()) -> None:
        self.count, self.signed = count, signed
        self.product = 0.2 if count < 3 else 0.3

    def allows(self, tree: Tree) -> bool:
        """Whether no root, logarithm, free power or denominator meets the bare value of a signed column."""
        if not self.signed:
            return True
        match tree:
            case ("/", _, below) if self._loose(below):
                return False
            case ("^", base, exponent) if (exponent[0] != "c" or exponent[1] == "0.5") and self._loose(base):
                return False
            case ("sqrt" | "log" | "log1p", argument) if self._loose(argument):
                return False
        return all(map(self.allows, children(tree)))

    def rule(self, rng: Random, name: str, args: tuple[Tree, ...]) -> Rule:
        """The rule of a name for so many columns."""
        return RULES.get(f"{name}/{min(self.count, 3)}") or RULES[name]

    def draw(self, rng: Random, name: str, *args: Tree) -> Tree:
        """A tree of the rule called `name`, given the trees that it takes."""
        if name == "product":
            return self._product(rng)
        rule = self.rule(rng, name, args)
        if name not in _TAMED:
            return self._grown(rng, rule, args)
        # drawing again is cheaper than forms that know of signs
        for _ in range(_TRIES):
            tree = self._grown(rng, rule, args)
            if self.allows(tree) or (len(args) == 1 and args[0][1] not in self.signed):
                return tree
        return made("*", *args)

    def skeleton(self, rng: Random) -> Tree:
        """A tree drawn from the whole grammar; it uses at least one of the columns."""
        (name,) = rng.choices(("composed", "product", "whole_sum"), (0.16, self.product, 0.84 - self.product))
        while True:
            tree = self.draw(rng, name)
            if variables(tree) and self.allows(tree):
                return tree

    def _grown(self, rng: Random, rule: Rule, args: tuple[Tree, ...]) -> Tree:
        """One of the rule's forms, at random, with everything in it filled in."""
        given = dict(zip(rule.names, args, strict=True))

        def fill(form: Tree) -> Tree:
            head, *inner = form
            if head in LEAVES:
                return form
            if head == "?":
                return named(inner[0])
            if head == "many":
                return made("+", *(fill(inner[0]) for _ in range(int(fill(inner[1])[1]))))
            if head not in RULES:
                return made(head, *map(fill, inner))
            different = _DIFFERENT.get(inner[0])
            return self.draw(rng, head, *(self._columns(rng, different) if different else map(fill, inner)))

        def named(name: str) -> Tree:
            if name in given:
                return given[name]
            if name == "N":
                return given.setdefault("N", ("p", rng.getrandbits(30) + 1))
            return ("v", rng.randrange(self.count)) if name == "any" else self.draw(rng, name)

        return fill(rng.choices(rule.forms, cum_weights=rule.weights)[0])

    def _columns(self, rng: Random, count: int) -> list[Tree]:
        """So many different columns in their order."""
        return [("v", i) for i in sorted(rng.sample(range(self.count), count))]

    def _product(self, rng: Random) -> Tree:
        """An amplitude times about one factor for each column."""
        order = list(range(self.count))
        if rng.random() < 0.2:
            rng.shuffle(order)
        used = [i for i in order if rng.random() < 0.88] or [rng.randrange(self.count)]
        factors = [P] if rng.random() < 0.9 else []
        for i in used:
            twice = rng.random() < (0.28 if self.count < 4 else 0.16)
            factors += [self.draw(rng, "factor", ("v", i)) for _ in range(1 + twice)]
        # some laws have a factor of two columns at once
        if self.count > 1 and rng.random() < 0.06:
            factors.append(self.draw(rng, "pair", *self._columns(rng, 2)))
        return made("*", *factors)

    def _loose(self, tree: Tree) -> bool:
        """Whether the tree can be negative because a signed column is."""
        if tree[0] == "v":
            return tree[1] in self.signed
        if tree[0] in ("abs", "exp", "cosh") or (tree[0] == "^" and tree[2] in (("c", "2"), ("c", "4"))):
            return False
        if tree[0] == "^" and tree[2][0] == "c":
            return self._loose(tree[1])
        return any(map(self._loose, children(tree)))
