"""An interpreter of the Python subset in which equations are written; it builds a graph and runs nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from llmsr.expression.graph import Graph
from llmsr.expression.reader.branches import BREAK, CONTINUE, NEXT, RETURN
from llmsr.expression.reader.expressions import Expressions, Library
from llmsr.expression.reader.operators import SYMBOLS
from llmsr.expression.reader.values import (
    CONTEXT,
    SERIALS,
    Array,
    Closure,
    Dialect,
    DType,
    Frame,
    Limits,
    List,
    Module,
    Native,
    Refused,
    RowCount,
    Table,
    Unbound,
    Version,
    describe,
    names_of_arguments,
    names_set_in,
    refuse_if,
)


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
            status = self.method("do", statement)(statement) or NEXT
            if status != NEXT:
                return status
        return NEXT

    # -- simple statements

    def do_Pass(self, node: ast.Pass) -> None:
        pass

    def do_Break(self, node: ast.Break) -> str:
        return BREAK

    def do_Continue(self, node: ast.Continue) -> str:
        return CONTINUE

    def do_Return(self, node: ast.Return) -> str:
        value = None if node.value is None else self.value(node.value)
        self.frame.returns.append((None, value, self.memory))
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
            self.store(current, self.content(self.binary(symbol, current, right)))
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
                value = unavailable(alias.name)
            elif alias.name not in self.library.modules:
                raise Refused(f"the module {alias.name} is not available")
            self.frame.names[alias.asname or root] = value

    def do_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        members = self.library.modules.get(module)
        if node.level or (members is None and module not in self.library.unused):
            raise Refused(f"the module {'.' * node.level}{module} is not available")
        for alias in node.names:
            missing = (
                unavailable(f"{module}.{alias.name}") if members != {} else Unbound("is only for type hints")
            )
            self.frame.names[alias.asname or alias.name] = (members or {}).get(alias.name, missing)

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
            if item.optional_vars is not None:
                raise Refused("`with ... as`")
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
            if isinstance(truth, Array):
                raise Refused("a while loop whose condition depends on data")
            if not truth:
                return self.block(node.orelse)
            status = self.block(node.body)
            if status in (BREAK, RETURN):
                return NEXT if status == BREAK else RETURN

    def do_If(self, node: ast.If) -> str:
        truth = self.truth(self.value(node.test))
        if not isinstance(truth, Array):
            return self.block(node.body if truth else node.orelse)
        yes, no = self.ways(lambda: self.block(node.body), lambda: self.block(node.orelse))
        for status in (yes.result, no.result):
            refuse_if(status in (BREAK, CONTINUE), f"{status} under a condition that depends on data")
        self.step(node.lineno)
        # the conditions of the two exclude each other, so that their order does not matter
        opposite = self.logical("not", truth)
        for condition, way in ((truth, yes), (opposite, no)):
            for inner, value, memory in way.returns:
                both = condition if inner is None else self.logical("and", condition, inner)
                self.frame.returns.append((both, value, memory))
        if yes.returns or no.returns:
            # what follows happens only where nothing was returned
            self.path = object()
        if yes.result == no.result == NEXT:
            self.meet(truth, yes, no)
        else:
            # a way that has returned is over: `returned` joins its memory with that of the other's end
            other = no if yes.result == RETURN else yes
            self.frame.names, self.memory = other.names, other.memory
        return RETURN if yes.result == no.result == RETURN else NEXT

    # -- calls

    def apply(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a known function, a function of the body, or an earlier version."""
        if isinstance(function, Native):
            return function.call(self, args, kwargs)
        if isinstance(function, Version):
            return self.call_version(function, args, kwargs)
        if isinstance(function, Closure):
            names, body = self.bind(function, args, kwargs), function.body
            frame = Frame(function.local_names, function.outer, names, elsewhere=function.elsewhere)
            return (
                self.returned(frame, body)
                if isinstance(body, list)
                else self.inside(frame, lambda: self.value(body))
            )
        if isinstance(function, DType):
            return self.library.methods[Array]["astype"].call(self, [self.array(*args), function], kwargs)
        if isinstance(function, (tuple, int, RowCount)) and not kwargs:  # torch's x.size()
            raise Refused("a shape is called like a function")
        raise Refused(f"{describe(function)} is called like a function")

    def returned(self, frame: Frame, body: list[ast.stmt]) -> Any:
        """The value that a function body returns in its frame."""
        # the caller goes on whichever way the function returned
        path = self.path
        status = self.inside(frame, lambda: self.block(body))
        self.path = path
        if status != RETURN:
            refuse_if(frame.returns, "one way through the function ends without a return")
            return None
        _, result, memory = frame.returns[-1]
        for condition, value, earlier in reversed(frame.returns[:-1]):
            assert condition is not None
            result = self.joined(condition, value, result, earlier, memory)
            memory = self.merged(condition, earlier, memory)
            if isinstance(result, Unbound):
                raise Refused("the value returned depends on a condition in a way that is not supported")
        self.memory = memory
        return result

    def call_version(self, version: Version, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """An earlier version's value, its body read as if it stood here; lines stay those of the call."""
        if version.name in self.active:
            raise Refused(f"{version.name} calls itself")
        closure = self.versions.get(version.name)
        if closure is None:
            body = self.read_body(version.text)
            arguments = ast.arguments([], [ast.arg(name) for name in self.signature], None, [], [], None, [])
            local_names = names_set_in(body) | frozenset(self.signature)
            closure = Closure(version.name, arguments, body, local_names, (), (), self.frames[0], True)
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
        for arg, default, node in zip(keyword_only, function.keyword_defaults, spec.kw_defaults, strict=True):
            if node is not None:
                defaults[arg] = default
        for name in (*positional, *keyword_only):
            if name not in names and name not in defaults:
                raise Refused(f"{function.name} is called without its argument {name}")
            names.setdefault(name, defaults.get(name))
        return names

    def each_row(self, function: Any, arrays: list[Array]) -> Array:
        """The value of a function of the numbers of each row, as a number.

        Inside the function a column is one number per row, like a parameter; nothing outside can be changed,
        and what meets a whole column there keeps the row axis and cannot be returned.
        """
        numbers = [Array(a.cells.reshape(()), a.kind, bound=a.bound) for a in arrays]
        path, memory, newest = self.path, self.memory, next(SERIALS)
        # an iterator from outside would be used up by the first row, hence a path of its own
        self.path, self.memory = object(), dict(memory)
        value = self.array(self.apply(function, numbers, {}))
        changed = [p for p, held in self.memory.items() if memory.get(p, p.content) is not held]
        if any(place.serial < newest for place in changed):
            raise Refused("a vectorized function that changes what is known outside of it")
        self.path, self.memory = path, memory
        if value.rows is not None or value.ndim:
            raise Refused("a vectorized function whose value is not one number per row")
        return value


def unavailable(what: str) -> Unbound:
    """What a name stands for that was imported and may not be used."""
    return Unbound(f"stands for {what}, which is not available")
