"""An interpreter of the Python subset in which equations are written; it builds a graph and runs nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any

from llmsr.expression.graph import Graph
from llmsr.expression.reader.branches import BREAK, CONTINUE, NEXT, RETURN
from llmsr.expression.reader.expressions import SYMBOLS, Expressions
from llmsr.expression.reader.values import (
    CONTEXT,
    SERIALS,
    Array,
    Closure,
    Dialect,
    DType,
    Frame,
    Library,
    Limits,
    List,
    Module,
    Native,
    Once,
    Refused,
    Table,
    Text,
    Unbound,
    Version,
    describe,
    names_of_arguments,
    names_set_in,
    names_stored,
    refuse_if,
)

ENDS: dict[type[ast.AST], str] = {ast.Pass: NEXT, ast.Break: BREAK, ast.Continue: CONTINUE}


class Interpreter(Expressions):
    """Runs the statements of one body, where running means building nodes of `graph`.

    `signature` names the arguments of the equation (columns, then parameters), with which versions are
    called; `read_body` turns the text of a version into statements.
    """

    def __init__(
        self,
        graph: Graph,
        limits: Limits,
        dialect: Dialect,
        library: Library,
        signature: Sequence[str],
        read_body: Callable[[str], list[ast.stmt]],
    ) -> None:
        super().__init__(graph, limits, dialect, library)
        self.signature, self.read_body = tuple(signature), read_body
        self.versions: dict[str, Closure] = {}
        self.active: set[str] = set()

    def equation(self, body: list[ast.stmt], outer: dict[str, Any], arguments: dict[str, Any]) -> Any:
        """The value that the body returns when called with these arguments."""
        self.frame.names.update(outer)
        frame = Frame(names_set_in(body) | arguments.keys(), self.frame, dict(arguments))
        return self.returned(frame, body)

    def block(self, statements: list[ast.stmt]) -> str:
        """Runs statements until one of them ends the block; how it ended."""
        for statement in statements:
            self.step(statement.lineno)
            status = ENDS.get(type(statement)) or self.method("do", statement)(statement) or NEXT
            if status != NEXT:
                return status
        return NEXT

    # -- simple statements

    def do_Return(self, node: ast.Return) -> str:
        value = None if node.value is None else self.value(node.value)
        self.frame.returns.append((None, value))
        return RETURN

    def do_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def do_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value)

    def do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def do_AugAssign(self, node: ast.AugAssign) -> None:
        symbol, target = SYMBOLS[type(node.op)], node.target
        if isinstance(target, ast.Name):
            if target.id not in self.frame.names:
                raise Refused(f"the name {target.id} is used before it is set")
            current = self.look_up(target.id)
            self.frame.names[target.id] = self.in_place(symbol, current, self.value(node.value))
        elif isinstance(target, ast.Subscript):
            base, key = self.value(target.value), self.value(target.slice)
            current = self.part(base, key)  # before the right side, which may change it
            right = self.value(node.value)
            # a part of an array is written back; what a list holds changes itself
            change = self.binary if isinstance(base, Array) else self.in_place
            self.set_part(base, key, change(symbol, current, right))
        else:
            raise Refused("an assignment to an attribute")

    def in_place(self, symbol: str, current: Any, right: Any) -> Any:
        """`current op= right`: arrays and lists change for all of their names; numbers are replaced."""
        if isinstance(current, Array) and current.place is not None:
            self.set_part(current, Ellipsis, self.array(self.binary(symbol, current, right)))
            return current
        if isinstance(current, List) and symbol in "+*":
            if symbol == "+":
                right = List(tuple(self.items(right)))
            self.store(current, self.binary(symbol, current, right).content)
            return current
        return self.binary(symbol, current, right)

    def do_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Name) or target.id not in self.frame.names:
                raise Refused("del of anything but a local name")
            del self.frame.names[target.id]

    def do_Assert(self, node: ast.Assert) -> None:
        if self.truth(self.value(node.test)) is not True:
            message = "an assertion that is not always true"
            if isinstance(node.msg, ast.Constant) and self.frame.elsewhere:
                message = str(node.msg.value)  # the prelude's tell what is wrong with the call
            raise Refused(message)

    def do_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.split(".")[0]
            value: Any = Module(alias.name if alias.asname else root)
            if alias.name in self.library.unused:
                value = Unbound(f"stands for {alias.name}, which is not available")
            elif alias.name not in self.library.modules:
                raise Refused(f"the module {alias.name} is not available")
            self.frame.names[alias.asname or root] = value

    def do_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        members = self.library.modules.get(module)
        if node.level or (members is None and module not in self.library.unused):
            raise Refused(f"the module {'.' * node.level}{module} is not available")
        for alias in node.names:
            known = f"stands for {module}.{alias.name}, which is not available"
            why = known if members != {} else "is only for type hints"
            value = (members or {}).get(alias.name, Unbound(why))
            self.frame.names[alias.asname or alias.name] = value

    def do_FunctionDef(self, node: ast.FunctionDef) -> None:
        local_names = names_set_in(node.body) | names_of_arguments(node.args)
        function: Any = self.closure(node.name, node.args, node.body, local_names)
        for decorator in node.decorator_list:
            known = self.value(decorator)
            refuse_if(getattr(known, "name", "") != "np.vectorize", "a decorated function")
            function = self.apply(known, [function], {})
        self.frame.names[node.name] = function

    # -- blocks

    def do_With(self, node: ast.With) -> str:
        for item in node.items:
            refuse_if(item.optional_vars is not None, "`with ... as`")
            refuse_if(self.value(item.context_expr) is not CONTEXT, "`with` anything but np.errstate")
        return self.block(node.body)

    def do_Try(self, node: ast.Try) -> str:
        """The body, then `else` and `finally`: what would raise is refused, so handlers are never needed."""
        # where numpy would raise, the handler would run, so that no kinder meaning may be taken
        self.strict += 1
        status = self.block(node.body)
        self.strict -= 1
        if status == NEXT:
            status = self.block(node.orelse)
        refuse_if(node.finalbody and self.block(node.finalbody) != NEXT, "a return inside finally")
        return status

    def do_For(self, node: ast.For) -> str:
        for item in self.iterate(self.value(node.iter)):
            self.step(node.lineno)
            self.assign(node.target, item)
            status = self.block(node.body)
            if status in (BREAK, RETURN):
                return NEXT if status == BREAK else RETURN
        return self.block(node.orelse)

    def do_While(self, node: ast.While) -> str:
        while True:
            self.step(node.lineno)
            truth = self.truth(self.value(node.test))
            refuse_if(isinstance(truth, Array), "a while loop whose condition depends on data")
            if not truth:
                return self.block(node.orelse)
            status = self.block(node.body)
            if status in (BREAK, RETURN):
                return NEXT if status == BREAK else RETURN

    def do_If(self, node: ast.If) -> str:
        truth = self.truth(self.value(node.test))
        if not isinstance(truth, Array):
            return self.block(node.body if truth else node.orelse)
        yes, no = self.ways(truth, lambda: self.block(node.body), lambda: self.block(node.orelse))
        for status in (yes.result, no.result):
            refuse_if(status in (BREAK, CONTINUE), f"{status} under a condition that depends on data")
        self.step(node.lineno)
        # the conditions of the two exclude each other, so that their order does not matter
        returned: list[Array] = []
        for condition, way in ((truth, yes), (self.logical("not", truth), no)):
            for inner, value in way.returns:
                returned.append(condition if inner is None else self.logical("and", condition, inner))
                self.frame.returns.append((returned[-1], value))
        if yes.result == no.result == RETURN:
            return RETURN
        if yes.result == no.result:
            self.meet(truth, yes, no)
        else:
            self.frame.names = (no if yes.result == RETURN else yes).names
        if returned:
            # what follows, to the end of the function, happens only where nothing was returned
            rest = self.logical("not", reduce(partial(self.logical, "or"), returned))
            self.conditions.append((rest, next(SERIALS)))
        return NEXT

    # -- what is rare in expressions

    def value_Lambda(self, node: ast.Lambda) -> Closure:
        return self.closure("lambda", node.args, node.body, names_of_arguments(node.args))

    def value_ListComp(self, node: ast.ListComp) -> List:
        return self.new_list(self.items(self.value_GeneratorExp(node)))

    def value_GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp) -> Once:
        return self.comprehend(node.generators, lambda: self.value(node.elt))

    def value_Dict(self, node: ast.Dict) -> Table:
        table: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                table.update(self.named(self.value(item)))
            else:
                table[self.key(self.value(key))] = self.value(item)
        return Table(self.bounded(table))

    def value_JoinedStr(self, node: ast.JoinedStr) -> str | Text:
        """The text where it is made of texts and whole numbers; any other is known only to be one."""
        known: list[str] | None = []
        for piece in node.values:
            value = self.value(piece.value if isinstance(piece, ast.FormattedValue) else piece)
            spec = piece.format_spec if isinstance(piece, ast.FormattedValue) else None
            # a width that is not known, or is of three digits, would make long texts
            if spec is not None and re.search(r"\d{3}|\{", ast.unparse(spec)):
                raise Refused("a formatted string of this form")
            plain = spec is None and isinstance(value, (str, int)) and getattr(piece, "conversion", -1) == -1
            known = [*known, str(value)] if known is not None and plain else None
        return Text() if known is None else self.bounded("".join(known))

    def value_DictComp(self, node: ast.DictComp) -> Table:
        pairs = self.comprehend(
            node.generators, lambda: (self.key(self.value(node.key)), self.value(node.value))
        )
        return Table(dict(self.items(pairs)))

    def comprehend(self, generators: list[ast.comprehension], element: Callable[[], Any]) -> Once:
        """The elements of a comprehension, each evaluated when it is asked for, in a frame of its own."""
        # Python evaluates the first list at once and all else when an item is asked for
        first = self.value(generators[0].iter)
        names = frozenset().union(*(names_stored(g.target) for g in generators))
        frame = Frame(names, self.frame, comprehension=True, elsewhere=self.frame.elsewhere)

        def meets(generator: ast.comprehension, item: Any) -> bool:
            self.assign(generator.target, item)
            for test in generator.ifs:
                truth = self.truth(self.value(test))
                refuse_if(isinstance(truth, Array), "a comprehension whose condition depends on data")
                if not truth:
                    return False
            return True

        def run(level: int, items: Iterator[Any]) -> Iterator[Any]:
            generator = generators[level]
            refuse_if(generator.is_async, "async cannot be part of an equation")
            for item in items:
                if not self.inside(frame, lambda: meets(generator, item)):  # noqa: B023
                    continue
                if level + 1 < len(generators):
                    below = generators[level + 1].iter
                    yield from run(level + 1, self.inside(frame, lambda: self.iterate(self.value(below))))  # noqa: B023
                else:
                    yield self.inside(frame, element)

        return Once(run(0, self.iterate(first)), (first, frame))

    def inside(self, frame: Frame, action: Callable[[], Any]) -> Any:
        """What an action gives in another frame."""
        if len(self.frames) > self.limits.calls:
            raise Refused(f"more than {self.limits.calls} nested calls", "too_large")
        caller, self.frame = self.frame, frame
        self.frames.append(frame)
        value = action()
        self.frames.pop()
        self.frame = caller
        return value

    # -- calls

    def closure(self, name: str, arguments: ast.arguments, body: Any, local_names: frozenset[str]) -> Closure:
        defaults = tuple(self.several(arguments.defaults))
        keyword_defaults = tuple(None if d is None else self.value(d) for d in arguments.kw_defaults)
        elsewhere = self.frame.elsewhere
        return Closure(name, arguments, body, local_names, defaults, keyword_defaults, self.frame, elsewhere)

    def apply(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a known function, a function of the body, or an earlier version."""
        if isinstance(function, Native):
            return function.call(self, args, kwargs)
        if isinstance(function, Version):
            return self.call_version(function, args, kwargs)
        if isinstance(function, Closure):
            names, body = self.bind(function, args, kwargs), function.body
            frame = Frame(function.local_names, function.outer, names, elsewhere=function.elsewhere)
            if isinstance(body, list):
                return self.returned(frame, body)
            return self.inside(frame, lambda: self.value(body))
        if isinstance(function, DType):
            return self.library.methods[Array]["astype"].call(self, [self.array(*args), function], kwargs)
        raise Refused(f"{describe(function)} is called like a function")

    def returned(self, frame: Frame, body: list[ast.stmt]) -> Any:
        """The value that a function body returns in its frame."""
        level = len(self.conditions)
        status = self.inside(frame, lambda: self.block(body))
        del self.conditions[level:]
        refuse_if(status != RETURN and frame.returns, "one way through the function ends without a return")
        if status != RETURN:
            return None
        result = frame.returns[-1][1]
        for condition, value in reversed(frame.returns[:-1]):
            assert condition is not None
            result = self.joined(condition, value, result)
            refuse_if(
                isinstance(result, Unbound), "values of different kinds returned under a condition on data"
            )
        return result

    def call_version(self, version: Version, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """An earlier version's value, its body read as if it stood here; lines stay those of the call."""
        refuse_if(version.name in self.active, f"{version.name} calls itself")
        closure = self.versions.get(version.name)
        if closure is None:
            body = self.read_body(version.text)
            arguments = ast.arguments([], [ast.arg(name) for name in self.signature], None, [], [], None, [])
            names = names_set_in(body) | frozenset(self.signature)
            closure = Closure(version.name, arguments, body, names, (), (), self.frames[0], True)
            self.versions[version.name] = closure
        # versions call earlier ones; a circle among them is no equation
        self.active.add(version.name)
        value = self.apply(closure, args, kwargs)
        self.active.remove(version.name)
        return value

    def bind(self, function: Closure, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The names of a call's frame, as Python binds arguments."""
        spec = function.arguments
        positional = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        keyword_only = [a.arg for a in spec.kwonlyargs]
        by_name = {*positional[len(spec.posonlyargs) :], *keyword_only}
        names: dict[str, Any] = dict(zip(positional, args, strict=False))
        if spec.vararg is not None:
            names[spec.vararg.arg] = tuple(args[len(positional) :])
        elif len(args) > len(positional):
            raise Refused(f"{function.name} takes {len(positional)} arguments, not {len(args)}")
        rest = {}
        for name, value in kwargs.items():
            if name in by_name and name not in names:
                names[name] = value
            elif name not in by_name and spec.kwarg is not None:
                rest[name] = value
            else:
                raise Refused(f"{function.name} is called with a wrong argument {name}")
        if spec.kwarg is not None:
            names[spec.kwarg.arg] = Table(rest)
        defaults = dict(zip(reversed(positional), reversed(function.defaults), strict=False))
        by_keyword = zip(keyword_only, function.keyword_defaults, spec.kw_defaults, strict=True)
        defaults |= {arg: default for arg, default, node in by_keyword if node is not None}
        for name in (*positional, *keyword_only):
            if name not in names and name not in defaults:
                raise Refused(f"{function.name} is called without its argument {name}")
            names.setdefault(name, defaults.get(name))
        return names
