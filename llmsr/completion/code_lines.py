"""Logical lines of a text that may be Python, and whether a line may begin a statement.

Nothing here parses: brackets, quotes and line ends are all that is looked at, so that prose, broken code and
hostile text are read like any other, in time linear in their length.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_BODY = 65_536
"""Characters of one function that are looked at; equations are hundreds of times shorter."""


@dataclass(frozen=True)
class Line:
    """A logical line: physical lines joined by brackets, triple quotes or backslashes."""

    start: int
    end: int
    indent: int | None  # None: blank or only a comment
    closed: bool  # False: the text ended inside a bracket or a string
    code: str  # stripped text


_MARK = re.compile(r"[()\[\]{}\n#'\"\\]")


def logical_lines(text: str, start: int) -> Iterator[Line]:
    """The logical lines of `text` from the line start `start`, over at most MAX_BODY characters."""
    stop = min(len(text), start + MAX_BODY)
    begin = position = start
    depth = 0
    while begin < stop:
        match = _MARK.search(text, position, stop)
        if match is None:
            yield _line(text, begin, stop, depth == 0)
            return
        mark, position = match.group(), match.end()
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth = max(0, depth - 1)
        elif mark == "\\":
            position += 1  # the escaped character, a line end included
            if position >= stop:
                yield _line(text, begin, stop, False)
                return
        elif mark == "#":
            end = text.find("\n", position, stop)
            position = stop if end < 0 else end
        elif mark in "'\"":
            string_end = _string_end(text, match.start(), stop)
            if string_end is None:
                yield _line(text, begin, stop, False)
                return
            position = string_end
        elif depth == 0:
            yield _line(text, begin, match.start(), True)
            begin = position
    # a text that ends in a line end leaves nothing open here


def _string_end(text: str, start: int, stop: int) -> int | None:
    """Where the string that opens at `start` ends, None if never; a broken one ends with its line."""
    quote = text[start]
    if text.startswith(quote * 3, start):
        position = start + 3
        while True:
            end = text.find(quote * 3, position, stop)
            if end < 0:
                return None
            if text[end - 1] != "\\" or end == start + 3:
                return end + 3
            position = end + 1
    for match in re.compile(r"[\n\\]|" + quote).finditer(text, start + 1, stop):
        if match.group() == "\n":
            return match.start()
        if match.group() == quote and not _escaped(text, match.start(), start):
            return match.end()
    return stop


def _escaped(text: str, position: int, start: int) -> bool:
    """Whether an odd number of backslashes stands before `position`; at most 64 are counted."""
    count = 0
    while position - 1 - count > start and count < 64 and text[position - 1 - count] == "\\":
        count += 1
    return count % 2 == 1


def _line(text: str, start: int, end: int, closed: bool) -> Line:
    raw = text[start:end]
    code = raw.strip()
    blank = not code or (code.startswith("#") and "\n" not in code)
    indent = None if blank else len(raw) - len(raw.lstrip(" "))
    return Line(start, end, indent, closed, code)


# ---- what looks like a statement


_STATEMENT = re.compile(
    r"return\b|def\s+\w|for\s+\w|while\b|if\b|with\b|try\s*:|import\s+\w|from\s+[\w.]+\s+import\b|@\w"
    r"|(?:assert|del|global|nonlocal|pass|raise)\b|[rR](?:\"{3}|'{3})|[A-Za-z_][\w.]*\("
)
_ASSIGNMENT = re.compile(r"[^\W\d][^=\n]{0,300}=(?!=)|[(\[*][^=\n]{0,300}=(?!=)")
_ADJACENT = re.compile(r"\b([^\W\d]\w*)[ \t]+(?=([^\W\d]\w*))")
_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|#.*")
_LONG_QUOTED = re.compile(r"\"\"\".*?\"\"\"|'''.*?'''", re.DOTALL)
_RETURN = re.compile(r"(?:^|[:;])\s*return\b")
COMPOUND = r"(?:if|elif|else|for|while|with|try|except|finally|match|case|async|def|class)"
"""What begins a statement that has other statements in it."""

_SUITES = ("for", "while", "if", "with")


def is_statement(code: str) -> bool:
    """Whether a line may begin a Python statement; two names side by side, as in prose, never do."""
    first = code.partition("\n")[0][:2000]
    if first.startswith(('"""', "'''")):
        return True
    if _STATEMENT.match(first):
        if first.startswith(_SUITES) and ":" not in code:
            return False
    else:
        match = _ASSIGNMENT.match(first)
        if match is None or match.group()[-2] in "<>!":
            return False
    words = _QUOTED.sub("", first)
    return not any(not keyword.iskeyword(a) and not keyword.iskeyword(b) for a, b in _ADJACENT.findall(words))


def begins(code: str, word: str) -> bool:
    return re.match(rf"{word}\b", code) is not None


def unquoted(code: str) -> str:
    """The code without its strings and comments."""
    return _QUOTED.sub("", _LONG_QUOTED.sub("", code))


def returns(code: str) -> bool:
    """Whether a return stands in a logical line, be it behind a semicolon or a colon."""
    return "return" in code and _RETURN.search(unquoted(code)) is not None
