"""Nodes of a graph under construction that Python's operators extend, for formulas such as derivatives."""

from __future__ import annotations

from llmsr.expression.graph import Graph


class Symbol:
    """One node; sums, products, quotients and signs are simplified: 0 + a, 1 * a, -(-a), 0 * a.

    Differences and functions are taken as they are said, `a**2` is `a * a` as it is said.
    """

    __slots__ = ("graph", "index")

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    @property
    def number(self) -> float | None:
        """The value where it is a number."""
        node = self.graph.nodes[self.index]
        return float(node.value) if node.op == "const" else None  # type: ignore[arg-type]

    @property
    def _negated(self) -> Symbol | None:
        """What this is minus of, where it is a negation."""
        node = self.graph.nodes[self.index]
        return Symbol(self.graph, node.args[0]) if node.op == "neg" else None

    def _symbol(self, value: Symbol | float) -> Symbol:
        return value if isinstance(value, Symbol) else Symbol(self.graph, self.graph.const(value))

    def apply(self, op: str, *args: Symbol | float) -> Symbol:
        """`op(*args)` as one more node; a choice between equals is none."""
        indices = [self._symbol(a).index for a in args]
        if op == "where" and indices[1] == indices[2]:
            return Symbol(self.graph, indices[1])
        return Symbol(self.graph, self.graph.add(op, *indices))

    def __neg__(self) -> Symbol:
        node = self.graph.nodes[self.index]
        if node.op == "neg":
            return Symbol(self.graph, node.args[0])
        if node.op == "sub":
            return Symbol(self.graph, self.graph.add("sub", node.args[1], node.args[0]))
        return self.apply("neg", self)

    def __add__(self, other: Symbol | float) -> Symbol:
        other = self._symbol(other)
        if self.number == 0.0:
            return other
        if other.number == 0.0:
            return self
        for a, b in ((self, other), (other, self)):
            if (negated := b._negated) is not None:
                return a - negated
        return Symbol(self.graph, self.graph.add("add", *sorted((self.index, other.index))))

    __radd__ = __add__

    def __sub__(self, other: Symbol | float) -> Symbol:
        return self.apply("sub", self, other)

    def __rsub__(self, other: float) -> Symbol:
        return self.apply("sub", other, self)

    def __mul__(self, other: Symbol | float) -> Symbol:
        other = self._symbol(other)
        for a, b in ((self, other), (other, self)):
            value = a.number
            if value == 0.0:
                return a
            if value == 1.0:
                return b
            if value == -1.0:
                return -b
        for a, b in ((self, other), (other, self)):
            if (negated := a._negated) is not None:
                return -(negated * b)
        return Symbol(self.graph, self.graph.add("mul", *sorted((self.index, other.index))))

    __rmul__ = __mul__

    def __truediv__(self, other: Symbol) -> Symbol:
        if self.number == 0.0 or other.number == 1.0:
            return self
        if (negated := self._negated) is not None:
            return -(negated / other)
        return self.apply("div", self, other)

    def __pow__(self, exponent: float) -> Symbol:
        """Spelled with the cheapest operation."""
        if exponent == 0.0:
            return self._symbol(1.0)
        if exponent == 1.0:
            return self
        return self.apply("mul", self, self) if exponent == 2.0 else self.apply("pow", self, exponent)
