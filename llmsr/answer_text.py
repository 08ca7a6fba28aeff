"""What a language model's answer says, without reasoning, turns, JSON, fences and the old side of diffs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence


def newlines(text: str) -> str:
    """The text with "\\n" line ends, without byte order mark, leading tabs as four spaces."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"(?m)^ *\t[ \t]*", lambda match: match[0].expandtabs(4), text)


def after_reasoning(text: str) -> tuple[str, bool]:
    """What follows the reasoning, and whether reasoning was opened and never closed.

    Text in reasoning without an end is kept: a function that stands complete in it may be read.
    """
    head, _, final = text.rpartition("<|channel|>final<|message|>")
    if head:
        return final, False
    *closed, tail = re.split(r"</(?:think|thinking|thought|reasoning)>", text)
    before, *inside = re.split(r"<(?:think|thinking|thought|reasoning)>", tail, maxsplit=1)
    if closed or before.strip() or not inside:
        return before, False
    return inside[0], True


_TURN = re.compile(r"<\|[A-Za-z_0-9]{1,40}\|>|<｜[^｜\n]{1,40}｜>|</s>|\[/?INST\]|<(?:start|end)_of_turn>")
_ROLE = re.compile(r"\A\s*(?:(?:assistant|model)[ \t]*(?:\n|$)|<s>)")


def inside_turn(text: str) -> str:
    """The first turn that says something: what stands between special tokens of chat models."""
    pieces = (_ROLE.sub("", piece) for piece in _TURN.split(text))
    return next((piece for piece in pieces if piece.strip()), "")


def from_json(text: str) -> str | None:
    """The code in an answer that is one JSON object or string, None for any other answer."""
    content = text.strip()
    if content.startswith("```") and content.endswith("```"):
        content = re.sub(r"^[A-Za-z]*", "", content[3:-3]).strip()
    if not re.match(r"\{.*\}$|\"(?!\"\").*\"$", content, re.DOTALL):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return value
    strings = [item for item in value.values() if isinstance(item, str) and re.search(r"\breturn\b", item)]
    return strings[-1] if strings else None


_LANGUAGE = re.compile(r"\A[ \t]*(?:python[0-9.]*|py|[A-Za-z]*(?=[ \t]*\n))[ \t]*\n?")


def segments(text: str) -> tuple[list[str], list[str]]:
    """Text outside and inside of fences; the first part outside may be empty, the last fence may be open."""
    parts = re.split(r"```+|~~~+", text)
    return parts[0::2], [_LANGUAGE.sub("", part) for part in parts[1::2]]


_OLD, _BETWEEN, _NEW = re.compile(r"<{5,}(?:\s|$)"), re.compile(r"={5,}\s*$"), re.compile(r">{5,}(?:\s|$)")
_HUNK = re.compile(r"@@ .*@@|[-+] *(?:return|def)\b")  # no line of Python begins so
_DIFF_HEADER = re.compile(r"@@|--- |\+\+\+ |diff |index [0-9a-f]|\\ No newline")


def new_sides(parts: Sequence[str]) -> tuple[list[str], int]:
    """The parts as the diffs in them leave them, and the number of places that these change; 0 without one.

    Diffs are blocks of <<<<<<< old ======= new >>>>>>>, and lines that begin with + and -.
    """
    sides = [_new_side(part) for part in parts]
    return [text for text, _ in sides], sum(places for _, places in sides)


def _new_side(text: str) -> tuple[str, int]:
    lines = text.split("\n")
    kept, changes, old = [], 0, False
    for line in lines:
        if _OLD.match(line):
            old, changes = True, changes + 1
        elif changes and _BETWEEN.match(line):
            old = False
        elif not old and not (changes and _NEW.match(line)):
            kept.append(line)
    if changes:
        return "\n".join(kept), changes
    if not any(map(_HUNK.match, lines)):
        return text, 0
    places = max(1, sum(line.startswith("@@") for line in lines))
    new = (line for line in lines if not _DIFF_HEADER.match(line) and not line.startswith("-"))
    return "\n".join(line[1:] if line[:1] in ("+", " ") else line for line in new), places
