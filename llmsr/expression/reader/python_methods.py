"""The methods of Python's lists, dictionaries and strings, and those that turn an array into them."""

from __future__ import annotations

from typing import Any

from llmsr.expression.reader.indexing import read, whole
from llmsr.expression.reader.names import native
from llmsr.expression.reader.numpy_making import asarray
from llmsr.expression.reader.operators import Operators
from llmsr.expression.reader.python_functions import dict_, sorted_
from llmsr.expression.reader.values import Items, Refused, Table


def list_append(on: Operators, items: Items, value: Any, /) -> None:
    on.change(items)
    if len(items) >= on.limits.items:
        raise Refused(f"a list of more than {on.limits.items} items", "too_large")
    items.append(value)


def list_extend(on: Operators, items: Items, values: Any, /) -> None:
    on.change(items)
    new = on.items(values)
    if len(items) + len(new) > on.limits.items:
        raise Refused(f"a list of more than {on.limits.items} items", "too_large")
    items.extend(new)


def list_copy(on: Operators, items: Items, /) -> Items:
    return on.new_list(list(items))


def list_pop(on: Operators, items: Items, index: Any = -1, /) -> Any:
    on.change(items)
    at = whole(on.arrays, index)
    if not -len(items) <= at < len(items):
        raise Refused("pop from a list that is too short")
    return items.pop(at)


def list_insert(on: Operators, items: Items, index: Any, value: Any, /) -> None:
    list_append(on, items, value)
    items.insert(whole(on.arrays, index), items.pop())


def list_reverse(on: Operators, items: Items, /) -> None:
    on.change(items)
    items.reverse()


def list_sort(on: Operators, items: Items, /, *, reverse: Any = False) -> None:
    ordered = sorted_(on, items, reverse)
    on.change(items)
    items[:] = ordered


def table_get(on: Operators, table: Table, key: Any, default: Any = None, /) -> Any:
    return table.get(on.key(key), default)


def table_update(on: Operators, table: Table, /, *args: Any, **kwargs: Any) -> None:
    on.change(table)
    table.update(dict_(on, *args, **kwargs))
    if len(table) > on.limits.items:
        raise Refused(f"a dictionary of more than {on.limits.items} items", "too_large")


def table_setdefault(on: Operators, table: Table, key: Any, default: Any = None, /) -> Any:
    if on.key(key) not in table:
        table_update(on, table, {on.key(key): default})
    return table[on.key(key)]


def table_copy(on: Operators, table: Table, /) -> Table:
    return Table(table.items(), on.undecided)


def table_items(on: Operators, table: Table, /) -> tuple[Any, ...]:
    return tuple(table.items())


def table_keys(on: Operators, table: Table, /) -> tuple[Any, ...]:
    return tuple(table)


def table_values(on: Operators, table: Table, /) -> tuple[Any, ...]:
    return tuple(table.values())


def text_split(on: Operators, text: str, sep: Any = None, /) -> Items:
    if sep is not None and (not isinstance(sep, str) or not sep):
        raise Refused("a string split by anything but a string")
    return on.new_list(text.split(sep))


TEXT_METHODS = {"split": native("split", text_split)}
LIST_METHODS = {
    "append": native("append", list_append),
    "extend": native("extend", list_extend),
    "copy": native("copy", list_copy),
    "pop": native("pop", list_pop),
    "insert": native("insert", list_insert),
    "reverse": native("reverse", list_reverse),
    "sort": native("sort", list_sort),
}
TABLE_METHODS = {
    "get": native("get", table_get),
    "update": native("update", table_update),
    "setdefault": native("setdefault", table_setdefault),
    "copy": native("copy", table_copy),
    "items": native("items", table_items),
    "keys": native("keys", table_keys),
    "values": native("values", table_values),
}


def array_list(on: Operators, a: Any, /) -> Any:
    """`.tolist()` of an array without rows."""
    array = asarray(on, a)
    if array.rows is not None:
        raise Refused(".tolist() of an array of rows")
    if array.ndim == 0:
        return array
    return on.new_list([array_list(on, item) for item in on.items(array)])


def array_item(on: Operators, a: Any, /) -> Any:
    """`.item()` of an array with one value."""
    array = asarray(on, a)
    if array.cells.size != 1 or array.rows is not None:
        raise Refused(".item() of an array with more than one value")
    return read(on.arrays, array, (0,) * array.ndim) if array.ndim else array
