"""pyoperon's Levenberg-Marquardt on one of our expressions, where its trees can say it.

Its trees cannot share a parameter between two places, and have no conditions, error functions and the like.
Its wheels compute in float32.
"""

from __future__ import annotations

import numpy as np
import pyoperon

from llmsr.expression.graph import Expression
from llmsr.problem.split import Split

_SAME = "add sub mul div pow sin cos tan exp log log1p sqrt cbrt abs tanh sinh cosh floor ceil"
_TYPES = {name: getattr(pyoperon.NodeType, name.capitalize()) for name in _SAME.split()} | {
    "arcsin": pyoperon.NodeType.Asin,
    "arccos": pyoperon.NodeType.Acos,
    "arctan": pyoperon.NodeType.Atan,
    "minimum": pyoperon.NodeType.Fmin,
    "maximum": pyoperon.NodeType.Fmax,
}


class Fitter:
    """pyoperon's optimiser on the rows of a split; `iterations` per fit at most."""

    def __init__(self, split: Split, iterations: int = 100) -> None:
        # these objects point to each other without keeping each other alive
        self.values = np.asfortranarray(np.column_stack([split.inputs, split.target]).astype(np.float32))
        self.dataset = pyoperon.Dataset(self.values)
        self.hashes = list(self.dataset.VariableHashes)
        self.rows = pyoperon.Range(0, len(split))
        self.problem = pyoperon.Problem(self.dataset)
        self.problem.TrainingRange = self.rows
        self.variables = self.dataset.Variables
        self.problem.Target = self.variables[len(self.hashes) - 1]
        self.table = pyoperon.DispatchTable()
        self.method = pyoperon.LMOptimizer(self.table, self.problem, max_iter=iterations)
        self.optimizer = pyoperon.CoefficientOptimizer(self.method)
        self.random = pyoperon.RandomGenerator(0)
        self.target = split.target

    def __call__(self, expression: Expression) -> float:
        """The mean squared error that is reached from ones; ValueError where no tree says the expression."""
        tree = self.tree(expression)
        if expression.params:
            tree, _ = self.optimizer(self.random, tree)
        return float(np.mean((self.predict(tree) - self.target) ** 2))

    def predict(self, tree: pyoperon.Tree) -> np.ndarray:
        """The tree's value on every row."""
        values = np.empty(len(self.target), dtype=np.float32)
        pyoperon.EvaluateTrees([tree], self.dataset, self.rows, values, 1)
        return values.astype(np.float64)

    def tree(self, expression: Expression) -> pyoperon.Tree:
        """The expression's tree, parameters 1."""
        seen: set[int] = set()

        def postfix(i: int) -> list[pyoperon.Node]:
            op, args, value = expression.nodes[i]
            if op == "param":
                if value in seen:
                    raise ValueError("a parameter in two places")
                seen.add(value)
                return [_constant(1.0, True)]
            if op == "const":
                return [_constant(float(value), False)]
            if op == "column":
                node = pyoperon.Node(pyoperon.NodeType.Variable, self.hashes[int(value)])
                node.Value, node.Optimize = 1.0, False
                return [node]
            if op == "neg":
                return [*postfix(args[0]), _constant(-1.0, False), pyoperon.Node(pyoperon.NodeType.Mul)]
            if op not in _TYPES:
                raise ValueError(f"no node for {op}")
            # the first argument stands next to its operation
            nodes = [node for a in reversed(args) for node in postfix(a)]
            return [*nodes, pyoperon.Node(_TYPES[op])]

        tree = pyoperon.Tree(postfix(len(expression.nodes) - 1))
        tree.UpdateNodes()
        return tree


def _constant(value: float, free: bool) -> pyoperon.Node:
    node = pyoperon.Node(pyoperon.NodeType.Constant)
    node.Value, node.Optimize = value, free
    return node
