"""The plain numbers in a spec's text: what its module-level names are worth, without executing anything."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Iterator, Mapping

LARGEST_INTEGER = 2**53  # what a float64 holds exactly; beyond it numbers are floats here, of bounded size

Number = int | float


def module_constants(tree: ast.Module) -> dict[str, Number]:
    """The numbers that module-level assignments give to names; the last assignment of a name counts."""
    constants: dict[str, Number] = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        values = dict(_assigned(statement))
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                # a name that anything but a plain assignment binds is no constant
                number = number_of(values[node.id], constants) if node.id in values else None
                constants.pop(node.id, None)
                if number is not None:
                    constants[node.id] = number
    return constants


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    for target in targets:
        match target, value:
            case ast.Name(id=name), ast.expr():
                yield name, value
            case ((ast.Tuple() | ast.List()), (ast.Tuple() | ast.List())) if len(target.elts) == len(
                value.elts
            ):
                yield from (
                    (t.id, v) for t, v in zip(target.elts, value.elts, strict=True) if isinstance(t, ast.Name)
                )


def number_of(node: ast.AST, constants: Mapping[str, Number]) -> Number | None:
    """The value of plain arithmetic on numbers, pi and e, with Python's type; None for all else."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name):
            return constants.get(name)
        case ast.Attribute(value=ast.Name(id="np" | "numpy" | "math" | "torch"), attr="pi" | "e" as name):
            return getattr(math, name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            inner = number_of(operand, constants)
            return -inner if inner is not None and isinstance(sign, ast.USub) else inner
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            a, b = number_of(left, constants), number_of(right, constants)
            try:
                return None if a is None or b is None else _bounded(_OPERATIONS[type(op)](a, b))
            except (ZeroDivisionError, OverflowError):
                return None
    return None


def ones_length(node: ast.AST, constants: Mapping[str, Number]) -> Number | None:
    """The length of a plainly written list or array of ones; None for any other expression."""
    match node:
        case ast.BinOp(left=ast.List(elts=[one]), op=ast.Mult(), right=count) if number_of(one, {}) == 1:
            return number_of(count, constants)
        case ast.Call(func=ast.Attribute(attr="ones"), args=[count, *_]):
            return number_of(count, constants)
        case ast.List(elts=[_, _, *_] as items) if all(number_of(i, {}) == 1 for i in items):
            return len(items)
    return None


def _bounded(value: Number) -> Number | None:
    try:
        found = float(value) if isinstance(value, int) and abs(value) > LARGEST_INTEGER else value
    except OverflowError:
        return None
    return None if isinstance(found, complex) else found


def _power(a: Number, b: Number) -> Number:
    power = float(a) ** b  # of floats, so that no large integer is made on the way
    whole = isinstance(a, int) and isinstance(b, int) and b >= 0 and abs(power) <= LARGEST_INTEGER
    return int(power) if whole else power


_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
               ast.Div: operator.truediv, ast.Pow: _power}  # fmt: skip
