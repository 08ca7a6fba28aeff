"""The functions that a search tries, and its atoms: small functions of columns with their numbers.

What a column is may be any node of the graph, so that the same atoms serve groups of columns: a ratio, a
difference, a product of powers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations, product
from typing import NamedTuple

import numpy as np

from llmsr.refinement.rows import NumberedGraph, distinct

MOST = 1400  # atoms of one dictionary: every triple of them takes some three seconds
SPREADS = (0.1, 30.0)  # of an inner constant times the largest size of its column
MIDDLES = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles of a column at which steps and peaks stand
EXPONENTS = (-4.5, -2.5, -1.5, -0.75, -0.3, 0.2, 0.7, 1.5, 2.5, 4.5)
MOST_PERIODS, PEAKS = 20.0, 4
GRIDS = (13, 9, 7, 5, 3, 2)  # numbers of inner constants; the finest that leaves `MOST` atoms
FREE_SIZE = 7  # of a coefficient times exp(-k*u)
MOST_PAIRED = 5  # columns beyond which none are combined

PLAIN = (
    *("identity", "square", "cube", "root", "cube root", "peak", "log1p"),
    *("sin", "cos", "tanh", "inverse", "log"),
)
FURTHER = ("exp", "inverse square", "abs", "bell", "signed square", "inverse root", "quartic power")
OUTER = ("sin", "cos", "peak", "log1p", "root", "tanh")
INSIDE = ("square", "root", "log1p")
PAIRED = ("exp", "log", "sin", "cos", "inverse", "root", "identity", "square")

Unary = Callable[[NumberedGraph, int], int]


def _power(exponent: float) -> Unary:
    return lambda g, u: g.add("pow", u, g.const(exponent))


def _plain(op: str) -> Unary:
    return lambda g, u: g.add(op, u)


def _of_size(op: str) -> Unary:
    return lambda g, u: g.add(op, g.size(u))


def _decay(inner: Unary) -> Unary:
    return lambda g, u: g.add("exp", g.add("neg", inner(g, u)))


def _over(below: Unary) -> Unary:
    return lambda g, u: g.add("div", g.const(1.0), below(g, u))


def _one_more(inner: Unary) -> Unary:
    return lambda g, u: g.add("add", inner(g, u), g.const(1.0))


UNARY: dict[str, Unary] = {
    "identity": lambda g, u: u,
    "square": _power(2.0),
    "cube": _power(3.0),
    "quartic power": _power(4.0),
    "signed square": lambda g, u: g.add("mul", u, g.add("abs", u)),
    "abs": _plain("abs"),
    "ramp": lambda g, u: g.add("maximum", u, g.const(0.0)),
    "root": _of_size("sqrt"),
    "cube root": _of_size("cbrt"),
    "inverse": _over(lambda g, u: u),
    "inverse square": _over(_power(2.0)),
    "inverse root": _over(_of_size("sqrt")),
    "log": _of_size("log"),
    "log1p": _of_size("log1p"),
    "sin": _plain("sin"),
    "cos": _plain("cos"),
    "tanh": _plain("tanh"),
    "arctan": _plain("arctan"),
    "logistic": _plain("expit"),
    "exp": _plain("exp"),
    "decay": _decay(lambda g, u: u),
    "peak": _decay(lambda g, u: g.size(u)),
    "bell": _decay(_power(2.0)),
    "lorentz": _over(_one_more(_power(2.0))),
    "quartic": _over(_one_more(_power(4.0))),
    "saturation": lambda g, u: g.add("div", u, _one_more(NumberedGraph.size)(g, u)),
}
"""Where a function is of the size of its argument, one that is never negative is taken as it is."""

Builder = Callable[[NumberedGraph, int, int, int], int]
"""Adds the nodes of a function of u with constants k and c to a graph, given the positions of the three."""


def _one_over(g: NumberedGraph, k: int, power: int) -> int:
    return g.add("div", g.const(1.0), g.add("add", g.const(1.0), g.add("mul", k, power)))


def _shifted(g: NumberedGraph, u: int, k: int, c: int) -> int:
    return g.add("mul", k, g.add("sub", u, c))


FAMILIES: dict[str, Builder] = {
    "exp(-ku)": lambda g, u, k, c: UNARY["decay"](g, g.add("mul", k, u)),
    "sin(ku)": lambda g, u, k, c: g.add("sin", g.add("mul", k, u)),
    "cos(ku)": lambda g, u, k, c: g.add("cos", g.add("mul", k, u)),
    "tanh(ku)": lambda g, u, k, c: g.add("tanh", g.add("mul", k, u)),
    "1/(1+ku)": lambda g, u, k, c: _one_over(g, k, u),
    "1/(1+kuu)": lambda g, u, k, c: _one_over(g, k, UNARY["square"](g, u)),
    "1/(1+kuuuu)": lambda g, u, k, c: _one_over(g, k, UNARY["quartic power"](g, u)),
    "log(1+ku)": lambda g, u, k, c: g.add("log", g.size(g.add("add", g.const(1.0), g.add("mul", k, u)))),
    "exp(-kuu)": lambda g, u, k, c: UNARY["decay"](g, g.add("mul", k, UNARY["square"](g, u))),
    "power": lambda g, u, k, c: g.add("pow", g.size(u), k),
    "logistic": lambda g, u, k, c: g.add("expit", _shifted(g, u, k, c)),
    "bell": lambda g, u, k, c: UNARY["bell"](g, _shifted(g, u, k, c)),
    "peak": lambda g, u, k, c: UNARY["decay"](g, g.add("abs", _shifted(g, u, k, c))),
}
"""By name; a function's number, as compiled code knows it, is its place."""
NUMBERS = {name: number for number, name in enumerate(FAMILIES)}
TWO_CONSTANTS = NUMBERS["logistic"]
"""From this number on a function has a middle c beside its scale k."""


