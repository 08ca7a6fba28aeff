"""The text of a body, checked and parsed without surprises, and the names in it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
import warnings
from collections.abc import Iterator

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
