"""The function body inside whatever text a language model answered, found without executing any of it.

Models asked for a function body send raw bodies, whole functions, fenced blocks in prose, reasoning
before the answer, JSON, and text that stops in the middle or goes on with something else.
`read_completion` finds the body in all of these. It looks at lines, brackets and quotes only, so that broken
code and hostile text take no longer than any other; it does not promise that what it returns is valid Python.
"""

from __future__ import annotations

import ast
import keyword
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile

from llmsr.answer_text import after_reasoning, from_json, inside_turn, new_sides, newlines, segments

MAX_TEXT = 1_000_000  # characters of a completion beyond which it is refused unread
MAX_BODY = 65_536  # characters of one function that are looked at; equations are hundreds of times shorter
MAX_TRIED = 2 * MAX_BODY  # characters of an answer in all that are looked at in search of one body
MAX_FUNCTIONS = 16  # functions per answer that are looked at, the last ones first


@dataclass(frozen=True)
class Body:
    """The text of a function body without indentation, lines ended by "\\n".

    `arguments` are the names in the answer's own function header, in order and including the parameter
    vector, or None when the answer was a bare body and so speaks of the prompt's names.
    """

    text: str
    arguments: tuple[str, ...] | None = None


@dataclass(frozen=True)
class NoBody:
    """Why a completion holds no function body; `kind` is "empty", "too_large" or "unsupported"."""

    kind: str
    reason: str


_Found = tuple[Body, bool]  # and whether it is whole: it has a return, and nothing is cut off before that


def read_completion(text: str, function_name: str = "equation") -> Body | NoBody:
    """The function body that `text` gives for `function_name`, or why there is none.

    In this order: a bare body that the text begins with, up to its `return`; the last complete function
    of that name (`equation`, `equation_v2`, ...), with the helper functions it calls placed inside; a
    bare body in a fenced block or below prose; a lambda of that name, or of none; what there is of an answer
    that was cut off; a return in backticks within a sentence. Of a diff only the new side is read, which must
    be a whole body: what it changes is not known here. A line that looks like code and does not parse is
    left in its place above the others, so that the body is refused for it and means nothing else.
    """
    if len(text) > MAX_TEXT:
        return NoBody("too_large", f"the answer has {len(text)} characters, more than {MAX_TEXT}")
    text = newlines(text)
    if not text.strip():
        return NoBody("empty", "the answer is empty")
    text, open_reasoning = after_reasoning(text)
    text = inside_turn(text)
    if not text.strip():
        return NoBody("empty", "the answer holds reasoning only")
    outside, fenced = segments(newlines(from_json(text) or text))
    (outside, changes), (fenced, changes_fenced) = new_sides(outside), new_sides(fenced)
    leading = [] if open_reasoning else _leading_body(outside[0], function_name)
    done = any(complete for _, complete in leading)
    functions = [] if done else list(_functions((*outside, *fenced), function_name))
    prose = (*reversed(fenced), *(() if open_reasoning else outside))
    below = (found for part in prose for found in _bodies_below_prose(part, function_name))
    begun = (found for part in reversed(fenced) for found in _leading_body(part, function_name))
    whole = (found for found in chain(leading, functions, below) if found[1])
    for body, _ in whole:
        if changes + changes_fenced < 2 or body.arguments is not None:
            return body
    if changes + changes_fenced:
        return NoBody("unsupported", "the answer is a diff whose new side is no whole body")
    lambdas = (found for found in _lambdas((*outside, *fenced), function_name) if found[1])
    for body, _ in chain(lambdas, functions, leading, begun):
        return body
    if inline := re.findall(r"`(return [^`\n]{1,4000})`", text):
        return Body(inline[-1] + "\n")
    why = "ends inside its reasoning" if open_reasoning else "holds no statement that ends in a return"
    return NoBody("empty", f"the answer {why}")


@dataclass(frozen=True)
class _Line:
    """A logical line: physical lines joined by brackets, triple quotes or backslashes."""

    start: int
    end: int
    indent: int | None  # None: blank or only a comment
    closed: bool  # False: the text ended inside a bracket or a string
    code: str  # stripped text

    @classmethod
    def of(cls, text: str, start: int, end: int, closed: bool) -> _Line:
        raw, code = text[start:end], text[start:end].strip()
        blank = not code or (code.startswith("#") and "\n" not in code)
        return cls(start, end, None if blank else len(raw) - len(raw.lstrip(" ")), closed, code)


