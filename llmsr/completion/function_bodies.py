"""Function bodies in a text: bare ones, and those of whole functions with the helpers that they call."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from llmsr.completion.code_lines import (
    COMPOUND,
    MAX_BODY,
    Line,
    begins,
    is_statement,
    logical_lines,
    returns,
    unquoted,
)

MAX_FUNCTIONS = 16
"""Functions per answer that are looked at, the last ones first."""

MAX_TRIED = 2 * MAX_BODY
"""Characters of an answer in all that are looked at in search of one body."""


@dataclass(frozen=True)
class Body:
    """The text of a function body without indentation, lines ended by "\\n".

    `arguments` are the names in the answer's own function header, in order and including the parameter
    vector, or None when the answer was a bare body and so speaks of the prompt's names.
    """

    text: str
    arguments: tuple[str, ...] | None = None


def _names_ours(name: str, function_name: str) -> int:
    """3 for the function or a version of it, 2 for a name that holds its name, 1 for any other."""
    if re.fullmatch(rf"{re.escape(function_name)}(?:_v\d+)?", name):
        return 3
    return 2 if function_name in name else 1


@dataclass(frozen=True)
class Found:
    body: Body
    complete: bool  # a return stands in it, and nothing was cut off before that return
    rank: int = 0


_DEF = re.compile(r"(?m)^( *)(?:async +)?def +([^\W\d]\w*)[ \t]*\(")


def leading_body(text: str, function_name: str) -> Found | None:
    """The bare body that the text begins with, None if it begins with anything else."""
    for line in logical_lines(text, 0):
        if line.indent is None:
            continue
        definition = re.match(r"(?:async\s+)?def\s+(\w+)", line.code)
        ours = definition is not None and _names_ours(definition.group(1), function_name) == 3
        if ours or not is_statement(line.code):
            return None
        return _bare_body(text, line.start, function_name)
    return None


def body_below_prose(text: str, function_name: str) -> Found | None:
    """The first complete bare body below prose; as much is tried as MAX_TRIED allows."""
    start = tried = 0
    while start < len(text) and tried < MAX_TRIED:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        code = text[start : min(end, start + 2000)].strip()
        if code and is_statement(code):
            tried += min(len(text) - start, MAX_BODY)
            found = _bare_body(text, start, function_name)
            if found.complete:
                return found
        start = end + 1
    return None


def _bare_body(text: str, start: int, function_name: str) -> Found:
    lines = list(logical_lines(text, start))
    base = _base_indent(lines)
    taken: list[Line] = []
    complete = False
    statements = 0
    for line in lines:
        if line.indent is not None:
            definition = re.match(r"(?:async\s+)?def\s+(\w+)", line.code)
            ours = definition is not None and _names_ours(definition.group(1), function_name) == 3
            foreign = line.indent == 0 and (ours or begins(line.code, "class"))
            if statements and (line.indent < base or foreign):
                break
            statements += 1
        taken.append(line)
        if begins(line.code, "return") and (statements == 1 or line.indent == base):
            complete = line.closed
            break
    nested = any(re.search(r"\breturn\b", item.code) for item in taken if item.indent is not None)
    opens_function = any(begins(item.code, "def") for item in taken)
    complete = complete or (nested and not opens_function and taken[-1].closed)
    body = _dedented(text, taken, base)
    end = taken[-1].end if taken else start
    return Found(Body(_with_helpers(body, text, (start, end), None)), complete)


def _base_indent(lines: Sequence[Line]) -> int:
    """The indentation of a bare body's statements, whose first line may have lost its own or part of it."""
    indents = [(line.indent, line.code) for line in lines if line.indent is not None]
    if not indents:
        return 0
    first, code = indents[0]
    rest = [indent for indent, _ in indents[1:]]
    if not rest or first == rest[0] or begins(code, "return"):
        return first
    if code.endswith(":"):
        inside = rest[: next((i for i, indent in enumerate(rest) if indent <= first), len(rest))]
        below = [indent for indent in inside if indent < rest[0]]
        return min(below) if below else first
    if rest[0] == 0 and not is_statement(indents[1][1]):
        return first
    return rest[0]


def _dedented(text: str, lines: Sequence[Line], base: int) -> str:
    """The lines without `base` spaces of indentation; the first one loses all of its own."""
    physical: list[str] = []
    fresh = True
    for line in lines:
        rows = text[line.start : line.end].split("\n")
        if fresh and line.indent is not None:
            rows[0] = rows[0].lstrip(" ")
            fresh = False
        physical += [row[min(base, len(row) - len(row.lstrip(" "))) :].rstrip() for row in rows]
    return "\n".join(physical).strip("\n") + "\n"


def functions_in(text: str, function_name: str) -> list[Found]:
    """The functions of a text that may be meant, the last one first."""
    matches = list(_DEF.finditer(text))
    best = max((_names_ours(match.group(2), function_name) for match in matches), default=0)
    chosen = [match for match in matches if _names_ours(match.group(2), function_name) == best]
    functions: list[Found] = []
    tried = 0
    for match in reversed(chosen[-MAX_FUNCTIONS:]):
        if tried >= MAX_TRIED:
            break
        tried += min(len(text) - match.start(), MAX_BODY)
        found = _function(text, match, best)
        if found is not None:
            functions.append(found)
    return functions


