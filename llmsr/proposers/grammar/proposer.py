"""The search's baseline without a language model: bodies drawn and changed at random by the grammar."""

from __future__ import annotations

import itertools
import re
from random import Random

from llmsr.prompt import Prompt
from llmsr.proposers.grammar.bodies import mutate, random_body
from llmsr.proposers.proposer import Completion

FRESH = 0.1  # share of bodies that owe nothing to the equations shown

_HEADER = re.compile(r"^def (\w+)_v(\d+)\((.*?)\)[^\n]*:\n", re.MULTILINE | re.DOTALL)
_DOCSTRING = re.compile(r'\s*""".*?"""\n', re.DOTALL)
_MAX_PARAMS = re.compile(r"^MAX_NPARAMS\s*=\s*(\d+)", re.MULTILINE)


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
