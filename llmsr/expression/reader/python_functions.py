"""Python's built-in functions, the methods of its containers, and what its standard library adds to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llmsr.expression.reader.indexing import read, whole
from llmsr.expression.reader.making import asarray, plain
from llmsr.expression.reader.operators import NUMBERS, Operators
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
    checked,
    describe,
    native,
)

CONTAINER = ("__len__", "__iter__", "__getitem__")
MAX_REPEATS = 8
"""Values that itertools puts into one tuple."""


# ---- numbers


def number(on: Operators, x: Any, name: str) -> Array:
    """An array or number, where Python takes no list."""
    if isinstance(x, (list, tuple)):
        raise Refused(f"{name} of {describe(x)}")
    return on.array(x)


def abs_(on: Operators, x: Any) -> Any:
    return abs(x) if isinstance(x, NUMBERS) else on.arrays.keep_kind("abs", number(on, x, "abs"))


def round_(on: Operators, number: Any, ndigits: Any = None) -> Any:
    """Python's round: of a constant a number, of data what np.round gives."""
    if isinstance(number, Array) and ndigits is None and on.arrays.constant(number) is not None:
        number = on.arrays.constant(number)
    if isinstance(number, NUMBERS) and (ndigits is None or isinstance(ndigits, int)):
        if not math.isfinite(number) or (ndigits is not None and abs(ndigits) > 400):
            raise Refused("a rounded number that is not finite, or rounded to too many digits")
        return checked(round(number, ndigits), on.limits)
    on.kindly("round of data")
    if ndigits is None and on.array(number).ndim == 0:
        raise Refused("round of a parameter gives a Python integer (use np.round)")
    return on.arrays.rounded(on.array(number), 0 if ndigits is None else whole(on.arrays, ndigits))


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
    return checked(int(plain(on, x, "int")), on.limits)


def bool_(on: Operators, x: Any = False, /) -> Any:
    truth = on.truth(x)
    return on.python_bool("ne", truth, on.array(0)) if isinstance(truth, Array) else truth


def chained(op: str) -> Callable[..., Any]:
    """all or any: what comes behind an item that depends on data is looked at as if Python did the same."""

    def function(on: Operators, iterable: Any, /) -> Any:
        result: Any = op == "and"
        for item in on.iterate(iterable):
            truth = on.truth(item)
            if isinstance(truth, Array):
                result = truth if isinstance(result, bool) else on.arrays.logical(op, result, truth)
            elif truth != (op == "and"):
                return truth  # whatever the items before it are
        return on.python_bool("ne", result, on.array(0)) if isinstance(result, Array) else result

    return function


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


def factorial(on: Operators, x: Any, exact: Any = False, /) -> Any:
    n = whole(on.arrays, x)
    if not 0 <= n <= 18:
        raise Refused("a factorial of a number that is not between 0 and 18")
    return math.factorial(n)


def comb(on: Operators, n: Any, k: Any, /) -> int:
    top, bottom = whole(on.arrays, n), whole(on.arrays, k)
    if not 0 <= top <= 50 or bottom < 0:
        raise Refused("a binomial coefficient of large or negative numbers")
    return math.comb(top, bottom)


# ---- what loops run through


def len_(on: Operators, obj: Any, /) -> Any:
    if isinstance(obj, Array) and obj.ndim:
        return on.shape(obj)[0]
    if isinstance(obj, (list, tuple, dict, str, range)):
        return len(obj)
    raise Refused(f"len of {describe(obj)}")


def range_(on: Operators, *bounds: Any) -> range:
    sizes = [whole(on.arrays, b) for b in bounds]
    if not 1 <= len(sizes) <= 3 or sizes[2:] == [0]:
        raise Refused("range takes one to three arguments, and no step 0")
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
        items = (read(on.arrays, sequence, i) for i in range(size - 1, -1, -1))
        return Once(items, on.undecided, (sequence,))
    if not isinstance(sequence, (list, tuple, dict, range)) or len(sequence) > on.limits.items:
        raise Refused(f"reversed of {describe(sequence)}")
    return Once(reversed(sequence), on.undecided, (sequence,))


def map_(on: Operators, function: Any, *iterables: Any) -> Once:
    rows = zip(*(on.iterate(i) for i in iterables), strict=False)
    return Once((on.apply(function, list(row), {}) for row in rows), on.undecided, iterables)


