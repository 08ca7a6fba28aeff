"""Derivatives of an expression as more nodes of its graph, and which parameters enter it linearly."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from llmsr.expression.graph import Expression, Graph, Node, Symbol, pruned
from llmsr.expression.operations import OPS


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


def linear_params(expression: Expression) -> tuple[int, ...]:
    """The largest set of parameters in which the expression is jointly affine, ascending; all others held
    fixed.

    Decided by dependency, so never wrong but possibly smaller than algebra could show. Among sets of equal
    size the one whose parameters appear first in the graph wins.
    """
    count = len(expression.params)
    order: list[int] = []
    depends: list[int] = []
    # bit i * count + j of a node's mask: parameters number i and j are multiplied or bent together
    conflicts: list[int] = []
    for node in expression.nodes:
        if node.op == "param":
            if node.value not in order:
                order.append(int(node.value))  # type: ignore[arg-type]
            depends.append(1 << order.index(int(node.value)))  # type: ignore[arg-type]
            conflicts.append(0)
            continue
        masks = [depends[a] for a in node.args]
        mask = pairs = 0
        for a in node.args:
            mask |= depends[a]
            pairs |= conflicts[a]
        depends.append(mask)
        conflicts.append(pairs | _new_conflicts(node, masks, mask, count) if mask else 0)
    final = conflicts[-1] if conflicts else 0
    adjacent = [0] * count
    for i in range(count):
        for j in range(count):
            if final >> (i * count + j) & 1:
                adjacent[i] |= 1 << j
                adjacent[j] |= 1 << i
    chosen = _independent([i for i in range(count) if not adjacent[i] >> i & 1], adjacent)
    return tuple(sorted(order[i] for i in chosen))


def _new_conflicts(node: Node, masks: list[int], mask: int, count: int) -> int:
    """Pairs of parameters that `node` multiplies or bends together, over those its arguments already have."""
    if node.op in ("add", "sub", "neg"):
        return 0
    if node.op == "mul":
        rows, others = masks
    elif node.op == "div":
        rows, others = mask, masks[1]
    elif node.op == "where":
        rows, others = mask, masks[0]
    else:
        rows = others = mask
    pairs = 0
    for i in range(count):
        if rows >> i & 1:
            pairs |= others << (i * count)
    return pairs


def _independent(free: list[int], adjacent: list[int]) -> tuple[int, ...]:
    """The first largest subset of `free` without adjacent pairs; greedy beyond 16 members."""
    if len(free) > 16:
        chosen: list[int] = []
        for i in sorted(free, key=lambda i: (adjacent[i].bit_count(), i)):
            if not any(adjacent[i] >> j & 1 for j in chosen):
                chosen.append(i)
        return tuple(sorted(chosen))
    lone = [i for i in free if not any(adjacent[i] >> j & 1 for j in free)]
    rest = [i for i in free if i not in lone]
    for size in range(len(rest), 0, -1):
        for subset in combinations(rest, size):
            mask = sum(1 << i for i in subset)
            if not any(adjacent[i] & mask for i in subset):
                return tuple(sorted((*lone, *subset)))
    return tuple(lone)
