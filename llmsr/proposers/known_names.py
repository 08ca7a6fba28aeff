"""Prompts in the names that the embedded model knows, and its answers in the user's.

A small model copies names that it was trained on, or such as x1; of others it writes what merely looks like
them, so that the equation cannot be read. Names of columns that it does not know are replaced in the prompt's
code and put back in the completions. What the columns mean stays as it is. The same holds for every model
that was trained from it, in a search and in training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from llmsr.prompt import Prompt
from llmsr.proposers.proposer import BatchProposer, Completion

EMBEDDED = Path(__file__).with_name("skeleton_lm")

KNOWN = frozenset((EMBEDDED / "names.txt").read_text(encoding="utf-8").split())
"""The names of columns in the training documents of skeleton-lm (training/skeleton_lm/words.py)."""

_SHORT = re.compile(r"[A-Za-z](_?\d)?")
_STAND_INS = (*(f"x{i}" for i in (*range(1, 10), 0)), *(f"{a}{i}" for a in "uzqy" for i in range(1, 10)))
_HEADER = re.compile(r"^def \w+\((.*?)\)[^\n]*:\n", re.MULTILINE | re.DOTALL)
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)


class KnownNames(BatchProposer):
    """A proposer that asks `inner` in names that it knows; for known names it changes nothing."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.name = inner.name
        self.parallel_prompts = inner.parallel_prompts
        self.batch_prompts = getattr(inner, "batch_prompts", 1)

    def propose_many(self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Completion]]:
        names = [stand_ins(prompt.text) for prompt in prompts]
        pairs = zip(prompts, names, strict=True)
        asked = [prompt.rewritten(partial(renamed, names=found)) for prompt, found in pairs]
        if hasattr(self.inner, "propose_many"):
            answers = self.inner.propose_many(asked, n, seeds)
        else:
            answers = [self.inner.propose(text, n, seed) for text, seed in zip(asked, seeds, strict=True)]
        return [
            [replace(completion, text=restored(completion.text, found)) for completion in completions]
            for completions, found in zip(answers, names, strict=True)
        ]

    def close(self) -> None:
        self.inner.close()


def knows_few_names(model_path: str) -> bool:
    """Whether a model is the embedded one or was trained from it: a folder with the same vocabulary.

    No mark in a configuration would do, since a checkpoint may be written by other programs than ours.
    """
    return _vocabulary(EMBEDDED) == _vocabulary(Path(model_path))


@cache
def _vocabulary(folder: Path) -> dict[str, int] | None:
    try:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        return content["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError):  # a hub id, or a tokenizer of another kind
        return None


def in_known_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """A training row with its prompt in names that the model knows.

    `extra_info.names` maps the columns to their stand-ins, as JSON, so that a reward can restore them.
    """
    names: dict[str, str] = {}
    for message in row["prompt"]:
        names |= stand_ins(message["content"])
    prompt = [{**message, "content": renamed(message["content"], names)} for message in row["prompt"]]
    info = row["extra_info"]
    begun = _replaced(info["begun"], names) if names else info["begun"]
    return {**row, "prompt": prompt, "extra_info": {**info, "begun": begun, "names": json.dumps(names)}}


def stand_ins(prompt: str) -> dict[str, str]:
    """The columns of a prompt that the model does not know, each with a short name that the prompt lacks."""
    headers = _HEADER.findall(prompt)
    if not headers:
        return {}
    arguments = [part.split(":")[0].strip() for part in headers[-1].split(",")]
    columns = [name for name in arguments if name][:-1]
    unknown = [name for name in columns if name not in KNOWN and not _SHORT.fullmatch(name)]
    taken = set(re.findall(r"\w+", prompt))
    # a stand-in that the text has already would make two columns one
    free = [name for name in _STAND_INS if name not in taken]
    return dict(zip(unknown, free, strict=False))


def renamed(prompt: str, names: dict[str, str]) -> str:
    """The prompt with other names in headers, bodies and lists of arguments; its prose is left as it is."""
    begin = _HEADER.search(prompt)
    if not names or begin is None:
        return prompt
    # prose stays: a word like `time` in a sentence is no name of a column
    parts = _DOCSTRING.split(prompt[begin.start() :])
    for i, part in enumerate(parts):
        if i % 2:
            listed = rf"^(\s*)({_any(names)})(\s*:)"
            text = re.sub(listed, lambda m: m[1] + names[m[2]] + m[3], part, flags=re.MULTILINE)
            parts[i] = f'"""{text}"""'
        else:
            parts[i] = _replaced(part, names)
    return prompt[: begin.start()] + "".join(parts)


def restored(text: str, names: dict[str, str]) -> str:
    """A completion with the user's names again."""
    return _replaced(text, {short: name for name, short in names.items()}) if names else text


def _any(names: dict[str, str]) -> str:
    return "|".join(map(re.escape, names))


def _replaced(text: str, names: dict[str, str]) -> str:
    return re.sub(rf"\b({_any(names)})\b", lambda found: names[found[1]], text)
