"""The expressions of a body: from syntax to numbers, arrays of graph nodes, and functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.reader.arrays import mixes_rows
from llmsr.expression.reader.functions import BUILTINS, METHODS, MODULES, ROOTS
from llmsr.expression.reader.indexing import position, read, slice_of, transpose
from llmsr.expression.reader.numpy_functions import column_stack, joined
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.syntax import names_of_arguments, names_stored
from llmsr.expression.reader.values import (
    Array,
    Closure,
    DType,
    Frame,
    Items,
    Module,
    Native,
    Once,
    Refused,
    RowCount,
    Store,
    Table,
    Text,
    Unbound,
    Version,
    checked,
    describe,
)


class Evaluating(Operators):
    """Evaluates expressions in a frame; `Interpreter` adds statements, branches and calls of functions."""

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        self.step(getattr(node, "lineno", None))
        kind = type(node)
        method = self.methods.get(kind)
        if method is None:
            method = self.methods[kind] = getattr(self, f"value_{kind.__name__}", None)
        if method is None:
            raise Refused(f"{UNSUPPORTED.get(type(node), type(node).__name__)} cannot be part of an equation")
        return method(node)

    # -- atoms

    def value_Constant(self, node: ast.Constant) -> Any:
        value = node.value
        if value is None or value is Ellipsis or isinstance(value, (bool, str)):
            return value
        return checked(value, self.limits)

    def value_Name(self, node: ast.Name) -> Any:
        return self.look_up(node.id)

    def look_up(self, name: str) -> Any:
        frame: Frame | None = self.frame
        while frame is not None:
            if name in frame.names:
                value = frame.names[name]
                if isinstance(value, Unbound):
                    raise Refused(f"the name {name} {value.why}")
                return value
            if name in frame.local_names:
                raise Refused(f"the name {name} is used before it is set")
            frame = frame.outer
        if name in ROOTS:
            return ROOTS[name]
        if name in BUILTINS:
            return BUILTINS[name]
        raise Refused(f"the name {name} is not defined")

    def value_Tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.several(node.elts))

    def value_List(self, node: ast.List) -> Items:
        return self.new_list(self.several(node.elts))

    def value_Dict(self, node: ast.Dict) -> Table:
        table = Table(depth=self.undecided)
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                inner = self.value(item)
                if not isinstance(inner, dict):
                    raise Refused("** of anything but a dictionary")
                table.update(inner)
            else:
                table[self.key(self.value(key))] = self.value(item)
            if len(table) > self.limits.items:
                raise Refused(f"a dictionary of more than {self.limits.items} items", "too_large")
        return table

    def value_JoinedStr(self, node: ast.JoinedStr) -> str | Text:
        """The text where it is made of texts and whole numbers; any other is known only to be one."""
        known: list[str] | None = []
        for part in node.values:
            value = self.value(part.value if isinstance(part, ast.FormattedValue) else part)
            spec = part.format_spec if isinstance(part, ast.FormattedValue) else None
            if spec is not None and not is_short_format(spec):
                raise Refused("a formatted string of this form")
            plain = spec is None and isinstance(value, (str, int)) and getattr(part, "conversion", -1) == -1
            known = [*known, str(value)] if known is not None and plain else None
        return Text() if known is None else self.text("".join(known))

    def several(self, nodes: list[ast.expr]) -> list[Any]:
        """The values of expressions, `*` unpacked."""
        out: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                out.extend(self.items(self.value(node.value)))
            else:
                out.append(self.value(node))
            if len(out) > self.limits.items:
                raise Refused(f"more than {self.limits.items} items", "too_large")
        return out

    # -- parts

    def value_Slice(self, node: ast.Slice) -> slice:
        return slice(*(None if p is None else self.value(p) for p in (node.lower, node.upper, node.step)))

    def value_Subscript(self, node: ast.Subscript) -> Any:
        return self.part(self.value(node.value), self.value(node.slice))

    def part(self, base: Any, key: Any) -> Any:
        """`base[key]`."""
        if isinstance(base, Array):
            return read(self.arrays, base, key)
        if isinstance(base, dict):
            key = self.key(key)
            if key not in base:
                raise Refused("a key that the dictionary does not have")
            return base[key]
        if isinstance(base, (list, tuple)):
            if isinstance(key, slice):
                out = base[slice_of(self.arrays, key, len(base))]
                return self.new_list(out) if isinstance(base, list) else out
            return base[position(self.arrays, key, len(base))]
        if base is MODULES["numpy"]["c_"]:
            return column_stack(self, key if isinstance(key, tuple) else (key,))
        if base is MODULES["numpy"]["r_"]:
            return joined(self, key)
        raise Refused(f"an index into {describe(base)}")

    def value_Attribute(self, node: ast.Attribute) -> Any:
        return self.attribute(self.value(node.value), node.attr)

    def attribute(self, base: Any, name: str) -> Any:
        """`base.name`, for the few names that are known."""
        if isinstance(base, Module):
            return self.member(base, name)
        if isinstance(base, Array):
            if name == "shape":
                return self.shape(base)
            if name == "T":
                return transpose(base)
            if name == "ndim":
                return base.ndim
            if name == "size":
                return self.size(base)
            if name == "real":
                return base
            if name == "dtype":
                return DType(base.kind)
        table = METHODS.get(type(base), {})
        if name not in table:
            raise Refused(f"the attribute {name} of {describe(base)} is not supported")
        method: Native = table[name]
        return Native(f".{name}", lambda on, args, kwargs: method.call(on, [base, *args], kwargs))

    def member(self, module: Module, name: str) -> Any:
        table = MODULES[module.name]
        if name in table:
            return table[name]
        raise Refused(f"{module.name}.{name} is not supported")

    def shape(self, a: Array) -> tuple[int | RowCount, ...]:
        return tuple(RowCount(a.selection) if i == a.row_axis else n for i, n in enumerate(a.cells.shape))

    def size(self, a: Array) -> int | RowCount:
        if a.rows is None:
            return a.cells.size
        if a.cells.size != 1:
            raise mixes_rows("the number of cells of an array of rows")
        return RowCount(a.selection)

    # -- functions

    def value_Call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        args: list[Any] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                args.extend(self.items(self.value(argument.value)))
            else:
                args.append(self.value(argument))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                table = self.value(keyword.value)
                if not isinstance(table, dict) or not all(isinstance(k, str) for k in table):
                    raise Refused("** of anything but a dictionary with names")
                kwargs.update(table)
            else:
                kwargs[keyword.arg] = self.value(keyword.value)
        if len(args) > self.limits.items:
            raise Refused(f"more than {self.limits.items} arguments", "too_large")
        self.step(node.lineno)
        return self.apply(function, args, kwargs)

    def apply(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a known function, a function of the body, or an earlier version."""
        if isinstance(function, Native):
            return function.call(self, args, kwargs)
        if isinstance(function, (Closure, Version)):
            return self.call(function, args, kwargs)
        if isinstance(function, DType):
            return METHODS[Array]["astype"].call(self, [self.array(*args), function], kwargs)
        if isinstance(function, (tuple, int, RowCount)) and not kwargs:  # torch's x.size()
            raise Refused("a shape is called like a function")
        raise Refused(f"{describe(function)} is called like a function")

    def value_Lambda(self, node: ast.Lambda) -> Closure:
        return self.closure("lambda", node.args, node.body, names_of_arguments(node.args))

    def closure(self, name: str, arguments: ast.arguments, body: Any, local_names: frozenset[str]) -> Closure:
        defaults = tuple(self.several(arguments.defaults))
        keyword_defaults = tuple(None if d is None else self.value(d) for d in arguments.kw_defaults)
        elsewhere = bool(self.frozen_line)
        return Closure(name, arguments, body, local_names, defaults, keyword_defaults, self.frame, elsewhere)

    # -- comprehensions

    def value_ListComp(self, node: ast.ListComp) -> Items:
        return self.new_list(self.items(self.comprehend(node.generators, lambda: self.value(node.elt))))

    def value_GeneratorExp(self, node: ast.GeneratorExp) -> Once:
        return self.comprehend(node.generators, lambda: self.value(node.elt))

    def value_DictComp(self, node: ast.DictComp) -> Table:
        pairs = self.comprehend(
            node.generators, lambda: (self.key(self.value(node.key)), self.value(node.value))
        )
        return Table(self.items(pairs), self.undecided)

    def comprehend(self, generators: list[ast.comprehension], element: Callable[[], Any]) -> Once:
        """The elements of a comprehension, each evaluated when it is asked for, in a frame of its own."""
        first = self.value(generators[0].iter)
        names = frozenset().union(*(names_stored(g.target) for g in generators))
        frame = Frame(names, self.frame, comprehension=True)

        def inside(action: Callable[[], Any]) -> Any:
            caller, self.frame = self.frame, frame
            self.frames.append(frame)
            value = action()
            self.frames.pop()
            self.frame = caller
            return value

        def meets(generator: ast.comprehension, item: Any) -> bool:
            self.assign(generator.target, item)
            for test in generator.ifs:
                truth = self.truth(self.value(test))
                if isinstance(truth, Array):
                    raise Refused("a comprehension whose condition depends on data")
                if not truth:
                    return False
            return True

        def run(level: int, items: Iterator[Any]) -> Iterator[Any]:
            generator = generators[level]
            if generator.is_async:
                raise Refused("async cannot be part of an equation")
            for item in items:
                if not inside(lambda: meets(generator, item)):  # noqa: B023
                    continue
                if level + 1 < len(generators):
                    below = generators[level + 1].iter
                    yield from run(level + 1, inside(lambda: self.iterate(self.value(below))))  # noqa: B023
                else:
                    yield inside(element)

        return Once(run(0, self.iterate(first)), self.undecided, (first,))

    # -- names

    def assign(self, target: ast.expr, value: Any) -> None:
        """Binds `target`, which may be a name, a tuple or a part of an array or list."""
        if isinstance(target, ast.Name):
            self.frame.names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, self.items(value))
        elif isinstance(target, ast.Subscript):
            self.set_part(self.value(target.value), self.value(target.slice), value)
        else:
            raise Refused("an assignment to an attribute")

    def unpack(self, targets: list[ast.expr], items: list[Any]) -> None:
        starred = [i for i, t in enumerate(targets) if isinstance(t, ast.Starred)]
        if (not starred and len(items) != len(targets)) or len(items) < len(targets) - len(starred):
            raise Refused(f"{len(items)} values unpacked into {len(targets)} names")
        if starred:
            at = starred[0]
            end = len(items) - (len(targets) - at - 1)
            items = [*items[:at], self.new_list(items[at:end]), *items[end:]]
        for target, item in zip(targets, items, strict=True):
            self.assign(target.value if isinstance(target, ast.Starred) else target, item)


def is_short_format(spec: ast.expr) -> bool:
    """Whether a format is a constant that asks for fewer than a hundred characters."""
    parts = spec.values if isinstance(spec, ast.JoinedStr) else [spec]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return len(texts) == len(parts) and bool(SHORT_FORMAT.fullmatch("".join(texts)))


SHORT_FORMAT = re.compile(r"[<>=^+\- #,]{0,3}0?\d{0,2}(?:\.\d{1,2})?[a-zA-Z%]?")
UNSUPPORTED: dict[type[ast.AST], str] = {
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.Set: "a set",
    ast.SetComp: "a set",
    ast.Starred: "*",
}


def column(graph: Graph, index: int) -> Array:
    """An input column, which nothing may change."""
    cells = np.array([graph.column(index)], dtype=np.int64)
    return Array(cells, "f", -1, (), Store(locked="an input column would be changed in place"))


def parameters(graph: Graph, size: int) -> Array:
    """The parameters, shape (size,), which nothing may change."""
    cells = np.array([graph.param(i) for i in range(size)], dtype=np.int64)
    return Array(cells, "f", None, (), Store(locked="the parameters would be changed in place"))
