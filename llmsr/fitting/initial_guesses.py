"""Initial guesses, scaled by the data: where centres, widths, frequencies and exponents may lie.

A parameter's role is read from the first operation that joins it to something that varies over rows: added to
it, it is a centre or an offset and starts at quantiles; multiplying it, a rate or a frequency, and starts at
reciprocals of its range; compared with it, a threshold; as an exponent, a small number. Inner parameters are
set first, so that ranges are those of the expression as it stands. Every start takes one candidate per
parameter, spread by a generator with a fixed seed, and carries the others along for a search over the grid.
The guesses depend on the expression and the data alone.
"""

# the kernels of operations and numpy's element-wise functions are typed Any
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from llmsr.expression.graph import Expression, Node
from llmsr.expression.operations import OPS

_PLAIN = np.array([[1.0, 0.1, -1.0, 10.0, 0.5, 2.0, -0.1, 3.0, 0.01, 30.0]])
_EXPONENTS = np.array([[2.0, 0.5, 1.0, 3.0, -1.0, 1.5, 4.0, -0.5, -2.0, 0.25]])
_RATES = np.array([1.0, -1.0, 3.0, -3.0, 0.3, -0.3, 10.0, -10.0, 0.1, 30.0])
_POSITIVE_RATES = np.array([1.0, 10.0, 0.1, 100.0, 3.0, 0.3, 30.0, 1000.0, 0.03, -0.3])
_PERIODS = np.array([1.0, 0.5, 2.0, 1.5, 3.0, 4.0, 6.0, 0.25, 8.0, 12.0])
_DENSE_PERIODS = np.arange(0.5, 50.5, 0.5)
_QUANTILES = np.array([0.5, 0.25, 0.75, 0.1, 0.9, 0.4, 0.6, 0.0, 1.0])
_SIZES = np.array([1.0, 0.3, 3.0, 0.1, 10.0])
CANDIDATES = 10
_TRIG = frozenset({"sin", "cos", "tan"})
_COMPARISONS = frozenset({"lt", "le", "gt", "ge"})
_EXTREMES = frozenset({"minimum", "maximum", "fmin", "fmax"})
_PASSES = frozenset({"add", "sub", "neg", "mul", "div"})


