"""The canonical form of an equation: equal equations are recognised whatever their spelling.

Two expressions with the same canonical form have equal values on every row, up to rounding, and are finite on
the same rows, rows where an intermediate result is infinite or overflows excepted (see `algebra`).
The reverse does not hold: no finite set of rules finds all equal equations. Found are: operand order, nesting
of sums and products, collected addends, factors and numbers, signs, x*x against x**2, sqrt against a power,
odd and even functions, turned comparisons and conditions, parameter numbering, variable names, sharing.

Time and memory grow with the nodes of the graph, not with the size of its tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from hashlib import sha256
from typing import Any

from llmsr.expression.algebra import normal_form
from llmsr.expression.graph import Expression, Graph
from llmsr.expression.operations import COMMUTATIVE
from llmsr.expression.terms import Power, Terms, digest, number_text


@dataclass(frozen=True)
class Canonical:
    """A canonical expression and where its parameters came from.

    `params[new]` is the author's index of the canonical parameter `new`: a fit of the original is carried
    over by `[fitted[old] for old in params]`.
    """

    expression: Expression
    params: tuple[int, ...]

    @cached_property
    def text(self) -> str:
        """One readable line in the columns' names, numbers to 13 digits; bounded for any graph."""
        from llmsr.expression.printing import to_text

        return to_text(self.expression, digits=13)

    @cached_property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over the operations, numbers and column positions (not their names)."""
        lines = []
        for op, args, value in self.expression.nodes:
            shown = "" if value is None else number_text(float(value))
            lines.append(f"{op} {' '.join(map(str, args))} {shown}")
        return sha256("\n".join(lines).encode()).hexdigest()[:16]


def canonicalize(expression: Expression) -> Canonical:
    """The canonical form with its parameter mapping; parameters that cancel out are gone."""
    return _emit(*normal_form(expression), expression.columns)


def canonical(expression: Expression) -> Expression:
    """The expression in canonical form, parameters numbered 0.. in the order in which they appear."""
    return canonicalize(expression).expression


def canonical_hash(expression: Expression) -> str:
    """Sixteen hexadecimal digits, equal for equations that are equal up to spelling; stable everywhere."""
    return canonicalize(expression).hash


def family(expression: Expression) -> Canonical:
    """The canonical form as a family of functions: numbers that a parameter can take up are dropped.

    A factor or a sign on a parameter that appears once (2*p0*x, x/(3*p0), -sin(p0*x)) and a number added to
    such a parameter (p0 + 1) do not change which functions the skeleton can become. The values of the
    parameters do change, so fits cannot be carried over: it serves to count distinct skeletons.
    """
    paths = [0] * len(expression.nodes)
    paths[-1] = 1
    for index in range(len(expression.nodes) - 1, -1, -1):
        for a in expression.nodes[index].args:
            paths[a] = min(2, paths[a] + paths[index])
    uses = dict.fromkeys(expression.params, 0)
    for node, count in zip(expression.nodes, paths, strict=True):
        if node.op == "param":
            uses[node.value] += count  # type: ignore[index]
    # one that appears twice could take up a factor in one place only by changing the other
    free = frozenset(p for p, count in uses.items() if count == 1)
    return _emit(*normal_form(expression, free), expression.columns)


# order ---------------------------------------------------------------------------------------------------


class _Order:
    """The canonical order of operands below a root, and with it the canonical numbering of parameters.

    Operands are sorted by structure with parameters not told apart. Where that leaves ties between operands
    that hold parameters, parameters get colours by what the whole term looks like when one of them is marked,
    until all differ; parameters that no marking tells apart are interchangeable.
    """

    def __init__(self, table: Terms, root: int) -> None:
        self.table = table
        self.root = root
        needed = {root}
        for t in range(root, -1, -1):
            if t in needed:
                needed.update(table.terms[t].children)
        self.reachable = sorted(needed)
        self.keys: dict[int, tuple[Any, ...]] = {t: table.key(t) for t in self.reachable}
        self.moving = [t for t in self.reachable if table.terms[t].has_params]
        if any(self._tied(t) for t in self.moving):
            self._colour()

    def _unordered(self, t: int) -> bool:
        """Whether the operands of a term may stand in any order."""
        kind = self.table.terms[t].kind
        return kind in ("sum", "prod") or kind in COMMUTATIVE

    def operands(self, t: int) -> list[tuple[int, Any]]:
        """The operands in order, each with its coefficient in a sum, its power in a product."""
        term, keys = self.table.terms[t], self.keys
        if term.kind == "sum":
            return sorted(term.parts(), key=lambda pair: (pair[1] < 0, keys[pair[0]], pair[1]))
        if self._unordered(t):
            return sorted(term.parts(), key=lambda pair: (keys[pair[0]], pair[1]))
        return list(term.parts())

    def _tied(self, t: int) -> bool:
        terms = self.table.terms
        found = [(self.keys[u], x) for u, x in terms[t].parts() if terms[u].has_params]
        return self._unordered(t) and len(set(found)) < len(found)

    def _marked(self, colours: dict[int, str]) -> dict[int, tuple[Any, ...]]:
        """The keys of all terms with parameters shown by their colours."""
        terms, keys = self.table.terms, dict(self.keys)
        for t in self.moving:
            term = terms[t]
            if term.kind == "par":
                keys[t] = (1, 1, colours[int(term.value)], "")
            else:
                keys[t] = (*self.keys[t][:3], self.table.mark(term, [keys[u] for u in term.children]))
        return keys

    def _colour(self) -> None:
        terms = self.table.terms
        params = sorted(int(terms[t].value) for t in self.moving if terms[t].kind == "par")
        rank = dict.fromkeys(params, 0)
        while len(set(rank.values())) < len(params):
            shown = {p: f"{rank[p]:04d}" for p in params}
            marks = {p: (rank[p], "") for p in params}
            for p in params:
                if sum(r == rank[p] for r in rank.values()) > 1:
                    keys = self._marked({**shown, p: "marked"})
                    marks[p] = (rank[p], digest(*map(str, keys[self.root])))
            classes = sorted(set(marks.values()))
            if len(classes) == len(set(rank.values())):
                # interchangeable as far as marking can tell: take one out and look again
                tied = min(p for p in params if sum(marks[p] == m for m in marks.values()) > 1)
                marks[tied] = (marks[tied][0], "")
                classes = sorted(set(marks.values()))
            rank = {p: classes.index(marks[p]) for p in params}
        self.keys = self._marked({p: f"{rank[p]:04d}" for p in params})


# emission ------------------------------------------------------------------------------------------------


def _emit(table: Terms, root: int, columns: tuple[str, ...]) -> Canonical:
    order = _Order(table, root)
    # generous: every sum and product is bounded by the table's own limit
    graph = Graph(max_nodes=10_000_000)
    made: dict[int, int] = {}
    new: dict[int, int] = {}
    stack: list[tuple[int, list[tuple[int, Any]] | None]] = [(root, None)]
    while stack:
        t, operands = stack.pop()
        if t in made:
            continue
        kind, value = table.terms[t][:2]
        if operands is None:
            operands = order.operands(t)
            stack.append((t, operands))
            stack.extend((u, None) for u, _ in reversed(operands) if u not in made)
        elif kind == "num":
            made[t] = graph.const(value)
        elif kind == "col":
            made[t] = graph.column(int(value))
        elif kind == "par":
            made[t] = graph.param(new.setdefault(int(value), len(new)))
        elif kind == "sum":
            made[t] = _emit_sum(graph, value, operands, made)
        elif kind == "prod":
            made[t] = _emit_product(graph, operands, made)
        else:
            nodes = [made[u] for u, _ in operands]
            # an operation that may have many operands is written as a chain of two at a time
            chained = kind in COMMUTATIVE
            made[t] = reduce(partial(graph.add, kind), nodes) if chained else graph.add(kind, *nodes)
    return Canonical(graph.expression(made[root], columns), tuple(new))


def _is_reciprocal(graph: Graph, node: int) -> bool:
    op, args, _ = graph.nodes[node]
    return op == "div" and graph.nodes[args[0]] == ("const", (), 1.0)


def _emit_sum(graph: Graph, constant: float, operands: list[Any], made: dict[int, int]) -> int:
    """Positive terms first, then negative ones; the constant last, or first where it alone is positive."""
    result: int | None = None
    if constant > 0 and all(c < 0 for _, c in operands):
        result, constant = graph.const(constant), 0.0
    for t, c in operands:
        subtract = result is not None and c < 0
        value = -c if subtract else c
        if value == 1.0:
            node = made[t]
        elif value == -1.0:
            node = graph.add("neg", made[t])
        elif _is_reciprocal(graph, made[t]):
            node = graph.add("div", graph.const(value), graph.nodes[made[t]].args[1])
        else:
            node = graph.add("mul", graph.const(value), made[t])
        if result is None:
            result = node
        else:
            result = graph.add("sub" if subtract else "add", result, node)
    assert result is not None
    if constant:
        result = graph.add("add" if constant > 0 else "sub", result, graph.const(abs(constant)))
    return result


def _emit_product(graph: Graph, operands: list[tuple[int, Power]], made: dict[int, int]) -> int:
    def raised(base: int, exponent: float, guard: bool) -> int:
        if guard and exponent == math.floor(exponent):
            base, exponent = graph.add("sqrt", base), 2.0 * exponent
        if exponent == 1.0:
            return base
        return graph.add("sqrt", base) if exponent == 0.5 else graph.add("pow", base, graph.const(exponent))

    above: int | None = None
    below: int | None = None
    for t, p in operands:
        if p.above:
            factor = raised(made[t], p.above, p.guard_above)
            above = factor if above is None else graph.add("mul", above, factor)
        if p.below:
            factor = raised(made[t], p.below, p.guard_below)
            below = factor if below is None else graph.add("mul", below, factor)
    if above is None:
        above = graph.const(1.0)
    return above if below is None else graph.add("div", above, below)
