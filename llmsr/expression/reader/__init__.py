"""Reading a function body: `parse` turns its text into an `Expression`, or says in one line why not.

Nothing is executed: the text is read by `ast`, and an interpreter of a Python subset, whose values are nodes
of a graph, builds the equation from it. There is no `eval`, no `exec` and no import of what a text names.

The equation equals plain numpy's value of the body on float64 columns up to rounding, row by row. Where numpy
would stop with an error because a condition (`if`, `and`, `max`, `math.sin`) is given a column, the condition
is taken row by row; inside `try` that is refused, because there the error would have been handled. Time and
memory are bounded by `Limits` for any text.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.expression.graph import Expression, Graph, GraphTooLarge
from llmsr.expression.reader.arrays import fresh
from llmsr.expression.reader.names import LIBRARY
from llmsr.expression.reader.statements import Interpreter
from llmsr.expression.reader.values import (
    UNSET,
    Array,
    Dialect,
    Limits,
    Refused,
    Version,
    children,
    describe,
    names_given,
    refuse_if,
)


@dataclass(frozen=True)
class Refusal:
    """Why a body is no equation.

    `kind` is "empty" (no statement), "syntax" (not Python), "too_large" (beyond a limit), "constant" (uses no
    input column) or "unsupported". `reason` is one line of at most 159 printable ASCII characters; `line` is
    1-based in the body's text.
    """

    kind: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


def parse(
    body: str,
    columns: Sequence[str],
    *,
    params_name: str = "params",
    max_params: int = 10,
    versions: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
    dialect: Dialect = "numpy",
    limits: Limits | None = None,
) -> Expression | Refusal:
    """The equation that a function body computes, or a `Refusal`.

    `body` is what follows the header of a function of `columns` and `params_name`, indented or not.
    `versions` are bodies of earlier equations by name, which it may call with the same arguments; `constants`
    are numbers that it may use. `max_params` is the length of the parameter vector. Functions of numpy and
    of torch are both known; `dialect` decides the few methods of arrays that mean different things.
    """
    limits = limits or Limits()
    graph = Graph(limits.nodes)
    # a version is read when it is called, so that one that nobody calls costs nothing
    interpreter = Interpreter(
        graph, limits, dialect, LIBRARY, (*columns, params_name), lambda text: statements_of(text, limits)
    )
    try:
        statements = statements_of(body, limits)
        interpreter.line = 0
        outer = {
            **(constants or {}),
            **{name: Version(name, text) for name, text in (versions or {}).items()},
        }
        arguments = {name: column(graph, i) for i, name in enumerate(columns)}
        arguments[params_name] = parameters(graph, max_params)
        result = interpreter.equation(statements, outer, arguments)
        if isinstance(result, Array):
            result = interpreter.array(result)
        return expression_of(result, graph, tuple(columns))
    except Refused as refused:
        line = refused.line if refused.line is not None else interpreter.line - 1
        return Refusal(refused.kind, readable(refused.reason), line if line > 0 else None)
    except GraphTooLarge as error:
        return Refusal("too_large", readable(str(error)), max(interpreter.line - 1, 1))
    except RecursionError:
        # lists may hold themselves, and helpers may call each other: Python's own limit is the last one
        return Refusal("too_large", "nested too deeply", None)
    except MemoryError:
        return Refusal("too_large", "not enough memory to read it", None)


def column(graph: Graph, index: int) -> Array:
    """An input column, which nothing may change."""
    cells = np.array([graph.column(index)], dtype=np.int64)
    return fresh(cells, "f", -1, locked="an input column would be changed in place")


def parameters(graph: Graph, size: int) -> Array:
    """The parameters, shape (size,), which nothing may change."""
    cells = np.array([graph.param(i) for i in range(size)], dtype=np.int64)
    return fresh(cells, "f", locked="the parameters would be changed in place")


def expression_of(result: object, graph: Graph, columns: tuple[str, ...]) -> Expression:
    """The graph of a result that is one number per row and depends on a column."""
    if result is None:
        raise Refused("the body has no return, or returns nothing")
    if isinstance(result, (bool, int, float)) or (
        isinstance(result, Array) and result.rows is None and result.ndim == 0
    ):
        raise Refused("the result is one number that depends on no input column", "constant")
    if not isinstance(result, Array) or result.cells.shape != (1,) or result.rows is None or result.selection:
        raise Refused(f"the result is {describe(result)} and not one number per row")
    root = int(result.cells[0])
    expression = graph.expression(root, columns)
    refuse_if(UNSET in expression.inputs, "the result has rows that np.empty left unset")
    refuse_if(not expression.inputs, "the result depends on no input column", "constant")
    return expression


def readable(reason: str) -> str:
    """One printable ASCII line of bounded length."""
    # names and texts of the body are part of reasons, and reasons go to terminals, logs and prompts
    line = reason[:400].encode("ascii", "backslashreplace").decode("ascii")
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
    return line if len(line) < 160 else line[:156] + "..."


# ---- the text, checked and parsed without surprises

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