def iter_(on: Operators, iterable: Any, /) -> Once:
    return iterable if isinstance(iterable, Once) else Once(on.iterate(iterable), on.undecided, (iterable,))


def next_(on: Operators, iterator: Any, /) -> Any:
    if not isinstance(iterator, Once):
        raise Refused(f"next of {describe(iterator)}")
    for item in on.iterate(iterator):
        return item
    raise Refused("next of an iterator at its end")


def chain(on: Operators, *iterables: Any) -> Once:
    return Once(itertools.chain(*(on.iterate(i) for i in iterables)), on.undecided, iterables)


def product(on: Operators, *iterables: Any, repeat: Any = 1) -> Once:
    pools = [on.items(i) for i in iterables]
    times = whole(on.arrays, repeat)
    if times < 0 or times * len(pools) > MAX_REPEATS:
        raise Refused(f"itertools.product of more than {MAX_REPEATS} lists", "too_large")
    return collected(on, itertools.product(*pools, repeat=times))


def chosen(choose: Callable[[list[Any], int], Iterable[tuple[Any, ...]]]) -> Callable[..., Once]:
    def function(on: Operators, iterable: Any, r: Any) -> Once:
        n = whole(on.arrays, r)
        if not 0 <= n <= MAX_REPEATS:
            raise Refused(f"itertools: choosing more than {MAX_REPEATS} at a time", "too_large")
        return collected(on, choose(on.items(iterable), n))

    return function


def collected(on: Operators, tuples: Iterable[tuple[Any, ...]]) -> Once:
    """What an iterator yields, as far as a list may be long."""
    return Once(on.items(Once(tuples, on.undecided)), on.undecided)


def partial(on: Operators, function: Any, /, *args: Any, **kwargs: Any) -> Native:
    return Native("partial", lambda on, more, named: on.apply(function, [*args, *more], {**kwargs, **named}))


# ---- containers


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


def sorted_(on: Operators, iterable: Any, /, reverse: Any = False) -> Items:
    items = on.items(iterable)
    if not all(isinstance(i, NUMBERS) for i in items):
        raise Refused("sorted of values that are not constants")
    return on.new_list(sorted(items, reverse=reverse is True))


def replaced(on: Operators, items: Items, new: list[Any]) -> None:
    """The list with other items, for all of its names."""
    on.change(items)
    items[:] = on.new_list(new)


def list_pop(on: Operators, items: Items, index: Any = -1, /) -> Any:
    on.change(items)
    at = whole(on.arrays, index)
    if not -len(items) <= at < len(items):
        raise Refused("pop from a list that is too short")
    return items.pop(at)


def list_insert(on: Operators, items: Items, index: Any, value: Any, /) -> None:
    at = whole(on.arrays, index)
    replaced(on, items, [*items[:at], value, *items[at:]])


LIST_METHODS: dict[str, Callable[..., Any]] = {
    "append": lambda on, items, value, /: replaced(on, items, [*items, value]),
    "extend": lambda on, items, values, /: replaced(on, items, [*items, *on.items(values)]),
    "insert": list_insert,
    "pop": list_pop,
    "copy": lambda on, items, /: on.new_list(list(items)),
    "reverse": lambda on, items, /: replaced(on, items, items[::-1]),
    "sort": lambda on, items, /, *, reverse=False: replaced(on, items, sorted_(on, items, reverse)),
}


def table_update(on: Operators, table: Table, /, *args: Any, **kwargs: Any) -> None:
    on.change(table)
    table.update(dict_(on, *args, **kwargs))
    if len(table) > on.limits.items:
        raise Refused(f"a dictionary of more than {on.limits.items} items", "too_large")


def table_setdefault(on: Operators, table: Table, key: Any, default: Any = None, /) -> Any:
    if on.key(key) not in table:
        table_update(on, table, {on.key(key): default})
    return table[on.key(key)]


TABLE_METHODS: dict[str, Callable[..., Any]] = {
    "get": lambda on, table, key, default=None, /: table.get(on.key(key), default),
    "update": table_update,
    "setdefault": table_setdefault,
    "copy": lambda on, table, /: Table(table.items(), on.undecided),
    "items": lambda on, table, /: tuple(table.items()),
    "keys": lambda on, table, /: tuple(table),
    "values": lambda on, table, /: tuple(table.values()),
}


