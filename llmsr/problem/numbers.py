"""The plain numbers in a spec's text: what its module-level names are worth, without executing anything."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping

LARGEST_INTEGER = 2**53  # what a float64 holds exactly; beyond it numbers are floats here, of bounded size


def module_constants(tree: ast.Module) -> dict[str, int | float]:
    """The numbers that module-level assignments give to names; the last assignment of a name counts."""
    constants: dict[str, int | float] = {}
    for statement in tree.body:
        for target, value in _assignments(statement):
            number = _number(value, constants)
            if number is None:
                constants.pop(target, None)
            else:
                constants[target] = number
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            # a name that anything else binds is no constant
            for node in _own_scope(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    constants.pop(node.id, None)
    return constants


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
        yield statement.target.id, statement.value
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
            elif (
                isinstance(target, ast.Tuple | ast.List)
                and isinstance(statement.value, ast.Tuple | ast.List)
                and len(target.elts) == len(statement.value.elts)
            ):
                for part, value in zip(target.elts, statement.value.elts, strict=True):
                    if isinstance(part, ast.Name):
                        yield part.id, value


def _number(node: ast.expr, constants: Mapping[str, int | float]) -> int | float | None:
    """The value of plain arithmetic on numbers, pi and e, with Python's type; None for all else."""
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as value):
            return _bounded(value)
        case ast.Name(id=name):
            return constants.get(name)
        case ast.Attribute(value=ast.Name(id="np" | "numpy" | "math" | "torch"), attr="pi"):
            return math.pi
        case ast.Attribute(value=ast.Name(id="np" | "numpy" | "math" | "torch"), attr="e"):
            return math.e
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            inner = _number(operand, constants)
            return -inner if inner is not None and isinstance(sign, ast.USub) else inner
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _number(left, constants), _number(right, constants)
            if a is None or b is None:
                return None
            try:
                match op:
                    case ast.Add():
                        return _bounded(a + b)
                    case ast.Sub():
                        return _bounded(a - b)
                    case ast.Mult():
                        return _bounded(a * b)
                    case ast.Div():
                        return a / b
                    case ast.Pow():
                        return _power(a, b)
            except (ZeroDivisionError, OverflowError):
                return None
    return None


def _bounded(value: int | float) -> int | float | None:
    if isinstance(value, float) or abs(value) <= LARGEST_INTEGER:
        return value
    try:
        return float(value)
    except OverflowError:
        return None


def _power(a: int | float, b: int | float) -> int | float | None:
    power = float(a) ** b  # of floats, so that no large integer is made on the way
    if isinstance(power, complex):
        return None
    whole = isinstance(a, int) and isinstance(b, int) and b >= 0 and abs(power) <= LARGEST_INTEGER
    return int(power) if whole else power


def ones_length(node: ast.AST, constants: Mapping[str, int | float]) -> int | float | None:
    """The length of a plainly written list or array of ones; None for any other expression."""
    match node:
        case ast.BinOp(left=ast.List(elts=[ast.Constant(value=one)]), op=ast.Mult(), right=count) if one == 1:
            return _number(count, constants)
        case ast.Call(func=ast.Attribute(attr="ones"), args=[count, *_]):
            return _number(count, constants)
        case ast.List(elts=[_, _, *_] as items) if all(
            isinstance(i, ast.Constant) and i.value == 1 for i in items
        ):
            return len(items)
    return None


def _own_scope(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a module-level statement that bind module-level names."""
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from ast.walk(statement)
