"""Reading a function body: `parse` turns its text into an `Expression`, or says in one line why not.

Nothing is executed: the text is read by `ast`, and an interpreter of a Python subset, whose values are nodes
of a graph, builds the equation from it. There is no `eval`, no `exec` and no import of what a text names.

The equation equals plain numpy's value of the body on float64 columns up to rounding, row by row. Where numpy
would stop with an error because a condition (`if`, `and`, `max`, `math.sin`) is given a column, the condition
is taken row by row; inside `try` that is refused, because there the error would have been handled. Time and
memory are bounded by `Limits` for any text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.expression.graph import Expression, Graph, GraphTooLarge
from llmsr.expression.reader.arrays import fresh
from llmsr.expression.reader.names import LIBRARY
from llmsr.expression.reader.statements import Interpreter
from llmsr.expression.reader.syntax import statements_of
from llmsr.expression.reader.values import Array, Dialect, Limits, Refused, Version, describe, refuse_if


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
    refuse_if(root < 0, "the result has rows that np.empty left unset")
    expression = graph.expression(root, columns)
    refuse_if(not expression.inputs, "the result depends on no input column", "constant")
    return expression


def readable(reason: str) -> str:
    """One printable ASCII line of bounded length."""
    # names and texts of the body are part of reasons, and reasons go to terminals, logs and prompts
    line = reason[:400].encode("ascii", "backslashreplace").decode("ascii")
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
    return line if len(line) < 160 else line[:156] + "..."