def _function(text: str, match: re.Match[str], rank: int) -> Found | None:
    header, arguments, lines, complete = _definition(text, match)
    if header is None:
        return None
    base = next((line.indent for line in lines if line.indent is not None), 0)
    body = _dedented(text, lines, base) if lines else ""
    if not body.strip():
        return None
    end = lines[-1].end
    return Found(Body(_with_helpers(body, text, (match.start(), end), arguments), arguments), complete, rank)


def _definition(
    text: str, match: re.Match[str]
) -> tuple[Line | None, tuple[str, ...] | None, list[Line], bool]:
    """A function's header, argument names, body lines up to its own return, and whether that is complete."""
    outer = len(match.group(1))
    lines = logical_lines(text, match.start())
    header = next(lines, None)
    if header is None or not header.closed:
        return None, None, [], False
    colon, arguments = _header(text, match.end(), header.end)
    if colon is None:
        return None, None, [], False
    rest = text[colon + 1 : header.end].strip()
    if rest and not rest.startswith("#"):
        line = Line(header.end - len(text[colon + 1 : header.end].lstrip()), header.end, 0, True, rest)
        return header, arguments, [line], returns(rest)
    taken: list[Line] = []
    base: int | None = None
    complete = False
    for line in lines:
        if line.indent is not None:
            if line.indent <= outer:
                break
            base = line.indent if base is None else base
        taken.append(line)
        if not returns(line.code):
            continue
        if line.indent == base and not begins(line.code, COMPOUND):
            return header, arguments, taken, line.closed
        if line.closed and not begins(line.code, "def"):
            complete = True
    return header, arguments, taken, complete and taken[-1].closed


_HEADER_MARK = re.compile(r"#[^\n]*|\"[^\"\n]*\"|'[^'\n]*'|[()\[\]{},:]")
_ARGUMENT = re.compile(r"(?:\s|#[^\n]*\n)*(\**)\s*([^\W\d]\w*)?")


def _header(text: str, start: int, end: int) -> tuple[int | None, tuple[str, ...] | None]:
    """Where the header's colon stands, and the argument names (None if there are starred ones)."""
    names: list[str] = []
    depth, piece, plain = 1, start, True
    for match in _HEADER_MARK.finditer(text, start, end):
        mark = match.group()
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        if (mark == "," and depth == 1) or (mark == ")" and depth == 0 and piece >= 0):
            stars, name = _ARGUMENT.match(text, piece, match.start()).groups()  # type: ignore[union-attr]
            if name and not stars:
                names.append(name)
            plain = plain and not (stars and name)
            piece = match.end() if depth else -1
        if mark == ":" and depth == 0:
            names = names[1:] if names[:1] == ["self"] else names
            return match.start(), tuple(names) if plain else None
    return None, None


_NAME = re.compile(r"[^\W\d]\w*")


def _with_helpers(body: str, text: str, span: tuple[int, int], arguments: tuple[str, ...] | None) -> str:
    """The body with the functions and constants it uses from around it placed at its top.

    `span` is where the body's own function stands. Assignments count only above a whole function:
    around a bare body names like `x = ...` would be code that tries the equation out.
    """
    own = re.findall(r"(?m)^ *def +([^\W\d]\w*)|^ *([^\W\d]\w*) *=(?!=)", body)
    known = set(arguments or ()) | {name for pair in own for name in pair}
    used = set(_NAME.findall(unquoted(body))) - known
    around = _around(text, span, used, constants=arguments is not None)
    placed: set[str] = set()
    waiting = [name for name in around if name in used]
    while waiting:
        name = waiting.pop()
        if name not in placed:
            placed.add(name)
            waiting += [
                other for other in set(_NAME.findall(around[name])) & around.keys() if other not in known
            ]
    sources = list(dict.fromkeys(source for name, source in around.items() if name in placed))
    if not sources or sum(map(len, sources)) > MAX_BODY:
        return body
    return "\n".join(sources) + "\n" + body


_CONSTANT = re.compile(r"(?m)^([^\W\d]\w*)[ \t]*(?::[^=\n]{0,100})?=(?!=)[^\n]{1,500}$")
_IMPORT = re.compile(r"(?m)^(?:from +[\w.]+ +)?import +([^\n]{1,200})$")


def _around(text: str, span: tuple[int, int], used: set[str], constants: bool) -> dict[str, str]:
    """Name to source of definitions outside `span`: the last 64 constants and imports, a few functions."""
    around: dict[str, str] = {}
    if constants and used:
        above = text[max(0, span[0] - MAX_BODY) : span[0]]
        for match in list(_IMPORT.finditer(above))[-64:]:
            for name in _NAME.findall(match.group(1)):
                if name not in ("np", "numpy", "math", "torch") and not keyword.iskeyword(name):
                    around[name] = match.group().strip()
        for match in list(_CONSTANT.finditer(above))[-64:]:
            around[match.group(1)] = match.group()
    outside = [match for match in _DEF.finditer(text) if not span[0] <= match.start() < span[1]]
    if any(match.group(2) in used for match in outside):
        for match in outside[-MAX_FUNCTIONS:]:
            header, _, lines, _ = _definition(text, match)
            if header is not None and lines:
                around[match.group(2)] = textwrap.dedent(text[match.start() : lines[-1].end].rstrip())
    return around
