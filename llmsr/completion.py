"""The function body inside whatever text a language model answered, found without executing any of it.

Models asked for a function body send raw bodies, whole functions, fenced blocks in prose, reasoning before the
answer, JSON, and text that stops in the middle or goes on with something else. `read_completion` finds the body
in all of these by looking at lines, brackets and quotes only. Its work is linear in the length of the text, so
that hostile text costs no more than any other; it does not promise that what it returns is valid Python.
"""

from __future__ import annotations

import json
import keyword
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_TEXT = 1_000_000
"""Characters of a completion beyond which it is refused unread."""

MAX_BODY = 65_536
"""Characters of one function that are looked at; equations are hundreds of times shorter."""

MAX_FUNCTIONS = 16
"""Functions per answer that are looked at, the last ones first."""

MAX_TRIED = 2 * MAX_BODY
"""Characters of an answer in all that are looked at in search of one body."""


@dataclass(frozen=True)
class Body:
    """The text of a function body without indentation, lines ended by "\\n".

    `arguments` are the names in the answer's own function header, in order and including the parameter vector, or
    None when the answer was a bare body and so speaks of the prompt's names.
    """

    text: str
    arguments: tuple[str, ...] | None = None


@dataclass(frozen=True)
class NoBody:
    """Why a completion holds no function body; `kind` is "empty" or "too_large"."""

    kind: str
    reason: str


@dataclass(frozen=True)
class _Line:
    """A logical line: physical lines joined by brackets, triple quotes or backslashes."""

    start: int
    end: int
    indent: int | None  # None: blank or only a comment
    closed: bool  # False: the text ended inside a bracket or a string
    code: str  # stripped text


def read_completion(text: str, function_name: str = "equation") -> Body | NoBody:
    """The function body that `text` gives for `function_name`, or why there is none.

    In this order: a bare body that the text begins with, up to its `return`; the last complete function of that name
    (`equation`, `equation_v2`, ...), with the helper functions it calls placed inside; a bare body in a
    fenced block or below prose; what there is of an answer that was cut off.
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

    leading = None if open_reasoning else _leading_body(outside[0], function_name)
    if leading is not None and leading.complete:
        return leading.body
    functions = [
        found for part in (*reversed(fenced), *reversed(outside)) for found in _functions(part, function_name)
    ]
    functions.sort(key=lambda found: -found.rank)  # stable: the last of a rank stays first
    for found in functions:
        if found.complete:
            return found.body
    for part in (*reversed(fenced), *(() if open_reasoning else outside)):
        below = _body_below_prose(part, function_name)
        if below is not None and below.complete:
            return below.body
    if functions:
        return functions[0].body
    if leading is not None:
        return leading.body
    for part in reversed(fenced):
        below = _leading_body(part, function_name)
        if below is not None:
            return below.body
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


# ---- lines


_MARK = re.compile(r"[()\[\]{}\n#'\"\\]")


def _logical_lines(text: str, start: int) -> Iterator[_Line]:
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
    """Where the string that opens at `start` ends, None when it never does; a broken one ends with its line."""
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


def _line(text: str, start: int, end: int, closed: bool) -> _Line:
    raw = text[start:end]
    code = raw.strip()
    blank = not code or (code.startswith("#") and "\n" not in code)
    indent = None if blank else len(raw) - len(raw.lstrip(" "))
    return _Line(start, end, indent, closed, code)


# ---- what looks like a statement


_STATEMENT = re.compile(
    r"return\b|def\s+\w|for\s+\w|while\b|if\b|with\b|try\s*:|import\s+\w|from\s+[\w.]+\s+import\b|@\w|[rR]?(?:\"\"\"|''')"
    r"|(?:assert|del|global|nonlocal|pass|raise)\b"
)
_ASSIGNMENT = re.compile(r"[^\W\d][^=\n]{0,300}=(?!=)|[(\[*][^=\n]{0,300}=(?!=)")
_ADJACENT = re.compile(r"\b([^\W\d]\w*)[ \t]+(?=([^\W\d]\w*))")
_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|#.*")
_SUITES = ("for", "while", "if", "with")


def _is_statement(code: str) -> bool:
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


def _begins(code: str, word: str) -> bool:
    return re.match(rf"{word}\b", code) is not None


def _names_ours(name: str, function_name: str) -> int:
    """3 for the function or a version of it, 2 for a name that holds its name, 1 for any other."""
    if re.fullmatch(rf"{re.escape(function_name)}(?:_v\d+)?", name):
        return 3
    return 2 if function_name in name else 1


# ---- bodies


@dataclass(frozen=True)
class _Found:
    body: Body
    complete: bool  # a return stands in it, and nothing was cut off before that return
    rank: int = 0


_DEF = re.compile(r"(?m)^( *)(?:async +)?def +([^\W\d]\w*)[ \t]*\(")


def _leading_body(text: str, function_name: str) -> _Found | None:
    """The bare body that the text begins with, None if it begins with anything else."""
    for line in _logical_lines(text, 0):
        if line.indent is None:
            continue
        definition = re.match(r"(?:async\s+)?def\s+(\w+)", line.code)
        ours = definition is not None and _names_ours(definition.group(1), function_name) == 3
        if ours or not _is_statement(line.code):
            return None
        return _bare_body(text, line.start, function_name)
    return None


def _body_below_prose(text: str, function_name: str) -> _Found | None:
    """The first complete bare body below prose; as much is tried as MAX_TRIED allows."""
    start = tried = 0
    while start < len(text) and tried < MAX_TRIED:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        code = text[start : min(end, start + 2000)].strip()
        if code and _is_statement(code):
            tried += min(len(text) - start, MAX_BODY)
            found = _bare_body(text, start, function_name)
            if found.complete:
                return found
        start = end + 1
    return None


def _bare_body(text: str, start: int, function_name: str) -> _Found:
    lines = list(_logical_lines(text, start))
    base = _base_indent(lines)
    taken: list[_Line] = []
    complete = False
    statements = 0
    for line in lines:
        if line.indent is not None:
            definition = re.match(r"(?:async\s+)?def\s+(\w+)", line.code)
            ours = definition is not None and _names_ours(definition.group(1), function_name) == 3
            foreign = line.indent == 0 and (ours or _begins(line.code, "class"))
            if statements and (line.indent < base or foreign):
                break
            statements += 1
        taken.append(line)
        if _begins(line.code, "return") and (statements == 1 or line.indent == base):
            complete = line.closed
            break
    nested = any(re.search(r"\breturn\b", item.code) for item in taken if item.indent is not None)
    opens_function = any(_begins(item.code, "def") for item in taken)
    complete = complete or (nested and not opens_function and taken[-1].closed)
    body = _dedented(text, taken, base)
    end = taken[-1].end if taken else start
    return _Found(Body(_with_helpers(body, text, (start, end), None)), complete)


def _base_indent(lines: Sequence[_Line]) -> int:
    """The indentation of a bare body's statements, whose first line may have lost its own or part of it."""
    indents = [(line.indent, line.code) for line in lines if line.indent is not None]
    if not indents:
        return 0
    first, code = indents[0]
    rest = [indent for indent, _ in indents[1:]]
    if not rest or first == rest[0] or _begins(code, "return"):
        return first
    if code.endswith(":"):
        inside = rest[: next((i for i, indent in enumerate(rest) if indent <= first), len(rest))]
        below = [indent for indent in inside if indent < rest[0]]
        return min(below) if below else first
    if rest[0] == 0 and not _is_statement(indents[1][1]):
        return first
    return rest[0]


