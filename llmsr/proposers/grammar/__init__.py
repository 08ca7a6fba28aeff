"""Random equation skeletons and random edits of them, without any language model.

`random_body` draws a function body from a general grammar of scientific forms; `mutate` changes a given body
a little, or combines it with a second one. Together they are a proposer that knows no problem, reads no
docstring and learns nothing: the baseline that a language model has to beat. The same grammar generates the
training text of skeleton-lm.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Collection, Sequence
from random import Random

from llmsr.prompt import Prompt
from llmsr.proposers.grammar import edits
from llmsr.proposers.grammar.forms import Grammar
from llmsr.proposers.grammar.trees import (
    LEAVES,
    PAIRS,
    Tree,
    Unreadable,
    body_text,
    rebuild,
    size,
    subtrees,
    tree_of,
)
from llmsr.proposers.proposer import Completion

FRESH = 0.1  # share of bodies that owe nothing to the equations shown
_MAX_TEXT = 4000
_COMBINED = 0.3  # share of changes that join two equations
_BETTER = 0.65  # share of edits that start from the better one of two
_OPERATORS = ("+", "*", "/", "^", "neg", "<", ">")

_HEADER = re.compile(r"^def (\w+)_v(\d+)\((.*?)\)[^\n]*:\n", re.MULTILINE | re.DOTALL)
_DOCSTRING = re.compile(r'\s*""".*?"""\n', re.DOTALL)
_MAX_PARAMS = re.compile(r"^MAX_NPARAMS\s*=\s*(\d+)", re.MULTILINE)


def drawn_tree(rng: Random, grammar: Grammar, max_params: int) -> Tree:
    """A tree of the grammar that keeps within `max_params` free constants."""
    while True:
        tree = edits.tidy(grammar.skeleton(rng))
        tree = tree and edits.limit_params(rng, tree, max_params)
        if tree is not None:
            return tree


def random_body(
    rng: Random,
    columns: Sequence[str],
    max_params: int,
    *,
    signed: Collection[int] = (),
    module: str = "np",
    params_name: str = "params",
) -> str:
    """A function body drawn from the grammar, indented by four spaces.

    `columns` are the names of the input arguments; the body uses at least one of them and only
    `params[0]` to `params[max_params - 1]`, numbered as they appear. Columns numbered in `signed` can be
    negative and meet no root, logarithm, free power or denominator as they are. `module` is the prefix of the
    functions.
    """
    tree = drawn_tree(rng, Grammar(len(columns), signed), max_params)
    return body_text(tree, columns, module, params_name)


def mutate(
    rng: Random,
    body: str,
    columns: Sequence[str],
    max_params: int,
    *,
    other: str | None = None,
    signed: Collection[int] = (),
    module: str = "np",
    params_name: str = "params",
) -> str:
    """A changed body: one to three random edits, or a combination with `other`; indented by four spaces.

    With an `other`, the edits start from `body` in two cases of three: give the better one first. A body that
    `read_body` cannot read counts as absent; without any readable body a fresh one is drawn.
    """
    grammar = Grammar(len(columns), signed)
    trees = [read_body(text, columns, params_name) for text in (body, other) if text]
    known = [tree for tree in trees if tree is not None]
    tree: Tree | None = None
    if not known:
        tree = drawn_tree(rng, grammar, max_params)
    elif len(known) == 2 and rng.random() < _COMBINED:
        tree = edits.combine(rng, known[0], known[1], max_params)
    if tree is None:
        start = known[0] if len(known) == 1 or rng.random() < _BETTER else known[1]
        steps = rng.choices((1, 2, 3), (60, 28, 12))[0]
        tree = edits.vary(rng, start, grammar, max_params, steps)
    return body_text(tree, columns, module, params_name)


def read_body(body: str, columns: Sequence[str], params_name: str = "params") -> Tree | None:
    """The tree of a body in the grammar's own manner: assignments to names, then one return; None for others.

    The text is never executed.
    """
    lines = body.strip("\n").splitlines()
    # a body of this length is no equation of the grammar, and a parse of any length is none of our business
    if not lines or len(body) > _MAX_TEXT:
        return None
    margin = len(lines[0]) - len(lines[0].lstrip())
    try:
        names: dict[str, Tree] = {name: ("v", i) for i, name in enumerate(columns)}
        for statement in ast.parse("\n".join(line[margin:] for line in lines)).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name), *_], value=value):
                    names[name] = tree_of(value, names, params_name)
                case ast.Expr(value=ast.Constant()):
                    continue
                case ast.Return(value=ast.expr() as value):
                    return _as_drawn(tree_of(value, names, params_name))
                case _:
                    return None
    except (Unreadable, SyntaxError, RecursionError, ValueError, MemoryError):
        return None
    return None


def _as_drawn(tree: Tree) -> Tree | None:
    """The tree as the grammar would have it: in order, with tags on shared constants only."""
    found = subtrees(tree)
    tags = [node[1] for node in found if node[0] == "p"]
    calls = [node for node in found if node[0] not in (*LEAVES, *_OPERATORS)]
    if any(len(node) != (3 if node[0] in PAIRS else 2) for node in calls):
        return None

    def untagged(tree: Tree) -> Tree:
        if tree[0] == "p":
            return tree if tags.count(tree[1]) > 1 else ("p", 0)
        return rebuild(tree, [untagged(child) for child in tree[1:]]) if tree[0] not in "vc" else tree

    tidied = edits.tidy(untagged(tree))
    return tidied if tidied is None or size(tidied) <= 3 * edits.MAX_NODES else None


class GrammarProposer:
    """Reads from a prompt its signature, number of parameters and equations; knows and learns nothing.

    With equations shown it mostly changes the last ones, as evolution does; without any it draws
    from the grammar. A token is counted for every word or sign of the text, for want of a tokenizer.
    """

    name = "grammar"
    parallel_prompts = 1

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        columns, params_name, bodies = read_prompt(prompt.text)
        found = _MAX_PARAMS.search(prompt.text)
        max_params = int(found.group(1)) if found else 10
        # the seed alone decides, so that a resumed run draws the same bodies
        rng = Random(seed)
        shown = bodies[-2:]
        completions = []
        for _ in range(n):
            if shown and rng.random() >= FRESH:
                other = shown[0] if len(shown) == 2 else None
                text = mutate(rng, shown[-1], columns, max_params, other=other, params_name=params_name)
            else:
                text = random_body(rng, columns, max_params, params_name=params_name)
            tokens = len(re.findall(r"\w+|[^\w\s]", text))
            completions.append(Completion(text, tokens, "stop", tokens_estimated=True))
        return completions

    def close(self) -> None:
        """Nothing to stop."""


def read_prompt(prompt: str) -> tuple[tuple[str, ...], str, list[str]]:
    """The columns, the name of the parameters and the bodies that a prompt shows, worst first."""
    headers = list(_HEADER.finditer(prompt))
    arguments = [part.split(":")[0].split("=")[0].strip() for part in headers[-1].group(3).split(",")]
    arguments = [name for name in arguments if name]
    bodies = []
    for header, following in itertools.pairwise(headers):
        text = prompt[header.end() : following.start()]
        docstring = _DOCSTRING.match(text)
        bodies.append(text[docstring.end() :] if docstring else text)
    return tuple(arguments[:-1]), arguments[-1], bodies
