"""Python's built-in functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from llmsr.expression.reader.indexing import read, whole
from llmsr.expression.reader.names import native
from llmsr.expression.reader.numpy_functions import round_ as rounded
from llmsr.expression.reader.numpy_making import plain
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.scalars import checked
from llmsr.expression.reader.values import (
    END,
    Array,
    Closure,
    DType,
    Items,
    Native,
    Once,
    Refused,
    RowCount,
    Table,
    describe,
)

NUMBERS = (bool, int, float)
CONTAINER = ("__len__", "__iter__", "__getitem__")


def abs_(on: Operators, x: Any) -> Any:
    return abs(x) if isinstance(x, NUMBERS) else on.arrays.keep_kind("abs", number(on, x, "abs"))


def number(on: Operators, x: Any, name: str) -> Array:
    """An array or number, where Python takes no list."""
    if isinstance(x, (list, tuple)):
        raise Refused(f"{name} of {describe(x)}")
    return on.array(x)


def pow_(on: Operators, base: Any, exp: Any) -> Any:
    return on.binary("**", base, exp)


def round_(on: Operators, number: Any, ndigits: Any = None) -> Any:
    if isinstance(number, Array) and ndigits is None and on.arrays.constant(number) is not None:
        number = on.arrays.constant(number)
    if isinstance(number, NUMBERS) and (ndigits is None or isinstance(ndigits, int)):
        if not math.isfinite(number):
            raise Refused("a rounded number that is not finite")
        if ndigits is not None and abs(ndigits) > 400:
            raise Refused("a number rounded to too many digits")
        return checked(round(number, ndigits), on.limits)
    on.kindly("round of data")
    if ndigits is None and on.array(number).ndim == 0:
        raise Refused("round of a parameter gives a Python integer (use np.round)")
    return rounded(on, number, 0 if ndigits is None else ndigits)


def sum_(on: Operators, iterable: Any, /, start: Any = 0) -> Any:
    result = start
    for item in on.iterate(iterable):
        on.step(None)
        result = on.binary("+", result, item)
    return result


def extreme(name: str, symbol: str) -> Callable[..., Any]:
    """max or min: the first of the largest, as Python finds it by comparing."""

    def function(on: Operators, *args: Any, default: Any = None) -> Any:
        items = on.items(args[0]) if len(args) == 1 else list(args)
        if not items or default is not None:
            raise Refused(f"{name} of nothing, or with a default")
        result = items[0]
        for item in items[1:]:
            truth = on.truth(on.binary(symbol, item, result))
            if isinstance(truth, Array):
                either = on.arrays.choose if on.arrays.one_kind else on.arrays.where
                result = either(truth, on.array(item), on.array(result))
            elif truth:
                result = item
        return result

    return function


def len_(on: Operators, obj: Any, /) -> Any:
    if isinstance(obj, Array):
        if obj.ndim == 0:
            raise Refused("len of a number")
        return on.shape(obj)[0]
    if isinstance(obj, (list, tuple, dict, str, range)):
        return len(obj)
    raise Refused(f"len of {describe(obj)}")


def range_(on: Operators, *bounds: Any) -> range:
    if not 1 <= len(bounds) <= 3:
        raise Refused("range takes one to three arguments")
    sizes = [whole(on.arrays, b) for b in bounds]
    if len(sizes) == 3 and sizes[2] == 0:
        raise Refused("range with step 0")
    return range(*sizes)


def enumerate_(on: Operators, iterable: Any, start: Any = 0) -> Once:
    first = whole(on.arrays, start)
    return Once(enumerate(on.iterate(iterable), first), on.undecided, (iterable,))


def zip_(on: Operators, *iterables: Any, strict: Any = False) -> Once:
    lists = [on.iterate(i) for i in iterables]
    rows = equally_long(lists) if strict is True else zip(*lists, strict=False)
    return Once(rows, on.undecided, iterables)


def equally_long(lists: list[Iterator[Any]]) -> Iterator[tuple[Any, ...]]:
    for row in itertools.zip_longest(*lists, fillvalue=END):
        if any(item is END for item in row):
            raise Refused("zip of different lengths")
        yield row


def reversed_(on: Operators, sequence: Any, /) -> Once:
    if isinstance(sequence, Array):
        size = len(on.items(sequence))
        return Once(
            (read(on.arrays, sequence, i) for i in range(size - 1, -1, -1)), on.undecided, (sequence,)
        )
    if not isinstance(sequence, (list, tuple, dict, range)) or len(sequence) > on.limits.items:
        raise Refused(f"reversed of {describe(sequence)}")
    return Once(reversed(sequence), on.undecided, (sequence,))


def map_(on: Operators, function: Any, *iterables: Any) -> Once:
    rows = zip(*(on.iterate(i) for i in iterables), strict=False)
    return Once((on.apply(function, list(row), {}) for row in rows), on.undecided, iterables)


def list_(on: Operators, iterable: Any = (), /) -> Items:
    return on.new_list(on.items(iterable))


def tuple_(on: Operators, iterable: Any = (), /) -> tuple[Any, ...]:
    return tuple(on.items(iterable))


def dict_(on: Operators, /, *args: Any, **kwargs: Any) -> Table:
    if len(args) > 1:
        raise Refused("dict of more than one argument")
    return Table([*(pair for a in args for pair in pairs(on, a)), *kwargs.items()], on.undecided)


def pairs(on: Operators, given: Any) -> list[tuple[Any, Any]]:
    """The keys and values of a dictionary, or of anything that yields pairs."""
    if isinstance(given, dict):
        return list(given.items())
    found = [on.items(pair) for pair in on.items(given)]
    if any(len(pair) != 2 for pair in found):
        raise Refused("a dictionary made of anything but pairs")
    return [(on.key(key), value) for key, value in found]


def float_(on: Operators, x: Any = 0.0, /) -> Any:
    if isinstance(x, str) and x.strip().lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return float(x)
    if isinstance(x, NUMBERS):
        try:
            return float(x)
        except OverflowError:
            raise Refused("an integer too large for a float", "too_large") from None
    a = number(on, x, "float")
    if a.ndim:
        on.kindly("float of an array")
    constant = on.arrays.constant(a)
    return float(constant) if constant is not None else on.arrays.copy(a, "f")


def int_(on: Operators, x: Any = 0, /) -> Any:
    value = plain(on, x, "int")
    return checked(int(value), on.limits)


def bool_(on: Operators, x: Any = False, /) -> Any:
    truth = on.truth(x)
    return on.python_bool("ne", truth, on.array(0)) if isinstance(truth, Array) else truth


def all_(on: Operators, iterable: Any, /) -> Any:
    return chained(on, "and", iterable)


def any_(on: Operators, iterable: Any, /) -> Any:
    return chained(on, "or", iterable)


def chained(on: Operators, op: str, items: Any) -> Any:
    """all or any: what comes behind an item that depends on data is looked at as if Python did the same."""
    result: Any = op == "and"
    for item in on.iterate(items):
        truth = on.truth(item)
        if not isinstance(truth, Array):
            if truth != (op == "and"):
                return truth  # whatever the items before it are
            continue
        result = truth if result in (True, False) else on.arrays.logical(op, result, truth)
    return on.python_bool("ne", result, on.array(0)) if isinstance(result, Array) else result


def sorted_(on: Operators, iterable: Any, /, reverse: Any = False) -> Items:
    items = on.items(iterable)
    if not all(isinstance(i, NUMBERS) for i in items):
        raise Refused("sorted of values that are not constants")
    return on.new_list(sorted(items, reverse=reverse is True))


def divmod_(on: Operators, a: Any, b: Any, /) -> tuple[Any, Any]:
    return on.binary("//", a, b), on.binary("%", a, b)


def isinstance_(on: Operators, obj: Any, kind: Any, /) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(is_instance(obj, k) for k in kinds)


def is_instance(obj: Any, kind: Any) -> bool:
    if isinstance(kind, DType):
        raise Refused("isinstance with this type")
    name = kind.name if isinstance(kind, Native) else ""
    if name == "np.ndarray":
        return isinstance(obj, Array) and not obj.scalar
    tests: dict[str, type | tuple[type, ...]] = {
        "list": list, "tuple": tuple, "dict": dict, "int": int, "bool": bool,
    }  # fmt: skip
    if name == "float":
        return isinstance(obj, float) or (isinstance(obj, Array) and obj.scalar and obj.kind == "f")
    if name not in tests or isinstance(obj, (Array, RowCount)):
        if name in tests and isinstance(obj, Array):
            return False
        raise Refused("isinstance with this type")
    return isinstance(obj, tests[name])


def hasattr_(on: Operators, obj: Any, name: Any, /) -> bool:
    """Whether an array or a list has one of the attributes that bodies ask for to tell them apart."""
    if isinstance(obj, Array) and obj.ndim and name in ("shape", "ndim", "dtype", "size", *CONTAINER):
        return True
    if isinstance(obj, (list, tuple, dict)) and name in ("shape", "ndim", "dtype", "size", *CONTAINER):
        return name in CONTAINER
    raise Refused(f"hasattr of {describe(obj)} and this name")


def iter_(on: Operators, iterable: Any, /) -> Once:
    return iterable if isinstance(iterable, Once) else Once(on.iterate(iterable), on.undecided, (iterable,))


def next_(on: Operators, iterator: Any, /) -> Any:
    if not isinstance(iterator, Once):
        raise Refused(f"next of {describe(iterator)}")
    for item in on.iterate(iterator):
        return item
    raise Refused("next of an iterator at its end")


def callable_(on: Operators, obj: Any, /) -> bool:
    return isinstance(obj, (Native, Closure))


def print_(on: Operators, *args: Any, sep: Any = " ", end: Any = "", flush: Any = False) -> None:
    """Nothing is printed."""


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs_, "pow": pow_, "round": round_, "sum": sum_, "max": extreme("max", ">"),
    "min": extreme("min", "<"), "len": len_, "range": range_, "enumerate": enumerate_, "zip": zip_,
    "reversed": reversed_, "map": map_, "list": list_, "tuple": tuple_, "dict": dict_, "float": float_,
    "int": int_, "bool": bool_, "all": all_, "any": any_, "sorted": sorted_, "divmod": divmod_,
    "isinstance": isinstance_, "print": print_, "callable": callable_, "hasattr": hasattr_, "iter": iter_,
    "next": next_,
}  # fmt: skip
BUILTINS: dict[str, Any] = {name: native(name, function) for name, function in FUNCTIONS.items()}
