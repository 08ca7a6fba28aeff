"""The grammar as textbooks use it, with forms that suit a sort of quantity; and edits that worsen a tree."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from llmsr.proposers.grammar.edits import (
    add_factor,
    add_term,
    change_factor,
    change_power,
    change_term,
    drop_factor,
    drop_term,
    free_or_fix,
    simplify,
    swap_function,
    swap_variable,
    wrap,
)
from llmsr.proposers.grammar.forms import Grammar, Rule
from llmsr.proposers.grammar.trees import Tree

DAMAGE = {
    drop_term: 34, drop_factor: 14, change_factor: 15, change_term: 11, simplify: 9, swap_function: 3,
    swap_variable: 3, change_power: 3, free_or_fix: 3, add_term: 5, add_factor: 2, wrap: 2,
}  # fmt: skip
"""How often each edit makes an earlier, poorer version: mostly something goes."""

_PREFERRED = 0.55  # share of one-column forms that follow the kind of the column, where that is known
_OF_ONE_COLUMN = ("factor", "curve", "term_factor")


class Textbook(Grammar):
    """Prefers forms that suit a column: `kinds` has a rule of them for each one, or None.

    `product` is the share of product forms, None for the usual one.
    """

    def __init__(
        self, count: int, signed: frozenset[int], kinds: Sequence[Rule | None], product: float | None
    ) -> None:
        super().__init__(count, signed)
        self.kinds = kinds
        self.product = self.product if product is None else product

    def rule(self, rng: Random, name: str, args: tuple[Tree, ...]) -> Rule:
        """The rule of a name or, more often than not, that of the column's kind."""
        rule = super().rule(rng, name, args)
        if name not in _OF_ONE_COLUMN or rng.random() >= _PREFERRED:
            return rule
        return self.kinds[args[0][1]] or rule
