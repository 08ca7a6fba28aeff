"""An equation as data: a graph of element-wise operations over input columns and parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import special


class Node(NamedTuple):
    """One operation of a graph; `args` are positions of earlier nodes.

    `value` is the number of a `const`, the index of a `column` or `param`, and None elsewhere.
    """

    op: str
    args: tuple[int, ...] = ()
    value: float | int | None = None


class Op(NamedTuple):
    """What an operation computes on float64 arrays; booleans are the numbers 0.0 and 1.0."""

    arity: int
    kernel: Callable[..., Any]
    boolean: bool = False


def _truth(kernel: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda *args: kernel(*args).astype(np.float64)


OPS: dict[str, Op] = {
    # one argument
    **{
        name: Op(1, kernel)
        for name, kernel in {
            "neg": np.negative,
            "abs": np.abs,
            "sign": np.sign,
            "sqrt": np.sqrt,
            "cbrt": np.cbrt,
            "exp": np.exp,
            "exp2": np.exp2,
            "expm1": np.expm1,
            "log": np.log,
            "log2": np.log2,
            "log10": np.log10,
            "log1p": np.log1p,
            "sin": np.sin,
            "cos": np.cos,
            "tan": np.tan,
            "arcsin": np.arcsin,
            "arccos": np.arccos,
            "arctan": np.arctan,
            "sinh": np.sinh,
            "cosh": np.cosh,
            "tanh": np.tanh,
            "arcsinh": np.arcsinh,
            "arccosh": np.arccosh,
            "arctanh": np.arctanh,
            "floor": np.floor,
            "ceil": np.ceil,
            "rint": np.rint,
            "trunc": np.trunc,
            "expit": special.expit,
            "erf": special.erf,
            "erfc": special.erfc,
            "gamma": special.gamma,
            "gammaln": special.gammaln,
            "digamma": special.digamma,
        }.items()
    },
    "not": Op(1, _truth(lambda a: a == 0), True),
    "isnan": Op(1, _truth(np.isnan), True),
    "isinf": Op(1, _truth(np.isinf), True),
    "isfinite": Op(1, _truth(np.isfinite), True),
    # two arguments
    **{
        name: Op(2, kernel)
        for name, kernel in {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "div": np.divide,
            "pow": np.power,
            "mod": np.mod,
            "fmod": np.fmod,
            "floordiv": np.floor_divide,
            "arctan2": np.arctan2,
            "hypot": np.hypot,
            "minimum": np.minimum,
            "maximum": np.maximum,
            "fmin": np.fmin,
            "fmax": np.fmax,
            "logaddexp": np.logaddexp,
            "copysign": np.copysign,
            "heaviside": np.heaviside,
        }.items()
    },
    **{
        name: Op(2, _truth(kernel), True)
        for name, kernel in {
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
            "eq": np.equal,
            "ne": np.not_equal,
            "and": np.logical_and,
            "or": np.logical_or,
            "xor": np.logical_xor,
        }.items()
    },
    # three arguments: condition, value where it is not zero, value where it is zero
    "where": Op(3, lambda c, a, b: np.where(c != 0, a, b)),
}


class GraphTooLarge(Exception):
    """The graph would exceed the node limit that its builder was given."""


class Graph:
    """A builder that shares equal nodes and folds operations on constants.

    `max_nodes` bounds memory for any input; `add` raises `GraphTooLarge` beyond it.
    """

    def __init__(self, max_nodes: int = 4000, nodes: Sequence[Node] = ()) -> None:
        """Starts with `nodes`, which refer to each other."""
        self.nodes: list[Node] = list(nodes)
        self.max_nodes = max_nodes
        self._known: dict[tuple, int] = {self._key(node): i for i, node in enumerate(self.nodes)}

    @staticmethod
    def _key(node: Node) -> tuple:
        # by repr of the number, so that 0.0 and -0.0 stay apart and nan equals itself
        return ("const", (), repr(node.value)) if node.op == "const" else node

    def _intern(self, node: Node) -> int:
        key = self._key(node)
        index = self._known.get(key)
        if index is None:
            if len(self.nodes) >= self.max_nodes:
                raise GraphTooLarge(f"more than {self.max_nodes} operations")
            index = self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return index

    def const(self, value: float) -> int:
        return self._intern(Node("const", (), float(value)))

    def column(self, index: int) -> int:
        return self._intern(Node("column", (), index))

    def param(self, index: int) -> int:
        return self._intern(Node("param", (), index))

    def add(self, op: str, *args: int) -> int:
        """The position of `op(*args)`; constants are folded with the operation's own kernel."""
        spec = OPS[op]
        if len(args) != spec.arity:
            raise ValueError(f"{op} takes {spec.arity} arguments, got {len(args)}")
        nodes = self.nodes
        for a in args:
            if nodes[a].op != "const":
                return self._intern(Node(op, args))
        with np.errstate(all="ignore"):
            values = [np.float64(nodes[a].value) for a in args]  # type: ignore[arg-type]
            return self.const(float(spec.kernel(*values)))

    def expression(self, root: int, columns: tuple[str, ...]) -> Expression:
        """The expression that ends in `root`, without the nodes it does not need."""
        needed: set[int] = set()
        stack = [root]
        while stack:
            index = stack.pop()
            if index not in needed:
                needed.add(index)
                stack.extend(self.nodes[index].args)
        if len(needed) == len(self.nodes):
            return Expression(tuple(self.nodes), columns)
        order = sorted(needed)
        position = {old: new for new, old in enumerate(order)}
        nodes = tuple(
            Node(op, tuple([position[a] for a in args]), value)
            for op, args, value in (self.nodes[i] for i in order)
        )
        return Expression(nodes, columns)


@dataclass(frozen=True)
class Expression:
    """An equation of one row: nodes in topological order, the last one being the result.

    `columns` names the input columns in their order. Every node is a number per row (or a number for all
    rows), so nothing an expression can say mixes rows.
    """

    nodes: tuple[Node, ...]
    columns: tuple[str, ...]

    @cached_property
    def params(self) -> tuple[int, ...]:
        """The indices of the parameters that the result depends on, ascending."""
        return tuple(sorted({int(n.value) for n in self.nodes if n.op == "param"}))  # type: ignore[arg-type]

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The indices of the columns that the result depends on, ascending."""
        return tuple(sorted({int(n.value) for n in self.nodes if n.op == "column"}))  # type: ignore[arg-type]


def evaluate(expression: Expression, inputs: np.ndarray, params: np.ndarray) -> np.ndarray:
    """The value of every row, shape (rows,), by plain numpy: the meaning that all engines must agree with.

    `inputs` has shape (rows, columns), `params` at least as many entries as the largest parameter index.
    """
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for node in expression.nodes:
            if node.op == "const":
                values.append(np.float64(node.value))  # type: ignore[arg-type]
            elif node.op == "column":
                values.append(inputs[:, int(node.value)])  # type: ignore[arg-type, index]
            elif node.op == "param":
                values.append(np.float64(params[int(node.value)]))  # type: ignore[arg-type]
            else:
                values.append(OPS[node.op].kernel(*(values[a] for a in node.args)))
    return np.broadcast_to(np.asarray(values[-1], dtype=np.float64), (len(inputs),))
