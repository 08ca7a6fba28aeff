"""Bodies as their authors mean them: small slips that have one reading, put right in the text.

Only a body that is refused as written comes here, so that no body changes its meaning. What is put right are
single tokens, found without regard to what stands in strings and comments.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmsr.expression.reader.cellwise import CELLWISE
from llmsr.expression.reader.functions import BUILTINS
from llmsr.expression.reader.syntax import names_of_arguments, statements_of
from llmsr.expression.reader.values import Limits, Refused

MAX_CLOSERS = 3
"""Missing parentheses; where more are open, too much of the text is missing to know what was meant."""

BARE = frozenset({*CELLWISE, "where", "clip"}) - BUILTINS.keys()
"""Functions of numpy that are called without `np.` too."""

OF_PARAMS = frozenset({"param", "params", "parameter", "parameters"})
TRUTHS = (ast.Compare, ast.BoolOp, ast.BitAnd, ast.BitOr, ast.Not, ast.Invert)


@dataclass(frozen=True)
class Token:
    """A name, a number or a mark of a text, outside of strings and comments, from `start` to `end`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Edit:
    """The characters from `start` to `end` of a text replaced, and what a reader is told of it."""

    start: int
    end: int
    text: str
    note: str


def repaired(body: str, arguments: Sequence[str], max_params: int) -> tuple[str, tuple[str, ...]]:
    """A refused body as it was meant, and a note on each change; no notes where nothing can be put right.

    `arguments` are the names that the body is given, the last one being that of the parameters, which are
    `max_params`. Whether the new text can be read is for `parse` to say. The time is linear in the text.
    """
    if len(body) > Limits.text:
        return body, ()
    text, notes = _with_syntax(body)
    tree = _tree(text)
    if tree is None:
        return body, ()
    stored, params_name = _names_set(tree), arguments[-1]
    edits: list[Callable[[str], list[Edit]]] = [
        lambda text: _names(text, stored | set(arguments), params_name),
        _powers,
        lambda text: _indices(text, params_name, max_params) if params_name not in stored else [],
    ]
    for find in edits:
        text, new = _edited(text, find(text))
        notes += new
    return text, notes


def _edited(text: str, edits: Sequence[Edit]) -> tuple[str, tuple[str, ...]]:
    for edit in sorted(edits, key=lambda e: -e.start):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text, tuple(dict.fromkeys(edit.note for edit in edits))


# a string without an end goes on to the end of its line or of the text, so that no part is looked at twice
_TOKEN = re.compile(
    r"\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*"
    r"|(\d[\w.]*|[^\W\d]\w*|\*\*|[^\s\w])",
    re.DOTALL,
)


def _tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        if match.group(1):
            yield Token(match.group(1), match.start(), match.end())


def _tree(text: str) -> list[ast.stmt] | None:
    try:
        return statements_of(text, Limits())
    except Refused:
        return None


# ---- what keeps a text from being Python


def _with_syntax(body: str) -> tuple[str, tuple[str, ...]]:
    """The text with the parentheses closed that its end leaves open, or as it is."""
    if _tree(body) is not None:
        return body, ()
    edits = _closers(list(_tokens(body)))
    return _edited(body, [*edits, *_returned(body)])


def _returned(text: str) -> list[Edit]:
    """`return = value`, which follows a prompt that ends in `return`."""
    places = re.finditer(r"(?m)^[ \t]*return[ \t]*(=)(?!=)", text)
    return [Edit(m.start(1), m.end(1), " ", "return = read as return") for m in places]


def _closers(tokens: Sequence[Token]) -> list[Edit]:
    """What closes the text. An open index or list may lack more than its bracket, and is left as it is."""
    open_marks: list[str] = []
    for token in tokens:
        if token.text in ("(", "[", "{"):
            open_marks.append(token.text)
        elif token.text in (")", "]", "}") and (
            not open_marks or open_marks.pop() + token.text not in ("()", "[]", "{}")
        ):
            return []
    if not 1 <= len(open_marks) <= MAX_CLOSERS or set(open_marks) != {"("}:
        return []
    end = tokens[-1].end
    count = len(open_marks)
    return [
        Edit(end, end, ")" * count, f"{count} closing parenthes{'e' if count > 1 else 'i'}s added at the end")
    ]


# ---- names


def _names_set(body: list[ast.stmt]) -> set[str]:
    """Every name that the body gives a meaning, in whatever scope."""
    names: set[str] = set()
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.arguments):
                names |= names_of_arguments(node)
            elif isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name)
    return names


def _names(text: str, known: set[str], params_name: str) -> list[Edit]:
    """Unknown names: numpy's functions without `np.`, and other spellings of the parameters' name."""
    tokens = [Token("", 0, 0), *_tokens(text), Token("", len(text), len(text))]
    edits = []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        name = token.text
        if before.text == "." or name in known:
            continue
        if (name in BARE and after.text == "(") or (name == "pi" and after.text not in ("(", "=", "[")):
            edits.append(Edit(token.start, token.end, f"np.{name}", f"{name} read as np.{name}"))
        elif name.lower() in OF_PARAMS and after.text == "[":
            edits.append(Edit(token.start, token.end, params_name, f"{name} read as {params_name}"))
    return edits


# ---- powers


def _powers(text: str) -> list[Edit]:
    """`^` between numbers as `**`; nothing where a truth is among the operands of one."""
    edits = [Edit(t.start, t.end, "**", "^ read as **") for t in _tokens(text) if t.text == "^"]
    tree = _tree(_edited(text, edits)[0]) if edits else None
    if tree is None:
        return []
    for statement in tree:
        for node in ast.walk(statement):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
                inside = [*ast.walk(node.left), *ast.walk(node.right)]
                if any(isinstance(part, TRUTHS) for part in inside):
                    return []
    return edits


# ---- indices


def _indices(text: str, params_name: str, max_params: int) -> list[Edit]:
    """Other numbers for indices beyond the parameters: constants are names, of which only so many differ.

    Nothing unless every use of the parameters is a plain index, since length and order count elsewhere.
    """
    tokens = list(_tokens(text))
    places = [i for i, token in enumerate(tokens) if token.text == params_name and not _is_member(tokens, i)]
    indices = [tokens[i + 2] for i in places if _is_plain_index(tokens, i)]
    used = sorted({int(token.text) for token in indices})
    if len(indices) != len(places) or len(used) > max_params:
        return []
    free = iter(sorted(set(range(max_params)) - set(used)))
    number = {index: next(free) for index in used if index >= max_params}
    pairs = ", ".join(f"{old} as {new}" for old, new in number.items())
    note = f"{params_name} beyond {max_params - 1} renumbered: {pairs}"
    return [
        Edit(token.start, token.end, str(number[int(token.text)]), note)
        for token in indices
        if int(token.text) in number
    ]


def _is_member(tokens: Sequence[Token], i: int) -> bool:
    return i > 0 and tokens[i - 1].text == "."


def _is_plain_index(tokens: Sequence[Token], i: int) -> bool:
    following = [token.text for token in tokens[i + 1 : i + 4]]
    return len(following) == 3 and (following[0], following[2]) == ("[", "]") and following[1].isdecimal()