# every alternative takes all that it may and none fails behind its first sign, so that nothing is read twice
_TOKEN = re.compile(
    r"\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)|'''(?:\\.|[^\\])*?(?:'''|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*|\\(?:.|\Z)|[()\[\]{}\n]",
    re.DOTALL,
)


def _logical_lines(text: str, start: int) -> Iterator[_Line]:
    """The logical lines of `text` from the line start `start`, over at most MAX_BODY characters."""
    stop = min(len(text), start + MAX_BODY)
    depth, closed = 0, True
    for match in _TOKEN.finditer(text, start, stop):
        mark = match[0]
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth = max(0, depth - 1)
        elif mark == "\n" and depth == 0:
            yield _Line.of(text, start, match.start(), True)
            start = match.end()
        elif match.end() == stop and mark[:3] in ('"""', "'''"):
            closed = len(mark) >= 6 and mark.endswith(mark[:3])
        elif match.end() == stop:
            closed = mark[0] != "\\"
    if start < stop:
        yield _Line.of(text, start, stop, closed and depth == 0)


_STATEMENT = re.compile(
    r"return\b|def\s+\w|for\s+\w|while\b|if\b|with\b|try\s*:|import\s+\w|from\s+[\w.]+\s+import\b|@\w"
    r"|(?:assert|del|global|nonlocal|pass|raise)\b|[rR](?:\"{3}|'{3})|[A-Za-z_][\w.]*\("
)
_ASSIGNMENT = re.compile(r"[^\W\d][^=\n]{0,300}=(?!=)|[(\[*][^=\n]{0,300}=(?!=)")
_ADJACENT = re.compile(r"\b([^\W\d]\w*)[ \t]+(?=([^\W\d]\w*))")
_COMPOUND = re.compile(r"(?:if|elif|else|for|while|with|try|except|finally|match|case|async|def|class)\b")


def _is_statement(code: str) -> bool:
    """Whether a line may begin a Python statement; two names side by side, as in prose, never do."""
    first = code.partition("\n")[0][:2000]
    if first.startswith(('"""', "'''")):
        return True
    match = _STATEMENT.match(first) or _ASSIGNMENT.match(first)
    open_suite = re.match(r"(?:for|while|if|with)\b", first) and ":" not in code
    if match is None or open_suite or match[0][-2] in "<>!":
        return False
    pairs = _ADJACENT.findall(_unquoted(first))
    return all(keyword.iskeyword(a) or keyword.iskeyword(b) for a, b in pairs)


def _unquoted(code: str) -> str:
    """The code without its strings and comments."""
    return _TOKEN.sub(lambda match: "" if match[0][0] in "\"'#" else match[0], code)


def _returns(code: str) -> bool:
    """Whether a return stands in a logical line, be it behind a semicolon or a colon."""
    return "return" in code and re.search(r"(?:^|[:;])\s*return\b", _unquoted(code)) is not None


def _leading_body(text: str, function_name: str) -> list[_Found]:
    """The bare body that the text begins with, none if it begins with anything else."""
    first = next((line for line in _logical_lines(text, 0) if line.indent is not None), None)
    if first is None or _defines(first.code, function_name) or not _is_statement(first.code):
        return []
    return [_bare_body(text, first.start, function_name)]


_SLIP = re.compile(
    r"(?:[^\W\d]\w*[ \t]+){0,2}[^\W\d]\w*[ \t]*(?::|[-+*/]|\*\*|//)?=(?!=)|(?:if|for|while|def)\b.*[(<>=]"
)


def _bodies_below_prose(text: str, function_name: str) -> Iterator[_Found]:
    """The bare bodies below prose, whole or not; as much is tried as MAX_TRIED allows."""
    tried, begins = 0, None
    for match in re.finditer(r"(?m)^(.{0,2000}).*$", text):
        code = match[1].strip()
        if tried < MAX_TRIED and _is_statement(code):
            start = match.start() if begins is None else begins
            tried += min(len(text) - start, MAX_BODY)
            yield _bare_body(text, start, function_name)
        # a line of code that is no Python belongs to the lines that follow it at once
        indented = match[1].startswith("  ") and code[:1] not in ("-", "*", "#")
        prose = not code or code.endswith((".", ":", ",")) or not (indented or _SLIP.match(code))
        slip = not prose and not _is_statement(code)
        begins = (match.start() if begins is None else begins) if slip else None


