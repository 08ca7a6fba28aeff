"""Tells whether a spec's `evaluate` is least squares, by comparing its normal form with the standard one.

The standard form is minus the least mean over the rows of (equation(*columns, params) - outputs)**2, found by
scipy's BFGS with default options from ones, or None where that is not finite.

`_Reader` follows the statements of `evaluate` and puts in place of every name what it stands for. What is
left is one expression of the data, in which `SPELLINGS` replaces each way to write a mean, a column or a
guard by one. Prints, logs and results that are kept elsewhere change nothing; anything else that is unknown
ends the reading. So a wrong no costs speed and a better fit, and a yes means that another minimiser of the
same loss answers the same question.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from llmsr.problem.numbers import number_of, ones_length

_MAX_STEPS = 10_000
_MAX_ITEMS = 1000

# A normal form a line, the ways to write it behind the colon. Capitals are terms: PREDICTED(p) the equation
# on all rows, RESULT what minimize found, SUM_RESULT what it found for the sum in place of the mean, BEST the
# least loss, BAD and GOOD tests of BEST. A small letter stands for any expression, always the same one.
SPELLINGS = """
INPUTS: DATA['inputs']; DATA.get('inputs')
OUTPUTS: DATA['outputs']; DATA.get('outputs')
(INPUTS, OUTPUTS): DATA.values()
INPUTS.T: INPUTS.transpose(); numpy.transpose(INPUTS)
INPUTS[:, a]: INPUTS.T[a]; INPUTS[..., a]; INPUTS.T[a, :]
(ROWS, COLUMNS): INPUTS.shape
ROWS: len(INPUTS)
a - b: numpy.subtract(a, b)
a * b: numpy.multiply(a, b)
a**2: numpy.square(a); numpy.power(a, 2); pow(a, 2); a * a; abs(a)**2; numpy.abs(a)**2
(PREDICTED(p) - OUTPUTS)**2: (OUTPUTS - PREDICTED(p))**2
SUM(a): numpy.sum(a); sum(a); a.sum()
SUM(a**2): numpy.dot(a, a); a.dot(a); a @ a; numpy.inner(a, a); numpy.vdot(a, a); numpy.linalg.norm(a)**2
MEAN(a): numpy.mean(a); numpy.average(a); a.mean(); SUM(a) / ROWS; 1 / ROWS * SUM(a)
MEAN(a): float(MEAN(a)); MEAN(a).item()
MEAN((b - a)**2): sklearn.metrics.mean_squared_error(a, b)
PARAMS: list(PARAMS); tuple(PARAMS)
BEST_PARAMS: RESULT.x; RESULT['x']; SUM_RESULT.x; SUM_RESULT['x']
BEST: RESULT.fun; RESULT['fun']; SUM_RESULT.fun / ROWS; MEAN((PREDICTED(BEST_PARAMS) - OUTPUTS)**2)
BEST: float(BEST); BEST.item()
-BEST: float(-BEST); -1 * BEST; BEST * -1; 0 - BEST
None: float('nan'); float('inf'); float('-inf'); numpy.nan; numpy.inf; math.nan; math.inf; -None
float: numpy.float64; numpy.double
numpy.isnan: math.isnan
numpy.isinf: math.isinf
numpy.isfinite: math.isfinite
BAD: numpy.isnan(BEST); numpy.isinf(BEST); numpy.isnan(-BEST); numpy.isinf(-BEST)
BAD: BAD or BAD; BAD | BAD; not GOOD
GOOD: numpy.isfinite(BEST); numpy.isfinite(-BEST); GOOD and GOOD; not BAD
-BEST: None if BAD else -BEST; -BEST if GOOD else None
"""
_COPIES = "X: X.copy(); numpy.array(X); numpy.asarray(X); X.astype(float); numpy.asarray(X, dtype=float)"
_FLAT = "X: X.ravel(); X.flatten(); X.squeeze(); X.reshape(-1); numpy.ravel(X); numpy.squeeze(X)"
_SIZE = "ROWS: len(X); X.size"
_SHAPE = "(ROWS,): X.shape"
_COLUMNS = ("OUTPUTS", "INPUTS[:, c]", "PREDICTED(p)")
_ERRORS = ("(PREDICTED(p) - OUTPUTS)", "(OUTPUTS - PREDICTED(p))", "((PREDICTED(p) - OUTPUTS)**2)")

_HARMLESS = re.compile(  # functions that change nothing which an objective reads
    r"print|open|abs|float|format|int|len|list|max|min|pow|range|repr|round|str|sum|tuple|enumerate|zip"
    r"|(math|time|datetime|warnings|logging|json|os\.path|sys\.stdout|sys\.stderr)\..*"
    r"|numpy\.(?!random|put|place|copyto|fill|lib|testing).*|torch\.(?!optim|manual_seed|set_).*"
)
_READING = re.compile("all|any|astype|copy|format|item|join|max|mean|min|round|std|sum|tolist|var")
_KEEPING = re.compile("add|append|close|debug|error|flush|info|update|warning|write")
_CONTEXTS = re.compile(r"numpy\.errstate|warnings\.catch_warnings|open")
_NONE, _UNKNOWN, _OTHER = ast.Constant(None), ast.Name("UNKNOWN"), ast.Name("OTHER")


class NotStandard(Exception):
    """A part of the spec that is no part of the standard form, with its line; 0 where that is not known."""

    def __init__(self, node: ast.AST) -> None:
        self.line: int = getattr(node, "lineno", 0)


class Scope(dict[str, ast.expr]):
    """Names and what they stand for; `elsewhere` has the scopes of names declared global or nonlocal."""

    def __init__(self, names: dict[str, ast.expr], called_once: bool = False) -> None:
        super().__init__(names)
        self.called_once = called_once
        self.elsewhere: dict[str, Scope] = {}

    def bind(self, name: str, value: ast.expr) -> None:
        self.elsewhere.get(name, self)[name] = value

    def forget(self) -> None:
        """What a function keeps elsewhere may be of any of its calls, unless it is called once."""
        for name in () if self.called_once else self.elsewhere:
            self.bind(name, _UNKNOWN)


Scopes = tuple[Scope, ...]  # innermost first


class _Function(ast.expr):
    """A function of the spec as a value, with its defaults and the scopes that it sees."""

    _fields = ()

    def __init__(self, node: ast.FunctionDef | ast.Lambda, defaults: list[ast.expr], scopes: Scopes) -> None:
        self.node, self.defaults, self.scopes, self.lineno = node, defaults, scopes, node.lineno

    def bound(self, args: list[ast.expr], named: dict[str, ast.expr]) -> dict[str, ast.expr]:
        """The arguments of a call by name, in their order."""
        taken = self.node.args
        names = [a.arg for a in (*taken.posonlyargs, *taken.args)]
        given, more = dict(zip(names, args, strict=False)), args[len(names) :]
        defaults = dict(zip(names[::-1], self.defaults[::-1], strict=False))
        found = defaults | given | named
        odd = taken.kwarg or taken.kwonlyargs or (more and not taken.vararg) or set(given) & set(named)
        if odd or set(found) != set(names):
            raise NotStandard(self.node)
        rest: dict[str, ast.expr] = {taken.vararg.arg: ast.Tuple(more)} if taken.vararg else {}
        return {name: found[name] for name in names} | rest


def first_other_line(tree: ast.Module, evaluate: ast.FunctionDef, equation: Any, max_params: int) -> int:
    """0 where `evaluate` is least squares, in whatever spelling, else the line that makes it another."""
    for node in (evaluate, equation, *ast.walk(tree)):
        marked = node in (evaluate, equation) and len(node.decorator_list) > 1
        if marked or isinstance(node, ast.AsyncFunctionDef | ast.NamedExpr | ast.Await | ast.Yield):
            return node.lineno
    try:
        reader = _Reader(tree, equation, max_params)
        function = reader.globals[evaluate.name]
        if not isinstance(function, _Function) or function.node is not evaluate:
            raise NotStandard(function)  # the name was bound again below
        parted = _parting(_pattern("-BEST"), reader.enter(function, [ast.Name("DATA")], {}, True))
        return 0 if parted is None else getattr(parted, "lineno", evaluate.lineno)
    except NotStandard as other:
        return other.line or evaluate.lineno
    except RecursionError:
        return evaluate.lineno


class _Reader:
    """One reading of a module and its `evaluate`: statements change scopes, expressions give normal forms."""

    def __init__(self, tree: ast.Module, equation: ast.FunctionDef, max_params: int) -> None:
        self.equation, self.max_params, self.steps = equation, max_params, 0
        self.n_columns = len(equation.args.posonlyargs) + len(equation.args.args) - 1
        self.rules = _rules(self.n_columns)
        self.globals = Scope({})
        for statement in tree.body:
            if not (isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)):
                self.statement(statement, (self.globals,))

    # ---- statements

    def block(self, body: Sequence[ast.stmt], scopes: Scopes) -> ast.expr:
        """What a function body returns."""
        for i, statement in enumerate(body):
            rest = body[i + 1 :]
            match statement:
                case ast.Return(value=value):
                    return self.value(value, scopes) if value else _NONE
                case ast.If(test=test, body=then, orelse=otherwise):
                    found = self.value(test, scopes)
                    if not all(isinstance(s, ast.Expr | ast.Pass) for s in (*then, *otherwise)):
                        branches = [self.branch([*b, *rest], scopes) for b in (then, otherwise)]
                        return self.rewritten(ast.copy_location(ast.IfExp(found, *branches), statement))
                    for told in (*then, *otherwise):
                        self.statement(told, scopes)
                case ast.With(items=[ast.withitem(context, name)], body=inner):
                    opened = self.value(context, scopes)
                    if not (isinstance(opened, ast.Call) and _CONTEXTS.fullmatch(_path(opened.func))):
                        raise NotStandard(statement)
                    if name:
                        self.assign(name, opened, scopes)
                    return self.block([*inner, *rest], scopes)
                case ast.Try(body=inner, handlers=handlers, orelse=after, finalbody=last):
                    for handler in handlers:  # a failure that is told as one is no other objective
                        if self.branch(handler.body, scopes) is not _NONE:
                            raise NotStandard(handler)
                    return self.block([*inner, *after, *last, *rest], scopes)
                case _:
                    self.statement(statement, scopes)
        return _NONE

    def branch(self, body: Sequence[ast.stmt], scopes: Scopes) -> ast.expr:
        """What the body returns; the scopes are as before afterwards."""
        before = [dict(scope) for scope in scopes]
        value = self.block(body, scopes)
        for scope, names in zip(scopes, before, strict=True):
            scope.clear()
            scope.update(names)
        return value if _parting(_NONE, value) else _NONE

    def statement(self, statement: ast.stmt, scopes: Scopes) -> None:
        """A definition, an import, an assignment, or a call that changes nothing here."""
        scope = scopes[0]
        match statement:
            case ast.Expr(value=value):
                self.value(value, scopes)
            case ast.Pass():
                pass
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                outer = scopes[1:] if isinstance(statement, ast.Nonlocal) else ()
                for name in names:
                    scope.elsewhere[name] = next((s for s in outer if name in s), self.globals)
                scope.forget()
            case ast.FunctionDef(name=name, decorator_list=marks) if not marks or scope is self.globals:
                scope.bind(name, self.value(statement, scopes))
            case ast.Import(names=names) | ast.ImportFrom(names=names, level=0):
                for alias in names:
                    path = alias.name if alias.asname else alias.name.split(".")[0]
                    path = (
                        f"{statement.module}.{alias.name}" if isinstance(statement, ast.ImportFrom) else path
                    )
                    if path.isupper() or alias.name == "*":
                        raise NotStandard(alias)  # it would be taken for a term, or for anything
                    scope.bind(alias.asname or path.split(".")[-1], ast.copy_location(_pattern(path), alias))
            case ast.Assign(targets=targets, value=value):
                found = self.value(value, scopes)
                for target in targets:
                    self.assign(target, found, scopes)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.assign(target, self.value(value, scopes), scopes)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                self.value(value, scopes)
                known = self.value(ast.Name(name), scopes)
                if not isinstance(known, ast.Constant) and known is not _UNKNOWN:
                    raise NotStandard(statement)  # an array is changed in place, under all its names
                scope.bind(name, _UNKNOWN)
            case _:
                raise NotStandard(statement)

    def assign(self, target: ast.expr, value: ast.expr, scopes: Scopes) -> None:
        match target:
            case ast.Name(id=name):
                scopes[0].bind(name, value)
            case ast.Tuple(elts=parts) | ast.List(elts=parts) if len(items := self.items(value)) == len(
                parts
            ):
                for part, item in zip(parts, items, strict=True):
                    self.assign(part, item, scopes)
            case ast.Subscript(value=owner) | ast.Attribute(value=owner) if _keeps(self.value(owner, scopes)):
                pass
            case _:
                raise NotStandard(target)

    # ---- expressions

    def value(self, node: Any, scopes: Scopes) -> Any:
        """The normal form of an expression, or of a part of one."""
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise NotStandard(node)
        match node:
            case ast.Name(id=name):
                builtin = ast.copy_location(ast.Name(name), node) if _HARMLESS.fullmatch(name) else _UNKNOWN
                return next((scope[name] for scope in scopes if name in scope), builtin)
            case ast.Constant(value=float() as number) if number.is_integer():
                return ast.copy_location(ast.Constant(int(number)), node)  # so that 2.0 is written like 2
            case ast.FunctionDef() | ast.Lambda():
                return _Function(node, [self.value(d, scopes) for d in node.args.defaults], scopes)
            case ast.Call():
                return self.call(node, scopes)
            case ast.ListComp(elt=elt, generators=[loop]) | ast.GeneratorExp(elt=elt, generators=[loop]):
                items = []
                for item in self.items(self.value(loop.iter, scopes)):
                    inner = (Scope({}), *scopes)
                    self.assign(loop.target, item, inner)
                    items.append(self.value(elt, inner))
                if not loop.ifs:
                    return ast.copy_location(ast.List(items), node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return ast.copy_location(type(node)(self.parts(parts, scopes)), node)
            case ast.expr() if not isinstance(node, ast.ListComp | ast.DictComp | ast.SetComp):
                return self.rebuilt(node, lambda part: self.value(part, scopes))
        raise NotStandard(node)

    def parts(self, nodes: Sequence[ast.expr], scopes: Scopes) -> list[ast.expr]:
        """The values of list items or arguments, starred ones taken apart."""
        found: list[ast.expr] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.items(self.value(node.value, scopes))
            else:
                found.append(self.value(node, scopes))
        return found

    def items(self, value: ast.expr) -> list[ast.expr]:
        """The parts of what can be unpacked; the rows of INPUTS.T are the columns."""
        match value:
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return parts
            case ast.Attribute(value=ast.Name(id="INPUTS"), attr="T"):
                return [_pattern(f"INPUTS[:, {i}]") for i in range(self.n_columns)]
            case ast.Attribute(value=table):
                raise NotStandard(table)
            case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner]):
                return self.items(inner)
            case ast.Call(func=ast.Name(id="range"), args=[count]) if (
                number_of(count, {}) or 0
            ) <= _MAX_ITEMS:
                return [ast.Constant(i) for i in range(int(number_of(count, {}) or 0))]
        raise NotStandard(value)

    def rebuilt(self, node: Any, change: Callable[[Any], Any]) -> Any:
        """The same expression with every part changed, in its normal form."""

        def changed(part: Any) -> Any:
            if isinstance(part, list):
                return [changed(p) for p in part]
            if isinstance(part, ast.keyword | ast.FormattedValue):
                return type(part)(**{name: changed(p) for name, p in ast.iter_fields(part)})
            return change(part) if isinstance(part, ast.expr) else part

        parts = {name: changed(part) for name, part in ast.iter_fields(node)}
        return self.rewritten(ast.copy_location(type(node)(**parts), node))

    def rewritten(self, term: Any) -> Any:
        """The normal form of a term whose parts are in theirs."""
        match term:
            case ast.Subscript(ast.List(items) | ast.Tuple(items), ast.Constant(int() as i)) if i < len(
                items
            ):
                return items[i]
        for pattern, normal in self.rules.get(type(term), ()):
            found: dict[str, ast.expr] = {}
            if _parting(pattern, term, found) is None:
                return ast.copy_location(self.filled(normal, found), term)
        return term

    def filled(self, normal: ast.expr, found: dict[str, ast.expr]) -> ast.expr:
        if isinstance(normal, ast.Name) and normal.id in found:
            return found[normal.id]
        return self.rebuilt(normal, lambda part: self.filled(part, found))

    # ---- calls

    def call(self, node: ast.Call, scopes: Scopes) -> ast.expr:
        function, args = self.value(node.func, scopes), self.parts(node.args, scopes)
        keywords = {k.arg: self.value(k.value, scopes) for k in node.keywords if k.arg}
        if len(keywords) < len(node.keywords):
            raise NotStandard(node)
        if isinstance(function, _Function) and function.node is self.equation:
            ordered = [*function.bound(args, keywords).values()]
            return self.rewritten(ast.copy_location(ast.Call(ast.Name("EQUATION"), ordered, []), node))
        if isinstance(function, _Function):
            return self.enter(function, args, keywords)
        if _path(function) == "scipy.optimize.minimize":
            return self.minimum(node, args, keywords)
        named = [ast.keyword(name, value) for name, value in keywords.items()]
        call = ast.copy_location(ast.Call(function, args, named), node)
        found = self.rewritten(call)
        if found is call and not _harmless(call):
            raise NotStandard(node)
        return found

    def enter(
        self, function: _Function, args: list[ast.expr], named: dict[str, ast.expr], once: bool = False
    ) -> ast.expr:
        """What a call of the spec's own function gives."""
        scope = Scope(function.bound(args, named), once)
        scopes = (scope, *function.scopes)
        if isinstance(function.node, ast.Lambda):
            return self.value(function.node.body, scopes)
        value = self.block(function.node.body, scopes)
        scope.forget()
        return value

    def minimum(self, node: ast.Call, args: list[ast.expr], keywords: dict[str, ast.expr]) -> ast.expr:
        """scipy.optimize.minimize(loss, ones[, args=...][, method="BFGS"]), told at most to print."""
        given = dict(zip(("fun", "x0", "args", "method"), args, strict=False)) | keywords
        loss, start = given.pop("fun", node), given.pop("x0", node)
        others, method = given.pop("args", ast.Tuple([])), given.pop("method", ast.Constant("BFGS"))
        if ast.unparse(given.get("options", node)) in ("{'disp': True}", "{'disp': False}"):
            del given["options"]
        for other in given.values():
            raise NotStandard(other)
        if str(getattr(method, "value", "")).upper() not in ("BFGS", "NONE"):
            raise NotStandard(method)
        while isinstance(start, ast.Call) and _path(start.func) in ("numpy.array", "numpy.asarray", "list"):
            start = start.args[0]
        if ones_length(start, {}) != self.max_params:
            raise NotStandard(start)
        if not isinstance(loss, _Function):
            raise NotStandard(loss)
        asked = [ast.Name("PARAMS"), *(others.elts if isinstance(others, ast.Tuple) else [others])]
        self.enter(loss, asked, {})  # what the first call leaves behind, the others find
        value = self.enter(loss, asked, {})
        total = isinstance(value, ast.Call) and ast.unparse(value.func) == "SUM"
        form = f"{'SUM' if total else 'MEAN'}((PREDICTED(PARAMS) - OUTPUTS)**2)"
        parted = _parting(_pattern(form), value)
        if parted is not None:
            raise NotStandard(parted if hasattr(parted, "lineno") else node)
        return ast.copy_location(ast.Name("SUM_RESULT" if total else "RESULT"), node)


