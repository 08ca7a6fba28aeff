"""The text of a body: checked for length, nesting and characters, and parsed to syntax without surprises."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
import warnings

from llmsr.expression.reader.values import Limits, Refused

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
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n")):
        raise Refused("there is nothing but blank lines and comments", "empty")
    failure: Refused | None = None
    for candidate in spellings(text):
        try:
            body = parsed(candidate)
        except Refused as refused:
            failure = failure or refused
            continue
        check_tree(body, text, limits)
        return body
    assert failure is not None
    raise failure


def spellings(text: str) -> list[str]:
    """Readings of the text as an indented block, to be tried in turn.

    Only the first of them is usual; the others mend a first line without indent, and tabs mixed with spaces.
    """
    readings = []
    for spelled in [text, text.expandtabs(4), text.expandtabs(8)] if "\t" in text else [text]:
        lines = spelled.split("\n")
        code = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
        if lines[code[0]][0].isspace():
            readings.append(spelled)
            continue
        rest = [lines[i][: len(lines[i]) - len(lines[i].lstrip())] for i in code[1:]]
        # the least indent is the body's, but for lines inside of long strings; then the last line's is
        for indent in dict.fromkeys([min(rest, key=len, default=""), *rest[-1:]]):
            if indent:
                readings.append(
                    "\n".join([*lines[: code[0]], indent + lines[code[0]], *lines[code[0] + 1 :]])
                )
        readings.append("\n".join("    " + line for line in lines))
    return readings


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


def check_characters(text: str, limits: Limits) -> None:
    """Refuses long texts and lines, and characters that hide or reorder what people see."""
    if len(text) > limits.text:
        raise Refused(f"more than {limits.text} characters", "too_large")
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
    if sum(map(text.count, OPENING)) <= limits.nesting:
        return
    depth = 0
    for number, line in enumerate(text.split("\n"), 1):
        for character in line:
            if character in OPENING:
                depth += 1
                if depth > limits.nesting:
                    raise Refused(f"more than {limits.nesting} open brackets", "too_large", number)
            elif character in CLOSING and depth:
                depth -= 1


def check_tree(body: list[ast.stmt], text: str, limits: Limits) -> None:
    """Refuses deep trees and names in letters that look like others."""
    stack: list[tuple[ast.AST, int]] = [(statement, 1) for statement in body]
    while stack:
        node, depth = stack.pop()
        if depth > limits.depth:
            raise Refused(f"nested more than {limits.depth} levels deep", "too_large", line_of(node))
        if isinstance(node, SCOPED):
            check_scope(node)
        if isinstance(node, ast.BinOp):  # evaluated along its left side without recursion
            stack.append((node.left, depth + (not isinstance(node.left, ast.BinOp))))
            stack.append((node.right, depth + 1))
        else:
            stack += [(child, depth + 1) for child in children(node)]
    check_loops(body)
    if not text.isascii():
        check_names(text)


SCOPED = (
    *(ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal),
    *(ast.alias, ast.arguments, ast.Call),
)


def check_scope(node: ast.AST) -> None:
    """Refuses what changes the meaning of a function even where it is never reached."""
    if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal)):
        raise Refused(f"{type(node).__name__.lower()} cannot be part of an equation", line=line_of(node))
    if isinstance(node, ast.alias) and node.name == "*":
        raise Refused("import * inside a function", "syntax", line_of(node))
    if isinstance(node, ast.arguments):
        every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
        names = [a.arg for a in every if a is not None]
    elif isinstance(node, ast.Call):
        names = [k.arg for k in node.keywords if k.arg is not None]
    else:
        return
    if len(set(names)) != len(names):
        raise Refused("an argument is named twice", "syntax", line_of(node))


def check_loops(body: list[ast.stmt]) -> None:
    """Refuses break and continue outside of a loop, which Python does wherever they stand."""
    stack: list[tuple[ast.AST, bool]] = [(statement, False) for statement in body]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, (ast.Break, ast.Continue)) and not inside:
            name = type(node).__name__.lower()
            raise Refused(f"{name} outside of a loop", "syntax", line_of(node))
        if isinstance(node, (ast.For, ast.While)):
            stack.extend((child, True) for child in node.body)
            stack.extend((child, inside) for child in node.orelse)
        elif isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            inside = inside and not isinstance(node, ast.FunctionDef)
            stack.extend((child, inside) for child in ast.iter_child_nodes(node))


def check_names(text: str) -> None:
    """Refuses names beyond Latin and Greek letters, and those that Python would read as other names."""
    try:
        for token in tokenize.generate_tokens(io.StringIO("if 1:\n" + text + "\n").readline):
            if token.type == tokenize.NAME and not token.string.isascii():
                letters = [c for c in token.string if not c.isascii()]
                odd = [c for c in letters if not unicodedata.name(c, "").startswith(("GREEK ", "LATIN "))]
                if odd or unicodedata.normalize("NFKC", token.string) != token.string:
                    raise Refused("a name with letters that look like others", "syntax", token.start[0] - 1)
    except (tokenize.TokenError, IndentationError):
        return


def line_of(node: ast.AST) -> int | None:
    line = getattr(node, "lineno", None)
    return None if line is None else line - 1


# ---- names

OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


_BARE = (ast.expr_context, ast.operator, ast.unaryop)


_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Name: (),
    ast.Constant: (),
    ast.BinOp: ("left", "right"),
    ast.UnaryOp: ("operand",),
    ast.Subscript: ("value", "slice"),
    ast.Attribute: ("value",),
}
"""Of the most frequent nodes, the fields that hold nodes."""


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly below, without operators and contexts."""
    found: list[ast.AST] = []
    kind = type(node)
    for name in _FIELDS.get(kind, node._fields):
        below = getattr(node, name, None)
        if isinstance(below, list):
            found += [item for item in below if isinstance(item, ast.AST)]
        elif isinstance(below, ast.AST) and not isinstance(below, _BARE):
            found.append(below)
    return found


def names_stored(target: ast.AST) -> frozenset[str]:
    """The names in an assignment's target."""
    return frozenset(
        n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )


def names_of_arguments(arguments: ast.arguments) -> frozenset[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return frozenset(a.arg for a in every)


def names_set_in(body: list[ast.stmt]) -> frozenset[str]:
    """The names that are local to a function with this body, its arguments apart."""
    names: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, OWN_SCOPE):
            continue
        stack += children(node)
    return frozenset(names)