def text_split(on: Operators, text: str, sep: Any = None, /) -> Items:
    if sep is not None and (not isinstance(sep, str) or not sep):
        raise Refused("a string split by anything but a string")
    return on.new_list(text.split(sep))


def array_list(on: Operators, a: Any, /) -> Any:
    """`.tolist()` of an array without rows."""
    array = asarray(on, a)
    if array.rows is not None:
        raise Refused(".tolist() of an array of rows")
    return on.new_list([array_list(on, item) for item in on.items(array)]) if array.ndim else array


def array_item(on: Operators, a: Any, /) -> Any:
    """`.item()` of an array with one value."""
    array = asarray(on, a)
    if array.cells.size != 1 or array.rows is not None:
        raise Refused(".item() of an array with more than one value")
    return read(on.arrays, array, (0,) * array.ndim) if array.ndim else array


# ---- what something is

KINDS_OF_VALUES = {"list": list, "tuple": tuple, "dict": dict, "int": int, "bool": bool}


def isinstance_(on: Operators, obj: Any, kind: Any, /) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(is_instance(obj, k) for k in kinds)


def is_instance(obj: Any, kind: Any) -> bool:
    name = kind.name if isinstance(kind, Native) else ""
    if name == "np.ndarray":
        return isinstance(obj, Array) and not obj.scalar
    if name == "float":
        return isinstance(obj, float) or (isinstance(obj, Array) and obj.scalar and obj.kind == "f")
    if name not in KINDS_OF_VALUES or isinstance(kind, DType) or isinstance(obj, RowCount):
        raise Refused("isinstance with this type")
    return isinstance(obj, KINDS_OF_VALUES[name])


def hasattr_(on: Operators, obj: Any, name: Any, /) -> bool:
    """Whether an array or a list has one of the attributes that bodies ask for to tell them apart."""
    asked = name in ("shape", "ndim", "dtype", "size", *CONTAINER)
    if isinstance(obj, Array) and obj.ndim and asked:
        return True
    if isinstance(obj, (list, tuple, dict)) and asked:
        return name in CONTAINER
    raise Refused(f"hasattr of {describe(obj)} and this name")


def print_(on: Operators, *args: Any, sep: Any = " ", end: Any = "", flush: Any = False) -> None:
    """Nothing is printed."""


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs_, "pow": lambda on, base, exp: on.binary("**", base, exp), "round": round_,
    "max": extreme("max", ">"), "min": extreme("min", "<"), "len": len_, "range": range_,
    "enumerate": enumerate_, "zip": zip_, "reversed": reversed_, "map": map_,
    "list": lambda on, iterable=(), /: on.new_list(on.items(iterable)),
    "tuple": lambda on, iterable=(), /: tuple(on.items(iterable)),
    "dict": dict_, "float": float_, "int": int_, "bool": bool_, "all": chained("and"), "any": chained("or"),
    "sorted": sorted_, "isinstance": isinstance_, "print": print_, "hasattr": hasattr_, "iter": iter_,
    "callable": lambda on, obj, /: isinstance(obj, (Native, Closure)), "next": next_,
}  # fmt: skip
ITERTOOLS: dict[str, Callable[..., Any]] = {
    "product": product,
    "combinations": chosen(itertools.combinations),
    "combinations_with_replacement": chosen(itertools.combinations_with_replacement),
    "permutations": chosen(itertools.permutations),
    "chain": chain,
}


def operator(symbol: str) -> Callable[..., Any]:
    return lambda on, a, b, /: on.binary(symbol, a, b)


OPERATORS: dict[str, Callable[..., Any]] = {
    name: operator(symbol)
    for name, symbol in {
        "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
        "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "matmul": "@",
    }.items()
} | {"neg": lambda on, a, /: on.binary("*", -1, a)}  # fmt: skip
METHODS: dict[type, dict[str, Native]] = {
    kind: {name: native(name, function) for name, function in table.items()}
    for kind, table in ((Items, LIST_METHODS), (Table, TABLE_METHODS), (str, {"split": text_split}))
}
