"""What the names of a body hold while it is interpreted: immutable values, and places for what can change."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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


class Refused(Exception):
    """The body cannot be understood; `reason` is a readable line, `kind` as in `Refusal`."""

    def __init__(self, reason: str, kind: str = "unsupported", line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.kind, self.line = reason, kind, line


def refuse_if(wrong: Any, reason: str, kind: str = "unsupported") -> None:
    """Refuses with this reason where something is wrong."""
    if wrong:
        raise Refused(reason, kind)


# ---- what can change

# what a branch changes is its own only if it was made after the branch began, which numbers tell
SERIALS = itertools.count()


class Place:
    """Something that a body can change, under all of its names at once.

    `content` is what it holds now. `locked` says why it may not be changed and is empty where it may.
    `sources` are other places, one of which may be the same array or list, as a condition on data decides.
    """

    __slots__ = ("content", "locked", "serial", "sources")

    def __init__(self, content: Any, locked: str = "", sources: frozenset[Place] = frozenset()) -> None:
        self.content, self.locked, self.sources = content, locked, sources
        self.serial = next(SERIALS)


class List(Place):
    """A list of the body; the content is a tuple."""


class Table(Place):
    """A dictionary of the body; the content is a dictionary that is never changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """An array of graph nodes, with at most one symbolic axis: the rows of the data.

    `cells` holds node positions (int64) and has the array's shape, except that the row axis has length 1.
    `rows` is the row axis counted from the right (-1, -2, ...) or None, `selection` the nodes of the masks
    that picked the rows (empty: all of them). `kind` is "b", "i", "f" (float64), or "t" for a Python truth,
    which in arithmetic is an integer. `place` is None for what numpy gives as an immutable number; `at` are
    the positions of a view in the whole array of its place, None for the whole.
    """

    cells: np.ndarray
    kind: str
    rows: int | None = None
    selection: tuple[int, ...] = ()
    place: Place | None = None
    at: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return self.cells.ndim

    @property
    def row_axis(self) -> int | None:
        """The row axis counted from the left."""
        return None if self.rows is None else self.cells.ndim + self.rows

    def shape_text(self) -> str:
        """The shape for people: `(rows, 3)`."""
        sizes = ["rows" if axis == self.row_axis else str(n) for axis, n in enumerate(self.cells.shape)]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


UNSET = -1
"""The column of the numbers that np.empty leaves unset."""


# ---- other values


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


@dataclass(frozen=True, eq=False)
class Native:
    """A known function: called with the interpreter, the positional and the keyword arguments.

    `made_of` are the values that it keeps, `index` is what its parts are (np.r_).
    """

    name: str
    call: Callable[..., Any]
    made_of: tuple[Any, ...] = ()
    index: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True, eq=False)
class Text:
    """A formatted text, of which no more is known: good for messages."""


@dataclass(frozen=True, eq=False)
class Unbound:
    """What a name or place holds that only one branch has set, or that cannot be joined."""

    why: str


@dataclass(eq=False)
class Once:
    """What zip, map, enumerate and generators give: run through once, its items made when asked for.

    `made_of` is what its items may come from; `serial` tells when it was made, as that of a `Place`.
    """

    source: Iterator[Any]
    made_of: tuple[Any, ...] = ()
    serial: int = field(default_factory=lambda: next(SERIALS))
    running: bool = False


@dataclass(eq=False)
class Frame:
    """The names of one call; `outer` is the frame that the function was defined in.

    `elsewhere` tells that its text is not the body's, so that a refusal is the fault of the line that calls.
    `returns` lists what was returned so far under conditions on data; the first whose condition holds counts,
    and a condition of None always holds.
    """

    local_names: frozenset[str]
    outer: Frame | None
    names: dict[str, Any] = field(default_factory=dict)
    returns: list[tuple[Array | None, Any]] = field(default_factory=list)
    comprehension: bool = False
    elsewhere: bool = False


@dataclass(frozen=True, eq=False)
class Closure:
    """A lambda or nested function of the body, an earlier version of the equation, or of the prelude."""

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


@dataclass(frozen=True)
class Library:
    """What a body may name beside its own names: tables of known values by name.

    `roots` are modules and built-in functions, `modules` the members of a module by its dotted name (none
    where its names only serve type hints), `methods` those of a type of values, called with the value first,
    `unused` modules that answers import out of habit.
    """

    roots: Mapping[str, Any]
    modules: Mapping[str, Mapping[str, Any]]
    methods: Mapping[type, Mapping[str, Native]]
    unused: frozenset[str]


NUMBERS = (bool, int, float)
END = object()
"""What comes behind the last item of an iterator."""

CONTEXT = object()
"""What np.errstate and the like give: good for a with statement and nothing else."""

# refusals go into prompts: a model is told what a value is, and not what we call its class
DESCRIPTIONS: dict[type, str] = {
    type(None): "None", bool: "a boolean", int: "an integer", float: "a number", str: "a string",
    tuple: "a tuple", slice: "a slice", range: "a range", List: "a list", Table: "a dictionary",
    Once: "an iterator", RowCount: "the number of rows", DType: "a type", Module: "a module",
    Text: "a formatted text",
}  # fmt: skip


def describe(value: Any) -> str:
    """A value in a word or two, for people."""
    if isinstance(value, Array):
        return f"an array of shape {value.shape_text()}" if value.ndim else "a number"
    return DESCRIPTIONS.get(type(value), "a function")


# ---- names in the syntax

OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LEAVES = (ast.expr_context, ast.operator, ast.unaryop)


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes directly below, without operators and contexts."""
    if isinstance(node, (ast.Name, ast.Constant)):  # more than half of all nodes
        return []
    return [child for child in ast.iter_child_nodes(node) if not isinstance(child, LEAVES)]


def names_given(node: ast.AST) -> list[str]:
    """The names of a function's arguments or of a call's keywords."""
    if isinstance(node, ast.arguments):
        every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
        return [a.arg for a in every if a is not None]
    return [k.arg for k in node.keywords if k.arg is not None] if isinstance(node, ast.Call) else []


def names_stored(target: ast.AST) -> frozenset[str]:
    """The names in an assignment's target."""
    return frozenset(
        n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    )


def names_of_arguments(arguments: ast.arguments) -> frozenset[str]:
    return frozenset(names_given(arguments))


def names_set_in(body: list[ast.stmt], everywhere: bool = False) -> frozenset[str]:
    """The names that are local to a function with this body, its arguments apart; or those of any scope."""
    names: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif everywhere and isinstance(node, ast.arguments):
            names |= names_of_arguments(node)
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, *OWN_SCOPE))
        stack += children(node) if everywhere or not inner else []
    return frozenset(names)


# ---- Python numbers


def checked(value: Any, limits: Limits) -> bool | int | float:
    """`value` when it is a real number of bounded size."""
    if isinstance(value, int):
        if value.bit_length() > limits.bits:
            raise Refused(f"an integer of more than {limits.bits} bits", "too_large")
        return value
    if isinstance(value, float):
        return value
    # the graph is of float64: a complex number would need two of every operation
    raise Refused("a constant that is not a real number")
