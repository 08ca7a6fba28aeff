"""The text of a body: checked and parsed without surprises, and small slips in it put right.

Only a body that is refused as written is put right, so that no body changes its meaning. What is put right
are single tokens that have one reading, found without regard to what stands in strings and comments.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llmsr.expression.reader.values import Limits, Refused, refuse_if

FILENAME = "<equation>"
OPENING, CLOSING = "([{", ")]}"

# The parser warns about odd escapes and literals; the texts are not the user's, so nobody should see it.
warnings.filterwarnings("ignore", module=re.escape(FILENAME))


def statements_of(text: str, limits: Limits) -> list[ast.stmt]:
    """The statements of a body, indented or not, with line numbers one more than those of the text.

    The first line may lack the indent that the others have. Raises `Refused` for anything else.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    check_characters(text, limits)
    check_nesting(text, limits)
    refuse_if(not lines_of_code(text), "there is nothing but blank lines and comments", "empty")
    # what is told is why the text as written is refused, and not why a mended one is
    failures = []
    for candidate in spellings(text):
        try:
            body = parsed(candidate)
        except Refused as refused:
            failures.append(refused)
            continue
        check_tree(body, limits)
        if not text.isascii():
            check_names(text)
        return body
    raise failures[0]


def lines_of_code(text: str) -> list[int]:
    lines = text.split("\n")
    return [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]


def spellings(text: str) -> Iterator[str]:
    """Readings of the text as an indented block, to be tried in turn.

    Only the first of them is usual; the others mend a first line without indent, and tabs mixed with spaces.
    """
    for spelled in [text, text.expandtabs(4), text.expandtabs(8)] if "\t" in text else [text]:
        lines, (first, *others) = spelled.split("\n"), lines_of_code(spelled)
        if lines[first][0].isspace():
            yield spelled
            continue
        indents = [lines[i][: len(lines[i]) - len(lines[i].lstrip())] for i in others]
        # the least indent is the body's, but for lines inside of long strings; then the last line's is
        for indent in dict.fromkeys([min(indents, key=len, default=""), *indents[-1:]]):
            if indent:
                yield "\n".join([*lines[:first], indent + lines[first], *lines[first + 1 :]])
        yield "\n".join("    " + line for line in lines)


def parsed(text: str) -> list[ast.stmt]:
    """ast.parse, whose failures of any kind become refusals."""
    try:
        tree = ast.parse("if 1:\n" + text + "\n", filename=FILENAME)
    except SyntaxError as error:
        line = None if error.lineno is None else max(error.lineno - 1, 1)
        raise Refused(f"not Python: {error.msg}", "syntax", line) from None
    except ValueError as error:
        raise Refused(f"not Python: {error}", "syntax") from None
    except (RecursionError, MemoryError):
        raise Refused("nested too deeply for the parser", "too_large") from None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.If) or tree.body[0].orelse:
        line = tree.body[1].lineno - 1 if len(tree.body) > 1 else None
        raise Refused("text at a smaller indent follows the body", "syntax", line)
    return tree.body[0].body


# ---- what is refused before anything is interpreted


def check_characters(text: str, limits: Limits) -> None:
    """Refuses long texts and lines, and characters that hide or reorder what people see."""
    refuse_if(len(text) > limits.text, f"more than {limits.text} characters", "too_large")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > limits.line:
            raise Refused(f"a line of more than {limits.line} characters", "too_large", number)
        if line.isascii() and line.isprintable():
            continue
        for character in line:
            category = unicodedata.category(character)
            if character not in "\t\f" and (category[0] == "C" or category in ("Zl", "Zp")):
                raise Refused(f"the character U+{ord(character):04X}, which cannot be seen", "syntax", number)


def check_nesting(text: str, limits: Limits) -> None:
    """Refuses brackets nested so deeply that some versions of Python's parser take exponential time."""
    # brackets in strings count too, which only a parser could tell apart
    depth = 0
    for number, line in enumerate(text.split("\n"), 1):
        for character in line:
            if character in OPENING:
                depth += 1
            elif character in CLOSING and depth:
                depth -= 1
            if depth > limits.nesting:
                raise Refused(f"more than {limits.nesting} open brackets", "too_large", number)


NEVER = (ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal)
"""What changes the meaning of a function even where it is never reached."""