def _dedented(text: str, lines: Sequence[_Line], base: int) -> str:
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


def _functions(text: str, function_name: str) -> list[_Found]:
    """The functions of a text that may be meant, the last one first."""
    matches = list(_DEF.finditer(text))
    best = max((_names_ours(match.group(2), function_name) for match in matches), default=0)
    chosen = [match for match in matches if _names_ours(match.group(2), function_name) == best]
    functions: list[_Found] = []
    tried = 0
    for match in reversed(chosen[-MAX_FUNCTIONS:]):
        if tried >= MAX_TRIED:
            break
        tried += min(len(text) - match.start(), MAX_BODY)
        found = _function(text, match, best)
        if found is not None:
            functions.append(found)
    return functions


def _function(text: str, match: re.Match[str], rank: int) -> _Found | None:
    header, arguments, lines, complete = _definition(text, match)
    if header is None:
        return None
    base = next((line.indent for line in lines if line.indent is not None), 0)
    body = _dedented(text, lines, base) if lines else ""
    if not body.strip():
        return None
    end = lines[-1].end
    return _Found(Body(_with_helpers(body, text, (match.start(), end), arguments), arguments), complete, rank)


def _definition(
    text: str, match: re.Match[str]
) -> tuple[_Line | None, tuple[str, ...] | None, list[_Line], bool]:
    """A function's header line, argument names, body lines up to its own return, and whether a return is complete."""
    outer = len(match.group(1))
    lines = _logical_lines(text, match.start())
    header = next(lines, None)
    if header is None or not header.closed:
        return None, None, [], False
    colon, arguments = _header(text, match.end(), header.end)
    if colon is None:
        return None, None, [], False
    rest = text[colon + 1 : header.end].strip()
    if rest and not rest.startswith("#"):
        line = _Line(header.end - len(text[colon + 1 : header.end].lstrip()), header.end, 0, True, rest)
        return header, arguments, [line], _begins(rest, "return")
    taken: list[_Line] = []
    base: int | None = None
    complete = False
    for line in lines:
        if line.indent is not None:
            if line.indent <= outer:
                break
            base = line.indent if base is None else base
        taken.append(line)
        if line.indent == base and base is not None and _begins(line.code, "return"):
            return header, arguments, taken, line.closed
        if _begins(line.code, "return") and line.closed:
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


_LONG_QUOTED = re.compile(r"\"\"\".*?\"\"\"|'''.*?'''", re.DOTALL)
_NAME = re.compile(r"[^\W\d]\w*")


def _with_helpers(body: str, text: str, span: tuple[int, int], arguments: tuple[str, ...] | None) -> str:
    """The body with the functions and constants it uses from around it placed at its top.

    `span` is where the body's own function stands. Assignments count only above a whole function: around a bare body
    names like `x = ...` would be code that tries the equation out.
    """
    own = re.findall(r"(?m)^ *def +([^\W\d]\w*)|^ *([^\W\d]\w*) *=(?!=)", body)
    known = set(arguments or ()) | {name for pair in own for name in pair}
    used = set(_NAME.findall(_QUOTED.sub("", _LONG_QUOTED.sub("", body)))) - known
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
    """Name to source of the definitions outside `span`, the last 64 constants, imports and MAX_FUNCTIONS functions."""
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
