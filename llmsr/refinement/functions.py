"""Functions of one argument by name, plain ones and families with inner constants.

Each adds its nodes to a graph, given the positions of its argument and constants.
"""

from __future__ import annotations

from collections.abc import Callable

from llmsr.refinement.rows import NumberedGraph

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
