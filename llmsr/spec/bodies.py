"""Bodies in a spec's own names, as the graphs that they say."""

from __future__ import annotations

from llmsr.expression import Expression, Refusal, parse
from llmsr.spec.reading import Spec


def read_body(spec: Spec, body: str) -> Expression | Refusal:
    """The expression that a body of the spec's function says, or why it says none."""
    return parse(
        body,
        spec.columns,
        params_name=spec.params_name,
        max_params=spec.max_params,
        constants=spec.constants,
    )
