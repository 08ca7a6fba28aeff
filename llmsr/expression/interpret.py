"""An interpreter of the Python subset in which equations are written; it builds a graph and runs nothing."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from llmsr.expression.arrays import COMPARISONS, Arrays, describe
from llmsr.expression.functions import MODULES
from llmsr.expression.graph import Graph
from llmsr.expression.limits import Limits
from llmsr.expression.scalars import checked, fold
from llmsr.expression.values import Array, Frame, Module, Native, Refused, Store

SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


class Interpreter:
    def __init__(self, graph: Graph, limits: Limits, names: dict[str, Any]) -> None:
        self.arrays = Arrays(graph, limits)
        self.limits = limits
        self.steps = 0
        self.line = 1
        self.frame = Frame(frozenset(), None, names)

    def run(self, body: list[ast.stmt]) -> Any:
        for statement in body:
            self.line = statement.lineno
            if isinstance(statement, ast.Return):
                return self.value(statement.value)
            if isinstance(statement, ast.Assign):
                value = self.value(statement.value)
                for target in statement.targets:
                    if not isinstance(target, ast.Name):
                        raise Refused("this assignment")
                    self.frame.names[target.id] = value
            elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                left = self.value(ast.Name(statement.target.id, ast.Load()))
                self.frame.names[statement.target.id] = self.binary(
                    SYMBOLS[type(statement.op)], left, self.value(statement.value)
                )
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue
            else:
                raise Refused(f"a {type(statement).__name__} statement")
        raise Refused("the body has no return")

    def value(self, node: ast.expr | None) -> Any:
        self.steps += 1
        if self.steps > self.limits.steps:
            raise Refused("too many steps", "too_large")
        if isinstance(node, ast.Constant):
            return (
                node.value
                if isinstance(node.value, (bool, str, type(None)))
                else checked(node.value, self.limits)
            )
        if isinstance(node, ast.Name):
            if node.id in self.frame.names:
                return self.frame.names[node.id]
            if node.id in ("np", "numpy"):
                return Module("numpy")
            if node.id in ("math", "torch"):
                return Module(node.id)
            raise Refused(f"the name {node.id} is not defined")
        if isinstance(node, ast.BinOp):
            return self.binary(SYMBOLS[type(node.op)], self.value(node.left), self.value(node.right))
        if isinstance(node, ast.UnaryOp):
            x = self.value(node.operand)
            if isinstance(node.op, ast.USub):
                return -x if isinstance(x, (int, float)) else self.arrays.negative(self.arrays.lift(x))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self.binary(
                SYMBOLS[type(node.ops[0])], self.value(node.left), self.value(node.comparators[0])
            )
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            if isinstance(base, Module) and node.attr in MODULES[base.name]:
                return MODULES[base.name][node.attr]
            raise Refused(f"the attribute {node.attr} of {describe(base)}")
        if isinstance(node, ast.Subscript):
            return self.arrays.index(self.arrays.lift(self.value(node.value)), self.value(node.slice))
        if isinstance(node, ast.Call):
            function = self.value(node.func)
            if not isinstance(function, Native):
                raise Refused("this call")
            return function.call(
                self, [self.value(a) for a in node.args], {k.arg: self.value(k.value) for k in node.keywords}
            )
        raise Refused(f"a {type(node).__name__}")

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return fold(symbol, left, right, self.limits)
        a, b = self.arrays.lift(left), self.arrays.lift(right)
        if symbol in COMPARISONS:
            return self.arrays.compare(symbol, a, b)
        return self.arrays.arithmetic(symbol, a, b)


def column(graph: Graph, index: int) -> Array:
    return Array(
        np.array([graph.column(index)], dtype=np.int64), "f", -1, (), Store(locked="an input column")
    )


def parameters(graph: Graph, size: int) -> Array:
    cells = np.array([graph.param(i) for i in range(size)], dtype=np.int64)
    return Array(cells, "f", None, (), Store(locked="the parameters"))
