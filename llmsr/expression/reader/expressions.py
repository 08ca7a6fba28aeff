"""The expressions of a body: from syntax to numbers, arrays of graph nodes, and functions."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.reader.arrays import COMPARISONS, mixes_rows
from llmsr.expression.reader.branches import Branches
from llmsr.expression.reader.indexing import matmul, part, position, slice_of, transpose
from llmsr.expression.reader.values import (
    NUMBERS,
    Array,
    Dialect,
    DType,
    Frame,
    Library,
    Limits,
    List,
    Module,
    Native,
    Refused,
    RowCount,
    Table,
    Unbound,
    checked,
    describe,
    refuse_if,
)

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": operator.lshift, ">>": operator.rshift, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
UNSUPPORTED: dict[type[ast.AST], str] = {
    ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield", ast.Set: "a set", ast.SetComp: "a set",
    ast.Starred: "*", ast.ClassDef: "a class", ast.AsyncFunctionDef: "an async function",
    ast.AsyncFor: "async", ast.AsyncWith: "async", ast.Raise: "raise", ast.Match: "match", ast.TryStar: "try",
}  # fmt: skip


class Expressions(Branches):
    """Evaluates expressions in a frame; `Interpreter` adds statements and calls of functions."""

    def __init__(self, graph: Graph, limits: Limits, dialect: Dialect, library: Library) -> None:
        super().__init__(graph, limits)
        self.strict = self.pulling = 0
        self.tied = set()
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

    def named(self, value: Any) -> dict[Any, Any]:
        """What `**value` stands for."""
        if not isinstance(value, Table):
            raise Refused("** of anything but a dictionary")
        return dict(value.content)

    # -- parts

    def value_Slice(self, node: ast.Slice) -> slice:
        return slice(*(None if p is None else self.value(p) for p in (node.lower, node.upper, node.step)))

    def part(self, base: Any, key: Any) -> Any:
        """`base[key]`."""
        if isinstance(base, Array):
            a = self.array(base)
            if type(key) is int and a.rows is None and a.ndim == 1 and 0 <= key < len(a.cells):
                return Array(np.array(a.cells[key]), a.kind)  # params[0], by far the most frequent
            return part(self, a, key)
        if isinstance(base, Table):
            refuse_if(self.key(key) not in base.content, "a key that the dictionary does not have")
            return base.content[self.key(key)]
        if isinstance(base, (List, tuple)):
            items = base.content if isinstance(base, List) else base
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

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        """A Python operator or comparison on any two values."""
        if isinstance(left, NUMBERS) and isinstance(right, NUMBERS) and symbol != "@":
            return self.folded(symbol, left, right)
        # arrays are compared cell by cell, all else as a whole
        if symbol in ("==", "!=") and not (isinstance(left, Array) or isinstance(right, Array)):
            return self.equal(left, right) == (symbol == "==")
        # texts are keys of dictionaries, which bodies put together
        if isinstance(left, str) and isinstance(right, str) and symbol == "+":
            return self.bounded(left + right)
        if isinstance(left, (List, tuple)) or isinstance(right, (List, tuple)):
            joined = self.join_lists(symbol, left, right)
            if joined is not None:
                return joined
        a, b = self.array(left), self.array(right)
        if symbol in COMPARISONS:
            return self.compare(symbol, a, b)
        if symbol == "@":
            return matmul(self, a, b)
        if symbol == "**" and right == 0.5 and isinstance(right, float) and a.ndim and a.kind == "f":
            return self.float_function("sqrt", a)  # as numpy does for arrays
        return self.arithmetic(symbol, a, b)

    def folded(self, symbol: str, left: Any, right: Any) -> bool | int | float:
        """The value that Python gives for two numbers; refuses errors, complex results and large integers."""
        limit = self.limits.bits
        if isinstance(left, int) and isinstance(right, int):
            # the size of the result is bounded before anything is computed
            bits = {
                "**": left.bit_length() * min(max(right, 0), limit + 1) if abs(left) > 1 else 0,
                "<<": left.bit_length() + min(max(right, 0), 2 * limit + 1) if left else 0,
                "*": left.bit_length() + right.bit_length(),
            }.get(symbol, 0)
            refuse_if(bits > 2 * limit, f"an integer of more than {limit} bits", "too_large")
        try:
            value = OPERATORS[symbol](left, right)
        except OverflowError:
            raise Refused(f"{symbol} of constants is too large for a number", "too_large") from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise Refused(f"{symbol} of constants fails: {error}") from None
        return checked(value, self.limits)

    def join_lists(self, symbol: str, left: Any, right: Any) -> Any:
        """`+` and `*` of lists and tuples; None when the operands do not ask for it."""
        a, b = (side.content if isinstance(side, List) else side for side in (left, right))
        if symbol == "+" and isinstance(a, tuple) and isinstance(b, tuple):
            if isinstance(left, List) != isinstance(right, List):
                raise Refused("a list and a tuple added")
            items = a + b
        elif symbol == "*" and isinstance(a, (tuple, int)) and isinstance(b, (tuple, int)):
            some, times = (a, b) if isinstance(a, tuple) else (b, a)
            if not isinstance(some, tuple) or not isinstance(times, int):
                raise Refused("a product of lists")
            if len(some) * max(times, 0) > self.limits.items:
                raise Refused(f"a list of more than {self.limits.items} items", "too_large")
            items = some * times
        elif isinstance(left, Array) or isinstance(right, Array):
            if symbol == "*" and any(
                isinstance(side, Array) and side.place is None for side in (left, right)
            ):
                raise Refused("a list multiplied with a number (make it an array)")
            return None
        else:
            raise Refused(f"{symbol} between {describe(left)} and {describe(right)}")
        return self.new_list(items) if List in (type(left), type(right)) else self.bounded(items)

    def comparison(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, (ast.Is, ast.IsNot)):
            if left is None or right is None or isinstance(left, bool) or isinstance(right, bool):
                return (left is right) == isinstance(op, ast.Is)
            raise Refused("`is` between values other than None, True and False")
        if isinstance(op, (ast.In, ast.NotIn)):
            if isinstance(right, Table):
                return (self.key(left) in right.content) == isinstance(op, ast.In)
            if isinstance(left, str) and isinstance(right, str):
                return (left in right) == isinstance(op, ast.In)
            if not isinstance(right, (List, tuple)) or isinstance(left, Array):
                raise Refused("`in` with anything but constants")
            return any(self.same(left, item) for item in self.items(right)) == isinstance(op, ast.In)
        return self.binary(SYMBOLS[type(op)], left, right)

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

    def short_circuit(self, op: str, left: Any, right: Callable[[], Any]) -> Any:
        """`left and right` or `left or right`, where the right side is looked at only if it counts."""
        truth = self.truth(left)
        if not isinstance(truth, Array):
            return right() if truth == (op == "and") else left
        both = (right, lambda: left) if op == "and" else (lambda: left, right)
        yes, no = self.ways(truth, *both)
        a, b = yes.result, no.result
        if isinstance(a, Array) and isinstance(b, Array) and a.kind == b.kind == "b":
            value: Any = self.logical(op, truth, self.array(a if op == "and" else b))
        else:
            value = self.joined(truth, a, b)
        self.meet(truth, yes, no)
        refuse_if(isinstance(value, Unbound), "a conditional value of this kind")
        return value


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
    ast.Compare: lambda on, node: on.linked(on.value(node.left), node.ops, node.comparators),
}
"""What syntax means that needs one step; the methods `value_...` are for the rest."""
