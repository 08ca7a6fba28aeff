"""An expression in which every node has one use, so that an edit may concern one use alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import product

from llmsr.expression.graph import Expression, Graph, Node, complexity

MAX_NODES = 400

Product = tuple[tuple[int, int], ...]
"""Nodes with the powers, 1 or -1, in which they are factors."""


class Unshared(Expression):
    """An expression whose graph is a tree: the nodes of a part are contiguous and its last one is the part.

    It is read, evaluated and differentiated as every other expression; what it adds is where its parts
    stand. A part is named by the position of its last node.
    """

    @classmethod
    def of(cls, expression: Expression) -> Unshared | None:
        """The same equation without sharing; None where that has more than `MAX_NODES` nodes."""
        if complexity(expression) > MAX_NODES:
            return None
        nodes: list[Node] = []

        def copy(index: int) -> int:
            node = expression.nodes[index]
            args = tuple(copy(a) for a in node.args)
            nodes.append(node._replace(args=args))
            return len(nodes) - 1

        copy(len(expression.nodes) - 1)
        return cls(tuple(nodes), expression.columns)

    @property
    def root(self) -> int:
        """The position of the result."""
        return len(self.nodes) - 1

    @cached_property
    def begins(self) -> list[int]:
        """For every part the position of its first node."""
        begins: list[int] = []
        for i, node in enumerate(self.nodes):
            begins.append(begins[node.args[0]] if node.args else i)
        return begins

    @cached_property
    def varies(self) -> list[bool]:
        """For every part whether it holds a column."""
        varies: list[bool] = []
        for node in self.nodes:
            varies.append(node.op == "column" or any(varies[a] for a in node.args))
        return varies

    def size(self, i: int) -> int:
        """The number of nodes of part i."""
        return i - self.begins[i] + 1

    def params_in(self, i: int) -> frozenset[int]:
        """The parameters that appear in part i."""
        part = self.nodes[self.begins[i] : i + 1]
        return frozenset(int(n.value or 0) for n in part if n.op == "param")

    def own_params(self, i: int) -> frozenset[int]:
        """The parameters that appear in part i and nowhere else."""
        outside = (*self.nodes[: self.begins[i]], *self.nodes[i + 1 :])
        return self.params_in(i) - {int(n.value or 0) for n in outside if n.op == "param"}

    def factors(self, i: int) -> Product:
        """What is multiplied in part i, numbers and parameters left aside; empty where it holds no column."""
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

    def addends(self, most: int, i: int | None = None) -> list[Product] | None:
        """The products that add up to part i (the whole), products of sums multiplied out.

        Constant factors are left aside; what holds no column is the empty product. None beyond `most`.
        """
        i = self.root if i is None else i
        op, args, _ = self.nodes[i]
        if not self.varies[i]:
            return [()]
        if op not in ("add", "sub", "neg", "mul", "div"):
            return [((i, 1),)]
        first = self.addends(most, args[0])
        if op == "neg" or first is None:
            return first
        if op == "div":
            # a quotient is a sum of quotients; a sum below it is one factor
            below = tuple((a, -power) for a, power in self.factors(args[1]))
            return [product + below for product in first]
        second = self.addends(most, args[1])
        if second is None:
            return None
        found = first + second if op != "mul" else [a + b for a in first for b in second]
        return found if len(found) <= most else None

    def omissions(self) -> Iterator[tuple[int, int]]:
        """Parts with an operand that may stand in their place: a summand, a factor, a function's argument."""
        for i, (op, args, _) in enumerate(self.nodes):
            if len(args) <= 2:
                yield from ((i, a) for a in args[: 1 if op in ("div", "pow") else 2])

    def cancelled(self) -> Iterator[Expression]:
        """The equation without one of the factors that it also divides by, as v*f(v)/v without v."""
        for i, node in enumerate(self.nodes):
            factors = self.factors(i) if node.op == "div" else ()
            above, below = ([j for j, power in factors if power == sign] for sign in (1, -1))
            for a, b in product(above, below):
                if self._text(a) == self._text(b):
                    yield self.edited({a: as_number(1.0), b: as_number(1.0)})

    def _text(self, i: int) -> list[tuple[str, float | int | None]]:
        """Equal for parts that are written alike."""
        return [(node.op, node.value) for node in self.nodes[self.begins[i] : i + 1]]

    def with_numbers(self, numbers: Mapping[int, float]) -> Expression:
        """The equation with numbers for some of its parameters."""
        places = {i: int(n.value or 0) for i, n in enumerate(self.nodes) if n.op == "param"}
        return self.edited({i: as_number(numbers[p]) for i, p in places.items() if p in numbers})

    def edited(self, edits: Mapping[int, Edit]) -> Expression:
        """The equation with the parts of `edits` replaced; what an edit does not use is gone."""
        editor = Editor(self)  # builds anew, so that what an edit makes constant is folded
        made: list[int] = []
        for i, node in enumerate(self.nodes):
            made.append(edits[i](editor) if i in edits else editor.copied(node, made))
        return editor.expression(made[-1], self.columns)


class Editor(Graph):
    """A new graph in the making, which can take in parts of an equation and other expressions."""

    def __init__(self, equation: Unshared, max_nodes: int = 4 * MAX_NODES) -> None:
        super().__init__(max_nodes)
        self.equation = equation

    def part(self, i: int) -> int:
        """The position of a copy of the equation's part i, unedited."""
        return self._copy(self.equation.nodes, i)

    def taken(self, expression: Expression) -> int:
        """The position of a copy of another expression of the same columns and parameters."""
        return self._copy(expression.nodes, len(expression.nodes) - 1)

    def _copy(self, nodes: tuple[Node, ...], i: int) -> int:
        node = nodes[i]
        return self.copied(node, {a: self._copy(nodes, a) for a in node.args})

    def copied(self, node: Node, made: Mapping[int, int] | list[int]) -> int:
        """The position of a node's copy; `made` are those of the nodes that it needs."""
        return self.add(node.op, *(made[a] for a in node.args)) if node.args else self.intern(node)


Edit = Callable[[Editor], int]
"""What stands in a part's place: its position, built in the editor."""


def as_part(i: int) -> Edit:
    """Puts the equation's part i in the place."""
    return lambda g: g.part(i)


def as_param(p: int, negative: bool = False) -> Edit:
    """Puts a parameter in the place."""
    return lambda g: g.add("neg", g.param(p)) if negative else g.param(p)


def as_number(value: float) -> Edit:
    """Puts a number in the place."""
    return lambda g: g.const(value)