def _harmless(call: ast.Call) -> bool:
    """Whether a call changes nothing that the objective reads."""
    path = _path(call.func)
    if any(keyword.arg in ("out", "where") for keyword in call.keywords):
        return False
    if isinstance(call.func, ast.Attribute) and not path:
        owner, name = call.func.value, call.func.attr
        return bool(_READING.fullmatch(name) or (_KEEPING.fullmatch(name) and _keeps(owner)))
    return bool(_HARMLESS.fullmatch(path))


def _keeps(owner: ast.expr) -> bool:
    """Whether this only keeps things for later: a dictionary, an empty list, a file, a logger, a function."""
    if isinstance(owner, ast.Call):
        return _path(owner.func) in ("open", "logging.getLogger")
    return isinstance(owner, ast.Dict | _Function) or owner is _UNKNOWN or ast.unparse(owner) == "[]"


def _path(node: ast.expr) -> str:
    """`numpy.linalg.norm` of such a chain of attributes; empty for any other expression."""
    if isinstance(node, ast.Attribute):
        owner = _path(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) and not node.id.isupper() else ""


# ---- patterns


def _pattern(text: str) -> ast.expr:
    """The expression of a text, without places in it."""
    tree = ast.parse(text, mode="eval").body
    for node in ast.walk(tree):
        vars(node).pop("lineno", None)
    return tree


