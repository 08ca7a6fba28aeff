"""The terms that a least-squares objective is made of, and the operations that lead from one to the next.

A term stands for an array or a number whose value is not known. Every function here returns the term of its
result, or raises `NotStandard` for whatever is no step of the standard form.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAME_SHAPE = ("ravel", "flatten", "squeeze", "copy")  # methods that leave an array of shape (rows,) as it is
ROWS = ("outputs", "column", "predicted", "residual", "squares")  # terms of shape (rows,)
BUILTINS = ("len", "float", "range", "list", "tuple")


class NotStandard(Exception):
    """A statement or expression that is no part of the standard form."""


@dataclass(frozen=True)
class Symbol:
    """A value known by its kind.

    Of the objective: data, inputs, transposed (inputs.T), column, outputs, params, predicted, residual,
    squares, sum_squares, loss (the mean of squares); minimum (what minimize returned), best_loss and
    best_params (its fields), negative (minus best_loss), finite (a test of best_loss: +1 true when it is
    finite, -1 true when not). Else: number, text, nothing (None), n_rows, range, list_of_ones, array_of_ones,
    module, builtin, method, unknown. `detail` tells apart columns, numbers, module paths, and the params of a
    prediction.
    """

    kind: str
    detail: Any = None


@dataclass(frozen=True, eq=False)
class Closure:
    """A function of the spec with the scopes that it sees, innermost first."""

    node: ast.FunctionDef | ast.Lambda
    scopes: tuple[dict[str, Any], ...]


Value = Symbol | Closure | tuple  # a tuple: a Python sequence of values

BEST = Symbol("best_params")
NOTHING = Symbol("nothing")


def mean_of_squares(params: Symbol) -> Symbol:
    """The loss; at the minimiser's own result it is the least one."""
    return Symbol("best_loss") if params == BEST else Symbol("loss", params)


def sequence(items: Sequence[Value]) -> Value:
    """A list or tuple of values."""
    if items and all(item == Symbol("number", 1) for item in items):
        return Symbol("list_of_ones", len(items))
    return tuple(items)


def items_of(value: Value, n_columns: int) -> tuple:
    """The parts of what can be unpacked; the rows of inputs.T are the columns."""
    if isinstance(value, tuple):
        return value
    if value == Symbol("transposed"):
        return tuple(Symbol("column", i) for i in range(n_columns))
    raise NotStandard


def column(index: Value, n_columns: int) -> Symbol:
    """Column `index` of the inputs."""
    match index:
        case Symbol(kind="number", detail=int() as i) if 0 <= i < n_columns:
            return Symbol("column", i)
    raise NotStandard


def attribute(owner: Value, name: str, n_columns: int) -> Value:
    """`owner.name`."""
    if not isinstance(owner, Symbol):
        raise NotStandard
    match owner.kind, name:
        case "module", _:
            return Symbol("module", f"{owner.detail}.{name}")
        case "inputs", "T":
            return Symbol("transposed")
        case "inputs", "shape":
            return (Symbol("n_rows"), Symbol("number", n_columns))
        case kind, "shape" if kind in ROWS:
            return (Symbol("n_rows"),)
        case kind, "size" if kind in ROWS:
            return Symbol("n_rows")
        case "minimum", _:
            return result_field(name)
        case _:
            return Symbol("method", (owner, name))


def result_field(name: str) -> Symbol:
    """A field of what minimize returned."""
    fields = {"fun": Symbol("best_loss"), "x": BEST}
    if name not in fields:
        raise NotStandard
    return fields[name]


def minus(value: Value) -> Value:
    """`-value`."""
    match value:
        case Symbol(kind="best_loss"):
            return Symbol("negative")
        case Symbol(kind="number", detail=number):
            return Symbol("number", -number)
    raise NotStandard


