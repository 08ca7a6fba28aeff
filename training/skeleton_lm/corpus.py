"""Training documents: a random spec's prompt with a chain of versions, each better than the one before.

In most documents a target is drawn from the grammar and damaged step by step; the damaged trees, poorest
first, are the earlier versions. The others are traces of random edits and combinations. Read from the top, a
document is a prompt in the real format, a body, the header of the next version, a body, and so on, so that
every body but the first is made from what stands above it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace as changed
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from held_out import law_in
from styles import Style, styled_body
from textbook import DAMAGE, Textbook
from words import Words, random_words

from llmsr.prompt import Version, build_prompt
from llmsr.proposers.grammar import drawn_tree, edits
from llmsr.proposers.grammar.forms import read_rules
from llmsr.proposers.grammar.trees import P, Tree, count_params, key, made, variables

# loss weights of a body, as whole numbers: 0 context only, 1 an earlier version, 2 the last one
CONTEXT, EARLIER, LAST = 0, 1, 2
MOST_VERSIONS = 5
DOCUMENTS_PER_SPEC = 4
_MARK = "return 0  # body"

# the forms that textbooks use for a sort of quantity
KINDS = read_rules("""
position(x): 10 monomial(x) | 4 wave(x) | 3 exponential(x) | 2 kink(x) | 2 step(x) | 2 bump(x)
velocity(x): 10 monomial(x) | 4 kink(x) | 3 step(x) | 2 free_power(x) | 1 exponential(x) | 1 wave(x)
angle(x): 12 wave(x) | 4 monomial(x) | 1 step(x)
time(x): 8 wave(x) | 8 exponential(x) | 3 monomial(x) | 3 step(x) | 1 free_power(x)
temperature(x): 4 arrhenius(x) | 6 bump(x) | 5 step(x) | 6 shape(x) | 5 exponential(x) | 4 free_power(x) |
  4 monomial(x)
concentration(x): 11 saturation(x) | 5 inhibition(x) | 6 monomial(x) | 2 exponential(x) | 2 free_power(x)
acidity(x): 10 bump(x) | 4 shape(x) | 2 step(x) | 1 inhibition(x) | 1 exponential(x) | 1 monomial(x)
population(x): 10 monomial(x) | 5 shape(x) | 5 saturation(x) | 2 free_power(x) | 1 inhibition(x)
light(x): 8 saturation(x) | 4 step(x) | 3 exponential(x) | 2 monomial(x) | 2 bump(x)
strain(x): 7 free_power(x) | 4 exponential(x) | 4 monomial(x) | 4 shape(x) | 3 saturation(x) | 3 kink(x) |
  2 step(x)
