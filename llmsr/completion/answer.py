"""The function body inside whatever text a language model answered, found without executing any of it.

Models asked for a function body send raw bodies, whole functions, fenced blocks in prose, reasoning
before the answer, JSON, and text that stops in the middle or goes on with something else.
`read_completion` finds the body in all of these by looking at lines, brackets and quotes only. Its work
is linear in the length of the text, so that hostile text costs no more than any other; it does not
promise that what it returns is valid Python.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from llmsr.completion.function_bodies import Body, body_below_prose, functions_in, leading_body

__all__ = ["Body", "NoBody", "read_completion"]

MAX_TEXT = 1_000_000
"""Characters of a completion beyond which it is refused unread."""


@dataclass(frozen=True)
class NoBody:
    """Why a completion holds no function body; `kind` is "empty" or "too_large"."""

    kind: str
    reason: str


def read_completion(text: str, function_name: str = "equation") -> Body | NoBody:
    """The function body that `text` gives for `function_name`, or why there is none.

    In this order: a bare body that the text begins with, up to its `return`; the last complete function
    of that name (`equation`, `equation_v2`, ...), with the helper functions it calls placed inside; a
    bare body in a fenced block or below prose; what there is of an answer that was cut off; a return in
    backticks within a sentence.
    """
    if len(text) > MAX_TEXT:
        return NoBody("too_large", f"the answer has {len(text)} characters, more than {MAX_TEXT}")
    text = _newlines(text)
    if not text.strip():
        return NoBody("empty", "the answer is empty")
    text, open_reasoning = _after_reasoning(text)
    text = _inside_turn(text)
    if not text.strip():
        return NoBody("empty", "the answer holds reasoning only")
    unwrapped = _from_json(text)
    if unwrapped is not None:
        text = _newlines(unwrapped)
    outside, fenced = _segments(text)

    leading = None if open_reasoning else leading_body(outside[0], function_name)
    if leading is not None and leading.complete:
        return leading.body
    functions = [
        found
        for part in (*reversed(fenced), *reversed(outside))
        for found in functions_in(part, function_name)
    ]
    functions.sort(key=lambda found: -found.rank)  # stable: the last of a rank stays first
    for found in functions:
        if found.complete:
            return found.body
    for part in (*reversed(fenced), *(() if open_reasoning else outside)):
        below = body_below_prose(part, function_name)
        if below is not None and below.complete:
            return below.body
    if functions:
        return functions[0].body
    if leading is not None:
        return leading.body
    for part in reversed(fenced):
        below = leading_body(part, function_name)
        if below is not None:
            return below.body
    inline = re.findall(r"`(return [^`\n]{1,4000})`", text)
    if inline:
        return Body(inline[-1] + "\n")
    if open_reasoning:
        return NoBody("empty", "the answer ends inside its reasoning")
    return NoBody("empty", "the answer holds no statement that ends in a return")


# ---- the frame around the answer


def _newlines(text: str) -> str:
    """The text with "\\n" line ends, without byte order mark, leading tabs as four spaces."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if "\t" in text:
        text = re.sub(r"(?m)^[ \t]+", lambda match: match.group().expandtabs(4), text)
    return text


_THINK = r"(?:think|thinking|thought|reasoning)"


def _after_reasoning(text: str) -> tuple[str, bool]:
    """What follows the reasoning, and whether reasoning was opened and never closed.

    Text in reasoning without an end is kept: a function that stands complete in it may be read.
    """
    head, _, final = text.rpartition("<|channel|>final<|message|>")
    if head:
        return final, False
    ends = list(re.finditer(rf"</{_THINK}>", text))
    if ends:
        tail = text[ends[-1].end() :]
        reopened = re.search(rf"<{_THINK}>", tail)
        return (tail[: reopened.start()], False) if reopened else (tail, False)
    opened = re.search(rf"<{_THINK}>", text)
    if opened is None:
        return text, False
    before = text[: opened.start()]
    return (before, False) if before.strip() else (text[opened.end() :], True)


_TURN = re.compile(r"<\|[A-Za-z_0-9]{1,40}\|>|<｜[^｜\n]{1,40}｜>|</s>|\[/?INST\]|<(?:start|end)_of_turn>")
_ROLE = re.compile(r"(?:assistant|model)[ \t]*(?:\n|$)|<s>")


def _inside_turn(text: str) -> str:
    """The first turn that says something: what stands between special tokens of chat models."""
    start = 0
    for match in _TURN.finditer(text):
        piece = _without_role(text[start : match.start()])
        if piece.strip():
            return piece
        start = match.end()
    return _without_role(text[start:])


def _without_role(piece: str) -> str:
    stripped = piece.lstrip()
    match = _ROLE.match(stripped)
    return stripped[match.end() :] if match else ("" if stripped in ("assistant", "model") else piece)


def _from_json(text: str) -> str | None:
    """The code in an answer that is one JSON object or string, None for any other answer."""
    content = text.strip()
    if content.startswith("```") and content.endswith("```"):
        content = content[3:-3].lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ").strip()
    if content[:1] not in ("{", '"') or content[-1:] not in ("}", '"') or content.startswith('"""'):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        strings = [item for item in value.values() if isinstance(item, str)]
        with_return = [item for item in strings if re.search(r"\breturn\b", item)]
        value = with_return[-1] if with_return else None
    return value if isinstance(value, str) else None


_LANGUAGE = re.compile(r"[ \t]*(?:python[0-9.]*|py|[A-Za-z]*(?=[ \t]*\n))[ \t]*\n?")


def _segments(text: str) -> tuple[list[str], list[str]]:
    """Text outside and inside of fences; the first part outside may be empty, the last fence may be open."""
    parts = re.split(r"```+|~~~+", text)
    fenced = []
    for part in parts[1::2]:
        match = _LANGUAGE.match(part)
        fenced.append(part[match.end() :] if match else part)
    return parts[0::2], fenced
