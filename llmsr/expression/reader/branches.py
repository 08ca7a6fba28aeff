"""What a body changes, and the two ways that a condition on data leaves open.

A condition on a column or a parameter is not decided while a body is read. Both ways are gone, each with its
own copy of the names, and then every name holds what either way gives, by `where`. Values are never changed:
a place holds a new one, and under a condition one that is new only where it holds. This is the one door for
changes, through all names of an array or list.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from llmsr.expression.reader.arrays import Arrays, fresh, mixes_rows, positions
from llmsr.expression.reader.indexing import part, position, slice_of, written
from llmsr.expression.reader.values import (
    END,
    NUMBERS,
    SERIALS,
    Array,
    Closure,
    DType,
    Frame,
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

TWO_NAMES = "an array or list is changed that, under a condition on data, has a second name"


class Way(NamedTuple):
    """What one of two ways through a body came to."""

    result: Any
    names: dict[str, Any]
    returns: list[tuple[Array | None, Any]]


class Branches(Arrays):
    """Holds names and memory, and joins them where two ways meet."""

    strict: int
    """How many try statements surround it, where an error of numpy may not be read more kindly."""
    pulling: int
    """How many iterators are being asked for an item, each for another's sake."""
    tied: set[Place]
    """Places of which, under a condition on data, another may be the same."""

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        """A Python operator or comparison on any two values."""
        raise NotImplementedError

    def kindly(self, what: str) -> None:
        """Notes that numpy would raise here and that the row-by-row meaning is taken instead."""
        if self.strict:
            raise Refused(f"{what} inside try")

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
            a = Array(a.cells.reshape(()), a.kind)
            constant = self.constant(a)
            return a if constant is None else bool(constant)
        if isinstance(value, (List, Table)):
            return bool(value.content)
        if isinstance(value, (RowCount, DType, Native, Closure)):
            return True
        # known now, whatever the data are
        if value is None or isinstance(value, (*NUMBERS, str, tuple, range)):
            return bool(value)
        raise Refused(f"the truth of {describe(value)}")

    def python_bool(self, op: str, *operands: Array) -> Array:
        """A truth that is Python's own, an integer in arithmetic, and not numpy's."""
        out = self.logical(op, *operands)
        return out if out.ndim else Array(out.cells, "t")

    def equal(self, left: Any, right: Any) -> bool:
        """`==` of values that are no arrays."""
        self.step(None)
        if isinstance(left, RowCount) or isinstance(right, RowCount):
            if left != right:
                raise mixes_rows("comparing the number of rows")
            return True
        if isinstance(left, (List, tuple)) and isinstance(right, (List, tuple)):
            a, b = (side.content if isinstance(side, List) else side for side in (left, right))
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

    # -- changes

    def store(self, place: Place, content: Any) -> None:
        """Lets a place hold something else, for all of its names, where the open conditions hold."""
        kin = {place, *place.sources}
        for other in kin:
            refuse_if(other.locked, other.locked)
        if place.sources or place in self.tied:
            # a name of the one may or may not be a name of the other, which `where` cannot tell apart
            for other in self.reachable():
                refuse_if(other is not place and not kin.isdisjoint((other, *other.sources)), TWO_NAMES)
        opened = self.conditions
        for i, (truth, began) in reversed(list(enumerate(opened))):
            if place.serial < began:
                if truth is None:
                    raise Refused("a vectorized function that changes what is known outside of it")
                self.conditions = opened[:i]  # what is joined is looked at from outside of the condition
                content = self.changed(truth, content, place.content)
        self.conditions = opened
        place.content = content

    def changed(self, condition: Array, new: Any, old: Any) -> Any:
        """What a place holds that is changed where a condition holds."""
        if isinstance(new, Array):
            both = new, self.where_held(old, condition, False)
            op, args, _ = self.graph.nodes[condition.cells.item()]
            if op == "not":
                condition, both = replace(condition, cells=np.full_like(condition.cells, args[0])), both[::-1]
            out = self.where(condition, *both)
            self.fits(out, old)
            return replace(old, cells=out.cells)
        value = self.joined(condition, new, old)
        why = "a list changed under a condition on data, in its length or its kinds"
        refuse_if(isinstance(value, Unbound), why)
        return value

    @contextmanager
    def under(self, condition: Array | None) -> Iterator[None]:
        """While open, what was made before is changed only where the condition holds."""
        level = len(self.conditions)
        self.conditions.append((condition, next(SERIALS)))
        yield
        del self.conditions[level:]

    def reachable(self) -> Iterator[Place]:
        """The places that names lead to; what is looked at counts as work."""
        stack: list[Any] = list(self.frames)
        seen: set[int] = set()
        while stack:
            value = stack.pop()
            if isinstance(value, Array):
                if value.place is not None:
                    yield value.place
            elif id(value) not in seen:
                inner = parts_of(value)
                if inner:
                    seen.add(id(value))
                    self.spend(len(inner))
                    stack.extend(inner)
                if isinstance(value, Place):
                    yield value

    def tie(self, *places: Place | None) -> frozenset[Place]:
        """Notes that a new place may be the same as one of these, or as one that they may be."""
        sources = frozenset(s for place in places if place is not None for s in (place, *place.sources))
        self.tied |= sources
        return sources

    def set_part(self, base: Any, key: Any, value: Any) -> None:
        """`base[key] = value`."""
        if isinstance(base, Array):
            if base.place is None:
                raise Refused("an assignment into a number")
            self.store(base.place, written(self, self.array(base), key, self.array(value)))
        elif isinstance(base, Table):
            self.store(base, self.bounded({**base.content, self.key(key): value}))
        elif isinstance(base, List):
            items = list(base.content)
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
            items = value.content
            if i >= len(items):
                return
            yield items[i]

    def keys(self, value: Table) -> Iterator[Any]:
        size = len(value.content)
        for key in value.content:
            yield key
            if len(value.content) != size:
                raise Refused("a dictionary that grows or shrinks while it is run through")

    def pull(self, once: Once) -> Iterator[Any]:
        """The items of an iterator, which is used up by that."""
        while True:
            began = self.conditions[-1][1] if self.conditions else 0
            # on the other way it would still have its items, and it cannot be copied to give them to both
            refuse_if(once.serial < began, "an iterator used up in a branch")
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

    def ways(self, condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> tuple[Way, Way]:
        """What either way comes to, beginning with the names as they are."""
        frame = self.frame
        names, returns = frame.names, frame.returns
        # copied for either way, which in a loop of branches is what costs time
        self.spend(len(names))
        gone = []
        for truth, way in ((condition, yes), (self.logical("not", condition), no)):
            frame.names, frame.returns = dict(names), []
            with self.under(truth):
                result = way()
            gone.append(Way(result, frame.names, frame.returns))
        frame.returns = returns
        return gone[0], gone[1]

    def meet(self, condition: Array, yes: Way, no: Way) -> None:
        """Goes on with what names hold after either way."""
        names = {}
        for name in {**yes.names, **no.names}:
            if name in yes.names and name in no.names:
                names[name] = self.joined(condition, yes.names[name], no.names[name])
            else:
                names[name] = Unbound("is set in one branch only")
        self.frame.names = names

    def either(self, condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """The value of the one way where the condition holds, and of the other elsewhere."""
        a, b = self.ways(condition, yes, no)
        value = self.joined(condition, a.result, b.result)
        refuse_if(isinstance(value, Unbound), "a conditional value of this kind")
        self.meet(condition, a, b)
        return value

    def joined(self, condition: Array, a: Any, b: Any) -> Any:
        """The value that is `a` where the condition holds and `b` elsewhere; `Unbound` when there is none."""
        if a is b:
            return a
        self.spend(1)
        if type(a) is type(b) and isinstance(a, (str, *NUMBERS)) and repr(a) == repr(b):
            return a
        if isinstance(a, (Array, *NUMBERS)) and isinstance(b, (Array, *NUMBERS)):
            return self.joined_arrays(condition, a, b)
        if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
            values = self.joined(condition, tuple(a.values()), tuple(b.values()))
            return values if isinstance(values, Unbound) else dict(zip(a, values, strict=True))
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            items = [self.joined(condition, *pair) for pair in zip(a, b, strict=True)]
            if not any(isinstance(item, Unbound) for item in items):
                return tuple(items)
        if isinstance(a, (List, Table)) and type(a) is type(b):
            content = self.joined(condition, a.content, b.content)
            return content if isinstance(content, Unbound) else type(a)(content, "", self.tie(a, b))
        # functions are told apart by identity: two lambdas of one text may hold different defaults
        if isinstance(a, (RowCount, DType, Module)) and a == b:
            return a
        return Unbound("depends on a condition in a way that is not supported")

    def joined_arrays(self, condition: Array, a: Any, b: Any) -> Array:
        first, second = self.array(a), self.array(b)
        if (
            first.place is second.place is not None
            and (first.rows, first.selection) == (second.rows, second.selection)
            and np.array_equal(positions(first), positions(second))
        ):
            return first  # the same array on both ways
        out = self.choose(
            condition, self.where_held(first, condition), self.where_held(second, condition, False)
        )
        if isinstance(a, bool) and isinstance(b, bool):
            return replace(out, kind="t")
        # for Python either is the array itself: a later change of the new one may have to change the old
        sources = self.tie(first.place, second.place)
        return fresh(out.cells, out.kind, out.rows, out.selection, "", sources) if sources else out


def parts_of(value: Any) -> list[Any]:
    """The values that a value directly leads to."""
    if isinstance(value, Frame):
        return [*value.names.values(), *([] if value.outer is None else [value.outer])]
    if isinstance(value, Closure):
        return [value.outer, *value.defaults, *value.keyword_defaults]
    held = value.made_of if isinstance(value, (Once, Native)) else getattr(value, "content", value)
    return list(held.values() if isinstance(held, dict) else held if isinstance(held, tuple) else ())
