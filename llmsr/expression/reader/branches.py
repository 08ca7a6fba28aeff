"""The memory of a body's changeable values, and the two ways that a condition on data leaves open.

A condition on a column or a parameter is not decided while a body is read. Both ways are gone, each with its
own copy of the names and the memory, and then every name and every place holds what either way gives, by
`where`. Nothing is ever changed in place: this is the one door for changes, and the one place that refuses
those whose effect on a second name a condition on data would decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from llmsr.expression.graph import Graph
from llmsr.expression.reader.arrays import Arrays, fresh, mixes_rows, positions
from llmsr.expression.reader.indexing import part, position, slice_of, written
from llmsr.expression.reader.values import (
    END,
    NUMBERS,
    Array,
    Closure,
    DType,
    Frame,
    Limits,
    List,
    Module,
    Native,
    Once,
    Place,
    Refused,
    RowCount,
    Table,
    Unbound,
    describe,
    refuse_if,
)

NEXT, RETURN, BREAK, CONTINUE = "next", "return", "break", "continue"
"""How a block of statements ended."""

Some = TypeVar("Some", bound=Sized)

TWO_NAMES = "an array or list is changed that, under a condition on data, has a second name"


class Way(NamedTuple):
    """What one of two ways through a body came to."""

    result: Any
    names: dict[str, Any]
    returns: list[tuple[Array | None, Any, dict[Place, Any]]]
    memory: dict[Place, Any]


class Branches(Arrays):
    """Holds names and memory, and joins them where two ways meet."""

    def __init__(self, graph: Graph, limits: Limits) -> None:
        super().__init__(graph, limits)
        self.steps = 0
        self.line = 1
        self.strict = 0
        """How many try statements surround it, where an error of numpy may not be read more kindly."""
        self.pulling = 0
        """How many iterators are being asked for an item, each for another's sake."""
        self.frame = Frame(frozenset(), None)
        self.frames: list[Frame] = [self.frame]
        self.path = object()
        """Another object on every way that a condition on data leaves open."""
        self.tied: set[Place] = set()
        """Places of which, under a condition on data, another may be the same."""

    def step(self, line: int | None) -> None:
        self.steps += 1
        if self.steps > self.limits.steps:
            raise Refused(f"more than {self.limits.steps} steps", "too_large")
        if line is not None and not self.frame.elsewhere:
            self.line = line

    def kindly(self, what: str) -> None:
        """Notes that numpy would raise here and that the row-by-row meaning is taken instead."""
        if self.strict:
            raise Refused(f"{what} inside try")

    # -- changes

    def store(self, place: Place, content: Any) -> None:
        """Lets a place hold something else, for all of its names."""
        kin = {place, *place.sources}
        for other in kin:
            refuse_if(other.locked, other.locked)
        if place.sources or place in self.tied:
            # a name of the one may or may not be a name of the other, which `where` cannot tell apart
            for other in self.reachable():
                refuse_if(other is not place and not kin.isdisjoint((other, *other.sources)), TWO_NAMES)
        self.memory[place] = content

    def reachable(self) -> Iterator[Place]:
        """The places that names lead to; what is looked at counts as work."""
        stack: list[Any] = list(self.frames)
        seen: set[int] = set()
        while stack:
            value = stack.pop()
            if isinstance(value, Array):
                if value.place is not None:
                    yield value.place
                continue
            if id(value) in seen:
                continue
            inner = self.parts_of(value)
            if inner:
                seen.add(id(value))
                self.spend(len(inner))
                stack.extend(inner)
            if isinstance(value, Place):
                yield value

    def parts_of(self, value: Any) -> list[Any]:
        """The values that a value directly leads to."""
        if isinstance(value, Frame):
            return [*value.names.values(), *([] if value.outer is None else [value.outer])]
        if isinstance(value, Closure):
            return [value.outer, *value.defaults, *value.keyword_defaults]
        if isinstance(value, (Once, Native)):
            return list(value.made_of)
        if isinstance(value, tuple):
            return list(value)
        held = self.memory.get(value, value.content) if isinstance(value, Place) else ()
        return list(held.values() if isinstance(held, dict) else held if isinstance(held, tuple) else ())

    def set_part(self, base: Any, key: Any, value: Any) -> None:
        """`base[key] = value`."""
        if isinstance(base, Array):
            if base.place is None:
                raise Refused("an assignment into a number")
            self.store(base.place, written(self, self.array(base), key, self.array(value)))
        elif isinstance(base, Table):
            self.store(base, self.bounded({**self.content(base), self.key(key): value}))
        elif isinstance(base, List):
            items = list(self.content(base))
            if isinstance(key, slice):
                refuse_if(key.step is not None, "an assignment to a slice of a list with a step")
                items[slice_of(self, key, len(items))] = self.items(value)
            else:
                items[position(self, key, len(items))] = value
            self.store(base, self.bounded(tuple(items)))
        else:
            raise Refused(f"an assignment into {describe(base)}")

    # -- lists, dictionaries and iterators

    def key(self, value: Any) -> Any:
        """A key of a dictionary."""
        if isinstance(value, Array) and value.ndim == 0:
            value = self.constant(self.array(value))
        if value is None or isinstance(value, (str, *NUMBERS)):
            return value
        raise Refused(f"{describe(value)} as the key of a dictionary")

    def bounded(self, items: Some) -> Some:
        """A tuple, text or dictionary that is not too long."""
        if len(items) > self.limits.items:
            raise Refused(f"a list, text or dictionary of more than {self.limits.items} items", "too_large")
        return items

    def new_list(self, items: Sequence[Any]) -> List:
        return List(self.bounded(tuple(items)))

    def items(self, value: Any) -> list[Any]:
        """All that a loop over `value` runs through."""
        items = list(itertools.islice(self.iterate(value), self.limits.items + 1))
        return self.bounded(items)

    def iterate(self, value: Any) -> Iterator[Any]:
        """What a loop over `value` runs through, each item made when it is asked for, as in Python."""
        if isinstance(value, Once):
            return self.pull(value)
        if isinstance(value, List):
            return self.listed(value)
        if isinstance(value, Table):
            return self.keys(value)
        if isinstance(value, (tuple, range)):
            self.bounded(value)
            return iter(value)
        if isinstance(value, RowCount):
            raise mixes_rows("a loop over the number of rows")
        if not isinstance(value, Array):
            raise Refused(f"a loop over {describe(value)}")
        refuse_if(value.ndim == 0, "a loop over one number")
        if value.row_axis == 0:
            raise mixes_rows("going through the rows one by one")
        return (part(self, self.array(value), i) for i in range(value.cells.shape[0]))

    def listed(self, value: List) -> Iterator[Any]:
        """The items of a list, which may change and grow meanwhile."""
        for i in itertools.count():
            items = self.content(value)
            if i >= len(items):
                return
            yield items[i]

    def keys(self, value: Table) -> Iterator[Any]:
        size = len(self.content(value))
        for key in self.content(value):
            yield key
            if len(self.content(value)) != size:
                raise Refused("a dictionary that grows or shrinks while it is run through")

    def once(self, source: Iterator[Any], *made_of: Any) -> Once:
        return Once(source, self.path, made_of)

    def pull(self, once: Once) -> Iterator[Any]:
        """The items of an iterator, which is used up by that."""
        while True:
            # on the other way it would still have its items, and it cannot be copied to give them to both
            refuse_if(once.path is not self.path, "an iterator used up in a branch")
            refuse_if(once.running, "an iterator that goes through itself")
            # each is a call of the one below, in C for zip, where Python's own limit does not hold
            if self.pulling > self.limits.calls:
                raise Refused(f"more than {self.limits.calls} iterators in each other", "too_large")
            self.step(None)
            self.pulling, once.running = self.pulling + 1, True
            item = next(once.source, END)
            self.pulling, once.running = self.pulling - 1, False
            if item is END:
                return
            yield item

    # -- two ways

    def ways(self, yes: Callable[[], Any], no: Callable[[], Any]) -> tuple[Way, Way]:
        """What either way comes to, beginning with the names and the memory as they are."""
        frame, memory, path = self.frame, self.memory, self.path
        names, returns = frame.names, frame.returns
        # copied for either way, which in a loop of branches is what costs time
        self.spend(len(memory))
        gone = []
        for way in (yes, no):
            frame.names, frame.returns, self.memory, self.path = dict(names), [], dict(memory), object()
            result = way()
            gone.append(Way(result, frame.names, frame.returns, self.memory))
        frame.returns, self.path = returns, path
        return gone[0], gone[1]

    def meet(self, condition: Array, yes: Way, no: Way) -> None:
        """Goes on with what names and places hold after either way."""
        names = {}
        for name in {**yes.names, **no.names}:
            if name in yes.names and name in no.names:
                a, b = yes.names[name], no.names[name]
                names[name] = a if a is b else self.joined(condition, a, b, yes.memory, no.memory)
            else:
                names[name] = Unbound("is set in one branch only")
        self.frame.names = names
        self.memory = self.merged(condition, yes.memory, no.memory)

    def either(self, condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """The value of the one way where the condition holds, and of the other elsewhere."""
        a, b = self.ways(yes, no)
        value = self.joined(condition, a.result, b.result, a.memory, b.memory)
        if isinstance(value, Unbound):
            raise Refused("a conditional value of this kind")
        self.meet(condition, a, b)
        return value

    def merged(self, condition: Array, yes: dict[Place, Any], no: dict[Place, Any]) -> dict[Place, Any]:
        """The memory after two ways."""
        out = {}
        for place in {**yes, **no}:
            a, b = yes.get(place, place.content), no.get(place, place.content)
            out[place] = a if a is b else self.joined_contents(condition, a, b, yes, no)
        return out

    def joined_contents(
        self, condition: Array, a: Any, b: Any, yes: dict[Place, Any], no: dict[Place, Any]
    ) -> Any:
        """What a place holds after two ways; `Unbound`, which refuses whoever looks, where nothing fits."""
        if isinstance(a, Array) and isinstance(b, Array):
            if np.array_equal(a.cells, b.cells):
                return a if a.bound >= b.bound else b
            try:
                out = self.where(condition, a, b)
                self.fits(out, a)
            except Refused as refused:
                # a place that nobody looks at again does no harm
                if refused.kind == "too_large":
                    raise
                return Unbound(f"cannot be told: {refused.reason}")
            return Array(out.cells, a.kind, a.rows, a.selection, out.bound, a.place)
        if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
            values = self.joined(condition, tuple(a.values()), tuple(b.values()), yes, no)
            return values if isinstance(values, Unbound) else dict(zip(a, values, strict=True))
        return self.joined(condition, a, b, yes, no)

    def joined(self, condition: Array, a: Any, b: Any, yes: dict[Place, Any], no: dict[Place, Any]) -> Any:
        """The value that is `a` where the condition holds and `b` elsewhere; `Unbound` when there is none.

        `yes` and `no` are the memories in which they stand.
        """
        self.spend(1)
        if a is b or (type(a) is type(b) and isinstance(a, (str, *NUMBERS)) and repr(a) == repr(b)):
            return a
        if isinstance(a, (Array, *NUMBERS)) and isinstance(b, (Array, *NUMBERS)):
            return self.joined_arrays(condition, a, b, yes, no)
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            items = [self.joined(condition, *pair, yes, no) for pair in zip(a, b, strict=True)]
            if not any(isinstance(item, Unbound) for item in items):
                return tuple(items)
        if isinstance(a, (List, Table)) and type(a) is type(b):
            contents = yes.get(a, a.content), no.get(b, b.content)
            content = self.joined_contents(condition, *contents, yes, no)
            return content if isinstance(content, Unbound) else type(a)(content, "", self.tie(a, b))
        # functions are told apart by identity: two lambdas of one text may hold different defaults
        if isinstance(a, (RowCount, DType, Module)) and a == b:
            return a
        return Unbound("depends on a condition in a way that is not supported")

    def joined_arrays(
        self, condition: Array, a: Any, b: Any, yes: dict[Place, Any], no: dict[Place, Any]
    ) -> Array:
        if (
            isinstance(a, Array)
            and isinstance(b, Array)
            and a.place is b.place is not None
            and (a.rows, a.selection) == (b.rows, b.selection)
            and np.array_equal(positions(a), positions(b))
        ):
            return a  # the same array on both ways: the memory tells what it holds
        memory = self.memory
        self.memory = yes
        first = self.array(a)
        self.memory = no
        second = self.array(b)
        self.memory = memory
        # for Python either is the array itself: a later change of the new one may have to change the old
        out = self.choose(condition, first, second)
        if isinstance(a, bool) and isinstance(b, bool):
            return replace(out, kind="t")
        sources = self.tie(first.place, second.place)
        return fresh(out.cells, out.kind, out.rows, out.selection, out.bound, "", sources) if sources else out

    def tie(self, *places: Place | None) -> frozenset[Place]:
        """Notes that a new place may be the same as one of these, or as one that they may be."""
        sources = frozenset(s for place in places if place is not None for s in (place, *place.sources))
        self.tied |= sources
        return sources
