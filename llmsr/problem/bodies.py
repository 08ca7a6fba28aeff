"""Bodies of a spec's function, as the graphs that they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmsr.expression import Expression, Refusal, parse
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