def check_tree(body: list[ast.stmt], limits: Limits) -> None:
    """Refuses deep trees, and what Python refuses or understands differently wherever it stands."""
    stack: list[tuple[ast.AST, int, bool]] = [(statement, 1, False) for statement in body]
    while stack:
        node, depth, in_loop = stack.pop()
        if depth > limits.depth:
            raise Refused(f"nested more than {limits.depth} levels deep", "too_large", line_of(node))
        # a yield makes a generator of a function even where it is never reached, a global changes a name
        if isinstance(node, NEVER):
            raise Refused(f"{type(node).__name__.lower()} cannot be part of an equation", line=line_of(node))
        if isinstance(node, (ast.Break, ast.Continue)) and not in_loop:
            raise Refused(f"{type(node).__name__.lower()} outside of a loop", "syntax", line_of(node))
        if isinstance(node, ast.alias) and node.name == "*":
            raise Refused("import * inside a function", "syntax", line_of(node))
        names = names_given(node)
        if len(set(names)) != len(names):
            raise Refused("an argument is named twice", "syntax", line_of(node))
        loop = isinstance(node, (ast.For, ast.While))
        after = {id(child) for child in node.orelse} if isinstance(node, (ast.For, ast.While)) else ()
        for child in children(node):
            # a sum is evaluated along its left side without recursion
            flat = isinstance(node, ast.BinOp) and child is node.left and isinstance(child, ast.BinOp)
            inside = (in_loop or loop) and not isinstance(node, ast.FunctionDef)
            stack.append((child, depth + (not flat), in_loop if id(child) in after else inside))


def names_given(node: ast.AST) -> list[str]:
    """The names of a function's arguments or of a call's keywords."""
    if isinstance(node, ast.arguments):
        every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
        return [a.arg for a in every if a is not None]
    return [k.arg for k in node.keywords if k.arg is not None] if isinstance(node, ast.Call) else []


def check_names(text: str) -> None:
    """Refuses names beyond Latin and Greek letters, and those that Python would read as other names."""
    try:
        for token in tokenize.generate_tokens(io.StringIO("if 1:\n" + text + "\n").readline):
            # Python reads a name by its NFKC form, so that one that looks foreign may be another's
            if token.type == tokenize.NAME and not token.string.isascii():
                letters = [unicodedata.name(c, "") for c in token.string if not c.isascii()]
                plain = unicodedata.normalize("NFKC", token.string) == token.string
                if not plain or not all(letter.startswith(("GREEK ", "LATIN ")) for letter in letters):
                    raise Refused("a name with letters that look like others", "syntax", token.start[0] - 1)
    except (tokenize.TokenError, IndentationError):
        return


def line_of(node: ast.AST) -> int | None:
    line = getattr(node, "lineno", None)
    return None if line is None else line - 1


# ---- names

OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LEAVES = (ast.expr_context, ast.operator, ast.unaryop)


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly below, without operators and contexts."""
    if isinstance(node, (ast.Name, ast.Constant)):  # more than half of all nodes
        return []
    return [child for child in ast.iter_child_nodes(node) if not isinstance(child, LEAVES)]


def names_stored(target: ast.AST) -> frozenset[str]:
    """The names in an assignment's target."""
    return frozenset(
        n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )


def names_of_arguments(arguments: ast.arguments) -> frozenset[str]:
    return frozenset(names_given(arguments))


def names_set_in(body: list[ast.stmt], everywhere: bool = False) -> frozenset[str]:
    """The names that are local to a function with this body, its arguments apart; or those of any scope."""
    names: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif everywhere and isinstance(node, ast.arguments):
            names |= names_of_arguments(node)
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, *OWN_SCOPE))
        stack += children(node) if everywhere or not inner else []
    return frozenset(names)


# ---- bodies as their authors mean them

MAX_CLOSERS = 3
"""Missing parentheses; where more are open, too much of the text is missing to know what was meant."""

OF_PARAMS = frozenset({"param", "params", "parameter", "parameters"})
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


