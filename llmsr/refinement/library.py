"""The terms that a refinement may add: small equations over the columns and over parts of the equation.

A term is written once, for a builder of any kind, and read three ways: as numbers, as a size, as a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol, TypeVar

import numpy as np

from llmsr.expression.graph import OPS
from llmsr.refinement.point import Point, Rows
from llmsr.refinement.tree import Product

SHIFTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles of a column at which bumps and steps are offered
SCALES = (0.5, 2.0, float(np.pi))
MAX_PARTS = 10
MAX_COLUMNS = 8  # beyond it, columns are not combined with each other
LARGE = 1e12

T = TypeVar("T")


class Builder(Protocol[T]):
    """What a term can be said to: a graph, or an interpreter of one."""

    def const(self, value: float) -> T: ...

    def column(self, index: int) -> T: ...

    def param(self, index: int) -> T: ...

    def add(self, op: str, *args: T) -> T: ...

    def part(self, i: int) -> T: ...


_Build = Callable[[Any], Any]
"""A term, said to a builder; `_Said` adds the values of its new parameters."""
_Said = tuple[_Build, tuple[float, ...]]

Unary = Callable[[Any, Any], Any]
"""A function of one argument, said to a builder."""


def _power(exponent: float) -> Unary:
    return lambda g, u: u if exponent == 1.0 else g.add("pow", u, g.const(exponent))


def _plain(op: str) -> Unary:
    return lambda g, u: g.add(op, u)


def _negative_exp(inner: Unary) -> Unary:
    return lambda g, u: g.add("exp", g.add("neg", inner(g, u)))


def _over_one_plus(inner: Unary) -> Unary:
    return lambda g, u: g.add("div", g.const(1.0), g.add("add", inner(g, u), g.const(1.0)))


UNARY: dict[str, Unary] = {
    "identity": lambda g, u: u,
    "square": _power(2.0),
    "cube": _power(3.0),
    "abs": _plain("abs"),
    "signed square": lambda g, u: g.add("mul", u, g.add("abs", u)),
    "root": lambda g, u: g.add("sqrt", g.add("abs", u)),
    "inverse": lambda g, u: g.add("div", g.const(1.0), u),
    "log": lambda g, u: g.add("log", g.add("abs", u)),
    "sin": _plain("sin"),
    "cos": _plain("cos"),
    "tanh": _plain("tanh"),
    "arctan": _plain("arctan"),
    "exp": _plain("exp"),
    "decay": _negative_exp(lambda g, u: u),
    "bell": _negative_exp(_power(2.0)),
    "peak": _negative_exp(_plain("abs")),
    "lorentz": _over_one_plus(_power(2.0)),
    "quartic": _over_one_plus(_power(4.0)),
    "saturation": lambda g, u: g.add("div", u, g.add("add", g.add("abs", u), g.const(1.0))),
    "logistic": _plain("expit"),
    "ramp": lambda g, u: g.add("maximum", u, g.const(0.0)),
}
FACTORS = ("sin", "cos", "tanh", "exp", "decay", "abs", "root", "log", "bell", "inverse")
SCALED = ("sin", "cos", "exp", "decay", "tanh", "bell")
WAVES = ("sin", "cos", "exp", "tanh")
SHIFTED = ("tanh", "bell", "peak", "lorentz", "quartic")
KINKED = ("ramp", "abs", "square")
OF_PARTS = ("identity", "square", "sin", "cos", "tanh", "exp", "decay", "inverse", "root")
BESIDE_PARTS = ("identity", "inverse", "exp", "decay", "sin", "cos", "tanh", "square")


@dataclass(frozen=True)
class Term:
    """A small equation said by `build`; `start` are the values of its new parameters.

    `values` are its numbers on the rows at hand, `size` its operators and leaves, `inside` the equation's own
    parameters that it uses.
    """

    build: _Build
    start: tuple[float, ...]
    values: np.ndarray
    size: int
    inside: frozenset[int] = frozenset()


class Numbers:
    """Reads a term as numbers on some rows."""

    def __init__(
        self, rows: Rows, start: tuple[float, ...] = (), first: int = 0, parts: Sequence[np.ndarray] = ()
    ) -> None:
        self._rows, self._start, self._first, self._parts = rows, start, first, parts

    def const(self, value: float) -> np.ndarray:
        return np.full(len(self._rows.target), value)

    def column(self, index: int) -> np.ndarray:
        return self._rows.inputs[:, index]

    def param(self, index: int) -> np.ndarray:
        return self.const(self._start[index - self._first])

    def add(self, op: str, *args: np.ndarray) -> np.ndarray:
        return OPS[op].kernel(*args)

    def part(self, i: int) -> np.ndarray:
        return self._parts[i]


class Sizes:
    """Reads a term as its number of operators and leaves."""

    def __init__(self, parts: Callable[[int], int]) -> None:
        self.part = parts

    def const(self, value: float) -> int:
        return 1

    def column(self, index: int) -> int:
        return 1

    def param(self, index: int) -> int:
        return 1

    def add(self, op: str, *args: int) -> int:
        return 1 + sum(args)


@dataclass(frozen=True)
class Library:
    """Terms over the columns: `wide` for summands of an equation, `narrow` for what goes inside it.

    New parameters are numbered from `first`. Terms that are not finite, or hardly vary, on the rows are left
    out; of terms equal up to a factor the first stays.
    """

    rows: Rows
    first: int

    @property
    def _columns(self) -> range:
        return range(self.rows.inputs.shape[1])

    @cached_property
    def narrow(self) -> list[Term]:
        return distinct(self._terms([*self._functions(), *self._scaled(), *self._shifted()]))

    @cached_property
    def wide(self) -> list[Term]:
        few = len(self._columns) <= MAX_COLUMNS
        return distinct([*self.narrow, *self._terms(self._products() if few else ())])

    def parts(self, point: Point) -> list[Term]:
        """Functions of the equation's own parts, and parts times a column or a function of one."""
        tree = point.tree
        inner = [i for i in range(tree.root + 1) if tree.varies[i] and tree.nodes[i].args]
        products = dict.fromkeys(tree.factors(i) for i in sorted(inner, key=lambda i: (-tree.size(i), i)))
        beside = self._columns if len(self._columns) <= MAX_COLUMNS else ()
        found: list[Term] = []
        for product in list(products)[:MAX_PARTS]:
            part = product_of(product)
            said: list[_Said] = [(_of(UNARY[name], part), ()) for name in OF_PARTS]
            for j in beside:
                said += [(_op("mul", part, _of(UNARY[name], _column(j))), ()) for name in BESIDE_PARTS]
            found += self._terms(said, point, tree.params_of(product))
        return distinct(found)

    def _terms(
        self, said: Iterable[_Said], point: Point | None = None, inside: frozenset[int] = frozenset()
    ) -> Iterator[Term]:
        parts = point.values if point else []
        sizes = Sizes(point.tree.size if point else int)
        for build, start in said:
            values = build(Numbers(self.rows, start, self.first, parts))
            yield Term(build, start, values, build(sizes), inside)

    def _functions(self) -> Iterator[_Said]:
        for i in self._columns:
            for f in UNARY.values():
                yield _of(f, _column(i)), ()

    def _scaled(self) -> Iterator[_Said]:
        """Waves and exponentials of a column times a new constant."""
        for i in self._columns:
            for name in SCALED:
                for scale in SCALES:
                    yield self._stretched(UNARY[name], i), (scale,)

    def _stretched(self, f: Unary, i: int) -> _Build:
        return _of(f, _op("mul", _param(self.first), _column(i)))

    def _shifted(self) -> Iterator[_Said]:
        """Bumps, steps and kinks at new constants within a column's range."""
        for i in self._columns:
            shifted = _op("sub", _column(i), _param(self.first))
            stretched = _op("mul", _param(self.first + 1), shifted)
            spread = float(np.std(self.rows.inputs[:, i])) or 1.0
            for middle in map(float, np.quantile(self.rows.inputs[:, i], SHIFTS)):
                for name in KINKED:
                    yield _of(UNARY[name], shifted), (middle,)
                for name in SHIFTED:
                    for scale in (1 / spread, 3 / spread):
                        yield _of(UNARY[name], stretched), (middle, scale)

    def _products(self) -> Iterator[_Said]:
        """Monomials, ratios, and a column times a function of a column."""
        for i in self._columns:
            for a in (4.0, 5.0):
                yield _of(_power(a), _column(i)), ()
        for i, j in combinations(self._columns, 2):
            for a, b in ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0), (1.0, 3.0), (3.0, 1.0)):
                yield _op("mul", _of(_power(a), _column(i)), _of(_power(b), _column(j))), ()
            yield _op("div", _column(i), _column(j)), ()
            yield _op("div", _column(j), _column(i)), ()
        for i in self._columns:
            for j in self._columns:
                for name in FACTORS:
                    yield _op("mul", _column(i), _of(UNARY[name], _column(j))), ()
                for name in WAVES:
                    for scale in SCALES:
                        yield _op("mul", _column(i), self._stretched(UNARY[name], j)), (scale,)


