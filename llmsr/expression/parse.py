"""`parse` turns the text of a function body into an `Expression`, or says in one line why not; it never runs it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmsr.expression.arrays import describe
from llmsr.expression.graph import Expression, Graph, GraphTooLarge
from llmsr.expression.interpret import Interpreter, column, parameters
from llmsr.expression.limits import Limits
from llmsr.expression.values import Array, Refused


@dataclass(frozen=True)
class Refusal:
    """Why a body is no equation.

    `kind` is "empty" (no statement), "syntax" (not Python), "too_large" (beyond a limit), "constant" (uses no
    input column) or "unsupported". `reason` is one readable line of ASCII; `line` is 1-based in the body's text.
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
    limits: Limits | None = None,
) -> Expression | Refusal:
    """The equation that a function body computes, or a `Refusal`."""
    limits = limits or Limits()
    interpreter = None
    try:
        tree = ast.parse("if 1:\n" + body).body[0]
        graph = Graph(limits.nodes)
        names = {name: column(graph, i) for i, name in enumerate(columns)}
        names[params_name] = parameters(graph, max_params)
        interpreter = Interpreter(graph, limits, {**dict(constants or {}), **names})
        result = interpreter.run(tree.body)  # type: ignore[attr-defined]
        if not isinstance(result, Array) or result.cells.shape != (1,) or result.rows is None:
            if isinstance(result, Array) and result.ndim == 0 or isinstance(result, (int, float)):
                return Refusal("constant", "the result is one number that depends on no input column", None)
            return Refusal("unsupported", f"the result is {describe(result)}, not one number per row", None)
        expression = graph.expression(int(result.cells[0]), tuple(columns))
        if not expression.inputs:
            return Refusal("constant", "the result depends on no input column", None)
        return expression
    except SyntaxError as error:
        return Refusal("syntax", str(error.msg), (error.lineno or 1) - 1)
    except GraphTooLarge as error:
        return Refusal("too_large", str(error), None)
    except Refused as refused:
        line = interpreter.line - 1 if interpreter else None
        return Refusal(refused.kind, refused.reason, refused.line or line)
