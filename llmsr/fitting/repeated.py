"""An equation that is called again and again on the same rows, as a spec's own optimiser calls it.

What depends on columns alone is computed once, by the same operations on the same numbers, so that every
value has the bits that the whole equation gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmsr.expression.graph import Expression, Graph, Node
from llmsr.expression.printing.source import callable_for

MOST_BYTES = 2**28  # of features kept; beyond it they are computed at every call
CHEAP = {"neg", "abs", "add", "sub", "mul", "div"}  # quicker than to see that the columns are the same


def features_of(expression: Expression) -> tuple[list[Expression], Expression]:
    """The largest parts that depend on columns alone, and the equation with them as further columns.

    A part does more than plain arithmetic. Without parameters the whole equation may be one, and the second
    is then that column.
    """
    nodes = expression.nodes
    fixed: list[bool] = []  # depends on no parameter
    worth: list[bool] = []  # holds an operation that takes long
    for node in nodes:
        fixed.append(node.op != "param" and all(fixed[a] for a in node.args))
        worth.append(bool(node.args) and (node.op not in CHEAP or any(worth[a] for a in node.args)))
    used = {a for i, node in enumerate(nodes) if not fixed[i] for a in node.args} | {len(nodes) - 1}
    parts = [i for i in sorted(used) if fixed[i] and worth[i]]
    place = {part: len(expression.columns) + k for k, part in enumerate(parts)}
    names = tuple(f"feature{k}" for k in range(len(parts)))
    rest = [Node("column", (), place[i]) if i in place else node for i, node in enumerate(nodes)]
    graph, columns = Graph(nodes=nodes), expression.columns
    features = [graph.expression(part, columns) for part in parts]
    return features, Graph(nodes=rest).expression(len(nodes) - 1, (*columns, *names))


class RepeatedEquation:
    """`callable_for(expression)`, quicker from the second call with equal columns on."""

    def __init__(self, expression: Expression) -> None:
        features, rest = features_of(expression)
        self.features = [callable_for(feature) for feature in features]
        self.rest = callable_for(rest)
        self.used = sorted({column for feature in features for column in feature.inputs})
        self.columns: Sequence[Any] | None = None  # copies, since a spec may change its data in place
        self.values: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        """`args` are the columns, of shape (rows,) or numbers, and the parameters; gives the same shape."""
        *columns, params = args
        used = [columns[i] for i in self.used]
        if self.columns is not None and all(map(np.array_equal, used, self.columns)):
            values = self.values
        else:
            values = [feature(*columns, params) for feature in self.features]
            if 8 * sum(map(np.size, values)) <= MOST_BYTES:
                self.columns, self.values = [np.array(column) for column in used], values
        return self.rest(*columns, *values, params)
