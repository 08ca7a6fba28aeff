"""An interpreter of the Python subset in which equations are written; it builds a graph and runs nothing."""

from __future__ import annotations

import ast
from typing import Any

from llmsr.expression.reader.calls import (
    BREAK,
    CONTINUE,
    NEXT,
    RETURN,
    Calling,
    Journal,
    arrays_in,
    holds,
    join,
    join_stores,
)
from llmsr.expression.reader.functions import HINTS, MODULES, UNUSED
from llmsr.expression.reader.indexing import position, write
from llmsr.expression.reader.making import vectorize
from llmsr.expression.reader.operators import SYMBOLS
from llmsr.expression.reader.syntax import names_of_arguments, names_set_in
from llmsr.expression.reader.values import (
    CONTEXT,
    Array,
    Frame,
    Items,
    Module,
    Refused,
    Table,
    Unbound,
    describe,
)

TWO_NAMES = "an array is changed that, under a condition on data, has a second name"


class Interpreter(Calling):
    """Runs the statements of one body, where running means building nodes of `graph`.

    `signature` names the arguments of the equation (columns, then parameters), with which versions are
    called; `read_body` turns the text of a version into statements.
    """

    def equation(self, body: list[ast.stmt], outer: dict[str, Any], arguments: dict[str, Any]) -> Any:
        """The value that the body returns when called with these arguments."""
        self.frame.names.update(outer)
        frame = Frame(frozenset(names_set_in(body)) | frozenset(arguments), self.frame, dict(arguments))
        return self.within(frame, body)

    # -- statements

    def block(self, statements: list[ast.stmt]) -> str:
        for statement in statements:
            self.step(statement.lineno)
            method = getattr(self, f"do_{type(statement).__name__}", None)
            if method is None:
                raise Refused(
                    f"{STATEMENTS.get(type(statement), 'this statement')} cannot be part of an equation"
                )
            status = method(statement) or NEXT
            if status != NEXT:
                return status
        return NEXT

    def do_Pass(self, node: ast.Pass) -> None:
        pass

    def do_Break(self, node: ast.Break) -> str:
        return BREAK

    def do_Continue(self, node: ast.Continue) -> str:
        return CONTINUE

    def do_Return(self, node: ast.Return) -> str:
        value = None if node.value is None else self.value(node.value)
        if self.undecided > self.frame.undecided:
            # what follows when the condition does not hold may change the array
            value = self.snapshot(value)
        self.frame.returns.append((None, value))
        return RETURN

    def snapshot(self, value: Any) -> Any:
        """A copy of the arrays in a value; those known outside of the function can no longer be changed."""
        self.step(None)
        if isinstance(value, Array) and not value.scalar:
            known = [v for f in self.frames if f is not self.frame for v in f.names.values()]
            out = self.arrays.copy(value)
            if holds(self.arrays, known, {id(value.store)}):
                value.store.locked = value.store.locked or TWO_NAMES
            out.store.locked = value.store.locked
            return out
        if isinstance(value, tuple):
            return tuple(self.snapshot(item) for item in value)
        if isinstance(value, Items):
            return Items([self.snapshot(item) for item in value], -1)
        return value

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
        symbol = SYMBOLS[type(node.op)]
        if isinstance(node.target, ast.Name):
            if node.target.id not in self.frame.names:
                raise Refused(f"the name {node.target.id} is used before it is set")
            current = self.look_up(node.target.id)
            self.frame.names[node.target.id] = self.in_place(symbol, current, self.value(node.value))
        elif isinstance(node.target, ast.Subscript):
            base, key = self.value(node.target.value), self.value(node.target.slice)
            current = self.part(base, key)
            right = self.value(node.value)
            if isinstance(base, Array):
                self.set_part(base, key, self.binary(symbol, current, right))
            else:
                self.set_part(base, key, self.in_place(symbol, current, right))
        else:
            raise Refused("an assignment to an attribute")

    def in_place(self, symbol: str, current: Any, right: Any) -> Any:
        """`current op= right`: arrays and lists change for all of their names; numbers are replaced."""
        if isinstance(current, Array) and not current.scalar:
            result = self.array(self.binary(symbol, current, right))
            self.set_part(current, Ellipsis, result)
            return current
        if isinstance(current, list) and symbol in "+*":
            result = self.binary(symbol, current, tuple_to_list(right) if symbol == "+" else right)
            self.change(current)
            current[:] = result
            return current
        return self.binary(symbol, current, right)

    def set_part(self, base: Any, key: Any, value: Any) -> None:
        """`base[key] = value`."""
        if isinstance(base, Array):
            if base.scalar:
                raise Refused("an assignment into a number")
            if base.store.locked:
                raise Refused(base.store.locked)
            if self.tentative:
                raise Refused("an array changed inside a conditional expression")
            if any(f.returns and base.store.serial <= f.serial for f in self.frames):
                raise Refused("an array changed from outside after a return under a condition")
            for journal in self.journals:
                journal.note(base.store)
            write(self.arrays, base, key, self.array(value))
        elif isinstance(base, dict):
            self.change(base)
            base[self.key(key)] = value
            if len(base) > self.limits.items:
                raise Refused(f"a dictionary of more than {self.limits.items} items", "too_large")
        elif isinstance(base, list):
            if isinstance(key, slice):
                raise Refused("an assignment to a slice of a list")
            at = position(self.arrays, key, len(base))
            self.change(base)
            base[at] = value
        else:
            raise Refused(f"an assignment into {describe(base)}")

    def change(self, container: Any) -> None:
        """Refuses to change a list or dictionary in a branch that may not be taken."""
        made_at = container.depth if isinstance(container, (Items, Table)) else 0
        if (
            self.tentative
            or self.undecided > made_at
            or made_at < 0
            or any(f.returns for f in self.frames[2:])
        ):
            raise Refused(f"{describe(container)} changed under a condition that depends on data")

    def do_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Name) or target.id not in self.frame.names:
                raise Refused("del of anything but a local name")
            del self.frame.names[target.id]

    def do_Assert(self, node: ast.Assert) -> None:
        if self.truth(self.value(node.test)) is not True:
            raise Refused("an assertion that is not always true")

    def do_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.split(".")[0]
            if alias.name in MODULES:
                self.frame.names[alias.asname or root] = Module(alias.name if alias.asname else root)
            elif alias.name in UNUSED:
                self.frame.names[alias.asname or root] = unavailable(alias.name)
            else:
                raise Refused(f"the module {alias.name} is not available")

    def do_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level or module not in {*MODULES, *UNUSED, *HINTS}:
            raise Refused(f"the module {'.' * node.level}{module} is not available")
        for alias in node.names:
            if alias.name == "*":
                raise Refused("an import of all names")
            value: Any = unavailable(f"{module}.{alias.name}")
            if module in HINTS:
                value = Unbound("is only for type hints")
            elif alias.name in MODULES.get(module, {}):
                value = MODULES[module][alias.name]
            self.frame.names[alias.asname or alias.name] = value

    def do_FunctionDef(self, node: ast.FunctionDef) -> None:
        local_names = names_set_in(node.body) | names_of_arguments(node.args)
        function: Any = self.closure(node.name, node.args, node.body, local_names)
        for decorator in node.decorator_list:
            if self.value(decorator) is not MODULES["numpy"]["vectorize"]:
                raise Refused("a decorated function")
            function = vectorize(self, function)
        self.frame.names[node.name] = function

    def do_With(self, node: ast.With) -> str:
        for item in node.items:
            if item.optional_vars is not None:
                raise Refused("`with ... as`")
            if self.value(item.context_expr) is not CONTEXT:
                raise Refused("`with` anything but np.errstate")
        return self.block(node.body)

    def do_Try(self, node: ast.Try) -> str:
        """The body, then `else` and `finally`: what would raise is refused, so handlers are never needed."""
        self.strict += 1
        status = self.block(node.body)
        self.strict -= 1
        if status == NEXT:
            status = self.block(node.orelse)
        if node.finalbody and self.block(node.finalbody) != NEXT:
            raise Refused("a return inside finally")
        return status

    def do_For(self, node: ast.For) -> str:
        for item in self.iterate(self.value(node.iter)):
            self.step(node.lineno)
            self.assign(node.target, item)
            status = self.block(node.body)
            if status == BREAK:
                return NEXT
            if status == RETURN:
                return RETURN
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
            if status == BREAK:
                return NEXT
            if status == RETURN:
                return RETURN

    # -- branches

    def do_If(self, node: ast.If) -> str:
        truth = self.truth(self.value(node.test))
        if not isinstance(truth, Array):
            return self.block(node.body if truth else node.orelse)
        frame = self.frame
        before = dict(frame.names)
        earlier = frame.returns
        outcomes = []
        self.undecided += 1
        for body in (node.body, node.orelse):
            frame.names, frame.returns = dict(before), []
            self.journals.append(Journal())
            status = self.block(body)
            if status in (BREAK, CONTINUE):
                raise Refused(f"{status} under a condition that depends on data")
            written = self.journals.pop().undo()
            if status == RETURN and any(store.serial <= frame.serial for store, _ in written.values()):
                raise Refused("an array changed from outside before a return under a condition")
            outcomes.append((status, frame.names, frame.returns, written))
        self.undecided -= 1
        (status_yes, names_yes, returns_yes, written_yes), (status_no, names_no, returns_no, written_no) = (
            outcomes
        )
        self.step(node.lineno)
        opposite = self.arrays.logical("not", truth)
        frame.returns = [
            *earlier,
            *((self.both(truth, c), value) for c, value in returns_yes),
            *((self.both(opposite, c), value) for c, value in returns_no),
        ]
        if status_yes == RETURN:
            frame.names, written_yes = names_no, written_no
        elif status_no == RETURN:
            frame.names, written_no = names_yes, written_yes
        for store, _ in {**written_yes, **written_no}.values():
            for journal in self.journals:
                journal.note(store)
        join_stores(self.arrays, truth, written_yes, written_no)
        if RETURN not in (status_yes, status_no):
            frame.names = self.join_names(truth, names_yes, names_no)
        return RETURN if status_yes == status_no == RETURN else NEXT

    def both(self, a: Array, b: Array | None) -> Array:
        return a if b is None else self.arrays.logical("and", a, b)

    def join_names(self, condition: Array, yes: dict[str, Any], no: dict[str, Any]) -> dict[str, Any]:
        names = {}
        for name in {**yes, **no}:
            if name in yes and name in no:
                a, b = yes[name], no[name]
                names[name] = a if a is b else self.joined(condition, a, b, (name, yes, no))
            else:
                names[name] = Unbound("is set in one branch only")
        return names

    def joined(self, condition: Array, a: Any, b: Any, named: Any) -> Any:
        """`join`, with the result closed to writing when it stands for an array that has another name."""
        result = join(self.arrays, condition, a, b)
        if named is None and isinstance(result, Unbound):
            raise Refused("a conditional value of this kind")
        sources = list(arrays_in(a, b))
        if result is a or not sources:
            return result
        others: list[Any] = [v for f in self.frames for v in f.names.values() if f is not self.frame]
        if named is None:
            others.extend(self.frame.names.values())
        else:
            name, yes, no = named
            others.extend(v for names in (yes, no) for k, v in names.items() if k != name)
        shared = not isinstance(result, Array) or holds(self.arrays, others, {id(v.store) for v in sources})
        if shared:
            for array in (*sources, *arrays_in(result)):
                array.store.locked = array.store.locked or TWO_NAMES
        else:  # what a source may be another name of, the result may be too
            result.store.locked = next((v.store.locked for v in sources if v.store.locked), None)
        return result


def unavailable(what: str) -> Unbound:
    """What a name stands for that was imported and may not be used."""
    return Unbound(f"stands for {what}, which is not available")


def tuple_to_list(value: Any) -> Any:
    return Items(value) if isinstance(value, tuple) else value


STATEMENTS: dict[type[ast.AST], str] = {
    ast.ClassDef: "a class",
    ast.AsyncFunctionDef: "an async function",
    ast.AsyncFor: "async",
    ast.AsyncWith: "async",
    ast.Raise: "raise",
    ast.Match: "match",
    ast.TryStar: "try",
}
