"""The atoms of a systematic search: small functions of columns, each with a name and its numbers on the rows.

What a column is may be any node of the graph, so that the same atoms serve groups of columns: a ratio, a
difference, a product of powers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

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

Inner = Callable[[NumberedGraph, int, int], int]
"""A function of a node with one inner constant: adds its nodes, given both positions."""


class Atom(NamedTuple):
    """A node of the graph; atoms of one name differ in their inner constants alone."""

    root: int
    name: str
    free: bool = False
    """Whether it has an inner constant."""


def _one_over(g: NumberedGraph, power: int) -> int:
    return g.add("div", g.const(1.0), g.add("add", g.const(1.0), power))


INNER: dict[str, Inner] = {
    "exp(-ku)": lambda g, u, k: g.add("exp", g.add("neg", g.add("mul", k, u))),
    "sin(ku)": lambda g, u, k: g.add("sin", g.add("mul", k, u)),
    "cos(ku)": lambda g, u, k: g.add("cos", g.add("mul", k, u)),
    "tanh(ku)": lambda g, u, k: g.add("tanh", g.add("mul", k, u)),
    "1/(1+ku)": lambda g, u, k: _one_over(g, g.add("mul", k, u)),
    "1/(1+kuu)": lambda g, u, k: _one_over(g, g.add("mul", k, g.add("pow", u, g.const(2.0)))),
    "1/(1+kuuuu)": lambda g, u, k: _one_over(g, g.add("mul", k, g.add("pow", u, g.const(4.0)))),
    "log(1+ku)": lambda g, u, k: g.add("log", g.add("abs", g.add("add", g.const(1.0), g.add("mul", k, u)))),
    "exp(-kuu)": lambda g, u, k: g.add("exp", g.add("neg", g.add("mul", k, g.add("pow", u, g.const(2.0))))),
}
SHIFTED = ("logistic", "bell", "peak")  # of k(u - c)


def atoms_of(
    graph: NumberedGraph, columns: Sequence[int], constants: bool = True
) -> tuple[list[Atom], np.ndarray]:
    """Distinct atoms over some nodes of the graph, at most `MOST`, and their numbers (rows, atoms)."""
    with np.errstate(all="ignore"):
        made = list(_plain(graph, columns))
        for count in GRIDS if constants else ():
            free = list(_free(graph, columns, count))
            if len(made) + len(free) <= 1.25 * MOST or count == GRIDS[-1]:  # some repeat others
                made += free
                break
        return _distinct(graph, made[: 2 * MOST])


def _plain(g: NumberedGraph, columns: Sequence[int]) -> Iterator[Atom]:
    yield Atom(g.const(1.0), "1")
    functions = {u: list(_functions(g, u)) for u in columns}
    for u in columns:
        yield from functions[u]
    if len(columns) <= 5:
        for u, v in combinations(columns, 2):
            plain = [functions[u][: len(PLAIN)], functions[v][: len(PLAIN)]]
            for a, b in product(*plain):
                yield Atom(g.add("mul", a.root, b.root), f"{a.name}*{b.name}")
            yield from _of_two(g, u, v)
        for u, v, w in combinations(columns, 3):
            yield Atom(g.add("mul", g.add("mul", u, v), w), f"{u}*{v}*{w}")


def _free(g: NumberedGraph, columns: Sequence[int], count: int) -> Iterator[Atom]:
    """Atoms with an inner constant at `count` numbers."""
    functions = {u: list(_functions(g, u)) for u in columns[:4]}
    for u in columns:
        yield from _waves(g, u, columns[:4])
        factors = [("1", -1), *((f.name, f.root) for v in columns[:4] for f in functions[v][:3])]
        for inner in _with_constants(g, u, count):
            for name, factor in factors:
                root = inner.root if factor < 0 else g.add("mul", factor, inner.root)
                yield Atom(root, f"{name}*{inner.name}", True)


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
        yield Atom(of(name, u), f"{name}({u})")
    for outer, inner in product(OUTER, INSIDE):
        if (outer, inner) != ("root", "square"):
            yield Atom(
                NATURAL[outer](g, of(inner, size if inner != "square" else u)), f"{outer}({inner}({u}))"
            )
    for name in PLAIN[3:]:
        if name != "inverse":
            yield Atom(g.add("mul", u, of(name, u)), f"{u}*{name}({u})")


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
        yield Atom(UNARY[function](g, group), f"{function}({name} of {u},{v})")


def _with_constants(g: NumberedGraph, u: int, count: int) -> Iterator[Atom]:
    values = g.values[u]
    size = float(np.abs(values).max()) or 1.0
    for name, function in INNER.items():
        for k in np.geomspace(*SPREADS, count) / size:
            yield Atom(function(g, u, g.fresh(float(k))), f"{name} of {u}")
    base = u if values.min() >= 0 else g.add("abs", u)
    for k in EXPONENTS if count > 2 else ():
        yield Atom(g.add("pow", base, g.fresh(k)), f"power of {u}")
    spread = float(np.std(values)) or 1.0
    for middle, name in product(map(float, np.quantile(values, MIDDLES)), SHIFTED if count > 3 else ()):
        for k in (1.5 / spread, 6.0 / spread):
            shifted = g.add("mul", g.fresh(k), g.add("sub", u, g.fresh(middle)))
            yield Atom(UNARY[name](g, shifted), f"{name} at c of {u}")


def _waves(g: NumberedGraph, u: int, factors: Sequence[int]) -> Iterator[Atom]:
    """Waves of a column, and of it times another, at the frequencies that explain most of the target."""
    values, target = g.values[u], g.rows.target
    span = float(np.ptp(values)) or 1.0
    frequencies = np.arange(1.0, MOST_PERIODS + 0.25, 0.25) * 2 * np.pi / span
    for name, factor in (("1", np.ones(len(values))), *((str(v), g.values[v]) for v in factors)):
        smooth = np.column_stack([np.ones(len(values)), values, factor, factor * values])
        rest = target - smooth @ np.linalg.lstsq(smooth, target, rcond=1e-10)[0]
        power = np.array([_power_of(factor, values * k, rest) for k in frequencies])
        for i in np.argsort(-power, kind="stable")[:PEAKS]:
            for function in ("sin", "cos"):
                root = g.add(function, g.add("mul", g.fresh(float(frequencies[i])), u))
                made = root if name == "1" else g.add("mul", int(name), root)
                yield Atom(made, f"{name}*{function}(ku) of {u}", True)


def _power_of(factor: np.ndarray, angle: np.ndarray, rest: np.ndarray) -> float:
    waves = np.column_stack([factor * np.sin(angle), factor * np.cos(angle)])
    along = waves.T @ rest
    return float(along @ np.linalg.pinv(waves.T @ waves) @ along)


def _distinct(g: NumberedGraph, atoms: Iterable[Atom]) -> tuple[list[Atom], np.ndarray]:
    """The atoms that are finite, of those equal up to a factor the smallest, at most `MOST`."""
    kept: dict[bytes, Atom] = {}
    for atom in atoms:
        values = np.asarray(g.values[atom.root])
        length = float(np.linalg.norm(values))
        if not 0 < length < np.inf or np.abs(values).max() > LARGE:
            continue
        largest = int(np.abs(values).argmax())
        key = (np.round(values / (length * np.sign(values[largest])), 7) + 0.0).tobytes()
        if key not in kept or g.sizes[atom.root] < g.sizes[kept[key].root]:
            kept[key] = atom
    found = list(kept.values())[:MOST]
    return found, np.column_stack([g.values[a.root] for a in found])


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
