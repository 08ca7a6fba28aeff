"""Derivatives of an expression as more nodes of its graph, and which parameters enter it linearly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from llmsr.expression.graph import OPS, Expression, Graph, Node

PIECEWISE_CONSTANT = frozenset(
    {"sign", "floor", "ceil", "rint", "trunc", "heaviside", "floordiv"}
    | {name for name, op in OPS.items() if op.boolean}
)


@dataclass(frozen=True)
class Derivatives:
    """An expression and its partial derivatives over one list of shared nodes, in topological order.

    `root` is the position of the value; `partials[i]` that of the derivative by parameter `params[i]`.
    """

    nodes: tuple[Node, ...]
    root: int
    params: tuple[int, ...]
    partials: tuple[int, ...]


class _Builder:
    """A graph with the few simplifications that keep derivatives short: 0 + a, 1 * a, -(-a), 0 * a."""

    def __init__(self, nodes: Sequence[Node], max_nodes: int) -> None:
        self.graph = Graph(max_nodes, nodes)

    def constant(self, index: int) -> float | None:
        node = self.graph.nodes[index]
        return float(node.value) if node.op == "const" else None  # type: ignore[arg-type]

    def const(self, value: float) -> int:
        return self.graph.const(value)

    def neg(self, a: int) -> int:
        node = self.graph.nodes[a]
        if node.op == "neg":
            return node.args[0]
        if node.op == "sub":
            return self.graph.add("sub", node.args[1], node.args[0])
        return self.graph.add("neg", a)

    def add(self, a: int, b: int) -> int:
        if self.constant(a) == 0.0:
            return b
        if self.constant(b) == 0.0:
            return a
        if self.graph.nodes[b].op == "neg":
            return self.graph.add("sub", a, self.graph.nodes[b].args[0])
        if self.graph.nodes[a].op == "neg":
            return self.graph.add("sub", b, self.graph.nodes[a].args[0])
        return self.graph.add("add", *sorted((a, b)))

    def mul(self, a: int, b: int) -> int:
        for first, second in ((a, b), (b, a)):
            value = self.constant(first)
            if value == 0.0:
                return first
            if value == 1.0:
                return second
            if value == -1.0:
                return self.neg(second)
        if self.graph.nodes[a].op == "neg":
            return self.neg(self.mul(self.graph.nodes[a].args[0], b))
        if self.graph.nodes[b].op == "neg":
            return self.neg(self.mul(a, self.graph.nodes[b].args[0]))
        return self.graph.add("mul", *sorted((a, b)))

    def div(self, a: int, b: int) -> int:
        if self.constant(a) == 0.0 or self.constant(b) == 1.0:
            return a
        if self.graph.nodes[a].op == "neg":
            return self.neg(self.div(self.graph.nodes[a].args[0], b))
        return self.graph.add("div", a, b)

    def where(self, condition: int, a: int, b: int) -> int:
        return a if a == b else self.graph.add("where", condition, a, b)

    def op(self, name: str, *args: int) -> int:
        return self.graph.add(name, *args)

    def square(self, a: int) -> int:
        return self.op("mul", a, a)

    def pow(self, a: int, exponent: float) -> int:
        """`a ** exponent`, spelled with the cheapest operation."""
        if exponent == 0.0:
            return self.const(1.0)
        if exponent == 1.0:
            return a
        if exponent == 2.0:
            return self.square(a)
        return self.op("pow", a, self.const(exponent))


def derivatives(expression: Expression, max_nodes: int = 20000, prune: bool = True) -> Derivatives:
    """The partial derivative by every parameter that the expression uses, by reverse accumulation.

    Equal subexpressions are shared between the value and all derivatives. Operations that are constant but
    for jumps have derivative zero. Without `prune` nodes that nothing needs may be left among the others.
    Raises `GraphTooLarge` beyond `max_nodes` nodes.
    """
    builder = _Builder(expression.nodes, max_nodes)
    active: list[bool] = []
    for node in expression.nodes:
        active.append(node.op == "param" or True in [active[a] for a in node.args])
    adjoint: list[int | None] = [None] * len(expression.nodes)
    root = len(expression.nodes) - 1
    adjoint[root] = builder.const(1.0)
    by_param: dict[int, int] = {}
    for i in range(root, -1, -1):
        bar, node = adjoint[i], expression.nodes[i]
        if bar is None or not active[i]:
            continue
        if node.op == "param":
            by_param[int(node.value)] = bar  # type: ignore[arg-type]
            continue
        for slot, a in enumerate(node.args):
            if not active[a]:
                continue
            term = _chain(builder, node.op, slot, node.args, i, bar)
            if builder.constant(term) == 0.0:
                continue
            old = adjoint[a]
            adjoint[a] = term if old is None else builder.add(old, term)
    params = expression.params
    zero = builder.const(0.0)
    partials = [by_param.get(p, zero) for p in params]
    if not prune:
        return Derivatives(tuple(builder.graph.nodes), root, params, tuple(partials))
    return _pruned(builder.graph.nodes, root, params, partials)


def _pruned(nodes: Sequence[Node], root: int, params: tuple[int, ...], partials: list[int]) -> Derivatives:
    needed: set[int] = set()
    stack = [root, *partials]
    while stack:
        index = stack.pop()
        if index not in needed:
            needed.add(index)
            stack.extend(nodes[index].args)
    order = sorted(needed)
    position = {old: new for new, old in enumerate(order)}
    kept = tuple(
        Node(op, tuple([position[a] for a in args]), value) for op, args, value in (nodes[i] for i in order)
    )
    return Derivatives(kept, position[root], params, tuple(position[p] for p in partials))


def _chain(b: _Builder, op: str, slot: int, args: Sequence[int], value: int, bar: int) -> int:
    """`bar` times the derivative of `op(*args)` by its argument number `slot`."""
    x = args[0]
    if op == "heaviside" and slot == 1:  # its value where x is 0
        return b.where(b.op("eq", x, b.const(0.0)), bar, b.const(0.0))
    if op in PIECEWISE_CONSTANT:
        return b.const(0.0)
    if len(args) == 1:
        return _chain_one(b, op, x, value, bar)
    y = args[1]
    if op == "add":
        return bar
    if op == "sub":
        return bar if slot == 0 else b.neg(bar)
    if op == "mul":
        return b.mul(bar, args[1 - slot])
    if op == "div":
        if slot == 0:
            return b.div(bar, y)
        return b.neg(b.mul(bar, b.div(value, y)))
    if op == "pow":
        if slot == 0:
            exponent = b.constant(y)
            if exponent is not None:
                return b.mul(bar, b.mul(y, b.pow(x, exponent - 1.0)))
            return b.mul(bar, b.mul(y, b.where(x, b.div(value, x), b.const(0.0))))
        # 0 ** y is constant in y on either side of y = 0; a negative base has no power near y
        log = b.where(b.op("gt", x, b.const(0.0)), b.op("log", x), b.const(0.0))
        return b.mul(bar, b.mul(value, log))
    if op == "where":
        zero = b.const(0.0)
        if slot == 0:
            return zero
        return b.where(x, bar, zero) if slot == 1 else b.where(x, zero, bar)
    if op in ("minimum", "fmin", "maximum", "fmax"):
        first = b.op("le" if op in ("minimum", "fmin") else "ge", x, y)
        if op in ("fmin", "fmax"):  # the other one where one is nan
            first = b.op("or", first, b.op("isnan", y))
        return b.mul(bar, first if slot == 0 else b.op("not", first))
    if op in ("mod", "fmod"):
        if slot == 0:
            return bar
        quotient = b.op("floor" if op == "mod" else "trunc", b.op("div", x, y))
        return b.neg(b.mul(bar, quotient))
    if op == "arctan2":
        norm = b.add(b.square(x), b.square(y))
        scaled = b.div(bar, norm)
        return b.mul(scaled, y) if slot == 0 else b.neg(b.mul(scaled, x))
    if op == "hypot":
        return b.mul(bar, b.div(args[slot], value))
    if op == "logaddexp":
        return b.mul(bar, b.op("expit", b.op("sub", args[slot], args[1 - slot])))
    if op == "copysign":
        if slot == 1:
            return b.const(0.0)
        one = b.const(1.0)
        return b.mul(bar, b.mul(b.op("copysign", one, x), b.op("copysign", one, y)))
    raise NotImplementedError(f"no derivative of {op}")


def _chain_one(b: _Builder, op: str, x: int, value: int, bar: int) -> int:
    one = b.const(1.0)
    if op == "neg":
        return b.neg(bar)
    if op == "abs":
        return b.mul(bar, b.op("sign", x))
    if op == "exp":
        return b.mul(bar, value)
    if op == "sin":
        return b.mul(bar, b.op("cos", x))
    if op == "cos":
        return b.neg(b.mul(bar, b.op("sin", x)))
    if op == "log":
        return b.div(bar, x)
    if op == "tanh":
        return b.mul(bar, b.op("sub", one, b.square(value)))
    if op == "expit":
        return b.mul(bar, b.mul(value, b.op("sub", one, value)))
    if op == "sqrt":
        return b.div(b.mul(bar, b.const(0.5)), value)
    if op == "cbrt":
        return b.div(b.mul(bar, b.const(1.0 / 3.0)), b.square(value))
    if op == "exp2":
        return b.mul(bar, b.mul(b.const(math.log(2.0)), value))
    if op == "expm1":
        return b.mul(bar, b.op("exp", x))
    if op == "log2":
        return b.div(b.mul(bar, b.const(1.0 / math.log(2.0))), x)
    if op == "log10":
        return b.div(b.mul(bar, b.const(1.0 / math.log(10.0))), x)
    if op == "log1p":
        return b.div(bar, b.add(one, x))
    if op == "tan":
        return b.mul(bar, b.add(one, b.square(value)))
    if op in ("arcsin", "arccos"):
        slope = b.div(bar, b.op("sqrt", b.op("sub", one, b.square(x))))
        return slope if op == "arcsin" else b.neg(slope)
    if op == "arctan":
        return b.div(bar, b.add(one, b.square(x)))
    if op == "sinh":
        return b.mul(bar, b.op("cosh", x))
    if op == "cosh":
        return b.mul(bar, b.op("sinh", x))
    if op == "arcsinh":
        return b.div(bar, b.op("hypot", one, x))
    if op == "arccosh":
        return b.div(bar, b.op("sqrt", b.op("sub", b.square(x), one)))
    if op == "arctanh":
        return b.div(bar, b.op("sub", one, b.square(x)))
    if op in ("erf", "erfc"):
        bell = b.op("exp", b.neg(b.square(x)))
        slope = b.mul(bar, b.mul(b.const(2.0 / math.sqrt(math.pi)), bell))
        return slope if op == "erf" else b.neg(slope)
    if op == "gamma":
        return b.mul(bar, b.mul(value, b.op("digamma", x)))
    if op == "gammaln":
        return b.mul(bar, b.op("digamma", x))
    raise NotImplementedError(f"no derivative of {op}")


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