@dataclass
class _Pending:
    """A function of one parameter without a value yet; `invert` finds the parameter for a value."""

    param: int
    invert: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Guesses:
    """Starting points, shape (count, params); per start and parameter `CANDIDATES` numbers that it may also
    take, shape (count, params, CANDIDATES); and a box, both shapes (count, params), that sensible values
    stay in.

    Parameters in ascending order; linear ones are 1, with candidates of 1 and without a box.
    """

    starts: np.ndarray
    candidates: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class InitialGuesses:
    """Where searches for the constants of one expression may start.

    `linear` are the parameters that need no start; `columns` has shape (columns, rows), a few dozen rows are
    enough.
    """

    expression: Expression
    linear: tuple[int, ...]
    columns: np.ndarray

    def spread(self, count: int) -> Guesses:
        """`count` starting points, spread over all candidates."""
        return _Walk(self, count).guesses()

    def around(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What every parameter may be where the others are `theta`: shape (params, CANDIDATES).

        Then a dense grid for the parameters that are frequencies, nan for the others, shape (params, any
        number): up to 25 periods over the range of what is multiplied; None where there is no frequency.
        """
        params = self.expression.params
        walk = _Walk(self, 1)
        walk.fixed = dict(zip(params, theta, strict=True))
        candidates = walk.guesses().candidates[0]
        if not walk.frequencies:
            return candidates, None
        dense = np.full((len(theta), len(_DENSE_PERIODS)), np.nan)
        for param, half in walk.frequencies.items():
            dense[params.index(param)] = _DENSE_PERIODS * math.pi / half
        return candidates, dense

    @cached_property
    def contexts(self) -> tuple[list[bool], list[bool]]:
        """For every node: whether it is an angle, and whether it should stay positive."""
        nodes = self.expression.nodes
        trig, positive = [False] * len(nodes), [False] * len(nodes)
        for i in range(len(nodes) - 1, -1, -1):
            op, args = nodes[i].op, nodes[i].args
            for slot, a in enumerate(args):
                trig[a] |= op in _TRIG or (op in _PASSES and trig[i])
                denominator = op == "div" and slot == 1
                # an even power takes a base of either sign: in (x - c)**2 the centre is among the rows
                power = nodes[args[1]] if op == "pow" and slot == 0 else None
                even = power is not None and power.op == "const" and float(power.value or 0) % 2 == 0
                base = op in ("sqrt", "log", "log1p", "log2", "log10") or (power is not None and not even)
                positive[a] |= denominator or base or (op in ("add", "mul") and positive[i])
        return trig, positive


class _Walk:
    def __init__(self, about: InitialGuesses, count: int) -> None:
        self.expression, self.columns, self.count = about.expression, about.columns, count
        linear = about.linear
        self.fixed: dict[int, float] = {}
        self.frequencies: dict[int, float] = {}
        # one row where all starts have the same numbers
        self.chosen: dict[int, np.ndarray] = dict.fromkeys(linear, np.ones((1, 1)))
        self.grid: dict[int, np.ndarray] = dict.fromkeys(linear, np.ones((1, CANDIDATES)))
        self.linear = frozenset(linear)
        self.trig, self.positive = about.contexts

    def guesses(self) -> Guesses:
        nodes = self.expression.nodes
        values: list[np.ndarray | _Pending] = []
        with np.errstate(all="ignore"):
            for i, node in enumerate(nodes):
                # what comes after the last parameter has its candidates decides nothing any more
                if len(self.chosen) == len(self.expression.params):
                    break
                values.append(self._value(i, node, values))
            for value in values:
                if isinstance(value, _Pending):
                    self._assign(value, _PLAIN)
        params = self.expression.params
        starts = np.empty((self.count, len(params)))
        candidates = np.empty((self.count, len(params), CANDIDATES))
        for i, p in enumerate(params):
            starts[:, i] = self.chosen[p][:, 0]
            candidates[:, i] = self.grid[p]
        low, high = candidates.min(axis=2), candidates.max(axis=2)
        margin = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))
        free = np.array([p in self.linear for p in params])
        low = np.where(free, -np.inf, low - margin)
        high = np.where(free, np.inf, high + margin)
        return Guesses(starts, candidates, low, high)

    def _value(self, i: int, node: Node, values: list[Any]) -> np.ndarray | _Pending:
        if node.op == "const":
            return np.full((1, 1), float(node.value))  # type: ignore[arg-type]
        if node.op == "column":
            return self.columns[int(node.value)][None, :]  # type: ignore[arg-type]
        if node.op == "param":
            param = int(node.value)  # type: ignore[arg-type]
            return self.chosen[param] if param in self.chosen else _Pending(param, lambda w: w)
        inverse = self._wrapped(node, values)
        if inverse is not None:
            return inverse
        for slot, a in enumerate(node.args):
            pending = values[a]
            if isinstance(pending, _Pending):
                if pending.param not in self.chosen:
                    self._assign(pending, self._wanted(i, node, slot, values))
                values[a] = self._resolved(a, values)
        return OPS[node.op].kernel(*(values[a] for a in node.args))

    def _resolved(self, index: int, values: list[Any]) -> np.ndarray:
        """The value of a node whose parameter has been chosen in the meantime."""
        node = self.expression.nodes[index]
        if node.op == "param":
            return self.chosen[int(node.value)]  # type: ignore[arg-type]
        args = [
            self._resolved(a, values) if isinstance(values[a], _Pending) else values[a] for a in node.args
        ]
        return OPS[node.op].kernel(*args)

    def _wrapped(self, node: Node, values: list[Any]) -> _Pending | None:
        """The node as a pending function of one parameter, where it is one that can be inverted."""
        args = [values[a] for a in node.args]
        pending = [a for a in args if isinstance(a, _Pending)]
        if not pending or any(p.param in self.chosen for p in pending):
            return None
        inner = pending[0]
        if len(args) == 1:
            inverses: dict[str, Callable[[np.ndarray], np.ndarray]] = {
                "neg": np.negative,
                "abs": np.abs,
                "exp": lambda w: np.log(np.abs(w) + 1e-300),
                "sqrt": np.square,
            }
            inverse = inverses.get(node.op)
            return None if inverse is None else _Pending(inner.param, lambda w: inner.invert(inverse(w)))
        if len(args) != 2:
            return None
        if len(pending) == 2:
            if node.args[0] == node.args[1] and node.op == "mul":
                return _Pending(inner.param, lambda w: inner.invert(np.sqrt(np.abs(w))))
            return None
        constant = self.expression.nodes[node.args[0 if args[1] is inner else 1]]
        if constant.op != "const" or not constant.value:
            return None
        c = float(constant.value)
        first = args[0] is inner
        if node.op == "mul":
            return _Pending(inner.param, lambda w: inner.invert(w / c))
        if node.op == "div":
            return _Pending(inner.param, lambda w: inner.invert(w * c if first else c / w))
        if node.op == "pow" and first:
            return _Pending(inner.param, lambda w: inner.invert(np.abs(w) ** (1.0 / c)))
        return None

    def _assign(self, pending: _Pending, wanted: np.ndarray) -> None:
        """Gives the parameter its candidates from `wanted`, and each start its choice.

        `wanted` has shape (count, any number), or (1, any number) where all starts want the same.
        """
        if pending.param in self.chosen:
            return
        grid = _finite(pending.invert(wanted))
        size = grid.shape[1]
        self.grid[pending.param] = grid if size == CANDIDATES else grid[:, _repeated(size)]
        if pending.param in self.fixed:
            self.chosen[pending.param] = np.full((1, 1), self.fixed[pending.param])
            return
        rank = self.expression.params.index(pending.param)
        pick, each = _choices(rank, self.count, size)
        self.chosen[pending.param] = grid[each if len(grid) > 1 else 0, pick][:, None]

    def _wanted(self, i: int, node: Node, slot: int, values: list[Any]) -> np.ndarray:
        """What the pending argument `slot` of a node may be, as `_assign` takes it."""
        if len(node.args) == 1:
            return _PLAIN
        if node.op == "pow" and slot == 1:
            return _EXPONENTS
        if node.op == "where":
            return _PLAIN
        other = values[node.args[1 - slot]]
        if isinstance(other, _Pending) or other.shape[1] == 1:
            return _PLAIN
        rows = np.sort(_finite(other), axis=1)
        if node.op in _COMPARISONS or node.op in _EXTREMES:
            return _quantiles(rows)
        if node.op in ("add", "sub"):
            return self._offset(i, node, rows)
        return self._rate(i, node, slot, rows, values[node.args[slot]].param)

    def _offset(self, i: int, node: Node, rows: np.ndarray) -> np.ndarray:
        centre = -_quantiles(rows) if node.op == "add" else _quantiles(rows)
        if not self.positive[i]:
            return centre
        middle = np.maximum(_middle(rows), 1e-12)
        return np.concatenate([middle * _SIZES, centre[:, :3]], axis=1)

    def _rate(self, i: int, node: Node, slot: int, rows: np.ndarray, param: int) -> np.ndarray:
        top = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12)
        if self.trig[i] and node.op == "mul":
            half = np.maximum((rows[:, -1:] - rows[:, :1]) / 2.0, 1e-12)
            self.frequencies[param] = float(half[0, 0])
            return _PERIODS * math.pi / half
        factors = _RATES
        if self.positive[i]:
            factors = _POSITIVE_RATES
            top = np.maximum(_middle(rows), 1e-12)
        if node.op == "pow":
            return np.exp(factors / top)
        if node.op == "mul":
            return factors / top
        if node.op == "div" and slot == 1:
            return top / factors
        return factors * top


@lru_cache(maxsize=1024)
def _choices(rank: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `size` candidates each start takes: all equally often, in an order per parameter; and the
    numbers of the starts."""
    order = np.random.default_rng(1000 + rank).permutation(count)
    each = np.arange(count)
    return (each * size // count)[order], each


@lru_cache
def _repeated(size: int) -> np.ndarray:
    """Positions of `CANDIDATES` candidates among `size`, repeated or cut."""
    return np.arange(CANDIDATES) % size


def _finite(numbers: np.ndarray) -> np.ndarray:
    """The numbers, 1 where they are not finite."""
    finite = np.isfinite(numbers)
    return numbers if finite.all() else np.where(finite, numbers, 1.0)


def _middle(rows: np.ndarray) -> np.ndarray:
    """The median size of each row's numbers, shape (count, 1)."""
    return np.sort(np.abs(rows), axis=1)[:, rows.shape[1] // 2, None]


def _quantiles(rows: np.ndarray) -> np.ndarray:
    """Quantiles of sorted rows, between two rows and never on one: a pole on a row is a special case."""
    place, after = _places(rows.shape[1])
    return 0.6180339887 * rows[:, place] + 0.3819660113 * rows[:, after]


@lru_cache
def _places(size: int) -> tuple[np.ndarray, np.ndarray]:
    place = np.clip((_QUANTILES * (size - 1)).astype(int), 0, size - 2)
    return place, place + 1
