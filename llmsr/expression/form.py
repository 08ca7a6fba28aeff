"""The form that equations may have: operators, size, depth, columns, nesting and shape; checks with reasons.

The shape is that of a fitted equation as a function of one column: even, odd, monotone, bounded. It is
checked by numbers: the points are rows of the data and others of their box. Nothing is proved: a fault is
one, and where none is found there may be one between the points.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from llmsr.config import listed
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.expression.graph import CEILING, Expression, Node, evaluate
from llmsr.expression.operations import OPS

SYMBOLS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow", "^": "pow", "%": "mod"}
SHOWN = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "mod": "%"}
LEAVES = {"column": "column", "constant": "param"}
# what a piecewise equation is made of, and what a minus sign is
TOGETHER = {"where": ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "xor"), "sub": ("neg",)}


@dataclass(frozen=True)
class Form:
    """What equations are held to; nothing is where a field is empty.

    `sizes` are complexities other than 1; `nesting` are groups of operations with how many of a group may
    stand inside one of it. Columns are numbers, `names` what they are called. `part` says which part of an
    equation is asked for, where it is not all; `shapes` are what fitted ones must be in a column.
    """

    names: tuple[str, ...] = ()
    operators: frozenset[str] = frozenset()
    shown: tuple[str, ...] = ()
    most_size: int | None = None
    most_depth: int | None = None
    required: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()
    nesting: tuple[tuple[tuple[str, ...], int], ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    part: str = ""
    shapes: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, asked: Declarations, columns: Sequence[str], where: str) -> Form:
        """The form that is asked for of equations in these columns; `UserError` for unknown names."""
        names = tuple(columns)
        allowed = [_operator(name, where) for name in listed(asked.operators)]
        required, forbidden = (
            tuple(_column(name, names, where) for name in listed(text))
            for text in (asked.required, asked.forbidden)
        )
        if both := set(required) & set(forbidden):
            raise UserError(f"{where}: {names[min(both)]} is both required and forbidden; keep one.")
        if len(set(forbidden)) == len(names):
            raise UserError(f"{where}: all columns are forbidden; allow one.")
        shapes = [_shape(part, names, where) for part in listed(asked.shape)]
        for one, other in (("even", "odd"), ("increasing", "decreasing")):
            for column, name in shapes:
                if name == one and (column, other) in shapes:
                    raise UserError(f"{where}: {names[column]} is to be {one} and {other}; keep one.")
        nesting, sizes = [], {}
        for group, count in _numbers(asked.nesting, "nesting", 0, where):
            nesting.append((tuple(_operator(name, where) for name in group.split("/")), count))
        for name, count in _numbers(asked.complexities, "complexities", 1, where):
            sizes[LEAVES.get(name) or _operator(name, where)] = count
        return cls(
            names, frozenset(allowed).union(*(TOGETHER.get(op, ()) for op in allowed)),
            tuple(SHOWN.get(op, op) for op in allowed), asked.max_complexity, asked.max_depth,
            required, forbidden, tuple(nesting), sizes, shapes=tuple(shapes),
        )  # fmt: skip

    def size(self, expression: Expression) -> int:
        """The complexity: operators plus leaves of the tree, each with its own size, at most `CEILING`."""
        sizes: list[int] = []
        for node in expression.nodes:
            own = self.sizes.get("param" if node.op == "const" else node.op, 1)
            sizes.append(min(CEILING, own + sum(sizes[a] for a in node.args)))
        return sizes[-1]

    def fault(self, expression: Expression) -> str:
        """Why the form forbids an expression; empty where it does not."""
        nodes, inputs = expression.nodes, expression.inputs
        if self.operators:
            for node in nodes:
                if node.args and node.op not in self.operators and not self._is_product(node, nodes):
                    told = SHOWN.get(node.op, "-" if node.op == "neg" else node.op)
                    return f"{told} is not among the allowed operators {', '.join(self.shown)}"
        for column in self.forbidden:
            if column in inputs:
                return f"the column {self.names[column]} is forbidden"
        for column in self.required:
            if column not in inputs:
                return f"the column {self.names[column]} is required, and not there"
        if self.most_size is not None and (size := self.size(expression)) > self.most_size:
            return f"its complexity is {size}, more than {self.most_size}"
        if self.most_depth is not None and (depth := _deepest(nodes, ())) > self.most_depth:
            return f"its depth is {depth}, more than {self.most_depth}"
        for group, most in self.nesting:
            if _deepest(nodes, group) > most + 1:
                return f"more than {most} of {'/'.join(group)} inside one of them"
        return ""

    def _is_product(self, node: Node, nodes: Sequence[Node]) -> bool:
        """Whether a power is what multiplying could write."""
        power = nodes[node.args[1]] if node.op == "pow" else node
        return "mul" in self.operators and power.op == "const" and float(power.value or 0) in range(2, 5)

    @property
    def words(self) -> str:
        """The form in sentences for a model; empty where nothing is asked."""
        told = [self.part] if self.part else []
        if self.shown:
            told.append(f"Use only the operators {', '.join(self.shown)}.")
        if self.most_size is not None:
            told.append(f"Complexity (operators, columns and constants) is at most {self.most_size}.")
        if self.most_depth is not None:
            told.append(f"The tree is at most {self.most_depth} deep, its leaves counted.")
        for verb, columns in (("Use", self.required), ("Do not use", self.forbidden)):
            if columns:
                told.append(f"{verb} {', '.join(self.names[c] for c in columns)}.")
        for group, most in self.nesting:
            count = "None" if not most else f"At most {most}"
            told.append(f"{count} of {', '.join(group)} may stand inside one of them.")
        if self.shapes:
            asked = ", ".join(f"{name} in {self.names[column]}" for column, name in self.shapes)
            told.append(f"The equation must be {asked}.")
        return " ".join(told)


def _deepest(nodes: Sequence[Node], group: tuple[str, ...]) -> int:
    """The most operations of a group, of an empty one nodes of any kind, on a way down."""
    deep: list[int] = []
    for node in nodes:
        own = not group or node.op in group
        deep.append(own + max((deep[a] for a in node.args), default=0))
    return deep[-1]


def _operator(name: str, where: str) -> str:
    name = name.strip().removeprefix("np.")
    if (found := SYMBOLS.get(name, name)) in OPS:
        return found
    near = difflib.get_close_matches(name, OPS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SHOWN.values())}, sin, exp, ..."
    raise UserError(f"{where}: no operator is called {name!r}; {hint}")


def _shape(text: str, names: tuple[str, ...], where: str) -> tuple[int, str]:
    """`x=even` as the column and the shape; `UserError` for a column or a shape that there is not."""
    column, _, name = (piece.strip() for piece in text.partition("="))
    if name not in SHAPES:
        raise UserError(f"{where}: a shape must be like {names[0]}={'|'.join(SHAPES)}; got {text!r}.")
    return _column(column, names, where, "shape"), name


def _column(name: str, columns: Sequence[str], where: str, what: str = "require or forbid") -> int:
    if name in columns:
        return columns.index(name)
    raise UserError(f"{where}: no column {name!r} to {what}; there are {', '.join(columns)}.")


def _numbers(text: str, setting: str, least: int, where: str) -> list[tuple[str, int]]:
    """`a=1,b=2` as pairs; `UserError` for a number below `least` or none."""
    found = []
    for part in listed(text):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if not (number.isascii() and number.isdigit() and least <= int(number) <= 1000):
            raise UserError(
                f"{where}: {setting} must be like sin={least}, whole numbers from {least}; got {part!r}."
            )
        found.append((name, int(number)))
    return found


# ---- shapes of fitted equations

ROWS, SEED = 128, 0  # of the data, and as many of the box
STEPS, WAYS = 33, 64  # along a column, from so many points
CLOSE = 1e-6  # of the spread of the values: differences that are rounding, or the fit's
# decades beyond the box: what is bounded does not grow from here to there
NEAR, FAR = (2.0, 6.0), (8.0, 12.0)
GROWTH = 1.05

Values = Callable[[np.ndarray], np.ndarray]


def _bounded(f: Values, points: np.ndarray, column: int) -> str:
    """What is wrong with an equation that may not grow far beyond the box, to the sides on which it lies."""
    size = float(np.abs(points[:, column]).max()) or 1.0
    inside = np.abs(f(points)).max()
    for side in (1.0, -1.0):
        if not (side * points[:, column] > 0).any():
            continue
        near, far = (
            f(_along(points, column, side * size * np.logspace(*decades, STEPS))) for decades in (NEAR, FAR)
        )
        # a quotient of infinities says nothing, an infinity does
        known = far[~np.isnan(far)]
        most = np.abs(known).max(initial=0.0)
        before = max(inside, np.abs(near[~np.isnan(near)]).max(initial=0.0))
        if not len(known) or most > GROWTH * before or np.isinf(most):
            return f"it is {most:.3g} and more far out"
    return ""


def shape_fault(
    shapes: Iterable[tuple[int, str]],
    names: tuple[str, ...],
    expression: Expression,
    inputs: np.ndarray,
    params: np.ndarray,
) -> str:
    """Why a fitted equation is not of the shapes, pairs of a column and a name; empty where it is."""
    rows = inputs[np.linspace(0, len(inputs) - 1, min(ROWS, len(inputs))).astype(int)]
    low, high = inputs.min(0), inputs.max(0)
    box = low + (high - low) * np.random.default_rng(SEED).random((ROWS, len(low)))
    points = np.vstack([rows, box])

    def f(at: np.ndarray) -> np.ndarray:
        return evaluate(expression, at, params)

    for column, name in shapes:
        with np.errstate(all="ignore"):
            if fault := SHAPES[name](f, points, column):
                return f"not {name} in {names[column]}: {fault}"
    return ""


def _mirrored(f: Values, points: np.ndarray, column: int, sign: float) -> str:
    """What is wrong with an equation that is to be `sign` times itself at the negative of a column."""
    other = points.copy()
    other[:, column] *= -1
    values, mirrored = f(points), sign * f(other)
    apart = np.abs(values - mirrored)
    if not (apart <= CLOSE * np.abs(values).max()).all():
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        at = points[worst, column]
        return f"it is {values[worst]:.3g} at {at:.3g} and {sign * mirrored[worst]:.3g} at {-at:.3g}"
    return ""


def _monotone(f: Values, points: np.ndarray, column: int, sign: float) -> str:
    """What is wrong with an equation whose steps along a column are to have this sign."""
    grid = np.linspace(points[:, column].min(), points[:, column].max(), STEPS)
    values = f(_along(points, column, grid)).reshape(-1, STEPS)
    if not np.isfinite(values).all():
        return "it is not finite everywhere in the box"
    steps = sign * np.diff(values)
    if (steps < -CLOSE * np.ptp(values)).any():
        place = int(np.argmin(steps.min(axis=0)))
        return f"it turns between {grid[place]:.3g} and {grid[place + 1]:.3g}"
    return ""


def _along(points: np.ndarray, column: int, grid: np.ndarray) -> np.ndarray:
    """Some of the points, each with every number of the grid in its column: (points * grid, columns)."""
    some = points[:: max(1, len(points) // WAYS)]
    made = np.repeat(some, len(grid), axis=0)
    made[:, column] = np.tile(grid, len(some))
    return made


SHAPES: dict[str, Callable[[Values, np.ndarray, int], str]] = {
    "even": partial(_mirrored, sign=1.0),
    "odd": partial(_mirrored, sign=-1.0),
    "increasing": partial(_monotone, sign=1.0),
    "decreasing": partial(_monotone, sign=-1.0),
    "bounded": _bounded,
}
"""Checks by name, of a function of points on points (points, columns) in a column; empty if right."""
