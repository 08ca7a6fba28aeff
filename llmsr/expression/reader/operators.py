"""Python's operators, comparisons and truths on any two values."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from llmsr.expression.reader.arrays import COMPARISONS, mixes_rows
from llmsr.expression.reader.branches import Branches
from llmsr.expression.reader.indexing import matmul
from llmsr.expression.reader.values import (
    NUMBERS,
    Array,
    Closure,
    DType,
    List,
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


class Operators(Branches):
    """What operators do with values."""

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
        a, b = (self.content(side) if isinstance(side, List) else side for side in (left, right))
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

    def equal(self, left: Any, right: Any) -> bool:
        """`==` of values that are no arrays."""
        self.step(None)
        if isinstance(left, RowCount) or isinstance(right, RowCount):
            if left != right:
                raise mixes_rows("comparing the number of rows")
            return True
        if isinstance(left, (List, tuple)) and isinstance(right, (List, tuple)):
            a, b = (self.content(side) if isinstance(side, List) else side for side in (left, right))
            if isinstance(left, List) != isinstance(right, List) or len(a) != len(b):
                return False
            return all(self.same(*pair) for pair in zip(a, b, strict=True))
        plain = (*NUMBERS, str, type(None), DType)
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

    def comparison(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, (ast.Is, ast.IsNot)):
            if left is None or right is None or isinstance(left, bool) or isinstance(right, bool):
                return (left is right) == isinstance(op, ast.Is)
            raise Refused("`is` between values other than None, True and False")
        if isinstance(op, (ast.In, ast.NotIn)):
            if isinstance(right, Table):
                return (self.key(left) in self.content(right)) == isinstance(op, ast.In)
            if isinstance(left, str) and isinstance(right, str):
                return (left in right) == isinstance(op, ast.In)
            if not isinstance(right, (List, tuple)) or isinstance(left, Array):
                raise Refused("`in` with anything but constants")
            return any(self.same(left, item) for item in self.items(right)) == isinstance(op, ast.In)
        return self.binary(SYMBOLS[type(op)], left, right)

    def truth(self, value: Any) -> bool | Array:
        """What `if` makes of a value: True, False, or an array (one truth, or one per row)."""
        if isinstance(value, Array):
            a = self.array(value)
            if a.cells.size != 1 or (a.rows is not None and a.ndim != 1):
                raise Refused(f"the truth of an array of shape {a.shape_text()}")
            if a.rows is not None:
                # numpy would stop; what the author means is a condition on each row
                self.kindly("a condition on a column")
                return a
            a = Array(a.cells.reshape(()), a.kind, bound=a.bound)
            constant = self.constant(a)
            return a if constant is None else bool(constant)
        if isinstance(value, (List, Table)):
            return bool(self.content(value))
        if isinstance(value, (RowCount, DType, Native, Closure)):
            return True
        # known now, whatever the data are
        if value is None or isinstance(value, (*NUMBERS, str, tuple, range)):
            return bool(value)
        raise Refused(f"the truth of {describe(value)}")

    def python_bool(self, op: str, *operands: Array) -> Array:
        """A truth that is Python's own, an integer in arithmetic, and not numpy's."""
        out = self.logical(op, *operands)
        return out if out.ndim else Array(out.cells, "t", bound=1.0)

    def short_circuit(self, op: str, left: Any, right: Callable[[], Any]) -> Any:
        """`left and right` or `left or right`, where the right side is looked at only if it counts."""
        truth = self.truth(left)
        if not isinstance(truth, Array):
            return right() if truth == (op == "and") else left
        yes, no = self.ways(right, lambda: left) if op == "and" else self.ways(lambda: left, right)
        a, b = yes.result, no.result
        if isinstance(a, Array) and isinstance(b, Array) and a.kind == b.kind == "b":
            self.memory = yes.memory if op == "and" else no.memory
            value: Any = self.logical(op, truth, self.array(a if op == "and" else b))
        else:
            value = self.joined(truth, a, b, yes.memory, no.memory)
        self.meet(truth, yes, no)
        if isinstance(value, Unbound):
            raise Refused("a conditional value of this kind")
        return value
