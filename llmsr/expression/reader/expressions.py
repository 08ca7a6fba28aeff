"""The expressions of a body: from syntax to numbers, arrays of graph nodes, and functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmsr.expression.graph import Graph
from llmsr.expression.reader.arrays import mixes_rows, transpose
from llmsr.expression.reader.indexing import part, position, slice_of
from llmsr.expression.reader.operators import SYMBOLS, Operators
from llmsr.expression.reader.values import (
    NUMBERS,
    Array,
    Closure,
    Dialect,
    DType,
    Frame,
    Limits,
    List,
    Module,
    Native,
    Once,
    Refused,
    RowCount,
    Table,
    Text,
    Unbound,
    checked,
    describe,
    names_of_arguments,
    names_stored,
    refuse_if,
)

UNSUPPORTED: dict[type[ast.AST], str] = {
    ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield", ast.Set: "a set", ast.SetComp: "a set",
    ast.Starred: "*", ast.ClassDef: "a class", ast.AsyncFunctionDef: "an async function",
    ast.AsyncFor: "async", ast.AsyncWith: "async", ast.Raise: "raise", ast.Match: "match", ast.TryStar: "try",
}  # fmt: skip
SHORT_FORMAT = re.compile(r"[<>=^+\- #,]{0,3}0?\d{0,2}(?:\.\d{1,2})?[a-zA-Z%]?")
"""A format of a text that asks for fewer than a hundred characters."""


@dataclass(frozen=True)
class Library:
    """What a body may name beside its own names: tables of known values by name.

    `roots` are modules and built-in functions, `modules` the members of a module by its dotted name (none
    where its names only serve type hints), `methods` those of a type of values, called with the value first,
    `unused` modules that answers import out of habit.
    """

    roots: Mapping[str, Any]
    modules: Mapping[str, Mapping[str, Any]]
    methods: Mapping[type, Mapping[str, Native]]
    unused: frozenset[str]


class Expressions(Operators):
    """Evaluates expressions in a frame; `Interpreter` adds statements and calls of functions."""

    def __init__(self, graph: Graph, limits: Limits, dialect: Dialect, library: Library) -> None:
        super().__init__(graph, limits)
        self.dialect = dialect
        """Whose arrays the columns are, where the same method means two things."""
        self.library = library
        self.methods: dict[type[ast.AST], Callable[[Any], Any]] = {}
        """What evaluates syntax of a type, as far as any was met."""

    def method(self, prefix: str, node: ast.AST) -> Callable[[Any], Any]:
        """The method that understands a node, such as `value_Name`."""
        kind = type(node)
        if kind not in self.methods:
            method = getattr(self, f"{prefix}_{kind.__name__}", None)
            if kind in VALUES:
                method = partial(VALUES[kind], self)
            if method is None:
                raise Refused(f"{UNSUPPORTED.get(kind, kind.__name__)} cannot be part of an equation")
            self.methods[kind] = method
        return self.methods[kind]

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        self.step(getattr(node, "lineno", None))
        return self.method("value", node)(node)

    def apply(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a known function, a function of the body, or an earlier version."""
        raise NotImplementedError

    # -- atoms

    def value_Constant(self, node: ast.Constant) -> Any:
        value = node.value
        if value is None or value is Ellipsis or isinstance(value, (bool, str)):
            return value
        return checked(value, self.limits)

    def look_up(self, name: str) -> Any:
        frame: Frame | None = self.frame
        while frame is not None:
            if name in frame.names:
                value = frame.names[name]
                if isinstance(value, Unbound):
                    raise Refused(f"the name {name} {value.why}")
                return value
            refuse_if(name in frame.local_names, f"the name {name} is used before it is set")
            frame = frame.outer
        # last, since a body may give any name of ours another meaning
        if name in self.library.roots:
            return self.library.roots[name]
        raise Refused(f"the name {name} is not defined")

    def value_Dict(self, node: ast.Dict) -> Table:
        table: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                table.update(self.named(self.value(item)))
            else:
                table[self.key(self.value(key))] = self.value(item)
        return Table(self.bounded(table))

    def named(self, value: Any) -> dict[Any, Any]:
        """What `**value` stands for."""
        if not isinstance(value, Table):
            raise Refused("** of anything but a dictionary")
        return dict(self.content(value))

    def value_JoinedStr(self, node: ast.JoinedStr) -> str | Text:
        """The text where it is made of texts and whole numbers; any other is known only to be one."""
        known: list[str] | None = []
        for piece in node.values:
            value = self.value(piece.value if isinstance(piece, ast.FormattedValue) else piece)
            spec = piece.format_spec if isinstance(piece, ast.FormattedValue) else None
            if spec is not None and not is_short_format(spec):
                raise Refused("a formatted string of this form")
            plain = spec is None and isinstance(value, (str, int)) and getattr(piece, "conversion", -1) == -1
            known = [*known, str(value)] if known is not None and plain else None
        return Text() if known is None else self.bounded("".join(known))

    def several(self, nodes: list[ast.expr]) -> list[Any]:
        """The values of expressions, `*` unpacked."""
        out: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                out.extend(self.items(self.value(node.value)))
                self.bounded(out)
            else:
                out.append(self.value(node))
        return self.bounded(out)

    # -- parts

    def value_Slice(self, node: ast.Slice) -> slice:
        return slice(*(None if p is None else self.value(p) for p in (node.lower, node.upper, node.step)))

    def part(self, base: Any, key: Any) -> Any:
        """`base[key]`."""
        if isinstance(base, Array):
            return part(self, self.array(base), key)
        if isinstance(base, Table):
            refuse_if(self.key(key) not in self.content(base), "a key that the dictionary does not have")
            return self.content(base)[self.key(key)]
        if isinstance(base, (List, tuple)):
            items = self.content(base) if isinstance(base, List) else base
            if isinstance(key, slice):
                some = items[slice_of(self, key, len(items))]
                return List(some) if isinstance(base, List) else some
            return items[position(self, key, len(items))]
        if isinstance(base, Native) and base.index is not None:
            return base.index(self, key)
        raise Refused(f"an index into {describe(base)}")

    def attribute(self, base: Any, name: str) -> Any:
        """`base.name`, for the few names that are known."""
        if isinstance(base, Module):
            members = self.library.modules[base.name]
            if name not in members:
                raise Refused(f"{base.name}.{name} is not supported")
            return members[name]
        if isinstance(base, Array) and name in ATTRIBUTES:
            return ATTRIBUTES[name](self, self.array(base))
        # only what stands in our tables exists: there is no getattr on anything of the body's
        method = self.library.methods.get(type(base), {}).get(name)
        if method is None:
            raise Refused(f"the attribute {name} of {describe(base)} is not supported")
        if name in ("std", "var") and self.dialect == "torch":
            raise Refused(f"the method {name} of a tensor, which divides by one less than numpy's")
        call = method.call
        return Native(f".{name}", lambda on, args, kwargs: call(on, [base, *args], kwargs), (base,))

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
        args = self.several(node.args)
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is not None:
                kwargs[keyword.arg] = self.value(keyword.value)
                continue
            table = self.named(self.value(keyword.value))
            if not all(isinstance(k, str) for k in table):
                raise Refused("** of anything but a dictionary with names")
            kwargs.update(table)
        self.step(node.lineno)
        return self.apply(function, args, kwargs)

    def closure(self, name: str, arguments: ast.arguments, body: Any, local_names: frozenset[str]) -> Closure:
        defaults = tuple(self.several(arguments.defaults))
        keyword_defaults = tuple(None if d is None else self.value(d) for d in arguments.kw_defaults)
        elsewhere = self.frame.elsewhere
        return Closure(name, arguments, body, local_names, defaults, keyword_defaults, self.frame, elsewhere)

    # -- comprehensions

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
                if isinstance(truth, Array):
                    raise Refused("a comprehension whose condition depends on data")
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

        return self.once(run(0, self.iterate(first)), first, frame)

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

    # -- names

    def value_NamedExpr(self, node: ast.NamedExpr) -> Any:
        refuse_if(self.frame.comprehension, "a name set inside a comprehension")
        self.frame.names[node.target.id] = value = self.value(node.value)
        return value

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

    # -- operators

    def value_BinOp(self, node: ast.BinOp) -> Any:
        chain = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp):  # without recursion, since sums may be long
            chain.append(left)
            left = left.left
        value = self.value(left)
        for link in reversed(chain):
            right = self.value(link.right)
            self.step(link.lineno)
            value = self.binary(SYMBOLS[type(link.op)], value, right)
        return value

    def value_UnaryOp(self, node: ast.UnaryOp) -> Any:
        x = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            truth = self.truth(x)
            return self.python_bool("not", truth) if isinstance(truth, Array) else not truth
        if isinstance(x, NUMBERS):
            refuse_if(isinstance(node.op, ast.Invert), "~ of a constant")
            return -x if isinstance(node.op, ast.USub) else +x
        if not isinstance(x, Array):
            raise Refused(f"the negative of {describe(x)}")
        a = self.array(x)
        if isinstance(node.op, ast.USub):
            return self.negative(a)
        if isinstance(node.op, ast.Invert):
            return self.invert(a)
        return self.positive(a)

    # -- truths

    def linked(self, left: Any, ops: list[ast.cmpop], comparators: list[ast.expr]) -> Any:
        """A chain of comparisons, each of which is looked at only where those before it hold."""
        right = self.value(comparators[0])
        link = self.comparison(ops[0], left, right)
        if not ops[1:]:
            return link
        return self.short_circuit("and", link, lambda: self.linked(right, ops[1:], comparators[1:]))

    def value_BoolOp(self, node: ast.BoolOp) -> Any:
        op = "and" if isinstance(node.op, ast.And) else "or"
        result = self.value(node.values[0])
        for operand in node.values[1:]:
            result = self.short_circuit(op, result, lambda: self.value(operand))  # noqa: B023
        return result

    def value_IfExp(self, node: ast.IfExp) -> Any:
        truth = self.truth(self.value(node.test))
        if not isinstance(truth, Array):
            return self.value(node.body if truth else node.orelse)
        return self.either(truth, lambda: self.value(node.body), lambda: self.value(node.orelse))