def repaired(body: str, arguments: Sequence[str], max_params: int) -> tuple[str, tuple[str, ...]]:
    """A refused body as it was meant, and a note on each change; no notes where nothing can be put right.

    `arguments` are the names that the body is given, the last one being that of the parameters, which are
    `max_params`. Whether the new text can be read is for `parse` to say. The time is linear in the text.
    """
    if len(body) > Limits.text:
        return body, ()
    mended = [] if _tree(body) is not None else [*_closers(body), *_returned(body)]
    text, notes = _edited(body, mended)
    tree = _tree(text)
    if tree is None:
        return body, ()
    stored, params_name = names_set_in(tree, everywhere=True), arguments[-1]
    text, of_names = _edited(text, _names(text, {*stored, *arguments}, params_name))
    text, of_powers = _edited(text, _powers(text))
    beyond = [] if params_name in stored else _indices(text, params_name, max_params)
    text, of_indices = _edited(text, beyond)
    return text, (*notes, *of_names, *of_powers, *of_indices)


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


def _tokens(text: str) -> list[Token]:
    return [Token(m.group(1), m.start(), m.end()) for m in _TOKEN.finditer(text) if m.group(1)]


def _tree(text: str) -> list[ast.stmt] | None:
    try:
        return statements_of(text, Limits())
    except Refused:
        return None


def _returned(text: str) -> list[Edit]:
    """`return = value`, which follows a prompt that ends in `return`."""
    places = re.finditer(r"(?m)^[ \t]*return[ \t]*(=)(?!=)", text)
    return [Edit(m.start(1), m.end(1), " ", "return = read as return") for m in places]


def _closers(text: str) -> list[Edit]:
    """What closes the text. An open index or list may lack more than its bracket, and is left as it is."""
    tokens, open_marks = _tokens(text), []
    for token in tokens:
        if token.text in ("(", "[", "{"):
            open_marks.append(token.text)
        elif token.text in (")", "]", "}") and (
            not open_marks or open_marks.pop() + token.text not in ("()", "[]", "{}")
        ):
            return []
    count = len(open_marks)
    if not 1 <= count <= MAX_CLOSERS or set(open_marks) != {"("}:
        return []
    note = f"{count} closing parenthes{'e' if count > 1 else 'i'}s added at the end"
    return [Edit(tokens[-1].end, tokens[-1].end, ")" * count, note)]


def _bare(name: str) -> bool:
    """Whether a function of numpy is one that is called without `np.` too."""
    known = isinstance(vars(np).get(name), np.ufunc) or name in ("where", "clip", "sinc", "fix")
    return known and not hasattr(builtins, name)


def _names(text: str, known: set[str], params_name: str) -> list[Edit]:
    """Unknown names: numpy's functions without `np.`, and other spellings of the parameters' name."""
    tokens = [Token("", 0, 0), *_tokens(text), Token("", len(text), len(text))]
    edits = []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        name = token.text
        if before.text == "." or name in known:
            continue
        if (after.text == "(" and _bare(name)) or (name == "pi" and after.text not in ("(", "=", "[")):
            edits.append(Edit(token.start, token.end, f"np.{name}", f"{name} read as np.{name}"))
        elif name.lower() in OF_PARAMS and after.text == "[":
            edits.append(Edit(token.start, token.end, params_name, f"{name} read as {params_name}"))
    return edits


def _powers(text: str) -> list[Edit]:
    """`^` between numbers as `**`; nothing where a truth is among the operands of one."""
    edits = [Edit(t.start, t.end, "**", "^ read as **") for t in _tokens(text) if t.text == "^"]
    tree = _tree(_edited(text, edits)[0]) if edits else None
    for power in (n for statement in tree or [] for n in ast.walk(statement)):
        if isinstance(power, ast.BinOp) and isinstance(power.op, ast.Pow):
            inside = [*ast.walk(power.left), *ast.walk(power.right)]
            if any(isinstance(part, TRUTHS) for part in inside):
                return []
    return [] if tree is None else edits


def _indices(text: str, params_name: str, max_params: int) -> list[Edit]:
    """Other numbers for indices beyond the parameters: constants are names, of which only so many differ.

    Nothing unless every use of the parameters is a plain index, since length and order count elsewhere.
    """
    tokens = _tokens(text)
    indices = []
    for i, token in enumerate(tokens):
        if token.text != params_name or (i and tokens[i - 1].text == "."):
            continue
        after = [t.text for t in tokens[i + 1 : i + 4]]
        if len(after) < 3 or (after[0], after[2]) != ("[", "]") or not after[1].isdecimal():
            return []
        indices.append(tokens[i + 2])
    used = sorted({int(token.text) for token in indices})
    if len(used) > max_params:
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
