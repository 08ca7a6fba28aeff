"""Calls of lambdas, nested functions and earlier versions, and how two ways through a body are joined."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.reader.arrays import Arrays
from llmsr.expression.reader.expressions import Evaluating
from llmsr.expression.reader.operators import NUMBERS
from llmsr.expression.reader.syntax import names_set_in
from llmsr.expression.reader.values import (
    SERIALS,
    Array,
    Closure,
    Dialect,
    DType,
    Frame,
    Items,
    Limits,
    Module,
    Once,
    Refused,
    RowCount,
    Store,
    Table,
    Unbound,
    Version,
)

NEXT, RETURN, BREAK, CONTINUE = "next", "return", "break", "continue"


# ---- branches


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


# ---- calls


class Calling(Evaluating):
    """Adds calls; `block` runs statements and is provided by `Interpreter`."""

    @abstractmethod
    def block(self, statements: list[ast.stmt]) -> str:
        """Runs statements until one of them ends the block; how it ended."""

    def __init__(
        self,
        graph: Graph,
        limits: Limits,
        dialect: Dialect,
        signature: Sequence[str],
        read_body: Callable[[str], list[ast.stmt]],
    ) -> None:
        super().__init__(graph, limits, dialect)
        self.signature = tuple(signature)
        self.read_body = read_body
        self.versions: dict[str, Closure] = {}
        self.active: set[str] = set()
        self.journals: list[Journal] = []

    def within(self, frame: Frame, body: list[ast.stmt]) -> Any:
        """The value that a function body returns in its frame."""
        if len(self.frames) > self.limits.calls:
            raise Refused(f"more than {self.limits.calls} nested calls", "too_large")
        caller, self.frame = self.frame, frame
        self.frames.append(frame)
        frame.undecided = self.undecided
        frame.serial = next(SERIALS)
        status = self.block(body)
        if status != RETURN:
            if frame.returns:
                raise Refused("one way through the function ends without a return")
            frame.returns.append((None, None))
        _, result = frame.returns[-1]
        for condition, value in reversed(frame.returns[:-1]):
            assert condition is not None
            result = self.joined(condition, value, result, None)
            if isinstance(result, Unbound):
                raise Refused("the value returned depends on a condition in a way that is not supported")
        self.frames.pop()
        self.frame = caller
        return result

    def call(self, function: Closure | Version, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if isinstance(function, Version):
            return self.call_version(function, args, kwargs)
        arguments = self.bind(function, args, kwargs)
        frame = Frame(function.local_names, function.outer, arguments)
        self.frozen_line += function.elsewhere
        value = self.evaluated(frame, function.body)
        self.frozen_line -= function.elsewhere
        return value

    def evaluated(self, frame: Frame, body: list[ast.stmt] | ast.expr) -> Any:
        """What a function's body comes to in its frame."""
        if isinstance(body, list):
            return self.within(frame, body)
        if len(self.frames) > self.limits.calls:
            raise Refused(f"more than {self.limits.calls} nested calls", "too_large")
        caller, self.frame = self.frame, frame
        self.frames.append(frame)
        value = self.value(body)
        self.frames.pop()
        self.frame = caller
        return value

    def call_version(self, version: Version, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """An earlier version's value, its body read as if it stood here; lines stay those of the call."""
        if version.name in self.active:
            raise Refused(f"{version.name} calls itself")
        closure = self.versions.get(version.name)
        if closure is None:
            body = self.read_body(version.text)
            arguments = ast.arguments(
                posonlyargs=[],
                args=[ast.arg(name) for name in self.signature],
                kwonlyargs=[],
                kw_defaults=[],
                defaults=[],
            )
            local_names = names_set_in(body) | frozenset(self.signature)
            closure = Closure(version.name, arguments, body, local_names, (), (), self.frames[0], True)
            self.versions[version.name] = closure
        self.active.add(version.name)
        value = self.call(closure, args, kwargs)
        self.active.remove(version.name)
        return value

    def bind(self, function: Closure, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The names of a call's frame, as Python binds arguments."""
        spec = function.arguments
        positional = [a.arg for a in (*spec.posonlyargs, *spec.args)]
        only_positional = len(spec.posonlyargs)
        names: dict[str, Any] = dict(zip(positional, args, strict=False))
        if spec.vararg is not None:
            names[spec.vararg.arg] = tuple(args[len(positional) :])
        elif len(args) > len(positional):
            raise Refused(f"{function.name} takes {len(positional)} arguments, not {len(args)}")
        keyword_only = [a.arg for a in spec.kwonlyargs]
        rest = Table(depth=self.undecided)
        if spec.kwarg is not None:
            names[spec.kwarg.arg] = rest
        for name, value in kwargs.items():
            if name not in (*positional[only_positional:], *keyword_only) and spec.kwarg is not None:
                rest[name] = value
                continue
            if name in names or name not in (*positional[only_positional:], *keyword_only):
                raise Refused(f"{function.name} is called with a wrong argument {name}")
            names[name] = value
        defaults = dict(zip(reversed(positional), reversed(function.defaults), strict=False))
        for arg, default, node in zip(keyword_only, function.keyword_defaults, spec.kw_defaults, strict=True):
            if node is not None:
                defaults[arg] = default
        for name in (*positional, *keyword_only):
            if name not in names:
                if name not in defaults:
                    raise Refused(f"{function.name} is called without its argument {name}")
                names[name] = defaults[name]
        return names
