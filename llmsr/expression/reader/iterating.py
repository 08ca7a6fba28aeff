"""Functions that call functions or run through values: functools, itertools, operator, np.vectorize."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from llmsr.expression.reader.indexing import whole
from llmsr.expression.reader.numpy_making import cast, kind_of
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.values import END, Array, Native, Once, Refused, RowCount, Store

MAX_REPEATS = 8
"""Values that itertools puts into one tuple."""


def reduce_(on: Operators, function: Any, iterable: Any, *initial: Any) -> Any:
    """functools.reduce."""
    items = itertools.chain(initial, on.iterate(iterable))
    result = next(items, END)
    if result is END or len(initial) > 1:
        raise Refused("reduce of nothing, or with more than one initial value")
    for item in items:
        result = on.apply(function, [result, item], {})
    return result


def partial_(on: Operators, function: Any, /, *args: Any, **kwargs: Any) -> Native:
    """functools.partial."""
    return Native("partial", lambda on, more, named: on.apply(function, [*args, *more], {**kwargs, **named}))


def collected(on: Operators, tuples: Iterable[tuple[Any, ...]]) -> Once:
    """What an iterator yields, as far as a list may be long."""
    return Once(on.items(Once(tuples, on.undecided)), on.undecided)


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


def chain(on: Operators, *iterables: Any) -> Once:
    return Once(itertools.chain(*(on.iterate(i) for i in iterables)), on.undecided, iterables)


ITERTOOLS: dict[str, Callable[..., Any]] = {
    "product": product,
    "combinations": chosen(itertools.combinations),
    "combinations_with_replacement": chosen(itertools.combinations_with_replacement),
    "permutations": chosen(itertools.permutations),
    "chain": chain,
}
SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "lt": "<",
    "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "matmul": "@",
}  # fmt: skip


def binary(symbol: str) -> Callable[..., Any]:
    def function(on: Operators, a: Any, b: Any, /) -> Any:
        return on.binary(symbol, a, b)

    return function


def negated(on: Operators, a: Any, /) -> Any:
    return on.binary("*", -1, a)


OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: binary(symbol) for name, symbol in SYMBOLS.items()},
    "neg": negated,
}


def vectorize(on: Operators, pyfunc: Any, otypes: Any = None) -> Native:
    """np.vectorize: a function of numbers, called for every row."""
    kind = None
    if otypes is not None:
        (given,) = on.items(otypes) if isinstance(otypes, (list, tuple)) else (otypes,)
        kind = kind_of(on, given, "f")

    def call(on: Operators, args: list[Any], kwargs: dict[str, Any]) -> Array:
        if kwargs:
            raise Refused("a vectorized function called with names")
        return each_row(on, pyfunc, [on.array(a) for a in args], kind)

    return Native("np.vectorize", call)


def each_row(on: Operators, function: Any, arrays: list[Array], kind: str | None) -> Array:
    """The column of the values that a function has for the numbers of each row.

    Inside the function a column is one number per row, like a parameter; nothing outside can be changed,
    and what meets a whole column there keeps the row axis and cannot be returned. Without `kind` numpy takes
    the type from the first row, so that a type that differs between rows is refused.
    """
    columns = [a for a in arrays if a.ndim]
    selections = {a.selection for a in columns if a.ndim == 1 and a.rows is not None}
    if not columns or len(selections) != 1 or any(a.rows is None or a.ndim != 1 for a in columns):
        raise Refused("np.vectorize of anything but columns and numbers")
    numbers = [Array(a.cells.reshape(()), a.kind, store=Store(a.store.bound), scalar=True) for a in arrays]
    before = on.arrays.one_kind
    on.arrays.one_kind = before or kind is None
    on.tentative, on.undecided = on.tentative + 1, on.undecided + 1
    value = on.array(on.apply(function, numbers, {}))
    on.tentative, on.undecided = on.tentative - 1, on.undecided - 1
    on.arrays.one_kind = before
    if value.rows is not None or value.ndim:
        raise Refused("a vectorized function whose value is not one number per row")
    return on.arrays.full([RowCount(columns[0].selection)], value if kind is None else cast(on, value, kind))