class Atom(NamedTuple):
    """A small function of columns: the node `root` of the graph, or `factor` * f(`of`; constants).

    `function` is f's number, -1 where there is no inner constant; `factor` is -1 where there is none.
    Atoms of one name differ in their inner constants alone.
    """

    name: str
    root: int = -1
    function: int = -1
    of: int = -1
    factor: int = -1
    constants: tuple[float, float] = (1.0, 0.0)

    @property
    def free(self) -> bool:
        """Whether it has an inner constant."""
        return self.function >= 0

    def size(self, g: NumberedGraph) -> int:
        """Its operators and leaves with a coefficient; about so many for one with an inner constant."""
        if not self.free:
            return 2 + g.sizes[self.root]
        return FREE_SIZE + (1 + g.sizes[self.factor] if self.factor >= 0 else 0)

    def values(self, g: NumberedGraph) -> np.ndarray:
        """Its numbers on the graph's rows."""
        if not self.free:
            return np.asarray(g.values[self.root])
        # late: what only proposes and prints need not wait for a compiler
        from llmsr.refinement.subsets import function_values

        found = np.asarray(function_values(self.function, g.values[self.of], *self.constants))
        return found if self.factor < 0 else found * g.values[self.factor]

    def planted(self, g: NumberedGraph) -> int:
        """Its position in the graph, its constants new parameters."""
        if not self.free:
            return self.root
        k = g.fresh(self.constants[0])
        c = g.fresh(self.constants[1]) if self.function >= TWO_CONSTANTS else -1
        made = list(FAMILIES.values())[self.function](g, self.of, k, c)
        return made if self.factor < 0 else g.add("mul", self.factor, made)


def atoms_of(
    graph: NumberedGraph, columns: Sequence[int], constants: bool = True, most: int = MOST
) -> tuple[list[Atom], np.ndarray]:
    """Distinct atoms over some nodes of the graph, at most `most`, and their numbers (rows, atoms)."""
    with np.errstate(all="ignore"):
        made = [Atom("1", graph.const(1.0)), *chain.from_iterable(functions_of(graph, u) for u in columns)]
        made += combinations_of(graph, columns) if len(columns) <= MOST_PAIRED else ()
        powers = [UNARY[name](graph, v) for v in columns[:4] for name in ("identity", "square", "cube")]
        for count in GRIDS if constants else ():
            free = [a for u in columns for a in free_functions_of(graph, u, count, columns[:4], powers)]
            if len(made) + len(free) <= 1.25 * most or count == GRIDS[-1]:  # some repeat others
                made += free
                break
        numbers = [atom.values(graph) for atom in made[: 2 * most]]
        kept = distinct(numbers, 7)[:most]
        return [made[k] for k in kept], np.column_stack([numbers[k] for k in kept])


def functions_of(g: NumberedGraph, u: int) -> Iterator[Atom]:
    """Functions of one node, such of functions of it, and the node times functions of it."""
    for name in (*PLAIN, *FURTHER):
        yield Atom(f"{name}({u})", UNARY[name](g, u))
    for outer, inner in product(OUTER, INSIDE):
        if (outer, inner) != ("root", "square"):
            yield Atom(f"{outer}({inner}({u}))", UNARY[outer](g, UNARY[inner](g, u)))
    for name in PLAIN[3:]:
        if name != "inverse":
            yield Atom(f"{u}*{name}({u})", g.add("mul", u, UNARY[name](g, u)))