def binary(op: ast.operator, left: Value, right: Value) -> Value:
    """`left op right`."""
    match op, left, right:
        case ast.Sub(), Symbol(kind="predicted", detail=params), Symbol(kind="outputs"):
            return Symbol("residual", params)
        case ast.Sub(), Symbol(kind="outputs"), Symbol(kind="predicted", detail=params):
            return Symbol("residual", params)
        case ast.Pow(), Symbol(kind="residual", detail=params), Symbol(kind="number", detail=power):
            if power == 2:
                return Symbol("squares", params)
        case ast.Mult(), Symbol(kind="residual", detail=params), _ if left == right:
            return Symbol("squares", params)
        case ast.Div(), Symbol(kind="sum_squares", detail=params), Symbol(kind="n_rows"):
            return mean_of_squares(params)
        case ast.Mult(), Symbol(kind="list_of_ones", detail=n), Symbol(kind="number", detail=int() as times):
            return Symbol("list_of_ones", n * times)
        case ast.Mult(), Symbol(kind="number", detail=int() as times), Symbol(kind="list_of_ones", detail=n):
            return Symbol("list_of_ones", n * times)
    raise NotStandard


def numpy_call(name: str, args: list[Any]) -> Value:
    """A function of numpy, by its name there, or of math."""
    match name, args:
        case "mean" | "average", [Symbol(kind="squares", detail=params)]:
            return mean_of_squares(params)
        case "sum", [Symbol(kind="squares", detail=params)]:
            return Symbol("sum_squares", params)
        case "square", [Symbol(kind="residual", detail=params)]:
            return Symbol("squares", params)
        case "power", [residual, exponent]:
            return binary(ast.Pow(), residual, exponent)
        case "subtract", [left, right]:
            return binary(ast.Sub(), left, right)
        case "multiply", [left, right]:
            return binary(ast.Mult(), left, right)
        case "dot", [Symbol(kind="residual", detail=params), other] if other == args[0]:
            return Symbol("sum_squares", params)
        case "isnan" | "isinf", [Symbol(kind="best_loss")]:
            return Symbol("finite", -1)
        case "isfinite", [Symbol(kind="best_loss")]:
            return Symbol("finite", 1)
        case "ones", [Symbol(kind="number", detail=int() as count)]:
            return Symbol("array_of_ones", count)
        case "array" | "asarray", [Symbol(kind="list_of_ones" | "array_of_ones", detail=count)]:
            return Symbol("array_of_ones", count)
        case "array" | "asarray", [Symbol(kind="inputs" | "outputs" | "column")]:
            return args[0]
        case "float64", [Symbol(kind="loss" | "best_loss" | "negative")]:
            return args[0]
    raise NotStandard


def builtin_call(name: str, args: list[Any], n_columns: int) -> Value:
    """One of BUILTINS."""
    match name, args:
        case "len", [Symbol(kind=kind)] if kind == "inputs" or kind in ROWS:
            return Symbol("n_rows")
        case "len", [tuple() as items]:
            return Symbol("number", len(items))
        case "float", [Symbol(kind="loss" | "best_loss" | "negative")]:
            return args[0]
        case "range", [Symbol(kind="number", detail=int() as count)] if 0 <= count <= 1000:
            return Symbol("range", count)
        case "list" | "tuple", [value]:
            is_ones = isinstance(value, Symbol) and value.kind == "list_of_ones"
            return value if is_ones else items_of(value, n_columns)
    raise NotStandard


def method_call(owner: Symbol, name: str, args: list[Any]) -> Value:
    """`owner.name(*args)`."""
    match owner.kind, name, args:
        case "squares", "mean", []:
            return mean_of_squares(owner.detail)
        case "squares", "sum", []:
            return Symbol("sum_squares", owner.detail)
        case "outputs" | "column", str(), [] if name in SAME_SHAPE:
            return owner
        case "outputs" | "column", "reshape", [Symbol(kind="number", detail=-1)]:
            return owner
        case "loss" | "best_loss", "item", []:
            return owner
    raise NotStandard
