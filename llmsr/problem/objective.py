"""What a spec's text says without being executed: its numbers, and whether its `evaluate` is least squares.

The latter is told by comparing its normal form with the standard one: minus the least mean over the rows of
(equation(*columns, params) - outputs)**2, found by scipy's BFGS with default options from ones, or None where
that is not finite. A wrong no costs speed and a better fit; a yes means that another minimiser of the same
loss answers the same question.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmsr.problem.normal_form import Function, Reader, Rules, Unclear, parting, path_of, pattern

LARGEST_INTEGER = 2**53  # what a float64 holds exactly; beyond it numbers are floats here, of bounded size

Number = int | float

_COLUMN = ("OUTPUTS", "INPUTS[:, c]", "PREDICTED(p)")
_ERRORS = ("(PREDICTED(p) - OUTPUTS)", "(OUTPUTS - PREDICTED(p))", "((PREDICTED(p) - OUTPUTS)**2)")
_TERMS = {"COPIED": (*_COLUMN, "INPUTS", "PARAMS", "BEST_PARAMS"), "COLUMN": _COLUMN,
          "SIZED": (*_COLUMN, *_ERRORS)}  # fmt: skip
"""The terms that a name of spellings.txt stands for."""


def first_other_line(tree: ast.Module, evaluate: ast.FunctionDef, equation: Any, max_params: int) -> int:
    """0 where `evaluate` is least squares, in whatever spelling, else the line that makes it another."""
    # these change what a function is, in ways that the reader does not follow
    for node in (evaluate, equation, *ast.walk(tree)):
        marked = node in (evaluate, equation) and len(node.decorator_list) > 1
        if marked or isinstance(node, ast.AsyncFunctionDef | ast.NamedExpr | ast.Await | ast.Yield):
            return node.lineno
    try:
        reader = _LeastSquares(tree, equation, max_params)
        function = reader.globals[evaluate.name]
        if not isinstance(function, Function) or function.node is not evaluate:
            raise Unclear(function)  # the name was bound again below
        parted = parting(pattern("-BEST"), reader.enter(function, [ast.Name("DATA")], {}, True))
        return 0 if parted is None else getattr(parted, "lineno", evaluate.lineno)
    except Unclear as other:
        return other.line or evaluate.lineno
    # nobody writes a loss so deep; the spec's own search is right in any case
    except RecursionError:
        return evaluate.lineno


class _LeastSquares(Reader):
    """The reading of a spec, in which a search for the least squares is a term."""

    def __init__(self, tree: ast.Module, equation: ast.FunctionDef, max_params: int) -> None:
        self.max_params = max_params
        super().__init__(tree, _rules(len(equation.args.posonlyargs) + len(equation.args.args) - 1), equation)

    def special_call(
        self, node: ast.Call, path: str, args: list[ast.expr], named: dict[str, ast.expr]
    ) -> ast.expr | None:
        """RESULT of scipy's minimize(loss, ones[, args=...][, method="BFGS"]), told at most to print."""
        if path != "scipy.optimize.minimize":
            return None
        given = dict(zip(("fun", "x0", "args", "method"), args, strict=False)) | named
        loss, start = given.pop("fun", node), given.pop("x0", node)
        others, method = given.pop("args", ast.Tuple([])), given.pop("method", ast.Constant("BFGS"))
        if ast.unparse(given.get("options", node)) in ("{'disp': True}", "{'disp': False}"):
            del given["options"]
        for other in given.values():
            raise Unclear(other)
        # another method may stop elsewhere, and what it finds is then what the spec means
        if str(getattr(method, "value", "")).upper() not in ("BFGS", "NONE"):
            raise Unclear(method)
        # an array of the list starts from the same place
        while isinstance(start, ast.Call) and path_of(start.func) in ("numpy.array", "numpy.asarray", "list"):
            start = start.args[0]
        if ones_length(start, {}) != self.max_params:
            raise Unclear(start)
        if not isinstance(loss, Function):
            raise Unclear(loss)
        asked = [ast.Name("PARAMS"), *(others.elts if isinstance(others, ast.Tuple) else [others])]
        self.enter(loss, asked, {})  # what the first call leaves behind, the others find
        value = self.enter(loss, asked, {})
        total = isinstance(value, ast.Call) and ast.unparse(value.func) == "SUM"
        form = f"{'SUM' if total else 'MEAN'}((PREDICTED(PARAMS) - OUTPUTS)**2)"
        parted = parting(pattern(form), value)
        if parted is not None:
            raise Unclear(parted if hasattr(parted, "lineno") else node)
        return ast.copy_location(ast.Name("SUM_RESULT" if total else "RESULT"), node)


# parsing all spellings takes longer than reading most specs
@lru_cache(maxsize=100)
def _rules(n_columns: int) -> Rules:
    """The spellings for an equation of so many columns: pattern and normal form, by the pattern's kind."""
    columns = "".join(f"INPUTS[:, {i}], " for i in range(n_columns))
    told = Path(__file__).with_name("spellings.txt").read_text(encoding="utf-8")
    lines = [line for line in told.replace("COUNT", str(n_columns)).splitlines() if line and line[0] != "#"]
    for name, terms in _TERMS.items():
        kept = [line for line in lines if name not in line]
        lines = [*kept, *(line.replace(name, term) for term in terms for line in lines if name in line)]
    lines += [f"PREDICTED(p): EQUATION({columns}p)", f"({columns}): ITEMS(INPUTS.T)"]
    rules: dict[type, list[tuple[ast.expr, ast.expr]]] = {}
    for line in lines:
        normal, spellings = line.split(": ", 1)
        for spelling in map(pattern, spellings.split("; ")):
            rules.setdefault(type(spelling), []).append((spelling, pattern(normal)))
    return rules


# ---- the numbers of a spec


def module_constants(tree: ast.Module) -> dict[str, Number]:
    """The numbers that module-level assignments give to names; the last assignment of a name counts."""
    constants: dict[str, Number] = {}
    for statement in tree.body:
        # their names are local
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
        pairs: Any = [(target, value)]
        if isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            pairs = zip(target.elts, values, strict=True) if len(values) == len(target.elts) else []
        yield from ((name.id, of) for name, of in pairs if isinstance(name, ast.Name) and of)


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
            # what Python would stop at is no constant: nothing is executed that could say more
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
