"""Tells by its syntax tree whether a spec's `evaluate` is the standard least-squares objective.

The standard form: the mean over the rows of (equation(*columns, params) - outputs)**2, minimised by scipy's
BFGS with default options from a start of ones, and minus the minimum returned, or None when it is not finite.

`evaluate` is walked statement by statement with terms (`objective_terms`) in place of arrays. Whatever is no
step of the standard form, however harmless, makes the answer False. So a False costs speed only, and a True
means that another minimiser of the same loss answers the same question.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from llmsr.problem.objective_terms import (
    BEST,
    BUILTINS,
    NOTHING,
    Closure,
    NotStandard,
    Symbol,
    Value,
    attribute,
    binary,
    builtin_call,
    column,
    items_of,
    method_call,
    minus,
    numpy_call,
    result_field,
    sequence,
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scopes = tuple[dict[str, Any], ...]  # innermost first
_MAX_STEPS = 10_000
_PARAMS = Symbol("params")


def is_least_squares(tree: ast.Module, evaluate: Function, equation: Function, max_params: int) -> bool:
    """Whether `evaluate` has the standard form, in whatever spelling; False when in doubt."""
    if isinstance(evaluate, ast.AsyncFunctionDef) or isinstance(equation, ast.AsyncFunctionDef):
        return False
    if len(evaluate.decorator_list) > 1 or len(equation.decorator_list) > 1:
        return False
    if any(isinstance(n, ast.Global | ast.Nonlocal | ast.NamedExpr) for n in ast.walk(tree)):
        return False
    try:
        return _Walk(tree, equation, max_params).result_of(evaluate) == Symbol("negative")
    except (NotStandard, RecursionError):
        return False


class _Walk:
    """One symbolic execution of a module and its `evaluate`."""

    def __init__(self, tree: ast.Module, equation: ast.FunctionDef, max_params: int) -> None:
        self.equation = equation
        self.argument_names = [a.arg for a in (*equation.args.posonlyargs, *equation.args.args)]
        self.n_columns = len(self.argument_names) - 1
        self.max_params = max_params
        self.steps = 0
        self.guarded = False
        self.globals: dict[str, Any] = {}
        for statement in tree.body:
            self._module_statement(statement)

    def result_of(self, evaluate: ast.FunctionDef) -> Value:
        bound = self.globals.get(evaluate.name)
        if not isinstance(bound, Closure) or bound.node is not evaluate:
            raise NotStandard  # the name was bound again below
        return self._call_closure(bound, [Symbol("data")], {})

    # --- statements -----------------------------------------------------------------------------------

    def _module_statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="warnings")))):
                pass
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    self.globals[name] = self._value(value, (self.globals,))
                except NotStandard:
                    # a constant of another kind: no harm unless the objective uses it
                    if any(isinstance(n, ast.Call) for n in ast.walk(value)):
                        raise
                    self.globals[name] = Symbol("unknown")
            case _:
                self._bind(statement, (self.globals,))

    def _bind(self, statement: ast.stmt, scopes: Scopes) -> None:
        """A definition, import or assignment, in the innermost scope."""
        scope = scopes[0]
        match statement:
            case ast.FunctionDef(name=name, decorator_list=marks):
                if marks and scope is not self.globals:
                    raise NotStandard
                scope[name] = Closure(statement, scopes)
            case ast.Import(names=names):
                for alias in names:
                    path = alias.name if alias.asname else alias.name.split(".")[0]
                    scope[alias.asname or path] = Symbol("module", path)
            case ast.ImportFrom(module=module, names=names, level=0):
                for alias in names:
                    if alias.name == "*":
                        raise NotStandard
                    scope[alias.asname or alias.name] = Symbol("module", f"{module}.{alias.name}")
            case ast.Assign(targets=targets, value=value):
                found = self._value(value, scopes)
                for target in targets:
                    self._assign(target, found, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self._value(value, scopes), scope)
            case _:
                raise NotStandard

    def _assign(self, target: ast.expr, value: Value, scope: dict[str, Any]) -> None:
        match target:
            case ast.Name(id=name):
                scope[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                items = items_of(value, self.n_columns)
                if len(items) != len(parts):
                    raise NotStandard
                for part, item in zip(parts, items, strict=True):
                    self._assign(part, item, scope)
            case _:
                raise NotStandard

    def _block(self, body: list[ast.stmt], scopes: Scopes) -> Value:
        """What a function body returns."""
        for i, statement in enumerate(body):
            match statement:
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass
                case ast.Return(value=value):
                    return NOTHING if value is None else self._value(value, scopes)
                case ast.If(test=test, body=then, orelse=otherwise):
                    # what follows belongs to the branch that falls through
                    rest = body[i + 1 :]
                    yes, no = [*then, *rest], [*otherwise, *rest]
                    return self._choose(
                        self._value(test, scopes),
                        lambda yes=yes: self._block(yes, (dict(scopes[0]), *scopes[1:])),  # type: ignore[misc]
                        lambda no=no: self._block(no, (dict(scopes[0]), *scopes[1:])),  # type: ignore[misc]
                    )
                case _:
                    self._bind(statement, scopes)
        return NOTHING

    def _choose(self, test: Value, yes: Callable[[], Value], no: Callable[[], Value]) -> Value:
        """A guard: None where the loss is not finite, the other branch's value where it is."""
        self.guarded = True
        if test == Symbol("finite", -1):
            bad, good = yes(), no()
        elif test == Symbol("finite", 1):
            good, bad = yes(), no()
        else:
            raise NotStandard
        self.guarded = False
        if bad != NOTHING or good != Symbol("negative"):
            raise NotStandard
        return good

    # --- expressions ----------------------------------------------------------------------------------

    def _value(self, node: ast.expr, scopes: Scopes) -> Value:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise NotStandard
        match node:
            case ast.Name(id=name):
                for scope in scopes:
                    if name in scope:
                        return scope[name]
                if name in BUILTINS:
                    return Symbol("builtin", name)
            case ast.Constant(value=None):
                return NOTHING
            case ast.Constant(value=bool()):
                raise NotStandard
            case ast.Constant(value=int() | float() as number):
                return Symbol("number", number)
            case ast.Constant(value=str() as text):
                return Symbol("text", text)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return sequence(self._items(parts, scopes))
            case ast.ListComp() | ast.GeneratorExp():
                return self._comprehension(node, scopes)
            case ast.Lambda():
                return Closure(node, scopes)
            case ast.Attribute(value=owner, attr=name):
                return attribute(self._value(owner, scopes), name, self.n_columns)
            case ast.Subscript(value=owner, slice=index):
                return self._subscript(self._value(owner, scopes), index, scopes)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return minus(self._value(operand, scopes))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                test = self._value(operand, scopes)
                if isinstance(test, Symbol) and test.kind == "finite":
                    return Symbol("finite", -test.detail)
            case ast.BoolOp(op=op, values=parts):
                # isnan or isinf; isfinite and isfinite
                wanted = Symbol("finite", -1 if isinstance(op, ast.Or) else 1)
                if all(self._value(part, scopes) == wanted for part in parts):
                    return wanted
            case ast.IfExp(test=test_node, body=yes, orelse=no):
                return self._choose(
                    self._value(test_node, scopes),
                    lambda: self._value(yes, scopes),
                    lambda: self._value(no, scopes),
                )
            case ast.BinOp(left=left, op=op, right=right):
                return binary(op, self._value(left, scopes), self._value(right, scopes))
            case ast.Call():
                return self._call(node, scopes)
        raise NotStandard

    def _items(self, nodes: list[ast.expr], scopes: Scopes) -> list[Value]:
        """The values of list items or arguments, starred ones taken apart."""
        items: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items.extend(items_of(self._value(node.value, scopes), self.n_columns))
            else:
                items.append(self._value(node, scopes))
        return items

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp, scopes: Scopes) -> Value:
        """`[inputs[:, i] for i in range(n)]`, `[c for c in inputs.T]` or `[1.0 for _ in range(n)]`."""
        loop = node.generators[0]
        if len(node.generators) > 1 or loop.ifs or loop.is_async or not isinstance(loop.target, ast.Name):
            raise NotStandard
        over = self._value(loop.iter, scopes)
        steps: tuple[Value, ...]
        if isinstance(over, Symbol) and over.kind == "range":
            steps = tuple(Symbol("number", i) for i in range(over.detail))
        else:
            steps = items_of(over, self.n_columns)
        return sequence([self._value(node.elt, ({loop.target.id: step}, *scopes)) for step in steps])

    def _subscript(self, owner: Value, index: ast.expr, scopes: Scopes) -> Value:
        match owner, index:
            case (
                Symbol(kind="inputs"),
                ast.Tuple(elts=[ast.Slice(lower=None, upper=None, step=None), number]),
            ):
                return column(self._value(number, scopes), self.n_columns)
            case _, ast.Tuple() | ast.Slice():
                raise NotStandard
        match owner, self._value(index, scopes):
            case Symbol(kind="data"), Symbol(kind="text", detail="inputs" | "outputs" as name):
                return Symbol(name)
            case Symbol(kind="transposed"), Symbol() as position:
                return column(position, self.n_columns)
            case tuple() as items, Symbol(kind="number", detail=int() as i) if 0 <= i < len(items):
                return items[i]
            case Symbol(kind="minimum"), Symbol(kind="text", detail=name):
                return result_field(name)
        raise NotStandard

    # --- calls ----------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, scopes: Scopes) -> Value:
        function = self._value(node.func, scopes)
        args = self._items(node.args, scopes)
        keywords: dict[str, Value] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise NotStandard
            keywords[keyword.arg] = self._value(keyword.value, scopes)
        if isinstance(function, Closure):
            if function.node is self.equation:
                return self._predict(args, keywords)
            return self._call_closure(function, args, keywords)
        if function == Symbol("module", "scipy.optimize.minimize"):
            return self._minimize(args, keywords)
        if keywords or not isinstance(function, Symbol):
            raise NotStandard
        match function:
            case Symbol(kind="module", detail=str() as path):
                library, _, name = path.partition(".")
                if library == "numpy" or path in ("math.isnan", "math.isinf", "math.isfinite"):
                    return numpy_call(name, args)
            case Symbol(kind="builtin", detail=name):
                return builtin_call(name, args, self.n_columns)
            case Symbol(kind="method", detail=(owner, name)):
                return method_call(owner, name, args)
        raise NotStandard

    def _predict(self, args: list[Value], keywords: dict[str, Value]) -> Value:
        """A call of the equation: every column at its own place, and the parameters last."""
        bound = self._bound(self.argument_names, args, keywords)
        params = bound.pop(self.argument_names[-1])
        wanted = {name: Symbol("column", i) for i, name in enumerate(self.argument_names[:-1])}
        if bound != wanted or params not in (_PARAMS, BEST):
            raise NotStandard
        return Symbol("predicted", params)

    def _call_closure(self, function: Closure, args: list[Value], keywords: dict[str, Value]) -> Value:
        if self.guarded:
            raise NotStandard  # a branch has its own copy of the names, which closures do not see
        signature = function.node.args
        if signature.vararg or signature.kwarg or signature.kwonlyargs or signature.defaults:
            raise NotStandard
        names = [a.arg for a in (*signature.posonlyargs, *signature.args)]
        scopes = (self._bound(names, args, keywords), *function.scopes)
        if isinstance(function.node, ast.Lambda):
            return self._value(function.node.body, scopes)
        return self._block(function.node.body, scopes)

    @staticmethod
    def _bound(names: list[str], args: list[Value], keywords: dict[str, Value]) -> dict[str, Value]:
        """Argument names to values; every name exactly once."""
        bound = dict(zip(names, args, strict=False))
        if set(bound) & set(keywords) or len(args) + len(keywords) != len(names):
            raise NotStandard
        bound |= keywords
        if set(bound) != set(names):
            raise NotStandard
        return bound

    def _minimize(self, args: list[Value], keywords: dict[str, Value]) -> Value:
        """scipy.optimize.minimize(loss, ones[, args=...][, method="BFGS"]) and nothing else."""
        bound: dict[str, Value] = dict(zip(("fun", "x0"), args, strict=False))
        if len(args) > 2 or set(bound) & set(keywords):
            raise NotStandard
        bound |= keywords
        # without constraints BFGS is scipy's default
        method = bound.pop("method", Symbol("text", "BFGS"))
        loss, start, others = bound.pop("fun", None), bound.pop("x0", None), bound.pop("args", ())
        ones = (Symbol("list_of_ones", self.max_params), Symbol("array_of_ones", self.max_params))
        if bound or start not in ones or method not in (Symbol("text", "BFGS"), Symbol("text", "bfgs")):
            raise NotStandard
        if not isinstance(loss, Closure) or not isinstance(others, tuple):
            raise NotStandard
        if self._call_closure(loss, [_PARAMS, *others], {}) != Symbol("loss", _PARAMS):
            raise NotStandard
        return Symbol("minimum")
