"""The values that a body's names can hold while it is interpreted: none of them is a real array or function."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNSET = -1
"""The cell of an array that np.empty left without a value."""


class Refused(Exception):
    """The body cannot be understood; `reason` is a readable line, `kind` as in `Refusal`."""

    def __init__(self, reason: str, kind: str = "unsupported", line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.kind, self.line = reason, kind, line


class Store:
    """What all views of one array share: whether it may be written to, and a bound of its integers."""

    __slots__ = ("bound", "locked")

    def __init__(self, bound: float = 0.0, locked: str | None = None) -> None:
        self.bound = bound
        self.locked = locked


class Array:
    """An array of graph nodes, with at most one symbolic axis: the rows of the data.

    `cells` holds node positions (int64) and has the array's shape, except that the row axis has length 1;
    being a numpy array it has numpy's views and aliases. `rows` is the row axis counted from the right (-1,
    -2, ...) or None. `selection` names the masks that picked the rows (empty: all of them). `kind` is "b", "i"
    or "f". `scalar` marks what numpy gives as an immutable number rather than as an array.
    """

    __slots__ = ("cells", "kind", "rows", "scalar", "selection", "store")

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
        self.scalar = scalar

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
class Unbound:
    """What a name holds that only one branch of an `if` has set, or that cannot be joined."""

    why: str


class Sequence_(list):
    """A Python list of the body; `depth` is the number of undecided branches around its creation."""

    __slots__ = ("depth",)

    def __init__(self, items: Any = (), depth: int = 0) -> None:
        super().__init__(items)
        self.depth = depth


@dataclass(eq=False)
class Frame:
    """The names of one call; `outer` is the frame that the function was defined in."""

    local_names: frozenset[str]
    outer: Frame | None
    names: dict[str, Any] = field(default_factory=dict)
    returns: list[tuple[Array | None, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Closure:
    """A lambda or nested function of the body, or an earlier version of the equation."""

    name: str
    arguments: ast.arguments
    body: list[ast.stmt] | ast.expr
    local_names: frozenset[str]
    defaults: tuple[Any, ...]
    keyword_defaults: tuple[Any, ...]
    outer: Frame | None
    version: bool = False
