"""The functions that a search tries, and its atoms: small functions of columns with their numbers.

What a column is may be any node of the graph, so that the same atoms serve groups of columns: a ratio, a
difference, a product of powers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

UNARY = {
    "identity": "u",
    "square": "u**2",
    "cube": "u**3",
    "quartic power": "u**4",
    "signed square": "u*abs(u)",
    "abs": "abs(u)",
    "ramp": "maximum(u, 0)",
    "root": "sqrt(abs(u))",
    "cube root": "cbrt(abs(u))",
    "inverse": "1/u",
    "inverse square": "1/u**2",
    "inverse root": "1/sqrt(abs(u))",
    "log": "log(abs(u))",
    "log1p": "log1p(abs(u))",
    "sin": "sin(u)",
    "cos": "cos(u)",
    "tanh": "tanh(u)",
    "arctan": "arctan(u)",
    "logistic": "expit(u)",
    "exp": "exp(u)",
    "decay": "exp(-u)",
    "peak": "exp(-abs(u))",
    "bell": "exp(-u**2)",
    "lorentz": "1/(u**2 + 1)",
    "quartic": "1/(u**4 + 1)",
    "saturation": "u/(abs(u) + 1)",
}
"""Functions of one argument by name."""
FAMILIES = {
    "exp(-ku)": "exp(-(k*u))",
    "sin(ku)": "sin(k*u)",
    "cos(ku)": "cos(k*u)",
    "tanh(ku)": "tanh(k*u)",
    "1/(1+ku)": "1/(1 + k*u)",
    "1/(1+kuu)": "1/(1 + k*u**2)",
    "1/(1+kuuuu)": "1/(1 + k*u**4)",
    "log(1+ku)": "log(abs(1 + k*u))",
    "exp(-kuu)": "exp(-(k*u**2))",
    "power": "abs(u)**k",
    "logistic": "expit(k*(u - c))",
    "bell": "exp(-(k*(u - c))**2)",
    "peak": "exp(-abs(k*(u - c)))",
}
"""Functions with inner constants by name; a function's number, as compiled code knows it, is its place."""
NUMBERS = {name: number for number, name in enumerate(FAMILIES)}
TWO_CONSTANTS = NUMBERS["logistic"]
"""From this number on a function has a middle c beside its scale k."""
GROUPS = ("u - v", "u + v", "u/v", "v/u", "u*v", "u**2 + v**2")


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
        made = g.made(list(FAMILIES.values())[self.function], u=self.of, k=k, c=c)
        return made if self.factor < 0 else g.add("mul", self.factor, made)


def atoms_of(
    graph: NumberedGraph, columns: Sequence[int], constants: bool = True, most: int = MOST
) -> tuple[list[Atom], np.ndarray]:
    """Distinct atoms over some nodes of the graph, at most `most`, and their numbers (rows, atoms)."""
    with np.errstate(all="ignore"):
        made = [Atom("1", graph.const(1.0)), *chain.from_iterable(functions_of(graph, u) for u in columns)]
        made += combinations_of(graph, columns) if len(columns) <= MOST_PAIRED else ()
        powers = [graph.made(f, u=v) for v in columns[:4] for f in ("u", "u**2", "u**3")]
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
        yield Atom(f"{name}({u})", g.made(UNARY[name], u=u))
    for outer, inner in product(OUTER, INSIDE):
        if (outer, inner) != ("root", "square"):
            yield Atom(f"{outer}({inner}({u}))", g.made(UNARY[outer], u=g.made(UNARY[inner], u=u)))
    for name in PLAIN[3:]:
        if name != "inverse":
            yield Atom(f"{u}*{name}({u})", g.add("mul", u, g.made(UNARY[name], u=u)))


def combinations_of(g: NumberedGraph, columns: Sequence[int]) -> Iterator[Atom]:
    """Products of functions of two nodes, functions of groups of two, and products of three."""
    for u, v in combinations(columns, 2):
        for a, b in product(PLAIN, PLAIN):
            yield Atom(f"{a}({u})*{b}({v})", g.add("mul", g.made(UNARY[a], u=u), g.made(UNARY[b], u=v)))
        for group, function in product(GROUPS, PAIRED):
            if function != "identity" or group not in ("u - v", "u + v", "u**2 + v**2"):  # sums of others
                made = g.made(UNARY[function], u=g.made(group, u=u, v=v))
                yield Atom(f"{function}({group} of {u},{v})", made)
    for u, v, w in combinations(columns, 3):
        yield Atom(f"{u}*{v}*{w}", g.made("u*v*w", u=u, v=v, w=w))


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
