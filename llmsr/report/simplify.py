"""An equation with its constants as short as the loss allows.

`simplify` looks at the training rows alone. It returns what a person would write down: 0.8, not 0.79999998.
Values such as pi/2 are offered beside the numbers and never put in their place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.expression.canonical import canonical
from llmsr.expression.graph import Expression, Graph, evaluate, tree_sizes
from llmsr.expression.printing import fill
from llmsr.problem.split import Split

RELATIVE = 0.01  # the training NMSE may grow by this share of itself ...
ABSOLUTE = 1e-10  # ... or by this much, whichever is more
ROWS = 2000  # looked at while constants are shortened; all rows have the last word
MAX_NUMBERS = 40  # an equation with more numbers is left as it is
MAX_NODES = 600  # likewise with more operations
SHORT_ENOUGH = 2  # digits from which on a recognised value says no more than the number
NEAR = 1e-3  # relative distance at which a value is recognised at most

_ROOTS = {"π": math.pi, "√2": math.sqrt(2), "√3": math.sqrt(3), "e": math.e, "ln 2": math.log(2)}
_FRACTIONS = [(1, 3), (2, 3), (1, 6), (5, 6), (1, 7), (1, 9), (2, 9), (4, 3), (5, 3), (7, 3), (1, 12)]
_FACTORS = [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (2, 3), (1, 4), (3, 4), (1, 6), (1, 8)]


def _multiple(root: str, a: int, b: int) -> str:
    """`a * root / b` as a person writes it."""
    times = root if a == 1 else f"{a} {root}" if " " in root else f"{a}{root}"
    return times if b == 1 else f"{times}/{b}"


_KNOWN = {
    **{f"{a}/{b}": a / b for a, b in _FRACTIONS},
    **{_multiple(root, a, b): a * value / b for root, value in _ROOTS.items() for a, b in _FACTORS},
    **{f"1/{root}": 1 / value for root, value in _ROOTS.items()},
    **{"π²": math.pi**2, "1/(2π)": 0.5 / math.pi, "√(2π)": math.sqrt(2 * math.pi)},
}  # the values that a number may stand for, by their names


@dataclass(frozen=True)
class Recognised:
    """A number of an equation and the value that it may stand for."""

    number: float
    name: str
    value: float


@dataclass(frozen=True)
class Simplified:
    """An equation without parameters: `expression` has numbers in their place.

    `train_nmse` is what it reaches on all training rows. `exact` tells that nothing could be shortened, so
    that the expression is the fitted one.
    """

    expression: Expression
    train_nmse: float
    recognised: tuple[Recognised, ...] = ()
    exact: bool = False


def simplify(expression: Expression, params: Sequence[float], train: Split) -> Simplified:
    """The simplified equation; its training NMSE is above the fitted one's by at most 1 % or 1e-10."""
    filled = fill(expression, params)
    everything = _Rows(train, train.spread)
    fitted = everything.nmse(filled)
    unchanged = Simplified(filled, fitted, exact=True)
    if not math.isfinite(fitted) or len(filled.nodes) > MAX_NODES or len(_numbers(filled)) > MAX_NUMBERS:
        return unchanged
    step = max(1, len(train) // ROWS)
    some = _Rows(train.taken(slice(None, None, step)), train.spread)
    allowed = _allowed(fitted)
    # the canonical form where it is smaller: 0.3*x + 0.5*x is 0.8*x
    form = canonical(filled)
    smaller = tree_sizes(form)[-1] < tree_sizes(filled)[-1]
    fewer = form if smaller and everything.nmse(form) <= allowed else filled
    trials = (
        lambda: _shortened(fewer, some, _allowed(some.nmse(filled))),
        lambda: _shortened(fewer, everything, allowed),
        lambda: fewer,
    )
    for trial in trials:
        candidate = trial()
        reached = everything.nmse(candidate) if candidate is not None else math.inf
        if candidate is not None and reached <= allowed:
            # a factor of 1 and a sum with 0 are gone once the numbers stand
            final = _with_roots(fill(candidate, ()))
            # a value may stand for a number that it beats, or within two standard errors of the fitted one
            bound = max(everything.nmse(final), fitted * (1 + 4 / len(train)))
            recognised = _recognised(final, everything, bound)
            return Simplified(final, reached, recognised, candidate.nodes == filled.nodes)
    return unchanged


def _allowed(nmse: float) -> float:
    return nmse + max(RELATIVE * nmse, ABSOLUTE)


class _Rows:
    """Rows on which an expression's NMSE is measured, over the `spread` of all rows."""

    def __init__(self, split: Split, spread: float) -> None:
        self.split, self.spread = split, spread

    def nmse(self, expression: Expression) -> float:
        """The NMSE, infinite where a prediction is not finite."""
        predicted = evaluate(expression, self.split.inputs, np.empty(0))
        with np.errstate(all="ignore"):
            value = self.split.mean_loss(predicted) / self.spread
        return value if math.isfinite(value) else math.inf


def _numbers(expression: Expression, digits: int = 1) -> dict[int, float]:
    """The numbers that more than so many digits are needed for, by their positions."""
    found = {i: float(node.value or 0.0) for i, node in enumerate(expression.nodes) if node.op == "const"}
    written = {
        i: repr(abs(value)).partition("e")[0].replace(".", "").strip("0") for i, value in found.items()
    }
    return {i: v for i, v in found.items() if math.isfinite(v) and len(written[i]) > digits}


def _with(expression: Expression, numbers: dict[int, float]) -> Expression:
    nodes = list(expression.nodes)
    for position, number in numbers.items():
        nodes[position] = nodes[position]._replace(value=number)
    return Expression(tuple(nodes), expression.columns)


def _shortened(expression: Expression, rows: _Rows, allowed: float) -> Expression | None:
    """All numbers to the fewest common digits that the loss allows, then each one further while it lasts.

    None where not even all digits are allowed.
    """
    numbers = _numbers(expression)
    current, digits = dict(numbers), 17
    for common in range(1, 16):
        rounded = {i: _rounded(v, common) for i, v in numbers.items()}
        if rows.nmse(_with(expression, rounded)) <= allowed:
            current, digits = rounded, common
            break
    else:
        if rows.nmse(expression) > allowed:
            return None
    for position in sorted(numbers, key=lambda i: abs(numbers[i])):
        for fewer in range(1, min(digits, 8)):
            shorter = current | {position: _rounded(numbers[position], fewer)}
            if shorter[position] == current[position] or rows.nmse(_with(expression, shorter)) <= allowed:
                current = shorter
                break
    return _with(expression, current)


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits - 1}e}")


