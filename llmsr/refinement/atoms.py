"""The atoms of a systematic search: small functions of columns, each with a name and its numbers on the rows.

What a column is may be any node of the graph, so that the same atoms serve groups of columns: a ratio, a
difference, a product of powers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from llmsr.refinement.inner_constants import FAMILIES, NUMBERS, TWO_CONSTANTS, function_values
from llmsr.refinement.rows import NumberedGraph
from llmsr.refinement.terms import UNARY

MOST = 1400  # atoms of one dictionary: every triple of them takes some three seconds
LARGE = 1e12
SPREADS = (0.1, 30.0)  # of an inner constant times the largest size of its column
MIDDLES = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles of a column at which steps and peaks stand
EXPONENTS = (-4.5, -2.5, -1.5, -0.75, -0.3, 0.2, 0.7, 1.5, 2.5, 4.5)
MOST_PERIODS, PEAKS = 20.0, 4
GRIDS = (13, 9, 7, 5, 3, 2)  # numbers of inner constants; the finest that leaves `MOST` atoms

PLAIN = (
    "identity",
    "square",
    "cube",
    "root",
    "cube root",
    "peak",
    "log1p",
    "sin",
    "cos",
    "tanh",
    "inverse",
    "log",
)
OUTER = ("sin", "cos", "peak", "log1p", "root", "tanh")
INSIDE = ("square", "root", "log1p")
FURTHER = ("exp", "inverse square", "abs", "bell", "signed square", "inverse root", "quartic power")
PAIRED = ("exp", "log", "sin", "cos", "inverse", "root", "identity", "square")


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

    def values(self, g: NumberedGraph) -> np.ndarray:
        """Its numbers on the graph's rows."""
        if not self.free:
            return np.asarray(g.values[self.root])
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
        made = list(_plain(graph, columns))
        for count in GRIDS if constants else ():
            free = list(_free(graph, columns, count))
            if len(made) + len(free) <= 1.25 * most or count == GRIDS[-1]:  # some repeat others
                made += free
                break
        return _distinct(graph, made[: 2 * most], most)


def _plain(g: NumberedGraph, columns: Sequence[int]) -> Iterator[Atom]:
    yield Atom("1", g.const(1.0))
    functions = {u: list(_functions(g, u)) for u in columns}
    for u in columns:
        yield from functions[u]
    if len(columns) <= 5:
        for u, v in combinations(columns, 2):
            plain = [functions[u][: len(PLAIN)], functions[v][: len(PLAIN)]]
            for a, b in product(*plain):
                yield Atom(f"{a.name}*{b.name}", g.add("mul", a.root, b.root))
            yield from _of_two(g, u, v)
        for u, v, w in combinations(columns, 3):
            yield Atom(f"{u}*{v}*{w}", g.add("mul", g.add("mul", u, v), w))


def _free(g: NumberedGraph, columns: Sequence[int], count: int) -> Iterator[Atom]:
    """Atoms with inner constants at `count` numbers."""
    powers = [g.add("pow", v, g.const(p)) if p > 1 else v for v in columns[:4] for p in (1.0, 2.0, 3.0)]
    for u in columns:
        for factor, k in _waves(g, u, columns[:4]):
            for name in ("sin(ku)", "cos(ku)"):
                yield _free_atom(name, u, factor, k)
        for name, k, c in _constants(g.values[u], count):
            for factor in (-1, *powers):
                yield _free_atom(name, u, factor, k, c)


def _free_atom(name: str, u: int, factor: int, k: float, c: float = 0.0) -> Atom:
    return Atom(f"{factor} {name} {u}", -1, NUMBERS[name], u, factor, (k, c))


def _functions(g: NumberedGraph, u: int) -> Iterator[Atom]:
    size = u if g.values[u].min() >= 0 else g.add("abs", u)

    def of(name: str, inner: int) -> int:
        # |u| is u where it is never negative, which leaves a smaller equation
        own = (
            size
            if inner == u and name in ("root", "cube root", "peak", "log1p", "log", "inverse root")
            else inner
        )
        return NATURAL[name](g, own)

    for name in (*PLAIN, *FURTHER):
        yield Atom(f"{name}({u})", of(name, u))
    for outer, inner in product(OUTER, INSIDE):
        if (outer, inner) != ("root", "square"):
            inside = of(inner, size if inner != "square" else u)
            yield Atom(f"{outer}({inner}({u}))", NATURAL[outer](g, inside))
    for name in PLAIN[3:]:
        if name != "inverse":
            yield Atom(f"{u}*{name}({u})", g.add("mul", u, of(name, u)))


def _of_two(g: NumberedGraph, u: int, v: int) -> Iterator[Atom]:
    """Functions of a difference, a sum, a quotient, a product and a sum of squares of two columns."""
    squares = [g.add("pow", w, g.const(2.0)) for w in (u, v)]
    groups = {
        "u-v": g.add("sub", u, v), "u+v": g.add("add", u, v), "u/v": g.add("div", u, v),
        "v/u": g.add("div", v, u), "uv": g.add("mul", u, v), "uu+vv": g.add("add", *squares),
    }  # fmt: skip
    for (name, group), function in product(groups.items(), PAIRED):
        if function == "identity" and name in ("u-v", "u+v", "uu+vv"):
            continue  # a sum of others
        yield Atom(f"{function}({name} of {u},{v})", UNARY[function](g, group))


def _constants(values: np.ndarray, count: int) -> Iterator[tuple[str, float, float]]:
    """Functions by name with constants k and c at which they begin, for the numbers of an argument."""
    size = float(np.abs(values).max()) or 1.0
    for name, number in NUMBERS.items():
        if name not in ("power", "sin(ku)", "cos(ku)") and number < TWO_CONSTANTS:
            yield from ((name, float(k), 0.0) for k in np.geomspace(*SPREADS, count) / size)
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


def _distinct(g: NumberedGraph, atoms: Iterable[Atom], most: int) -> tuple[list[Atom], np.ndarray]:
    """The atoms that are finite, of those equal up to a factor the smallest, at most `most`."""
    kept: dict[bytes, tuple[Atom, np.ndarray]] = {}
    for atom in atoms:
        values = atom.values(g)
        length = float(np.linalg.norm(values))
        if not 0 < length < np.inf or np.abs(values).max() > LARGE:
            continue
        largest = int(np.abs(values).argmax())
        key = (np.round(values / (length * np.sign(values[largest])), 7) + 0.0).tobytes()
        known = kept.get(key)
        if known is None or (not atom.free and g.sizes[atom.root] < g.sizes[known[0].root]):
            kept[key] = atom, values
    found = list(kept.values())[:most]
    return [atom for atom, _ in found], np.column_stack([values for _, values in found])


def _powered(exponent: float) -> Callable[[NumberedGraph, int], int]:
    return lambda g, u: g.add("pow", u, g.const(exponent))


NATURAL: dict[str, Callable[[NumberedGraph, int], int]] = {
    **UNARY,
    "root": lambda g, u: g.add("sqrt", u),
    "cube root": lambda g, u: g.add("cbrt", u),
    "inverse root": lambda g, u: g.add("div", g.const(1.0), g.add("sqrt", u)),
    "inverse square": lambda g, u: g.add("div", g.const(1.0), g.add("pow", u, g.const(2.0))),
    "peak": lambda g, u: g.add("exp", g.add("neg", u)),
    "log1p": lambda g, u: g.add("log1p", u),
    "log": lambda g, u: g.add("log", u),
    "quartic power": _powered(4.0),
}
"""Functions of what is not negative are written without the absolute value."""
