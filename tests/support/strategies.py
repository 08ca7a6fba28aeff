"""Expressions for tests: written as Python text with `build`, or drawn at random with `random_expression`."""

from __future__ import annotations

import math
import random

from hypothesis import strategies as st

from llmsr.expression.graph import Expression, Graph
from llmsr.expression.operations import OPS

COLUMNS = ("x", "v", "t")
_FUNCTIONS = {op for op in OPS if op not in ("and", "or", "not")}


class Symbol:
    """A node of a graph under construction that Python's operators extend."""

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    def apply(self, op: str, *args: Symbol | float) -> Symbol:
        nodes = [a.index if isinstance(a, Symbol) else self.graph.const(float(a)) for a in args]
        return Symbol(self.graph, self.graph.add(op, *nodes))

    def __neg__(self):
        return self.apply("neg", self)

    def __invert__(self):
        return self.apply("not", self)


def _operator(op: str, reverse: bool):
    return lambda self, other: self.apply(op, *((other, self) if reverse else (self, other)))


for _name, _op in {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "pow": "pow",
    "mod": "mod",
    "floordiv": "floordiv",
    "and": "and",
    "or": "or",
    "xor": "xor",
}.items():
    setattr(Symbol, f"__{_name}__", _operator(_op, False))
    setattr(Symbol, f"__r{_name}__", _operator(_op, True))
for _op in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Symbol, f"__{_op}__", _operator(_op, False))


def build(text: str, columns: tuple[str, ...] = COLUMNS) -> Expression:
    """The expression of a test's own text: columns, p0..p9, every operation by name or as `op("and", x, v)`,
    Python's operators (& | ~ for and, or, not), pi, e.
    """
    graph = Graph(max_nodes=100_000)
    names = {name: Symbol(graph, graph.column(i)) for i, name in enumerate(columns)}
    names |= {f"p{i}": Symbol(graph, graph.param(i)) for i in range(10)}
    one = Symbol(graph, graph.const(1.0))
    names["op"] = one.apply
    names |= {op: (lambda *args, op=op: one.apply(op, *args)) for op in _FUNCTIONS}
    result = eval(
        text,
        {"__builtins__": {}, "pi": math.pi, "e": math.e, "const": lambda v: one.apply("mul", 1, v)},
        names,
    )
    return graph.expression(result.index, columns)


@st.composite
def random_expression(
    draw,
    columns: tuple[str, ...] = COLUMNS,
    max_params: int = 4,
    max_operations: int = 14,
    ops: tuple[str, ...] = tuple(OPS),
) -> Expression:
    """A graph over all `ops`, half of them arithmetic, with shared nodes; it holds at least one column.

    Hypothesis chooses the number of operations and a seed: its own choices prefer tiny graphs.
    """
    return expression_of(
        draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, max_operations)), columns, max_params, ops
    )


def expression_of(
    seed: int,
    operations: int,
    columns: tuple[str, ...] = COLUMNS,
    max_params: int = 4,
    ops: tuple[str, ...] = tuple(OPS),
) -> Expression:
    """The random expression of a seed."""
    rng = random.Random(seed)
    graph = Graph(max_nodes=10_000)
    leaves = [graph.column(i) for i in range(len(columns))] * 2
    leaves += [graph.param(i) for i in range(max_params)]
    leaves += [
        graph.const(c) for c in (2.0, rng.choice([-1.0, 0.0, 1.0, 0.5]), rng.choice([3.0, -2.5, 0.1, 1e-3]))
    ]
    arithmetic = (
        tuple(op for op in ("add", "add", "sub", "mul", "mul", "div", "neg", "pow", "sqrt") if op in ops)
        or ops
    )
    made: list[int] = []
    waiting: list[int] = []  # made, but not used yet
    for _ in range(operations):
        op = rng.choice(arithmetic if rng.random() < 0.5 else ops)
        args = []
        for _ in range(OPS[op].arity):
            if waiting and rng.random() < 0.6:
                args.append(waiting.pop(rng.randrange(len(waiting))))
            else:
                args.append(rng.choice(made if made and rng.random() < 0.3 else leaves))
        node = graph.add(op, *args)
        made.append(node)
        waiting.append(node)
    result = waiting[0]
    for node in waiting[1:]:
        result = graph.add(rng.choice([op for op in ("add", "mul") if op in ops] or ["add"]), result, node)
    if not graph.expression(result, columns).inputs:
        result = graph.add("add", result, rng.randrange(len(columns)))
    return graph.expression(result, columns)
