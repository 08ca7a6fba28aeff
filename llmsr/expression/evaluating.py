"""The expressions of a body: from syntax to numbers, arrays of graph nodes, and functions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llmsr.expression.arrays import COMPARISONS, Arrays, mixes_rows
from llmsr.expression.functions import BUILTINS, METHODS, MODULES, ROOTS
from llmsr.expression.graph import Graph
from llmsr.expression.indexing import position, read, slice_of, whole
from llmsr.expression.limits import Limits
from llmsr.expression.reductions import matmul, transpose
from llmsr.expression.scalars import checked, fold
from llmsr.expression.scope import names_of_arguments, names_set_in, names_stored
from llmsr.expression.values import (
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
    Unbound,
    Version,
    describe,
)

SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
NUMBERS = (bool, int, float)


class Evaluating:
    """Evaluates expressions in a frame; `Interpreter` adds statements, branches and calls of functions."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        self.arrays = Arrays(graph, limits)
        self.limits = limits
        self.steps = 0
        self.line = 1
        self.frozen_line = 0
        self.undecided = 0
        """How many branches whose condition depends on data surround the current statement."""
        self.tentative = 0
        """How many conditional expressions surround the current one: nothing may be changed in them."""
        self.strict = 0
        """How many try statements surround it, where an error of numpy may not be read more kindly."""
        self.frame = Frame(frozenset(), None)
        self.frames: list[Frame] = [self.frame]

    # Provided by Interpreter.
    call: Callable[..., Any]
    joined: Callable[..., Any]

    def step(self, line: int | None) -> None:
        self.steps += 1
        if self.steps > self.limits.steps:
            raise Refused(f"more than {self.limits.steps} steps", "too_large")
        if line is not None and not self.frozen_line:
            self.line = line

    def kindly(self, what: str) -> None:
        """Notes that numpy would raise here and that the row-by-row meaning is taken instead."""
        if self.strict:
            raise Refused(f"{what} inside try")

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        self.step(getattr(node, "lineno", None))
        method = getattr(self, f"value_{type(node).__name__}", None)
        if method is None:
            raise Refused(f"{UNSUPPORTED.get(type(node), type(node).__name__)} cannot be part of an equation")
        return method(node)

    def array(self, value: Any) -> Array:
        return self.arrays.lift(value)

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
                raise Refused("a dictionary unpacked into another")
            table[self.key(self.value(key))] = self.value(item)
        return table

    def key(self, value: Any) -> Any:
        if isinstance(value, Array) and value.ndim == 0:
            value = self.arrays.constant(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise Refused(f"{describe(value)} as the key of a dictionary")

    def new_list(self, items: Sequence[Any]) -> Items:
        if len(items) > self.limits.items:
            raise Refused(f"a list of more than {self.limits.items} items", "too_large")
        return Items(items, self.undecided)

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

    def items(self, value: Any) -> list[Any]:
        """What a loop over `value` runs through."""
        if isinstance(value, Array):
            if value.ndim == 0:
                raise Refused("a loop over one number")
            if value.row_axis == 0:
                raise mixes_rows("going through the rows one by one")
            size = value.cells.shape[0]
        elif isinstance(value, (list, tuple, dict, range)):
            size = len(value)
        elif isinstance(value, Once):
            if value.depth != self.undecided or self.tentative:
                raise Refused("an iterator used up in a branch")
            items, value.items = value.items, []
            return items
        elif isinstance(value, RowCount):
            raise mixes_rows("a loop over the number of rows")
        else:
            raise Refused(f"a loop over {describe(value)}")
        if size > self.limits.items:
            raise Refused(f"a loop of more than {self.limits.items} rounds", "too_large")
        if isinstance(value, Array):
            return [read(self.arrays, value, i) for i in range(size)]
        return list(value)

    # -- operators

    def value_BinOp(self, node: ast.BinOp) -> Any:
        chain = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp):
            chain.append(left)
            left = left.left
        value = self.value(left)
        for link in reversed(chain):
            right = self.value(link.right)
            self.step(link.lineno)
            value = self.binary(SYMBOLS[type(link.op)], value, right)
        return value

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        """A Python operator or comparison on any two values."""
        if isinstance(left, NUMBERS) and isinstance(right, NUMBERS) and symbol != "@":
            return fold(symbol, left, right, self.limits)
        if symbol in ("==", "!=") and not (isinstance(left, Array) or isinstance(right, Array)):
            return self.equal(left, right) == (symbol == "==")
        if isinstance(left, (list, tuple)) or isinstance(right, (list, tuple)):
            joined = self.join_lists(symbol, left, right)
            if joined is not None:
                return joined
        a, b = self.array(left), self.array(right)
        if symbol in COMPARISONS:
            return self.arrays.compare(symbol, a, b)
        if symbol == "@":
            return matmul(self.arrays, a, b)
        if symbol == "**" and right == 0.5 and isinstance(right, float) and a.ndim and a.kind == "f":
            return self.arrays.float_function("sqrt", a)  # as numpy does for arrays
        return self.arrays.arithmetic(symbol, a, b)

    def join_lists(self, symbol: str, left: Any, right: Any) -> Any:
        """`+` and `*` of lists and tuples; None when the operands do not ask for it."""
        if symbol == "+" and isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            if isinstance(left, list) != isinstance(right, list):
                raise Refused("a list and a tuple added")
            out = [*left, *right]
        elif symbol == "*" and isinstance(left, (list, tuple)) and isinstance(right, int):
            out = self.repeated(left, right)
        elif symbol == "*" and isinstance(right, (list, tuple)) and isinstance(left, int):
            left, right = right, left
            out = self.repeated(left, right)
        elif isinstance(left, Array) or isinstance(right, Array):
            if symbol == "*" and any(isinstance(side, Array) and side.scalar for side in (left, right)):
                raise Refused("a list multiplied with a number (make it an array)")
            return None
        else:
            raise Refused(f"{symbol} between {describe(left)} and {describe(right)}")
        new = self.new_list(out)
        return new if isinstance(left, list) else tuple(new)

    def repeated(self, items: Any, times: int) -> list[Any]:
        if len(items) * max(times, 0) > self.limits.items:
            raise Refused(f"a list of more than {self.limits.items} items", "too_large")
        return list(items) * times

    def equal(self, left: Any, right: Any) -> bool:
        """`==` of values that are no arrays."""
        self.step(None)
        if isinstance(left, RowCount) or isinstance(right, RowCount):
            if left != right:
                raise mixes_rows("comparing the number of rows")
            return True
        if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            if isinstance(left, list) != isinstance(right, list) or len(left) != len(right):
                return False
            return all(self.same(a, b) for a, b in zip(left, right, strict=True))
        plain = (bool, int, float, str, type(None), DType)
        if isinstance(left, plain) and isinstance(right, plain):
            return left == right
        raise Refused(f"{describe(left)} compared with {describe(right)}")

    def same(self, a: Any, b: Any) -> bool:
        """Whether Python takes two members of lists for equal: the same object, or known to be equal."""
        if a is b:
            return True
        truth = self.truth(self.binary("==", a, b))
        if isinstance(truth, Array):
            raise Refused("a comparison of data inside lists")
        return truth

    def value_UnaryOp(self, node: ast.UnaryOp) -> Any:
        x = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            truth = self.truth(x)
            return self.python_bool("not", truth) if isinstance(truth, Array) else not truth
        if isinstance(x, NUMBERS):
            if isinstance(node.op, ast.Invert):
                if not isinstance(x, int):
                    raise Refused("~ of a number that is not an integer")
                return ~int(x)
            return -x if isinstance(node.op, ast.USub) else +x
        a = self.array(x)
        if isinstance(x, (list, tuple)):
            raise Refused(f"the negative of {describe(x)}")
        if isinstance(node.op, ast.USub):
            return self.arrays.negative(a)
        if isinstance(node.op, ast.Invert):
            return self.arrays.invert(a)
        if a.kind == "b":
            raise Refused("+ of booleans")
        return self.arrays.copy(a)

    def python_bool(self, op: str, *operands: Array) -> Array:
        """A truth that is Python's own, an integer in arithmetic, and not numpy's."""
        out = self.arrays.logical(op, *operands)
        if not out.ndim:
            out.kind, out.truth = "i", True
        return out

    def value_Compare(self, node: ast.Compare) -> Any:
        left = self.value(node.left)
        result: Any = True
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator)
            link = self.compare(op, left, right)
            truth = self.truth(result)
            if truth is False:
                return result
            result = self.either("and", result, link) if isinstance(truth, Array) else link
            left = right
        return result

    def compare(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, (ast.Is, ast.IsNot)):
            if left is None or right is None or isinstance(left, bool) or isinstance(right, bool):
                return (left is right) == isinstance(op, ast.Is)
            raise Refused("`is` between values other than None, True and False")
        if isinstance(op, (ast.In, ast.NotIn)):
            if isinstance(right, dict):
                return (self.key(left) in right) == isinstance(op, ast.In)
            if not isinstance(right, (list, tuple)) or isinstance(left, Array):
                raise Refused("`in` with anything but constants")
            found = any(self.same(left, item) for item in right)
            return found == isinstance(op, ast.In)
        return self.binary(SYMBOLS[type(op)], left, right)

    def truth(self, value: Any) -> bool | Array:
        """What `if` makes of a value: True, False, or an array (one truth, or one per row)."""
        if isinstance(value, Array):
            constant = self.arrays.constant(value)
            if constant is not None:
                return bool(constant)
            if value.ndim and value.rows is None:
                if value.cells.size != 1:
                    raise Refused(f"the truth of an array of shape {value.shape_text()}")
                return read(self.arrays, value, (0,) * value.ndim)
            if value.rows is not None:
                if value.cells.size != 1 or value.ndim != 1:
                    raise Refused(f"the truth of an array of shape {value.shape_text()}")
                self.kindly("a condition on a column")
            return value
        if isinstance(value, RowCount):
            return True
        if value is None or isinstance(value, (bool, int, float, str, list, tuple, dict, range)):
            return bool(value)
        raise Refused(f"the truth of {describe(value)}")

    def either(self, op: str, a: Any, b: Any) -> Any:
        """`a and b` or `a or b` where the truth of `a` depends on data."""
        a, b = self.array(a), self.array(b)
        if a.kind == b.kind == "b":
            return self.arrays.logical(op, a, b)
        return self.arrays.where(a, b, a) if op == "and" else self.arrays.where(a, a, b)

    def value_BoolOp(self, node: ast.BoolOp) -> Any:
        op = "and" if isinstance(node.op, ast.And) else "or"
        result = self.value(node.values[0])
        for operand in node.values[1:]:
            truth = self.truth(result)
            if isinstance(truth, Array):
                self.tentative += 1
                right = self.value(operand)
                self.tentative -= 1
                if isinstance(right, Array):
                    self.truth(right)
                result = self.either(op, result, right)
            elif truth == (op == "and"):
                result = self.value(operand)
            else:
                return result
        return result

    def value_IfExp(self, node: ast.IfExp) -> Any:
        truth = self.truth(self.value(node.test))
        if not isinstance(truth, Array):
            return self.value(node.body if truth else node.orelse)
        self.tentative += 1
        a, b = self.value(node.body), self.value(node.orelse)
        self.tentative -= 1
        return self.joined(truth, a, b, None)

    def value_NamedExpr(self, node: ast.NamedExpr) -> Any:
        if self.tentative or self.frame.comprehension:
            raise Refused("a name set inside a conditional expression or comprehension")
        value = self.value(node.value)
        self.frame.names[node.target.id] = value
        return value

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
            stacked = MODULES["numpy"]["column_stack"]
            return stacked.call(self, [key if isinstance(key, tuple) else (key,)], {})
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
        return Closure(name, arguments, body, local_names, defaults, keyword_defaults, self.frame)

    # -- comprehensions

    def value_ListComp(self, node: ast.ListComp) -> Items:
        return self.new_list(self.comprehend(node.generators, lambda: self.value(node.elt)))

    def value_GeneratorExp(self, node: ast.GeneratorExp) -> Once:
        return Once(self.comprehend(node.generators, lambda: self.value(node.elt)), self.undecided)

    def value_DictComp(self, node: ast.DictComp) -> Table:
        pairs = self.comprehend(
            node.generators, lambda: (self.key(self.value(node.key)), self.value(node.value))
        )
        return Table(pairs, self.undecided)

    def comprehend(self, generators: list[ast.comprehension], element: Callable[[], Any]) -> list[Any]:
        """The elements of a comprehension, in a frame of its own."""
        first = self.items(self.value(generators[0].iter))
        names = frozenset().union(*(names_stored(g.target) for g in generators))
        outer = self.frame
        out: list[Any] = []
        self.frame = Frame(names, outer, comprehension=True)
        self.frames.append(self.frame)

        def run(level: int, items: list[Any]) -> None:
            generator = generators[level]
            if generator.is_async:
                raise Refused("async cannot be part of an equation")
            for item in items:
                self.assign(generator.target, item)
                conditions = [self.truth(self.value(test)) for test in generator.ifs]
                if any(isinstance(c, Array) for c in conditions):
                    raise Refused("a comprehension whose condition depends on data")
                if not all(conditions):
                    continue
                if level + 1 < len(generators):
                    run(level + 1, self.items(self.value(generators[level + 1].iter)))
                else:
                    out.append(element())
                    if len(out) > self.limits.items:
                        raise Refused(f"a list of more than {self.limits.items} items", "too_large")

        run(0, first)
        self.frames.pop()
        self.frame = outer
        return out

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

    set_part: Callable[[Any, Any, Any], None]


UNSUPPORTED: dict[type[ast.AST], str] = {
    ast.JoinedStr: "a formatted string",
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


__all__ = ["Evaluating", "column", "names_set_in", "parameters", "whole"]