def _with_roots(expression: Expression) -> Expression:
    """The expression with sqrt(a) for a**0.5."""
    nodes = expression.nodes
    graph = Graph(max_nodes=len(nodes) + 1)
    made: list[int] = []
    for node in nodes:
        args = [made[a] for a in node.args]
        if node.op == "pow" and nodes[node.args[1]].value == 0.5:
            made.append(graph.add("sqrt", args[0]))
        else:
            made.append(graph.add(node.op, *args) if args else graph.intern(node))
    return graph.expression(made[-1], expression.columns)


def _recognised(final: Expression, rows: _Rows, allowed: float) -> tuple[Recognised, ...]:
    """Values that the numbers may stand for: near the number, and no worse for the loss."""
    found = []
    for position, number in _numbers(final, SHORT_ENOUGH).items():
        for name, value in _nearby(number):
            if rows.nmse(_with(final, {position: value})) <= allowed:
                found.append(Recognised(number, name, value))
                break
    return tuple(found)


def _nearby(number: float) -> list[tuple[str, float]]:
    """Names of values within `NEAR` of the number, nearest first."""
    sign, size = ("-", -1.0) if number < 0 else ("", 1.0)
    apart = {name: abs(value / abs(number) - 1) for name, value in _KNOWN.items()}
    near = sorted((far, name) for name, far in apart.items() if far <= NEAR)
    return [(sign + name, size * _KNOWN[name]) for _, name in near]