def is_short_format(spec: ast.expr) -> bool:
    """Whether a format is a constant that asks for fewer than a hundred characters."""
    pieces = spec.values if isinstance(spec, ast.JoinedStr) else [spec]
    texts = [p.value for p in pieces if isinstance(p, ast.Constant) and isinstance(p.value, str)]
    return len(texts) == len(pieces) and bool(SHORT_FORMAT.fullmatch("".join(texts)))


ATTRIBUTES: dict[str, Callable[[Expressions, Array], Any]] = {
    "shape": Expressions.shape,
    "size": Expressions.size,
    "ndim": lambda on, a: a.ndim,
    "dtype": lambda on, a: DType("b" if a.kind == "t" else a.kind),
    "T": lambda on, a: transpose(a),
    "real": lambda on, a: a,
}
VALUES: dict[type[ast.AST], Callable[[Expressions, Any], Any]] = {
    ast.Name: lambda on, node: on.look_up(node.id),
    ast.Tuple: lambda on, node: tuple(on.several(node.elts)),
    ast.List: lambda on, node: on.new_list(on.several(node.elts)),
    ast.Subscript: lambda on, node: on.part(on.value(node.value), on.value(node.slice)),
    ast.Attribute: lambda on, node: on.attribute(on.value(node.value), node.attr),
    ast.Lambda: lambda on, node: on.closure("lambda", node.args, node.body, names_of_arguments(node.args)),
    ast.ListComp: lambda on, node: on.new_list(
        on.items(on.comprehend(node.generators, lambda: on.value(node.elt)))
    ),
    ast.GeneratorExp: lambda on, node: on.comprehend(node.generators, lambda: on.value(node.elt)),
    ast.Compare: lambda on, node: on.linked(on.value(node.left), node.ops, node.comparators),
}
"""What syntax means that needs one step; the methods `value_...` are for the rest."""
