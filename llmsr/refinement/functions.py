"""Functions of one argument by name: each adds its nodes to a graph, given the argument's position."""

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