@lru_cache(maxsize=100)
def _rules(n_columns: int) -> dict[type, list[tuple[ast.expr, ast.expr]]]:
    """The spellings for an equation of so many columns: pattern and normal form, by the pattern's kind."""
    columns = "".join(f"INPUTS[:, {i}], " for i in range(n_columns))
    lines = SPELLINGS.replace("COLUMNS", str(n_columns)).strip().split("\n")
    lines.append(f"PREDICTED(p): EQUATION({columns}p)")
    for several, terms in (
        (_COPIES, (*_COLUMNS, "INPUTS", "PARAMS", "BEST_PARAMS")),
        (_FLAT, _COLUMNS),
        (_SIZE, (*_COLUMNS, *_ERRORS)),
        (_SHAPE, (*_COLUMNS, *_ERRORS)),
    ):
        lines += [several.replace("X", term) for term in terms]
    rules: dict[type, list[tuple[ast.expr, ast.expr]]] = {}
    for line in lines:
        normal, spellings = line.split(": ", 1)
        for pattern in map(_pattern, spellings.split("; ")):
            rules.setdefault(type(pattern), []).append((pattern, _pattern(normal)))
    return rules


def _parting(pattern: Any, term: Any, found: dict[str, ast.expr] | None = None) -> Any:
    """None where the term has the pattern's form, else its innermost part that differs.

    `found` takes what the pattern's single small letters stand for.
    """
    if found is not None and isinstance(pattern, ast.Name) and len(pattern.id) == 1:
        known = found.setdefault(pattern.id, term)
        return None if known is term else _parting(known, term)
    if type(pattern) is not type(term) or isinstance(term, _Function):
        return term if isinstance(term, ast.expr) else _OTHER
    if not isinstance(pattern, ast.AST | list):
        return None if pattern == term else _OTHER
    if isinstance(pattern, ast.AST):
        names = [name for name in pattern._fields if name not in ("ctx", "kind")]
        pattern, parts = ([getattr(node, name, None) for name in names] for node in (pattern, term))
    else:
        parts = term
    if len(pattern) != len(parts):
        return _OTHER
    for ours, theirs in zip(pattern, parts, strict=True):
        parted = _parting(ours, theirs, found)
        if parted is not None:
            return parted if hasattr(parted, "lineno") or not isinstance(term, ast.expr) else term
    return None
