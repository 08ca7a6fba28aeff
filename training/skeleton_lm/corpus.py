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
from words import Words, random_words

from llmsr.prompt import Version, build_prompt
from llmsr.proposers.grammar import edits, forms
from llmsr.proposers.grammar.bodies import drawn_tree
from llmsr.proposers.grammar.inputs import Inputs
from llmsr.proposers.grammar.tree import Style, Tree, body_text, key, mul

# loss weights of a body, as whole numbers: 0 context only, 1 an earlier version, 2 the last one
CONTEXT, EARLIER, LAST = 0, 1, 2
MOST_VERSIONS = 5
DOCUMENTS_PER_SPEC = 4
_MARK = "return 0  # body"


def heads(words: Words) -> list[str]:
    """The texts between the bodies: `build_prompt` with k versions is heads[0] + body 0 + ... + heads[k]."""
    text = build_prompt(words, [Version(_MARK, 0.0)] * (MOST_VERSIONS - 1))  # type: ignore[arg-type]
    return text.split(f"    {_MARK}")


def _seed(rng: Random, inputs: Inputs) -> Tree:
    """The kind of equation that a spec starts from."""
    draw = rng.random()
    if draw < 0.8:
        return forms.linear(rng, inputs.count)
    if draw < 0.9:
        return mul(("p", 0), ("v", rng.randrange(inputs.count)))
    return forms.linear(rng, rng.randint(1, inputs.count), 0.5)


def _chain(rng: Random, words: Words, inputs: Inputs) -> list[tuple[Tree, int]]:
    """The trees of one document with their loss weights, poorest first."""
    count = rng.choices((1, 2, 3, 4, 5), (8, 30, 44, 14, 4))[0]
    target = drawn_tree(rng, inputs, words.max_params)
    # a step of a search is rarely a one-term equation
    if edits.count_params(target) < 3 and rng.random() < 0.6:
        target = drawn_tree(rng, inputs, words.max_params)
    chain = [(target, LAST)]
    known = {key(target)}
    current = target
    for place in range(count - 2, -1, -1):
        draw = rng.random()
        weight = EARLIER
        if place == 0 and draw < 0.24:
            tree, weight = edits.limit_params(rng, _seed(rng, inputs), words.max_params) or target, CONTEXT
        elif draw < 0.32:
            tree, weight = drawn_tree(rng, inputs, words.max_params), CONTEXT if place == 0 else EARLIER
        else:
            start = current if rng.random() < 0.6 else target
            steps = rng.choices((1, 2, 3, 4), (50, 30, 14, 6))[0]
            tree = edits.damage(rng, start, inputs, words.max_params, steps)
        if key(tree) in known or not edits.variables(tree):
            continue
        known.add(key(tree))
        chain.append((tree, weight))
        current = tree
    chain.reverse()
    return chain


def _walk(rng: Random, words: Words, inputs: Inputs) -> list[tuple[Tree, int]]:
    """The trees of a document that is the trace of a random search instead: steps ahead and combinations."""
    most = words.max_params
    draw = rng.random()
    first = edits.limit_params(rng, _seed(rng, inputs), most) if draw < 0.3 else None
    chain = [(first or drawn_tree(rng, inputs, most), CONTEXT)]
    if draw > 0.6:
        chain = [(edits.damage(rng, chain[0][0], inputs, most, 2), CONTEXT), chain[0]]
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
            tree = drawn_tree(rng, inputs, most)
        if tree is None:
            start = chain[-2][0] if len(chain) > 1 and rng.random() < 0.3 else last
            steps = rng.choices((1, 2, 3), (58, 30, 12))[0]
            tree = edits.vary(rng, start, inputs, most, steps)
        if key(tree) not in known and edits.variables(tree):
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
        inputs = Inputs(len(words.columns), words.signed, words.kinds, words.product)
        before = heads(words)
        for _ in range(DOCUMENTS_PER_SPEC):
            chain = (_walk if rng.random() < 0.4 else _chain)(rng, words, inputs)
            if any(law_in(tree, inputs.count) for tree, _ in chain):
                continue
            style = _style(rng, words)
            plain = changed(style, named=False, result="", comments=False)
            bodies = [
                body_text(
                    tree,
                    words.columns,
                    style=style if rng.random() < 0.8 else plain,
                    params_name=words.params_name,
                    rng=rng,
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
