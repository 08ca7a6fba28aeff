"""Python's operators, comparisons, truths and containers on numbers and on arrays of graph nodes."""

from __future__ import annotations

import ast
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmsr.expression.graph import Graph
from llmsr.expression.reader.arrays import COMPARISONS, Arrays, mixes_rows
from llmsr.expression.reader.indexing import matmul, read
from llmsr.expression.reader.values import (
    END,
    Array,
    Dialect,
    DType,
    Frame,
    Items,
    Limits,
    Once,
    Refused,
    RowCount,
    describe,
    fold,
)

SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
NUMBERS = (bool, int, float)


class Operators(ABC):
    """What operators do, and what known functions may ask of the interpreter that calls them.

    The abstract methods are those of the classes that build on this: `Evaluating`, `Calling`, `Interpreter`.
    """

    @abstractmethod
    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""

    @abstractmethod
    def apply(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a known function, a function of the body, or an earlier version."""

    @abstractmethod
    def shape(self, a: Array) -> tuple[int | RowCount, ...]: ...

    @abstractmethod
    def size(self, a: Array) -> int | RowCount: ...

    @abstractmethod
    def part(self, base: Any, key: Any) -> Any:
        """`base[key]`."""

    @abstractmethod
    def set_part(self, base: Any, key: Any, value: Any) -> None:
        """`base[key] = value`."""

    @abstractmethod
    def change(self, container: Any) -> None:
        """Refuses to change a list or dictionary in a branch that may not be taken."""

    @abstractmethod
    def call(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the body or an earlier version."""

    @abstractmethod
    def joined(self, condition: Array, a: Any, b: Any, named: Any) -> Any:
        """What a value is where a condition on data decides between two."""

    def __init__(self, graph: Graph, limits: Limits, dialect: Dialect) -> None:
        self.arrays = Arrays(graph, limits)
        self.limits = limits
        self.dialect = dialect
        """Whose arrays the columns are, where the same method means two things."""
        self.steps = 0
        self.methods: dict[type[ast.AST], Callable[[Any], Any] | None] = {}
        """What evaluates expressions of a type, as far as any was met."""
        self.line = 1
        self.frozen_line = 0
        self.undecided = 0
        """How many branches whose condition depends on data surround the current statement."""
        self.pulling = 0
        """How many iterators are being asked for an item, each for another's sake."""
        self.tentative = 0
        """How many conditional expressions surround the current one: nothing may be changed in them."""
        self.strict = 0
        """How many try statements surround it, where an error of numpy may not be read more kindly."""
        self.frame = Frame(frozenset(), None)
        self.frames: list[Frame] = [self.frame]

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

    def array(self, value: Any) -> Array:
        return self.arrays.lift(value)

    def key(self, value: Any) -> Any:
        if isinstance(value, Array) and value.ndim == 0:
            value = self.arrays.constant(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise Refused(f"{describe(value)} as the key of a dictionary")

    def text(self, value: str) -> str:
        if len(value) > self.limits.items:
            raise Refused(f"a text of more than {self.limits.items} characters", "too_large")
        return value

    def new_list(self, items: Sequence[Any]) -> Items:
        if len(items) > self.limits.items:
            raise Refused(f"a list of more than {self.limits.items} items", "too_large")
        return Items(items, self.undecided)

    def items(self, value: Any) -> list[Any]:
        """All that a loop over `value` runs through."""
        items = list(itertools.islice(self.iterate(value), self.limits.items + 1))
        if len(items) > self.limits.items:
            raise Refused(f"a loop of more than {self.limits.items} rounds", "too_large")
        return items

    def iterate(self, value: Any) -> Iterator[Any]:
        """What a loop over `value` runs through, each item made when it is asked for, as in Python."""
        if isinstance(value, Array):
            if value.ndim == 0:
                raise Refused("a loop over one number")
            if value.row_axis == 0:
                raise mixes_rows("going through the rows one by one")
            size = value.cells.shape[0]
        elif isinstance(value, (list, tuple, dict, range)):
            size = len(value)
        elif isinstance(value, Once):
            return self.pull(value)
        elif isinstance(value, RowCount):
            raise mixes_rows("a loop over the number of rows")
        else:
            raise Refused(f"a loop over {describe(value)}")
        if size > self.limits.items:
            raise Refused(f"a loop of more than {self.limits.items} rounds", "too_large")
        if isinstance(value, Array):
            return (read(self.arrays, value, i) for i in range(size))
        return unchanged(iter(value)) if isinstance(value, dict) else iter(value)

    def pull(self, once: Once) -> Iterator[Any]:
        while True:
            if once.depth != self.undecided or self.tentative:
                raise Refused("an iterator used up in a branch")
            if once.running:
                raise Refused("an iterator that goes through itself")
            if self.pulling > self.limits.calls:
                raise Refused(f"more than {self.limits.calls} iterators in each other", "too_large")
            self.step(None)
            self.pulling, once.running = self.pulling + 1, True
            item = next(once.source, END)
            self.pulling, once.running = self.pulling - 1, False
            if item is END:
                return
            yield item

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
        if isinstance(left, str) and isinstance(right, str) and symbol == "+":
            return self.text(left + right)
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
            truth = self.truth(result)
            if truth is False:
                return result
            self.tentative += isinstance(truth, Array)
            right = self.value(comparator)
            self.tentative -= isinstance(truth, Array)
            link = self.compare(op, left, right)
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
            if isinstance(left, str) and isinstance(right, str):
                return (left in right) == isinstance(op, ast.In)
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
        return self.arrays.choose(a, b, a) if op == "and" else self.arrays.choose(a, a, b)

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


def unchanged(keys: Iterator[Any]) -> Iterator[Any]:
    """The keys of a dictionary, as long as it has the same ones."""
    try:
        yield from keys
    except RuntimeError:
        raise Refused("a dictionary that grows or shrinks while it is run through") from None