size(x): 8 free_power(x) | 9 monomial(x) | 3 inhibition(x) | 2 logarithm(x) | 1 exponential(x)
rate(x): 5 free_power(x) | 4 logarithm(x) | 5 monomial(x) | 3 saturation(x) | 2 shape(x)
signal(x): 6 step(x) | 5 monomial(x) | 3 exponential(x) | 2 kink(x) | 2 wave(x)
""")


def heads(words: Words) -> list[str]:
    """The texts between the bodies: `build_prompt` with k versions is heads[0] + body 0 + ... + heads[k]."""
    text = build_prompt(words, [Version(_MARK, 0.0)] * (MOST_VERSIONS - 1))  # type: ignore[arg-type]
    return text.split(f"    {_MARK}")


def _seed(rng: Random, grammar: Textbook) -> Tree:
    """The kind of equation that a spec starts from."""
    draw = rng.random()
    if draw < 0.8:
        return _linear(rng, grammar.count, 0.9)
    if draw < 0.9:
        return made("*", P, ("v", rng.randrange(grammar.count)))
    return _linear(rng, rng.randint(1, grammar.count), 0.5)


def _linear(rng: Random, columns: int, constant: float) -> Tree:
    """The plainest equation: a coefficient for every variable, with a constant in that share of draws."""
    terms = [made("*", P, ("v", i)) for i in range(columns)]
    return made("+", *terms, *([P] if rng.random() < constant else []))


def _chain(rng: Random, words: Words, grammar: Textbook) -> list[tuple[Tree, int]]:
    """The trees of one document with their loss weights, poorest first."""
    count = rng.choices((1, 2, 3, 4, 5), (8, 30, 44, 14, 4))[0]
    target = drawn_tree(rng, grammar, words.max_params)
    # a step of a search is rarely a one-term equation
    if count_params(target) < 3 and rng.random() < 0.6:
        target = drawn_tree(rng, grammar, words.max_params)
    chain = [(target, LAST)]
    known = {key(target)}
    current = target
    for place in range(count - 2, -1, -1):
        draw = rng.random()
        weight = EARLIER
        if place == 0 and draw < 0.24:
            tree, weight = edits.limit_params(rng, _seed(rng, grammar), words.max_params) or target, CONTEXT
        elif draw < 0.32:
            tree, weight = drawn_tree(rng, grammar, words.max_params), CONTEXT if place == 0 else EARLIER
        else:
            start = current if rng.random() < 0.6 else target
            steps = rng.choices((1, 2, 3, 4), (50, 30, 14, 6))[0]
            tree = edits.vary(rng, start, grammar, words.max_params, steps, DAMAGE)
        if key(tree) in known or not variables(tree):
            continue
        known.add(key(tree))
        chain.append((tree, weight))
        current = tree
    chain.reverse()
    return chain


def _walk(rng: Random, words: Words, grammar: Textbook) -> list[tuple[Tree, int]]:
    """The trees of a document that is the trace of a random search instead: steps ahead and combinations."""
    most = words.max_params
    draw = rng.random()
    first = edits.limit_params(rng, _seed(rng, grammar), most) if draw < 0.3 else None
    chain = [(first or drawn_tree(rng, grammar, most), CONTEXT)]
    if draw > 0.6:
        chain = [(edits.vary(rng, chain[0][0], grammar, most, 2, DAMAGE), CONTEXT), chain[0]]
    known = {key(tree) for tree, _ in chain}
    count = rng.choices((2, 3, 4, 5), (34, 48, 14, 4))[0]
    for _ in range(8):
        if len(chain) >= count:
            break
        last = chain[-1][0]
        draw = rng.random()
        tree = None
        if len(chain) > 1 and draw < 0.28:
            tree = edits.combine(rng, chain[-2][0], last, most)
        elif draw < 0.36:
            tree = drawn_tree(rng, grammar, most)
        if tree is None:
            start = chain[-2][0] if len(chain) > 1 and rng.random() < 0.3 else last
            steps = rng.choices((1, 2, 3), (58, 30, 12))[0]
            tree = edits.vary(rng, start, grammar, most, steps)
        if key(tree) not in known and variables(tree):
            known.add(key(tree))
            chain.append((tree, EARLIER))
    return [*chain[:-1], (chain[-1][0], LAST)]


def _style(rng: Random, words: Words) -> Style:
    return Style(
        module=words.module,
        spaced_power=rng.random() < 0.12,
        named=rng.random() < 0.16,
        result=rng.choice(("a", "y", "result", "output", "rate", "out", "dv")) if rng.random() < 0.07 else "",
        comments=rng.random() < 0.015,
    )


def documents(rng: Random) -> Iterator[tuple[list[str], list[str], list[int]]]:
    """Without end: the texts before each body, the bodies, and the loss weights of the bodies."""
    while True:
        words = random_words(rng)
        kinds = tuple(KINDS.get(kind) for kind in words.kinds)
        grammar = Textbook(len(words.columns), words.signed, kinds, words.product)
        before = heads(words)
        for _ in range(DOCUMENTS_PER_SPEC):
            chain = (_walk if rng.random() < 0.4 else _chain)(rng, words, grammar)
            if any(law_in(tree, grammar.count) for tree, _ in chain):
                continue
            style = _style(rng, words)
            plain = changed(style, named=False, result="", comments=False)
            bodies = [
                styled_body(
                    tree, words.columns, words.params_name, style if rng.random() < 0.8 else plain, rng
                )
                for tree, _ in chain
            ]
            yield before[: len(chain)], bodies, [weight for _, weight in chain]


def text_of(before: list[str], bodies: list[str]) -> str:
    """A document as one text."""
    return "".join(head + body for head, body in zip(before, bodies, strict=True))


if __name__ == "__main__":
    source = documents(Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    for _ in range(5):
        heads_, bodies_, _ = next(source)
        print(text_of(heads_, bodies_) + "\n" + "=" * 100)
