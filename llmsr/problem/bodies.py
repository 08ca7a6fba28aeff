"""Bodies of a spec's function, as the graphs that they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmsr.expression import Expression, Refusal, parse
from llmsr.expression.reader.repair import repaired
from llmsr.problem.spec import Spec


def read_body(
    spec: Spec,
    body: str,
    arguments: Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Expression | Refusal:
    """The expression that a body of the spec's function says, or why it says none.

    `arguments` are the body's own names for the columns and, last, the parameters (None: the spec's);
    `versions` are bodies of earlier equations by name, which it may call.
    """
    *columns, params_name = arguments or (*spec.columns, spec.params_name)
    found = parse(
        body,
        columns,
        params_name=params_name,
        max_params=spec.max_params,
        versions=versions,
        constants=spec.constants,
        dialect=spec.dialect,
    )
    return found if isinstance(found, Refusal) else Expression(found.nodes, spec.columns)


class Meant(NamedTuple):
    """What a model's body says: its expression, the text that was read, and what in it was put right."""

    expression: Expression | Refusal
    body: str
    repairs: tuple[str, ...] = ()


def read_as_meant(
    spec: Spec,
    body: str,
    arguments: Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Meant:
    """As `read_body`; a body that is refused as written is read once more with its small slips put right.

    The refusal is that of the body as written where the second reading fails too.
    """
    expression = read_body(spec, body, arguments, versions)
    if isinstance(expression, Expression) or expression.kind not in ("syntax", "unsupported"):
        return Meant(expression, body)
    text, repairs = repaired(body, arguments or (*spec.columns, spec.params_name), spec.max_params)
    again = read_body(spec, text, arguments, versions) if repairs else expression
    return Meant(again, text, repairs) if isinstance(again, Expression) else Meant(expression, body)