def _rank(name: str, function_name: str) -> int:
    """3 for the function or a version of it, 2 for a name that holds its name, 1 for any other."""
    if re.fullmatch(rf"{re.escape(function_name)}(?:_v\d+)?", name):
        return 3
    return 2 if function_name in name else 1


def _defines(code: str, function_name: str) -> bool:
    definition = re.match(r"(?:async\s+)?def\s+(\w+)", code)
    return bool(definition and _rank(definition[1], function_name) == 3)


def _bare_body(text: str, start: int, function_name: str) -> _Found:
    def ours(line: _Line) -> bool:
        return line.indent != 0 or not (_defines(line.code, function_name) or re.match(r"class\b", line.code))

    lines = list(takewhile(ours, _logical_lines(text, start)))
    base = _base_indent([line for line in lines if line.indent is not None])
    taken, complete = _up_to_return(lines, base, base)
    if any(re.match(r"def\b", line.code) for line in taken):
        # that a helper returns says nothing about the body
        complete = complete and taken[-1].indent == base and _returns(taken[-1].code)
    end = taken[-1].end if taken else start
    return Body(_with_helpers(_dedented(text, taken, base), text, (start, end), None)), complete


def _up_to_return(lines: Iterable[_Line], base: int, least: int) -> tuple[list[_Line], bool]:
    """The lines of a body up to its own return, and whether that is whole: it returns, and is not cut off.

    Statements stand at `base`; behind the first one, what stands left of `least` is none of the body.
    """
    taken: list[_Line] = []
    returns = False
    for line in lines:
        if line.indent is not None and line.indent < least and any(one.code for one in taken):
            break
        taken.append(line)
        if _returns(line.code):
            goes_on = _unquoted(line.code).rstrip().endswith(("+", "-", "*", "/"))
            if line.indent == base and not _COMPOUND.match(line.code) and not goes_on:
                return taken, line.closed
            # one in every branch will do; that of a helper on the same line will not
            returns = returns or (line.closed and not re.match(r"def\b", line.code))
    return taken, returns and taken[-1].closed


def _base_indent(statements: Sequence[_Line]) -> int:
    """The indentation of a bare body's statements, whose first line may have lost its own or part of it."""
    first, *rest = [line.indent or 0 for line in statements] or [0]
    code = statements[0].code if statements else ""
    if not rest or first == rest[0] or re.match(r"return\b", code) or not _is_statement(code):
        return first
    if code.endswith(":"):
        inside = rest[: next((i for i, indent in enumerate(rest) if indent <= first), len(rest))]
        return min((indent for indent in inside if indent < rest[0]), default=first)
    return first if rest[0] == 0 and not _is_statement(statements[1].code) else rest[0]


def _dedented(text: str, lines: Sequence[_Line], base: int) -> str:
    """The lines without `base` spaces of indentation; the first one loses all of its own."""
    if not lines:
        return ""
    start = lines[0].start
    first = next((line.start for line in lines if line.indent is not None), start)
    code = text[start:first] + text[first : lines[-1].end].lstrip(" ")
    rows = re.sub(rf"(?m)^ {{0,{base}}}", "", code).split("\n")
    return "\n".join(row.rstrip() for row in rows).strip("\n") + "\n"


_DEF = re.compile(r"(?m)^( *)(?:async +)?def +([^\W\d]\w*)[ \t]*\(")
_NAME = re.compile(r"[^\W\d]\w*")


def _functions(parts: Sequence[str], function_name: str) -> Iterator[_Found]:
    """The functions of an answer's parts that may be meant, the last one of the best name first."""
    found = [(_rank(match[2], function_name), part, match) for part in parts for match in _DEF.finditer(part)]
    best = max((rank for rank, _, _ in found), default=0)
    tried = 0
    for rank, part, match in reversed(found):
        if rank < best or tried >= MAX_TRIED:
            continue
        tried += min(len(part) - match.start(), MAX_BODY)
        arguments, lines, complete = _definition(part, match)
        body = _dedented(part, lines, next((line.indent for line in lines if line.indent is not None), 0))
        if body.strip():
            body = _with_helpers(body, part, (match.start(), lines[-1].end), arguments)
            yield Body(body, arguments), complete


_LAMBDA = re.compile(
    r"(?m)^[ \t]*(?:([^\W\d]\w*)[ \t]*(?::[^=\n]{0,100})?=[ \t]*)?(\(?)[ \t]*lambda\b([^:\n]{0,1000}):[ \t]*"
)


