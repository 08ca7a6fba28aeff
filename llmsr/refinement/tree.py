"""An equation as a tree, and edits of it: graph in, graph out, never text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from llmsr.expression.complexity import complexity
from llmsr.expression.graph import Expression, Graph, Node

MAX_NODES = 400

Product = tuple[tuple[int, int], ...]
"""Nodes with the powers, 1 or -1, in which they are factors."""


@dataclass(frozen=True)
class Tree:
    """An equation without sharing: every node has one parent, subtrees are contiguous, the last is the root.

    `start[p]` is the value of parameter p, from which a fit may be expected to move only a little.
    """

    nodes: tuple[Node, ...]
    columns: tuple[str, ...]
    start: tuple[float, ...]

    @classmethod
    def of(cls, expression: Expression, start: tuple[float, ...]) -> Tree | None:
        """The tree of a graph; None where it would have more than `MAX_NODES` nodes."""
        if complexity(expression) > MAX_NODES:
            return None
        nodes: list[Node] = []

        def copy(index: int) -> int:
            node = expression.nodes[index]
            args = tuple(copy(a) for a in node.args)
            nodes.append(node._replace(args=args))
            return len(nodes) - 1

        copy(len(expression.nodes) - 1)
        return cls(tuple(nodes), expression.columns, start)

    @property
    def root(self) -> int:
        return len(self.nodes) - 1

    @cached_property
    def params(self) -> tuple[int, ...]:
        """The parameters that the equation uses, ascending."""
        return tuple(sorted({int(n.value or 0) for n in self.nodes if n.op == "param"}))

    @cached_property
    def begins(self) -> list[int]:
        """For every node the position of the first node of its subtree."""
        begins: list[int] = []
        for i, node in enumerate(self.nodes):
            begins.append(begins[node.args[0]] if node.args else i)
        return begins

    @cached_property
    def varies(self) -> list[bool]:
        """For every node whether its subtree holds a column."""
        varies: list[bool] = []
        for node in self.nodes:
            varies.append(node.op == "column" or any(varies[a] for a in node.args))
        return varies

    @cached_property
    def parents(self) -> dict[int, int]:
        return {a: i for i, node in enumerate(self.nodes) for a in node.args}

    def size(self, i: int) -> int:
        """The nodes of the subtree of node i, itself included."""
        return i - self.begins[i] + 1

    def own_params(self, i: int) -> frozenset[int]:
        """The parameters that appear in the subtree of node i and nowhere else."""
        inside: set[int] = set()
        outside: set[int] = set()
        for position, node in enumerate(self.nodes):
            if node.op == "param":
                (inside if self.begins[i] <= position <= i else outside).add(int(node.value or 0))
        return frozenset(inside - outside)

    def unscaled(self, i: int) -> int:
        """The node itself, or the one inside it of which it is a constant multiple."""
        while self.nodes[i].op in ("neg", "mul", "div"):
            op, args, _ = self.nodes[i]
            constant = [a for a in args if not self.varies[a]]
            if op == "neg" or (op == "div" and constant == [args[1]]):
                i = args[0]
            elif op == "mul" and len(constant) == 1:
                i = args[0] if constant[0] == args[1] else args[1]
            else:
                break
        return i

    def factors(self, i: int) -> Product:
        """What is multiplied in node i, numbers and parameters left aside; empty where it holds no column."""
        op, args, _ = self.nodes[i]
        if not self.varies[i]:
            return ()
        if op == "neg":
            return self.factors(args[0])
        if op == "mul":
            return self.factors(args[0]) + self.factors(args[1])
        if op == "div":
            return self.factors(args[0]) + tuple((a, -power) for a, power in self.factors(args[1]))
        return ((i, 1),)

    def params_of(self, product: Product) -> frozenset[int]:
        """The parameters inside the factors."""
        inside = (n for i, _ in product for n in self.nodes[self.begins[i] : i + 1])
        return frozenset(int(n.value or 0) for n in inside if n.op == "param")

    def summands(self) -> set[int]:
        """The root and the nodes that add up to it, with and without their constant factors."""
        found, stack = set(), [self.root]
        while stack:
            i = stack.pop()
            found |= {i, self.unscaled(i)}
            if self.nodes[i].op in ("add", "sub", "neg"):
                stack.extend(self.nodes[i].args)
        return found

    def replaced(self, builds: dict[int, Build]) -> Expression:
        """The equation with the nodes of `builds` replaced; what a build does not use is gone."""
        graph = Grafting(self)
        made: list[int] = []
        for i, node in enumerate(self.nodes):
            made.append(builds[i](graph, i) if i in builds else copied(graph, node, made))
        return graph.expression(made[-1], self.columns)


class Grafting(Graph):
    """A graph that can take in subtrees of a tree."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(max_nodes=4 * MAX_NODES)
        self.tree = tree

    def part(self, i: int) -> int:
        """The position of node i of the tree, unedited."""
        made: dict[int, int] = {}
        for position in range(self.tree.begins[i], i + 1):
            made[position] = copied(self, self.tree.nodes[position], made)
        return made[i]


Build = Callable[[Grafting, int], int]
"""Given a graph in the making and a node of the tree, the position of what stands in the node's place."""


def as_part(i: int) -> Build:
    """Puts node i of the tree in the place."""
    return lambda g, _: g.part(i)


def as_param(p: int, negative: bool = False) -> Build:
    """Puts a parameter in the place."""
    return lambda g, _: g.add("neg", g.param(p)) if negative else g.param(p)


def as_number(value: float) -> Build:
    """Puts a number in the place."""
    return lambda g, _: g.const(value)


def copied(graph: Graph, node: Node, made: dict[int, int] | list[int]) -> int:
    """The position of a node's copy in `graph`; `made` are those of the nodes that it needs."""
    if node.op == "const":
        return graph.const(float(node.value or 0.0))
    if node.op == "column":
        return graph.column(int(node.value or 0))
    if node.op == "param":
        return graph.param(int(node.value or 0))
    return graph.add(node.op, *(made[a] for a in node.args))
