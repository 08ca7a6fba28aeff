"""A tape: the value and the derivatives of an expression, cut by how often each part has to be computed.

*Features* are results that depend on columns alone: they are computed once per data set. The rest of the
graph reads them as its columns and is computed at every evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmsr.expression.graph import Expression, Graph, Node, Symbol, pruned, values_of
from llmsr.expression.operations import OPS

FEATURE_BLOCK = 16384  # rows
_COLUMN, _PARAM = 1, 2


@dataclass(frozen=True)
class Derivatives:
    """An expression and its partial derivatives over one list of shared nodes, in topological order.

    `root` is the position of the value; `partials[i]` that of the derivative by parameter `params[i]`.
    """

    nodes: tuple[Node, ...]
    root: int
    params: tuple[int, ...]
    partials: tuple[int, ...]


def derivatives(expression: Expression, max_nodes: int = 20000, prune: bool = True) -> Derivatives:
    """The partial derivative by every parameter that the expression uses, by reverse accumulation.

    Equal subexpressions are shared between the value and all derivatives. Operations that are constant but
    for jumps have derivative zero. Without `prune` nodes that nothing needs may be left among the others.
    Raises `GraphTooLarge` beyond `max_nodes` nodes.
    """
    graph = Graph(max_nodes, expression.nodes)
    symbols = [Symbol(graph, i) for i in range(len(expression.nodes))]
    active: list[bool] = []
    for node in expression.nodes:
        active.append(node.op == "param" or True in [active[a] for a in node.args])
    root = len(expression.nodes) - 1
    adjoint: dict[int, Symbol] = {root: Symbol(graph, graph.const(1.0))}
    by_param = dict.fromkeys(expression.params, graph.const(0.0))
    for i in range(root, -1, -1):
        node = expression.nodes[i]
        if i not in adjoint or not active[i]:
            continue
        if node.op == "param":
            by_param[int(node.value)] = adjoint[i].index  # type: ignore[arg-type]
            continue
        args = [symbols[a] for a in node.args]
        for slot, a in enumerate(node.args):
            rule = OPS[node.op].partial(slot)
            if rule is None or not active[a]:
                continue
            term = rule(adjoint[i], symbols[i], *args)
            if term.number != 0.0:
                adjoint[a] = adjoint[a] + term if a in adjoint else term
    if not prune:
        return Derivatives(tuple(graph.nodes), root, expression.params, tuple(by_param.values()))
    nodes, (new_root, *partials) = pruned(graph.nodes, [root, *by_param.values()])
    return Derivatives(nodes, new_root, expression.params, tuple(partials))


@dataclass(frozen=True)
class Tape:
    """What to compute for one expression, independent of data and engine.

    `nodes` are in topological order; a column among them is the row of a feature, a param the position in the
    parameter vector. `outputs` are the places of the derivatives and, last, of the value. `params` are the
    author's indices of the parameters in the order of the parameter vector. `sources` are nodes over the
    data's own columns, at whose places `features_at` the features are.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    params: tuple[int, ...]
    sources: tuple[Node, ...]
    features_at: tuple[int, ...]
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What engines worked out from the tape alone, by their names."""

    @property
    def n_params(self) -> int:
        """The length of the parameter vector."""
        return len(self.params)

    def features(self, columns: np.ndarray) -> np.ndarray:
        """The feature rows, shape (features, rows), for input columns of shape (columns, rows)."""
        rows = columns.shape[1]
        out = np.empty((len(self.features_at), rows))
        with np.errstate(all="ignore"):
            # in blocks, since the values of all nodes are in memory at once
            for start in range(0, rows if len(out) else 0, FEATURE_BLOCK):
                block = slice(start, min(start + FEATURE_BLOCK, rows))
                values = values_of(self.sources, columns[:, block], ())
                for row, feature in enumerate(self.features_at):
                    out[row, block] = values[feature]
        return out


def compile_tape(derivatives: Derivatives, max_features: int = 64) -> Tape:
    """The tape of a value and its derivatives.

    Where there are more than `max_features` column-only results the columns themselves are the features,
    which bounds memory.
    """
    nodes, outputs = _lowered(derivatives)
    below: list[int] = []
    for node in nodes:
        reached = {"column": _COLUMN, "param": _PARAM}.get(node.op, 0)
        for a in node.args:
            reached |= below[a]
        below.append(reached)
    # what nobody with a parameter reads is part of a larger feature, or of nothing
    read = {a for i, node in enumerate(nodes) if below[i] & _PARAM for a in node.args}
    features = sorted(i for i in read.union(outputs) if below[i] == _COLUMN)
    if len(features) > max_features:
        features = [i for i, node in enumerate(nodes) if node.op == "column"]
    position = {param: i for i, param in enumerate(derivatives.params)}
    rest = [n._replace(value=position[int(n.value or 0)]) if n.op == "param" else n for n in nodes]
    for row, i in enumerate(features):
        rest[i] = Node("column", (), row)
    rest_nodes, rest_outputs = pruned(rest, outputs)
    sources, features_at = pruned(nodes, features) if features else ((), [])
    return Tape(rest_nodes, tuple(rest_outputs), derivatives.params, sources, tuple(features_at))


def _lowered(derivatives: Derivatives) -> tuple[tuple[Node, ...], list[int]]:
    """The nodes that are needed, spelled as is best for engines, and the places of derivatives and value."""
    nodes: Sequence[Node] = derivatives.nodes
    outputs = [*derivatives.partials, derivatives.root]
    rules = [OPS[node.op].lowered if node.args else None for node in nodes]
    # most equations have nothing to respell, and need no second graph
    if any(rules):
        graph = Graph(max_nodes=4 * len(nodes))
        made: list[int] = []
        for node, rule in zip(nodes, rules, strict=True):
            args = [made[a] for a in node.args]
            spelled = rule(*[Symbol(graph, a) for a in args]) if rule else None
            made.append(spelled.index if spelled else graph.intern(node._replace(args=tuple(args))))
        nodes, outputs = graph.nodes, [made[output] for output in outputs]
    return pruned(nodes, outputs)