def _lambdas(parts: Sequence[str], function_name: str) -> Iterator[_Found]:
    """The lambda that an answer gives instead of a function, read as that function; the last one first."""
    found = [(part, match) for part in parts for match in list(_LAMBDA.finditer(part))[-MAX_FUNCTIONS:]]
    for part, match in reversed(found):
        if _rank(match[1] or function_name, function_name) == 3:
            text = (
                f"def {function_name}({match[3].strip()}): return {match[2]}{part[match.end() :][:MAX_BODY]}"
            )
            yield from _functions([text], function_name)


def _definition(text: str, match: re.Match[str]) -> tuple[tuple[str, ...] | None, list[_Line], bool]:
    """A function's argument names, body lines up to its own return, and whether that is complete."""
    lines = _logical_lines(text, match.start())
    header = next(lines)
    depth, bracket, marks = 1, match.end(), _TOKEN.finditer(text, match.end(), header.end)
    while depth and (mark := next(marks, None)):
        depth += (mark[0] in "([{") - (mark[0] in ")]}")
        bracket = mark.end()
    colon = text.find(":", bracket, header.end)
    if not header.closed or depth or colon < 0:
        return None, [], False
    arguments = _arguments(text[match.end() - 1 : bracket])
    behind = text[colon + 1 : header.end].lstrip()
    if behind and not behind.startswith("#"):
        line = _Line.of(text, header.end - len(behind), header.end, True)
        return arguments, [line], _returns(line.code)
    inside = list(lines)
    base, least = next((line.indent for line in inside if line.indent is not None), 0), len(match[1]) + 1
    return arguments, *(_up_to_return(inside, base, least) if base >= least else ([], False))


def _arguments(brackets: str) -> tuple[str, ...] | None:
    """The names in a function's brackets, without self; None if some are starred, or it is no Python."""
    try:
        arguments = ast.parse(f"def f{brackets}: pass").body[0].args  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if arguments.vararg or arguments.kwarg:
        return None
    names = [found.arg for found in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return tuple(names[names[:1] == ["self"] :])


_DEFINED = re.compile(
    r"(?m)^(?:(?:from +[\w.]+ +)?import +([^\n]{1,200})"
    r"|([^\W\d]\w*)[ \t]*(?::[^=\n]{0,100})?=(?!=)[^\n]{1,500})$"
)
_MAX_AROUND = 128  # imports and constants above a function that are looked at
_AT_HAND = ("np", "numpy", "math", "torch", "as")  # need no import


def _with_helpers(body: str, text: str, span: tuple[int, int], arguments: tuple[str, ...] | None) -> str:
    """The body with the functions and constants it uses from around it placed at its top.

    `span` is where the body's own function stands. Assignments count only above a whole function:
    around a bare body names like `x = ...` would be code that tries the equation out.
    """
    own = re.findall(r"(?m)^ *def +([^\W\d]\w*)|^ *([^\W\d]\w*) *=(?!=)", body)
    known = {*_AT_HAND, *(arguments or ()), *(name for pair in own for name in pair)}
    used = set(_NAME.findall(_unquoted(body))) - known
    around = _around(text, span, used, constants=arguments is not None)
    waiting, placed = list(used & around.keys()), set()
    while waiting:
        name = waiting.pop()
        placed.add(name)
        # what a helper uses comes along
        waiting += (set(_NAME.findall(around[name])) & around.keys()) - known - placed - set(waiting)
    sources = list(dict.fromkeys(source for name, source in around.items() if name in placed))
    if not sources or sum(map(len, sources)) > MAX_BODY:
        return body
    return "\n".join(sources) + "\n" + body


def _around(text: str, span: tuple[int, int], used: set[str], constants: bool) -> dict[str, str]:
    """Name to source of definitions outside `span`: the last constants and imports, a few functions."""
    around: dict[str, str] = {}
    if constants and used:
        above = text[max(0, span[0] - MAX_BODY) : span[0]]
        for match in list(_DEFINED.finditer(above))[-_MAX_AROUND:]:
            names = [match[2]] if match[2] else _NAME.findall(match[1])
            around |= dict.fromkeys(names, match[0].strip())
    outside = [match for match in _DEF.finditer(text) if not span[0] <= match.start() < span[1]]
    if any(match[2] in used for match in outside):
        for match in outside[-MAX_FUNCTIONS:]:
            _, lines, _ = _definition(text, match)
            if lines:
                around[match[2]] = textwrap.dedent(text[match.start() : lines[-1].end].rstrip())
    return around