def _column(i: int) -> _Build:
    return lambda g: g.column(i)


def _param(i: int) -> _Build:
    return lambda g: g.param(i)


def product_of(product: Product) -> _Build:
    """The product of some nodes of a tree; 1 where there are none."""

    def build(g: Any) -> Any:
        above = [g.part(i) for i, power in product if power > 0]
        made = above[0] if above else g.const(1.0)
        for factor in above[1:]:
            made = g.add("mul", made, factor)
        for i, power in product:
            if power < 0:
                made = g.add("div", made, g.part(i))
        return made

    return build


def _of(f: Unary, inner: _Build) -> _Build:
    return lambda g: f(g, inner(g))


def _op(op: str, a: _Build, b: _Build) -> _Build:
    return lambda g: g.add(op, a(g), b(g))


def distinct(terms: Iterable[Term], constants: bool = False) -> list[Term]:
    """The terms that are finite and vary, of those equal up to a factor the first; or `constants` too."""
    kept: dict[bytes, Term] = {}
    for term in terms:
        values = term.values
        length = float(np.linalg.norm(values))
        largest = int(np.abs(values).argmax())
        if not 0 < length < np.inf or abs(values[largest]) > LARGE:
            continue
        if not constants and np.ptp(values) <= 1e-9 * abs(values[largest]):
            continue
        direction = np.round(values / (length * np.sign(values[largest])), 9) + 0.0
        kept.setdefault(direction.tobytes(), term)
    return list(kept.values())
