"""The normal form of a plain Python function: every name replaced by what it stands for, in one spelling.

`Reader` follows the statements of a module and of a call of one of its functions, in their order and with
Python's scopes, and gives what the call returns as one expression. `rules` say which spelling is written how.
Prints, logs and what is kept for later change nothing and are passed over; anything else that might change
what an expression is worth ends the reading with `Unclear`, which has the line. Nothing is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_MAX_STEPS = 10_000
_MAX_ITEMS = 1000
_HARMLESS = re.compile(  # functions that change none of their arguments but the first, and nothing else
    r"print|open|abs|float|format|int|len|list|max|min|pow|range|repr|round|str|sum|tuple|enumerate|zip"
    r"|(math|time|datetime|warnings|logging|json|os\.path|sys\.stdout|sys\.stderr)\..*"
    r"|numpy\.(?!random|put|place|copyto|fill|lib|ma|ndarray|testing).*|torch\.(?!optim|manual_seed|set_).*"
)
_READING = re.compile("all|any|astype|copy|format|item|join|max|mean|min|round|std|sum|tolist|var")
_KEEPING = re.compile("add|append|close|debug|error|flush|info|update|warning|write")
_CONTEXTS = re.compile(r"numpy\.errstate|warnings\.catch_warnings|open")
# compared by identity: whatever else is spelled like them is another expression
NONE, _UNKNOWN, _OTHER = ast.Constant(None), ast.Name("UNKNOWN"), ast.Name("OTHER")

Rules = Mapping[type, Sequence[tuple[ast.expr, ast.expr]]]  # pattern and normal form, by the pattern's kind


class Unclear(Exception):
    """A part of the text that has no normal form, with its line; 0 where that is not known."""

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


class Function(ast.expr):
    """A function of the spec as a value, with its defaults and the scopes that it sees."""

    _fields = ()

    def __init__(self, node: ast.FunctionDef | ast.Lambda, defaults: list[ast.expr], scopes: Scopes) -> None:
        self.node, self.defaults, self.scopes, self.lineno = node, defaults, scopes, node.lineno

    def bound(self, args: list[ast.expr], named: dict[str, ast.expr]) -> dict[str, ast.expr]:
        """The arguments of a call by name, in their order."""
        taken = self.node.args
        names = [a.arg for a in (*taken.posonlyargs, *taken.args)]
        given, more = dict(zip(names, args, strict=False)), args[len(names) :]
        # defaults belong to the last arguments
        defaults = dict(zip(names[::-1], self.defaults[::-1], strict=False))
        found = defaults | given | named
        odd = taken.kwarg or taken.kwonlyargs or (more and not taken.vararg) or set(given) & set(named)
        if odd or set(found) != set(names):
            raise Unclear(self.node)
        rest: dict[str, ast.expr] = {taken.vararg.arg: ast.Tuple(more)} if taken.vararg else {}
        return {name: found[name] for name in names} | rest


class Reader:
    """One reading of a module: statements change scopes, expressions give normal forms.

    Calls of the function `kept` are not followed: they stay, as calls of EQUATION.
    """

    def __init__(self, tree: ast.Module, rules: Rules, kept: ast.FunctionDef) -> None:
        self.rules, self.kept, self.steps = rules, kept, 0
        self.globals = Scope({})
        for statement in tree.body:
            # what runs only as a script never runs here
            script = isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"
            if not script:
                self.statement(statement, (self.globals,))

    def special_call(
        self, node: ast.Call, path: str, args: list[ast.expr], named: dict[str, ast.expr]
    ) -> ast.expr | None:
        """The term of a call that has a meaning of its own, None for any other; for subclasses."""
        return None

    # ---- statements

    def block(self, body: Sequence[ast.stmt], scopes: Scopes) -> ast.expr:
        """What a function body returns."""
        for i, statement in enumerate(body):
            rest = body[i + 1 :]
            match statement:
                case ast.Return(value=value):
                    return self.value(value, scopes) if value else NONE
                case ast.If(test=test, body=then, orelse=otherwise):
                    found = self.value(test, scopes)
                    # branches that only tell something go on with the same names
                    if not all(isinstance(s, ast.Expr | ast.Pass) for s in (*then, *otherwise)):
                        branches = [self.branch([*b, *rest], scopes) for b in (then, otherwise)]
                        return self.rewritten(ast.copy_location(ast.IfExp(found, *branches), statement))
                    for told in (*then, *otherwise):
                        self.statement(told, scopes)
                # of the known ones alone: any other may catch what its body raises, or change what it does
                case ast.With(items=[ast.withitem(context, name)], body=inner):
                    opened = self.value(context, scopes)
                    if not (isinstance(opened, ast.Call) and _CONTEXTS.fullmatch(path_of(opened.func))):
                        raise Unclear(statement)
                    if name:
                        self.assign(name, opened, scopes)
                    return self.block([*inner, *rest], scopes)
                case ast.Try(body=inner, handlers=handlers, orelse=after, finalbody=last):
                    for handler in handlers:  # a failure that is told as one is no other objective
                        if self.branch(handler.body, scopes) is not NONE:
                            raise Unclear(handler)
                    return self.block([*inner, *after, *last, *rest], scopes)
                case _:
                    self.statement(statement, scopes)
        return NONE

    def branch(self, body: Sequence[ast.stmt], scopes: Scopes) -> ast.expr:
        """What the body returns; the scopes are as before afterwards."""
        # either branch may be taken, so neither may change what the other finds
        before = [dict(scope) for scope in scopes]
        value = self.block(body, scopes)
        for scope, names in zip(scopes, before, strict=True):
            scope.clear()
            scope.update(names)
        return value if parting(NONE, value) else NONE

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
                    if isinstance(statement, ast.ImportFrom):
                        path = f"{statement.module}.{alias.name}"
                    if path.isupper() or alias.name == "*":
                        raise Unclear(alias)  # it would be taken for a term, or for anything
                    scope.bind(alias.asname or path.split(".")[-1], ast.copy_location(pattern(path), alias))
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
                    raise Unclear(statement)  # an array is changed in place, under all its names
                scope.bind(name, _UNKNOWN)  # a counter: in a loop or a second call it is another number
            case _:
                raise Unclear(statement)

    def assign(self, target: ast.expr, value: ast.expr, scopes: Scopes) -> None:
        match target:
            case ast.Name(id=name):
                scopes[0].bind(name, value)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                items = self.items(value)
                if len(items) != len(parts):
                    raise Unclear(target)
                for part, item in zip(parts, items, strict=True):
                    self.assign(part, item, scopes)
            case ast.Subscript(value=owner) | ast.Attribute(value=owner) if _keeps(self.value(owner, scopes)):
                pass
            case _:
                raise Unclear(target)

    # ---- expressions

    def value(self, node: Any, scopes: Scopes) -> Any:
        """The normal form of an expression, or of a part of one."""
        self.steps += 1
        # calls within calls can double at every level
        if self.steps > _MAX_STEPS:
            raise Unclear(node)
        match node:
            case ast.Name(id=name):
                builtin = ast.copy_location(ast.Name(name), node) if _HARMLESS.fullmatch(name) else _UNKNOWN
                return next((scope[name] for scope in scopes if name in scope), builtin)
            case ast.Constant(value=float() as number) if number.is_integer():
                return ast.copy_location(ast.Constant(int(number)), node)  # so that 2.0 is written like 2
            case ast.FunctionDef() | ast.Lambda():
                return Function(node, [self.value(d, scopes) for d in node.args.defaults], scopes)
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
        raise Unclear(node)

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
        """The parts of what can be unpacked: a sequence that is written out, or what a rule for ITEMS has."""
        match value:
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return parts
            case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner]):
                return self.items(inner)
            case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(int() as count)]) if (
                count <= _MAX_ITEMS
            ):
                return [ast.Constant(i) for i in range(count)]
        found = self.rewritten(ast.Call(ast.Name("ITEMS"), [value], []))
        if isinstance(found, ast.List | ast.Tuple):
            return found.elts
        raise Unclear(value.value if isinstance(value, ast.Attribute) else value)

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
            case ast.Subscript(ast.List(parts) | ast.Tuple(parts), ast.Constant(int() as i)):
                return parts[i] if i < len(parts) else term
        # the first that fits: every rule leads nearer to a normal form, and `filled` goes on from there
        for pattern, normal in self.rules.get(type(term), ()):
            found: dict[str, ast.expr] = {}
            if parting(pattern, term, found) is None:
                return ast.copy_location(self.filled(normal, found), term)
        return term

    def filled(self, normal: ast.expr, found: dict[str, ast.expr]) -> ast.expr:
        if isinstance(normal, ast.Name) and normal.id in found:
            return found[normal.id]
        return self.rebuilt(normal, lambda part: self.filled(part, found))

    # ---- calls

    def call(self, node: ast.Call, scopes: Scopes) -> ast.expr:
        function, args = self.value(node.func, scopes), self.parts(node.args, scopes)
        named = {k.arg: self.value(k.value, scopes) for k in node.keywords if k.arg}
        if len(named) < len(node.keywords):
            raise Unclear(node)
        # helpers are read as if they stood where they are called
        if isinstance(function, Function) and function.node is not self.kept:
            return self.enter(function, args, named)
        if isinstance(function, Function):
            args, named, function = [*function.bound(args, named).values()], {}, ast.Name("EQUATION")
        special = self.special_call(node, path_of(function), args, named)
        call = ast.Call(function, args, [ast.keyword(name, value) for name, value in named.items()])
        found = special or self.rewritten(ast.copy_location(call, node))
        if found is call and not _harmless(call):
            raise Unclear(node)
        return found

    def enter(
        self, function: Function, args: list[ast.expr], named: dict[str, ast.expr], once: bool = False
    ) -> ast.expr:
        """What a call of the spec's own function gives."""
        scope = Scope(function.bound(args, named), once)
        scopes = (scope, *function.scopes)
        if isinstance(function.node, ast.Lambda):
            return self.value(function.node.body, scopes)
        value = self.block(function.node.body, scopes)
        # only now: within one call a global still is what the call has made it
        scope.forget()
        return value