def combinations_of(g: NumberedGraph, columns: Sequence[int]) -> Iterator[Atom]:
    """Products of functions of two nodes, functions of groups of two, and products of three."""
    for u, v in combinations(columns, 2):
        for a, b in product(PLAIN, PLAIN):
            yield Atom(f"{a}({u})*{b}({v})", g.add("mul", UNARY[a](g, u), UNARY[b](g, v)))
        squares = [g.add("pow", w, g.const(2.0)) for w in (u, v)]
        groups = {
            "u-v": g.add("sub", u, v), "u+v": g.add("add", u, v), "u/v": g.add("div", u, v),
            "v/u": g.add("div", v, u), "uv": g.add("mul", u, v), "uu+vv": g.add("add", *squares),
        }  # fmt: skip
        for (name, group), function in product(groups.items(), PAIRED):
            if function != "identity" or name not in ("u-v", "u+v", "uu+vv"):  # sums of others
                yield Atom(f"{function}({name} of {u},{v})", UNARY[function](g, group))
    for u, v, w in combinations(columns, 3):
        yield Atom(f"{u}*{v}*{w}", g.add("mul", g.add("mul", u, v), w))


def free_functions_of(
    g: NumberedGraph, u: int, count: int, beside: Sequence[int] = (), factors: Sequence[int] = ()
) -> Iterator[Atom]:
    """Functions of a node with inner constants at `count` numbers, alone and times factors.

    Their waves have the frequencies that alone or times a node `beside` explain most of the target.
    """
    for factor, k in _waves(g, u, beside):
        yield from (_free_atom(name, u, factor, k) for name in ("sin(ku)", "cos(ku)"))
    for name, k, c in _constants(g.values[u], count):
        yield from (_free_atom(name, u, factor, k, c) for factor in (-1, *factors))


def _free_atom(name: str, u: int, factor: int, k: float, c: float = 0.0) -> Atom:
    return Atom(f"{factor} {name} {u}", -1, NUMBERS[name], u, factor, (k, c))


def _constants(values: np.ndarray, count: int) -> Iterator[tuple[str, float, float]]:
    """Functions by name with constants k and c at which they begin, for the numbers of an argument."""
    size = float(np.abs(values).max()) or 1.0
    for name, number in NUMBERS.items():
        if name not in ("power", "sin(ku)", "cos(ku)") and number < TWO_CONSTANTS:
            yield from ((name, float(k), 0.0) for k in np.geomspace(*SPREADS, count) / size)
    if values.min() < 0:  # where a column changes sign, growth is as near as decay
        yield from (("exp(-ku)", -float(k), 0.0) for k in np.geomspace(*SPREADS, count) / size)
    for name in ("sin(ku)", "cos(ku)"):
        yield from ((name, float(k), 0.0) for k in np.geomspace(*SPREADS, min(count, 5)) / size)
    yield from (("power", k, 0.0) for k in (EXPONENTS if count > 2 else ()))
    spread = float(np.std(values)) or 1.0
    for middle, name in product(map(float, np.quantile(values, MIDDLES)), list(NUMBERS)[TWO_CONSTANTS:]):
        yield from ((name, k / spread, middle) for k in ((1.5, 6.0) if count > 3 else ()))


def _waves(g: NumberedGraph, u: int, factors: Sequence[int]) -> Iterator[tuple[int, float]]:
    """Factors, or -1, and frequencies at which waves of a column times them explain most of the target."""
    values, target = g.values[u], g.rows.target
    span = float(np.ptp(values)) or 1.0
    frequencies = np.arange(1.0, MOST_PERIODS + 0.25, 0.25) * 2 * np.pi / span
    for v in (-1, *factors):
        factor = np.ones(len(values)) if v < 0 else g.values[v]
        smooth = np.column_stack([np.ones(len(values)), values, factor, factor * values])
        rest = target - smooth @ np.linalg.lstsq(smooth, target, rcond=1e-10)[0]
        power = np.array([_power_of(factor, values * k, rest) for k in frequencies])
        for i in np.argsort(-power, kind="stable")[:PEAKS]:
            yield v, float(frequencies[i])


def _power_of(factor: np.ndarray, angle: np.ndarray, rest: np.ndarray) -> float:
    waves = np.column_stack([factor * np.sin(angle), factor * np.cos(angle)])
    along = waves.T @ rest
    return float(along @ np.linalg.pinv(waves.T @ waves) @ along)
