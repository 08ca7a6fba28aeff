"""Joins what two branches of an undecided `if` did: values of names, and cells written into arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from llmsr.expression.reader.arrays import Arrays
from llmsr.expression.reader.values import (
    SERIALS,
    Array,
    DType,
    Items,
    Module,
    Once,
    Refused,
    RowCount,
    Store,
    Unbound,
)

NUMBERS = (bool, int, float)


class Journal:
    """The cells that arrays had before a branch wrote into them."""

    def __init__(self) -> None:
        self.before: dict[int, tuple[Store, np.ndarray]] = {}
        self.serial = next(SERIALS)

    def note(self, store: Store) -> None:
        if store.serial <= self.serial and id(store) not in self.before:
            self.before[id(store)] = (store, owner(store).cells.copy())

    def undo(self) -> dict[int, tuple[Store, np.ndarray]]:
        """Restores the cells and returns what the branch had written."""
        after = {}
        for key, (store, cells) in self.before.items():
            after[key] = (store, owner(store).cells.copy())
            owner(store).cells[...] = cells
        return after


def owner(store: Store) -> Array:
    assert store.owner is not None
    return store.owner


def join_stores(
    on: Arrays,
    condition: Array,
    yes: dict[int, tuple[Store, np.ndarray]],
    no: dict[int, tuple[Store, np.ndarray]],
) -> None:
    """Writes into every changed array what it holds after either branch."""
    for key in {**yes, **no}:
        store = (yes.get(key) or no[key])[0]
        whole = owner(store)
        a = yes[key][1] if key in yes else whole.cells
        b = no[key][1] if key in no else whole.cells
        if np.array_equal(a, b):
            whole.cells[...] = a
            continue
        if a.min() < 0 or b.min() < 0:
            raise Refused("an array made by np.empty is filled in one branch only")
        both = [Array(cells, whole.kind, whole.rows, whole.selection, Store(store.bound)) for cells in (a, b)]
        joined = on.where(condition, *both)
        on.fits(joined, whole.cells.shape, whole.rows, whole.selection, "a value set under a condition")
        whole.cells[...] = joined.cells


def join(on: Arrays, condition: Array, a: Any, b: Any) -> Any:
    """The value that is `a` where the condition holds and `b` elsewhere; `Unbound` when there is none."""
    on.spend(1)
    if a is b or (type(a) is type(b) and isinstance(a, (str, *NUMBERS)) and repr(a) == repr(b)):
        return a
    if isinstance(a, (Array, *NUMBERS)) and isinstance(b, (Array, *NUMBERS)):
        return on.choose(condition, on.lift(a), on.lift(b))
    if isinstance(a, (tuple, Items)) and type(a) is type(b) and len(a) == len(b):
        items = [join(on, condition, x, y) for x, y in zip(a, b, strict=True)]
        if not any(isinstance(item, Unbound) for item in items):
            return tuple(items) if isinstance(a, tuple) else Items(items, -1)
    if isinstance(a, (Unbound, RowCount, DType, Module)) and a == b:
        return a
    return Unbound("depends on a condition in a way that is not supported")


def arrays_in(*values: Any, on: Arrays | None = None) -> Iterator[Array]:
    """The arrays that can be written to in these values and in the containers among them, once each.

    With `on` what is looked at counts as work there.
    """
    stack, seen = list(values), set()
    if on is not None:
        on.spend(len(stack))
    while stack:
        value = stack.pop()
        if isinstance(value, Array):
            if not value.scalar:
                yield value
        elif isinstance(value, (list, tuple, dict, Once)) and id(value) not in seen:
            seen.add(id(value))
            items = value.made_of if isinstance(value, Once) else value
            if on is not None:
                on.spend(len(items))
            stack.extend(items.values() if isinstance(items, dict) else items)


def holds(on: Arrays, values: Iterable[Any], stores: set[int]) -> bool:
    """Whether one of these stores is behind an array in the values; what is looked at counts as work."""
    return any(id(array.store) in stores for array in arrays_in(*values, on=on))