def _harmless(call: ast.Call) -> bool:
    """Whether a call changes nothing that was there before."""
    path = path_of(call.func)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    writes = any(keyword.arg in ("out", "where", "copy") for keyword in call.keywords)
    if path.startswith("numpy."):  # an array behind the first argument is one to write to
        writes |= any(isinstance(n, ast.Name | ast.Call) for arg in call.args[1:] for n in ast.walk(arg))
    if writes or any(isinstance(part, Function) for part in given):
        return False
    if isinstance(call.func, ast.Attribute) and not path:
        owner, name = call.func.value, call.func.attr
        keeps = _keeps(owner) or owner is _UNKNOWN
        return bool(_READING.fullmatch(name) or (_KEEPING.fullmatch(name) and keeps))
    return bool(_HARMLESS.fullmatch(path)) or path == "EQUATION"


def _keeps(owner: ast.expr) -> bool:
    """Whether this only keeps things for later: a dictionary, an empty list, a file, a logger, a function."""
    if isinstance(owner, ast.Call):
        return path_of(owner.func) in ("open", "logging.getLogger")
    return isinstance(owner, ast.Dict | Function) or ast.unparse(owner) == "[]"


def path_of(node: ast.expr) -> str:
    """`numpy.linalg.norm` of such a chain of attributes; empty for any other expression."""
    if isinstance(node, ast.Attribute):
        owner = path_of(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    # names in capitals are terms of the normal form, and no paths
    return node.id if isinstance(node, ast.Name) and not node.id.isupper() else ""


def pattern(text: str) -> ast.expr:
    """The expression of a text, without places in it."""
    tree = ast.parse(text, mode="eval").body
    for node in ast.walk(tree):
        vars(node).pop("lineno", None)
    return tree


def parting(pattern: Any, term: Any, found: dict[str, ast.expr] | None = None) -> Any:
    """None where the term has the pattern's form, else its innermost part that differs.

    `found` takes what the pattern's single small letters stand for.
    """
    if found is not None and isinstance(pattern, ast.Name) and len(pattern.id) == 1:
        known = found.setdefault(pattern.id, term)
        return None if known is term else parting(known, term)
    if type(pattern) is not type(term) or isinstance(term, Function):
        return term if isinstance(term, ast.expr) else _OTHER
    if not isinstance(pattern, ast.AST | list):
        return None if pattern == term else _OTHER
    if isinstance(pattern, ast.AST):
        names = [name for name in pattern._fields if name not in ("ctx", "kind")]
        pattern, parts = ([getattr(node, name, None) for name in names] for node in (pattern, term))
    else:
        parts = term
    # a call with another number of arguments has no argument to point at
    if len(pattern) != len(parts):
        return _OTHER
    for ours, theirs in zip(pattern, parts, strict=True):
        parted = parting(ours, theirs, found)
        if parted is not None:
            return parted if hasattr(parted, "lineno") or not isinstance(term, ast.expr) else term
    return None
