"""What the names of a body hold while it is interpreted, no real arrays or functions; and the limits."""

from __future__ import annotations

import ast
import inspect
import itertools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Limits:
    """What one body may cost; beyond any of these it is refused as `too_large`.

    `text` and `line` are characters, `nesting` open brackets, `depth` levels of the syntax tree, `steps`
    syntax nodes visited (a loop's body counts every time), `cells` operations on cells, `nodes` distinct
    operations of the graph, `items` the length of a list, `size` the cells of one array, `bits` the size of
    an integer, `calls` nested calls.
    """

    text: int = 40_000
    line: int = 4_000
    nesting: int = 40
    depth: int = 60
    steps: int = 30_000
    cells: int = 60_000
    nodes: int = 4_000
    items: int = 1_000
    size: int = 4_096
    bits: int = 1_024
    calls: int = 24


Dialect = Literal["numpy", "torch"]
"""Whose arrays a spec's columns are."""


UNSET = -1
"""The cell of an array that np.empty left without a value; lower ones are set for the rows of a mask only."""


END = object()
"""What comes behind the last item of an iterator."""


class Refused(Exception):
    """The body cannot be understood; `reason` is a readable line, `kind` as in `Refusal`."""

    def __init__(self, reason: str, kind: str = "unsupported", line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.kind, self.line = reason, kind, line


SERIALS = itertools.count()
"""Numbers that grow: an older store has the smaller one."""


class Store:
    """What all views of one array share: its owner, whether it may be written to, a bound of its integers."""

    __slots__ = ("bound", "locked", "owner", "serial")

    def __init__(self, bound: float = 0.0, locked: str | None = None) -> None:
        self.bound = bound
        self.locked = locked
        self.owner: Array | None = None
        self.serial = next(SERIALS)


class Array:
    """An array of graph nodes, with at most one symbolic axis: the rows of the data.

    `cells` holds node positions (int64) and has the array's shape, except that the row axis has length 1;
    being a numpy array it has numpy's views and aliases. `rows` is the row axis counted from the right
    (-1, -2, ...) or None. `selection` names the masks that picked the rows (empty: all of them). `kind` is
    "b", "i" or "f". `scalar` marks what numpy gives as an immutable number rather than as an array,
    `truth` a Python bool, which in arithmetic is an integer.
    """

    __slots__ = ("cells", "kind", "rows", "scalar", "selection", "store", "truth")

    def __init__(
        self,
        cells: np.ndarray,
        kind: str,
        rows: int | None = None,
        selection: tuple[int, ...] = (),
        store: Store | None = None,
        scalar: bool = False,
    ) -> None:
        self.cells, self.kind, self.rows, self.selection = cells, kind, rows, selection
        self.store = Store() if store is None else store
        if self.store.owner is None:
            self.store.owner = self
        self.scalar = scalar
        self.truth = False

    @property
    def ndim(self) -> int:
        return self.cells.ndim

    @property
    def row_axis(self) -> int | None:
        """The row axis counted from the left."""
        return None if self.rows is None else self.cells.ndim + self.rows

    def view(self, cells: np.ndarray, rows: int | None) -> Array:
        """Other cells of the same store."""
        return Array(cells, self.kind, rows, self.selection if rows is not None else (), self.store)

    def shape_text(self) -> str:
        """The shape for people: `(rows, 3)`."""
        sizes = ["rows" if axis == self.row_axis else str(n) for axis, n in enumerate(self.cells.shape)]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@dataclass(frozen=True)
class RowCount:
    """The number of rows (or of selected rows), which an equation may pass on as a shape and nothing more."""

    selection: tuple[int, ...] = ()


@dataclass(frozen=True)
class DType:
    """An element type: "b", "i" or "f" (float64)."""

    kind: str


@dataclass(frozen=True)
class Module:
    """A module known by its dotted name; only names in our tables can be read from it."""

    name: str


@dataclass(frozen=True)
class Native:
    """A known function: called with the interpreter, the positional and the keyword arguments."""

    name: str
    call: Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Text:
    """A formatted text, of which no more is known: good for messages."""


@dataclass(frozen=True, eq=False)
class Unbound:
    """What a name holds that only one branch of an `if` has set, or that cannot be joined."""

    why: str


class Items(list[Any]):
    """A list of the body; `depth` is the number of undecided branches around its creation."""

    __slots__ = ("depth",)

    def __init__(self, items: Iterable[Any] = (), depth: int = 0) -> None:
        super().__init__(items)
        self.depth = depth


class Table(dict[Any, Any]):
    """A dictionary of the body; `depth` as in `Items`."""

    __slots__ = ("depth",)

    def __init__(self, items: Iterable[tuple[Any, Any]] = (), depth: int = 0) -> None:
        super().__init__(items)
        self.depth = depth


class Once:
    """What zip, map, enumerate and generators give: run through once, its items made when asked for.

    `made_of` are the values that the items may come from.
    """

    __slots__ = ("depth", "made_of", "running", "source")

    def __init__(self, source: Iterable[Any], depth: int, made_of: tuple[Any, ...] = ()) -> None:
        self.source = iter(source)
        self.depth = depth
        self.made_of = made_of
        self.running = False


@dataclass(eq=False)
class Frame:
    """The names of one call; `outer` is the frame that the function was defined in.

    `returns` lists the values returned so far under conditions that are not decided; the first whose
    condition holds counts, and a condition of None always holds.
    """

    local_names: frozenset[str]
    outer: Frame | None
    names: dict[str, Any] = field(default_factory=dict)
    returns: list[tuple[Array | None, Any]] = field(default_factory=list)
    comprehension: bool = False
    undecided: int = 0
    """How many undecided branches surround the call."""
    serial: int = 0
    """The newest store when the call began."""


@dataclass(frozen=True, eq=False)
class Closure:
    """A lambda or nested function of the body, an earlier version of the equation, or one of the prelude's.

    `elsewhere` tells that its text is not the body's: what is refused inside is then the fault of the line
    that calls.
    """

    name: str
    arguments: ast.arguments
    body: list[ast.stmt] | ast.expr
    local_names: frozenset[str]
    defaults: tuple[Any, ...]
    keyword_defaults: tuple[Any, ...]
    outer: Frame | None
    elsewhere: bool = False


@dataclass(frozen=True)
class Version:
    """An earlier version of the equation, read when it is called."""

    name: str
    text: str


def describe(value: Any) -> str:
    """A value in a word or two, for people."""
    if isinstance(value, Array):
        return f"an array of shape {value.shape_text()}" if value.ndim else "a number"
    names = {
        type(None): "None",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        tuple: "a tuple",
        slice: "a slice",
        Items: "a list",
        Table: "a dictionary",
        Once: "an iterator",
        range: "a range",
        RowCount: "the number of rows",
        DType: "a type",
        Module: "a module",
        Text: "a formatted text",
    }
    return names.get(type(value), "a function")


# ---- known functions

CONTEXT = object()
"""What np.errstate and the like give: good for a with statement and nothing else."""


@lru_cache(maxsize=1024)
def signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def native(name: str, function: Callable[..., Any]) -> Native:
    """A `Native` whose arguments follow the signature of `function(on, ...)`; others are refused."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            bound = signature(function).bind(on, *args, **kwargs)
        except TypeError as error:
            raise Refused(f"{name} cannot be called like this: {error}") from None
        return function(*bound.args, **bound.kwargs)

    return Native(name, call)


def refused(name: str, why: str) -> Native:
    """A function that is known but cannot be part of an equation."""

    def call(on: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        raise Refused(f"{name} {why}")

    return Native(name, call)


def words(text: str) -> list[str]:
    """The names in a text, which is shorter to read than a list of quoted ones."""
    return text.split()


# ---- Python numbers

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
