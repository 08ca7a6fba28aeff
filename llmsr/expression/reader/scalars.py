"""Arithmetic of the Python numbers in a body, bounded in size and time."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llmsr.expression.reader.limits import Limits
from llmsr.expression.reader.values import Refused

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": operator.lshift, ">>": operator.rshift, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def fold(symbol: str, left: Any, right: Any, limits: Limits) -> bool | int | float:
    """The value that Python gives for two numbers; refuses errors, complex results and large integers."""
    if isinstance(left, int) and isinstance(right, int):
        guard(symbol, left, right, limits)
    try:
        value = OPERATORS[symbol](left, right)
    except OverflowError:
        raise Refused(f"{symbol} of constants is too large for a number", "too_large") from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise Refused(f"{symbol} of constants fails: {error}") from None
    return checked(value, limits)


def guard(symbol: str, left: int, right: int, limits: Limits) -> None:
    """Refuses an integer operation whose result would be large, before computing it."""
    bits = 0
    if symbol == "**" and abs(left) > 1 and right > 0:
        bits = left.bit_length() * min(right, limits.bits + 1)
    elif symbol == "<<" and left and right > 0:
        bits = left.bit_length() + (right if right <= limits.bits else 2 * limits.bits)
    elif symbol == "*":
        bits = left.bit_length() + right.bit_length()
    if bits > 2 * limits.bits:
        raise Refused(f"an integer of more than {limits.bits} bits", "too_large")


def checked(value: Any, limits: Limits) -> bool | int | float:
    """`value` when it is a real number of bounded size."""
    if isinstance(value, int):
        if value.bit_length() > limits.bits:
            raise Refused(f"an integer of more than {limits.bits} bits", "too_large")
        return value
    if isinstance(value, float):
        return value
    raise Refused("a constant that is not a real number")
