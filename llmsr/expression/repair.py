"""Small slips in a refused body put right, so that it is read as its author means it.

Only a body that is refused as written is put right, so that no body changes its meaning. What is put right
are single tokens that have one reading, found without regard to what stands in strings and comments.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from llmsr.expression.reader import statements_of
from llmsr.expression.reader.values import Limits, Refused, names_set_in

MAX_BRACKETS = 3
"""Missing or surplus ones; where there are more, too much of the text is wrong to know what was meant."""

OF_PARAMS = frozenset({"param", "params", "parameter", "parameters"})
GREEK = frozenset(unicodedata.name(chr(i)).split()[-1].lower() for i in range(0x3B1, 0x3CA)) - {"pi"}
"""Names of constants; of other unknown names nobody can say whether a constant or a column is meant."""

NO_NUMBER = frozenset({"(", "[", ".", "="})
"""What follows a name that is no number."""

TRUTHS = (ast.Compare, ast.BoolOp, ast.BitAnd, ast.BitOr, ast.Not, ast.Invert)


class Token(NamedTuple):
    """A name, a number or a mark of a text, outside of strings and comments, from `start` to `end`."""

    text: str
    start: int
    end: int


class Edit(NamedTuple):
    """The characters from `start` to `end` of a text replaced, and what a reader is told of it."""

    start: int
    end: int
    text: str
    note: str


class Slip(NamedTuple):
    """What the group of a pattern stands for, in a text without its strings and comments."""

    pattern: re.Pattern[str]
    text: str
    note: str


# a module is no factor, hence this is put right in texts that are Python too
OF_CALLS = [Slip(re.compile(r"(?<![\w.])np([ \t]*\*[ \t]*|[ \t]+)(?=[^\W\d]\w*\()"), ".", "np* read as np.")]
OF_MARKS = [
    Slip(re.compile(r"(\\)(?=[ \t]*\S|\s*\Z)"), "", "a backslash left out"),
    Slip(re.compile(r"[-+*/(,=]\s*(\.)(?=[^\W\d])"), "", "a dot before a name left out"),
    Slip(re.compile(r"(?m)^[ \t]*return[ \t]*(=)(?!=)"), " ", "return = read as return"),
    Slip(re.compile(r"[-+*/]([^\S\n]*\n\s*)(?=\S)"), " ", "lines joined behind an operator"),
]
"""What is never Python, whatever stands around it."""
AT_END = Slip(re.compile(r"(?<![-+*/])([-+](?:[ \t]*\()?)\s*\Z"), "", "a sign at the end left out")
"""A sum of which the next term is missing; of a product nobody can say what the missing factor changes."""


def repaired(
    body: str, arguments: Sequence[str], max_params: int, given: Collection[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """A refused body as it was meant, and a note on each change; no notes where nothing can be put right.

    `arguments` are the names that the body is given, the last one being that of the parameters, which are
    `max_params`; `given` are further names that it may use. Whether the new text can be read is for `parse`
    to say. The time is linear in the text.
    """
    if len(body) > Limits.text:
        return body, ()
    text, notes = _without_slips(body, OF_CALLS)
    if _tree(text) is None:
        text, of_marks = _without_slips(text, OF_MARKS)
        # one or the other: of an open bracket that ends in a sign too much is missing
        text, of_end = _without_slips(text, [AT_END])
        text, of_brackets = _edited(text, [] if of_end or _tree(text) is not None else _brackets(text))
        notes = (*notes, *of_marks, *of_end, *of_brackets)
    tree = _tree(text)
    if tree is None:
        return body, ()
    stored, params_name = names_set_in(tree, everywhere=True), arguments[-1]
    known = {*stored, *arguments, *given}
    text, of_names = _edited(text, _names(text, known, arguments))
    text, of_powers = _edited(text, _powers(text))
    beyond = [] if params_name in stored else _constants(text, known, params_name, max_params)
    text, of_constants = _edited(text, beyond)
    return text, (*notes, *of_names, *of_powers, *of_constants)


def _edited(text: str, edits: Iterable[Edit]) -> tuple[str, tuple[str, ...]]:
    """The text with its edits, which do not overlap, and their notes."""
    pieces, end, notes = [], 0, []
    for edit in sorted(edits):
        pieces += [text[end : edit.start], edit.text]
        notes.append(edit.note)
        end = edit.end
    return "".join([*pieces, text[end:]]), tuple(dict.fromkeys(notes))


# a string without an end goes on to the end of its line or of the text, so that no part is looked at twice
_TOKEN = re.compile(
    r"\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*"
    r"|(\d[\w.]*|[^\W\d]\w*|\*\*|[^\s\w])",
    re.DOTALL,
)


def _tokens(text: str) -> list[Token]:
    return [Token(m.group(1), m.start(), m.end()) for m in _TOKEN.finditer(text) if m.group(1)]


def _tree(text: str) -> list[ast.stmt] | None:
    try:
        return statements_of(text, Limits())
    except Refused:
        return None


def _without_slips(text: str, slips: Sequence[Slip]) -> tuple[str, tuple[str, ...]]:
    notes: list[str] = []
    for slip in slips:
        code = _TOKEN.sub(_masked, text)
        text, told = _edited(
            text, [Edit(*m.span(1), slip.text, slip.note) for m in slip.pattern.finditer(code)]
        )
        notes += told
    return text, tuple(notes)


def _masked(match: re.Match[str]) -> str:
    """A comment as blanks and a string as quotes, as long as they are."""
    return match[1] or (" " if match[0][0] == "#" else "'") * len(match[0])


def _brackets(text: str) -> list[Edit]:
    """What closes the text, or the closing brackets that are too many.

    An open index or list may lack more than its bracket, and is left as it is. A surplus bracket is left out
    at the end, or between another and a sign: elsewhere an opening one may be missing before it.
    """
    tokens, open_marks, surplus = _tokens(text), [], []
    for i, token in enumerate(tokens):
        if token.text in ("(", "[", "{"):
            open_marks.append(token.text)
        elif token.text in (")", "]", "}") and open_marks:
            if open_marks.pop() + token.text not in ("()", "[]", "{}"):
                return []
        elif token.text in (")", "]", "}"):
            after = tokens[i + 1].text if tokens[i + 1 :] else ""
            doubled = i > 0 and tokens[i - 1].text == token.text == ")"
            if after and not (doubled and after in ("+", "-", ")")):
                return []
            surplus.append(Edit(token.start, token.end, "", f"a surplus {token.text} left out"))
    count = len(open_marks)
    if max(count, len(surplus)) > MAX_BRACKETS or (count and surplus) or set(open_marks) - {"("}:
        return []
    note = f"{count} closing parenthes{'e' if count > 1 else 'i'}s added at the end"
    return surplus or [Edit(tokens[-1].end, tokens[-1].end, ")" * count, note)] if surplus or count else []


def _bare(name: str) -> bool:
    """Whether a function of numpy is one that is called without `np.` too."""
    known = isinstance(vars(np).get(name), np.ufunc) or name in ("where", "clip", "sinc", "fix")
    return known and not hasattr(builtins, name)


def _names(text: str, known: set[str], arguments: Sequence[str]) -> list[Edit]:
    """Unknown names: numpy's functions without `np.`, and other spellings of the arguments' names."""
    tokens = [Token("", 0, 0), *_tokens(text), Token("", len(text), len(text))]
    *columns, params_name = arguments
    letters = [_letters(column) for column in columns]
    alike = {ours: column for ours, column in zip(letters, columns, strict=True) if letters.count(ours) == 1}
    edits = []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        name = token.text
        if before.text == "." or name in known or keyword.iskeyword(name):
            continue
        meant = None
        if (after.text == "(" and _bare(name)) or (name == "pi" and after.text not in ("(", "=", "[")):
            meant = f"np.{name}"
        elif name.lower() in OF_PARAMS and after.text == "[":
            meant = params_name
        elif after.text not in NO_NUMBER:
            meant = alike.get(_letters(name))
        if meant:
            edits.append(Edit(token.start, token.end, meant, f"{name} read as {meant}"))
    return edits


def _letters(name: str) -> str:
    return name.lower().replace("_", "")


def _powers(text: str) -> list[Edit]:
    """`^` between numbers as `**`; nothing where a truth is among the operands of one."""
    # in Python ^ is "either, not both" of truths, which some bodies mean
    edits = [Edit(t.start, t.end, "**", "^ read as **") for t in _tokens(text) if t.text == "^"]
    tree = _tree(_edited(text, edits)[0]) if edits else None
    for power in (n for statement in tree or [] for n in ast.walk(statement)):
        if isinstance(power, ast.BinOp) and isinstance(power.op, ast.Pow):
            inside = [*ast.walk(power.left), *ast.walk(power.right)]
            if any(isinstance(part, TRUTHS) for part in inside):
                return []
    return [] if tree is None else edits


def _constants(text: str, known: set[str], params_name: str, max_params: int) -> list[Edit]:
    """Other numbers for indices beyond the parameters, and numbers for Greek letters that nothing else means.

    Constants are names, of which only so many differ. Nothing unless every use of the parameters is a plain
    index, since length and order count elsewhere.
    """
    tokens = _tokens(text)
    uses: list[tuple[int | str, Token]] = []
    for i, token in enumerate(tokens):
        after = [t.text for t in tokens[i + 1 : i + 4]]
        if i and tokens[i - 1].text == ".":
            continue
        if token.text == params_name:
            if len(after) < 3 or (after[0], after[2]) != ("[", "]") or not after[1].isdecimal():
                return []
            uses.append((int(after[1]), tokens[i + 2]))
        elif token.text in GREEK and token.text not in known and not {*after[:1]} & NO_NUMBER:
            uses.append((token.text, token))
    # as many different constants as before, so that no two become one
    used = sorted({index for index, _ in uses if isinstance(index, int)})
    letters = list(dict.fromkeys(name for name, _ in uses if isinstance(name, str)))
    if len(used) + len(letters) > max_params:
        return []
    free = iter(sorted(set(range(max_params)) - set(used)))
    number = {index: next(free) for index in used if index >= max_params}
    pairs = ", ".join(f"{old} as {new}" for old, new in number.items())
    note = f"{params_name} beyond {max_params - 1} renumbered: {pairs}"
    named = {name: f"{params_name}[{next(free)}]" for name in letters}
    return [
        Edit(token.start, token.end, named[key], f"{key} read as {named[key]}")
        if isinstance(key, str)
        else Edit(token.start, token.end, str(number[key]), note)
        for key, token in uses
        if key in number or key in named
    ]
