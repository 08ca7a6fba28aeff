"""The rows of a problem: how residuals on them are judged, their weights, and the groups that they form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from llmsr.declarations import Declarations, loss_of
from llmsr.errors import UserError
from llmsr.expression.graph import Expression, Graph

LEAST_VARIANCE = 1e-280  # of a target: an error of 1e-26 of it is then still a number with all its digits
MOST_GROUPS = 200
NORMAL = (
    1.345  # standard errors at which Huber's loss is 95% as sharp as squares on normal noise (Huber, 1981)
)
SHARE = 0.1  # of the target's spread: where it bends if nothing is known of the errors
MAD = 1.4826  # times the median absolute deviation is a normal distribution's standard deviation


@dataclass(frozen=True)
class Loss:
    """A loss of residuals, target minus prediction.

    mse: r^2. huber: r^2, beyond `bend` 2 bend |r| - bend^2. mae: |r|. quantile: `level` r, or (level - 1) r
    where that is more. With weights w a row counts w times its loss; where they come from measurement errors
    (`standard`) its loss is that of r sqrt(w). Weights count by their share of their mean, so that units are
    the target's.
    """

    name: str = "mse"
    bend: float = np.inf
    level: float = 0.5
    standard: bool = False

    @classmethod
    def of(cls, asked: Declarations, target: np.ndarray, weights: np.ndarray | None) -> Loss:
        """The loss that is asked for on these training rows."""
        name, number = loss_of(asked.loss)
        standard = bool(asked.sigma)
        if name == "quantile":
            return cls(name, level=number or 0.5, standard=standard)
        if name != "huber":
            return cls(name or "mse", standard=standard)
        if standard and weights is not None:
            return cls(name, (number or NORMAL) / float(np.sqrt(np.mean(weights))), standard=True)
        spread = MAD * float(np.median(np.abs(target - np.median(target))))
        return cls(name, number or SHARE * (spread or float(np.std(target))))

    @property
    def squares(self) -> bool:
        """Whether it is the plain sum of squares."""
        return self.name == "mse"

    @property
    def smooth(self) -> bool:
        """Whether it has a second derivative nearly everywhere, from which standard errors follow."""
        return self.name in ("mse", "huber")

    def mean(self, residual: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The mean loss of residuals of shape (rows,)."""
        if weights is None:
            return float(np.mean(self._rows(residual)))
        share = weights / np.mean(weights)
        if self.standard:
            return float(np.mean(self._rows(residual * np.sqrt(share))))
        return float(np.mean(share * self._rows(residual)))

    def spread(self, target: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The mean loss of the best constant: the variance (ddof 0) for squares."""
        if self.squares and weights is None:
            return float(np.var(target))
        middle = float(np.average(target, weights=weights))
        if not self.squares:
            for least in np.std(target) * 0.5 ** np.arange(40):
                middle = float(np.average(target, weights=self.quadratic(target - middle, weights, least)))
        return self.mean(target - middle, weights)

    def quadratic(self, residual: np.ndarray, weights: np.ndarray | None, least: float) -> np.ndarray:
        """Weights v with which v r^2 touches the loss of each row at its residual, up to a constant.

        Residuals below `least` count as that, since the weight of mae would be infinite at 0.
        """
        share = np.ones(len(residual)) if weights is None else weights / np.mean(weights)
        size = np.abs(residual * np.sqrt(share) if self.standard else residual)
        if self.squares:
            return share
        with np.errstate(divide="ignore"):
            if self.name == "huber":
                return share * np.minimum(1.0, self.bend / size)
        slope = np.ones(len(residual))
        if self.name == "quantile":
            slope = np.where(residual > 0, self.level, 1.0 - self.level)
        return share * slope / (2.0 * np.maximum(size, max(least, 1e-300)))

    def _rows(self, residual: np.ndarray) -> np.ndarray:
        if self.squares:
            return residual**2
        if self.name == "quantile":
            return np.maximum(self.level * residual, (self.level - 1.0) * residual)
        size = np.abs(residual)
        if self.name == "mae":
            return size
        return np.where(size <= self.bend, size**2, self.bend * (2.0 * size - self.bend))


SQUARES = Loss()


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of one file: `inputs` (rows, columns) and `target` (rows,), float64 and contiguous.

    `weights` (rows,) are positive, None where all rows count alike; `loss` is how residuals are judged.
    `group` (rows,) are the places of the rows' groups among the names `groups`; None without groups.
    """

    inputs: np.ndarray
    target: np.ndarray
    weights: np.ndarray | None = None
    loss: Loss = SQUARES
    group: np.ndarray | None = None
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """All that its rows hold, an array each."""
        further = (part for part in (self.weights, self.group) if part is not None)
        return (self.inputs, self.target, *further)

    @cached_property
    def with_group(self) -> np.ndarray:
        """The inputs, and as one more column the places of the rows' groups where there are groups."""
        return self.inputs if self.group is None else np.column_stack([self.inputs, self.group])

    def equals(self, other: Split) -> bool:
        """Whether both hold the same rows in the same order."""
        ours, theirs = self.columns, other.columns
        return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))

    def taken(self, rows: np.ndarray | slice) -> Split:
        """Some of the rows."""
        weights, group = (None if part is None else part[rows] for part in (self.weights, self.group))
        return Split(self.inputs[rows], self.target[rows], weights, self.loss, group, self.groups)

    @cached_property
    def spread(self) -> float:
        """The mean loss of the best constant; of squares the (weighted) variance of the target, ddof 0."""
        return self.loss.spread(self.target, self.weights)

    def mean_loss(self, prediction: np.ndarray) -> float:
        """The mean loss of predictions of shape (rows,), in squared units of the target for squares.

        A prediction that is not finite gives nan and is never dropped; a square that overflows gives inf.
        """
        if not np.isfinite(prediction).all():
            return float("nan")
        with np.errstate(over="ignore"):
            return self.loss.mean(self.target - prediction, self.weights)

    def nmse(self, prediction: np.ndarray) -> float:
        """The mean loss over that of the best constant: for squares the (weighted) NMSE."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.float64(self.mean_loss(prediction)) / self.spread)


def variance_fault(target: np.ndarray) -> str:
    """What is wrong with the variance of a target that varies, such as `is inf`; empty where nothing is."""
    # a column in odd units may overflow when squared: that is said in a sentence
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        variance = np.var(target)
    if not variance < np.inf:
        return "is inf"
    return "" if variance >= LEAST_VARIANCE else f"is {variance:g}, below {LEAST_VARIANCE:g}"


def nmse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean squared error over the variance (ddof 0) of `target`, both of shape (rows,), see `Split.nmse`."""
    return Split(np.empty((len(target), 0)), target).nmse(np.asarray(prediction, dtype=np.float64))


def make_split(
    inputs: np.ndarray,
    target: np.ndarray,
    asked: Declarations,
    columns: Mapping[str, np.ndarray],
    path: str | Path = "",
    what: str = "the target",
    train: Split | None = None,
) -> Split:
    """The rows that count, with their weights; loss and groups are those of `train`, None for these rows.

    `columns` are those of `asked.roles`, of groups their names. `UserError`, which begins with the file,
    for weights that are none, for a group of one row or an unknown one, and for a target, called `what`,
    that does not vary or cannot be squared.
    """
    where, texts = f"{path}: " if path else "", columns.get("group")
    weights = _weights(asked, columns, where)
    if weights is not None:
        counts = weights > 0
        inputs, target, weights = inputs[counts], target[counts], np.ascontiguousarray(weights[counts])
        texts = None if texts is None else texts[counts]
    if target.min() == target.max():
        raise UserError(f"{where}{what} is {target[0]:g} in every row; give data in which it varies.")
    if fault := variance_fault(target):
        raise UserError(f"{where}the variance of {what} {fault}; rescale {what}.")
    loss = train.loss if train else Loss.of(asked, target, weights)
    made = Split(np.ascontiguousarray(inputs), np.ascontiguousarray(target), weights, loss)
    if texts is None:
        return made
    groups = train.groups if train else groups_of(texts, f"{where}{asked.group}")
    return replace(made, group=codes_of(texts, groups, f"{where}{asked.group}"), groups=groups)


def _weights(asked: Declarations, columns: Mapping[str, np.ndarray], where: str) -> np.ndarray | None:
    """The weights of the rows, 0 for one that does not count; None without a column of them.

    `UserError` for errors that are not positive and weights that are negative, not finite or 0 in every row.
    """
    role = next((role for role in ("sigma", "weights") if role in columns), None)
    if role is None:
        return None
    values, name, positive = columns[role], asked.roles[role], role == "sigma"
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        weights = 1.0 / values**2 if positive else values
    bad = ~(np.isfinite(values) & (values > 0 if positive else values >= 0) & np.isfinite(weights))
    if bad.any():
        first = int(np.argmax(bad))
        raise UserError(
            f"{where}{name} is {values[first]:g} in row {first + 1} (and in {bad.sum() - 1} others); "
            f"{role} must be finite and {'positive' if positive else '0 or positive'} numbers."
        )
    if not weights.any():
        raise UserError(f"{where}{name} is 0 in every row; give some rows a weight.")
    return weights


def strongest_columns(inputs: np.ndarray, target: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The positions, ascending, of the `count` columns that a forest of random trees makes most use of."""
    from sklearn.ensemble import ExtraTreesRegressor

    # the order of a few columns is known from a few thousand rows
    step = -(-len(target) // 5000)
    forest = ExtraTreesRegressor(n_estimators=100, min_samples_leaf=2, random_state=seed)
    forest.fit(inputs[::step], target[::step])
    return np.sort(np.argsort(-forest.feature_importances_, kind="stable")[:count])


# ---- groups of rows that obey one law with constants of their own


def groups_of(texts: np.ndarray, what: str) -> tuple[str, ...]:
    """The groups of the training rows, the largest first; `UserError` for one of a single row."""
    names, counts = np.unique(texts.astype(str), return_counts=True)
    if counts.min() < 2:
        alone = str(names[counts.argmin()])
        raise UserError(f"{what}: the group {alone!r} has one row; give it more or leave it out")
    if len(names) > MOST_GROUPS:
        raise UserError(f"{what}: {len(names)} groups are more than {MOST_GROUPS}; is it a column of groups?")
    return tuple(str(names[i]) for i in np.argsort(-counts, kind="stable"))


def codes_of(texts: np.ndarray, groups: tuple[str, ...], what: str) -> np.ndarray:
    """The places of texts among the groups; `UserError` for one that the training rows do not have."""
    places = {name: place for place, name in enumerate(groups)}
    unknown = sorted({str(text) for text in texts} - set(places))
    if unknown:
        told = ", ".join(groups[:12]) + (", ..." if len(groups) > 12 else "")
        raise UserError(f"{what}: the group {unknown[0]!r} was not fitted; there are {told}")
    return np.array([places[str(text)] for text in texts], dtype=int)


def over_groups(law: Expression, column: str, groups: int, stride: int) -> Expression:
    """The law as an equation of one more column, the place of a row's group, which chooses the constants.

    Constant i of group g is parameter g * stride + i.
    """
    graph = Graph()
    place = graph.column(len(law.columns))
    made: list[int] = []
    for node in law.nodes:
        if node.op == "param":
            index = int(node.value or 0)
            chosen = graph.param((groups - 1) * stride + index)
            for group in reversed(range(groups - 1)):
                here = graph.add("eq", place, graph.const(float(group)))
                chosen = graph.add("where", here, graph.param(group * stride + index), chosen)
            made.append(chosen)
        elif node.args:
            made.append(graph.add(node.op, *(made[a] for a in node.args)))
        else:
            made.append(graph.intern(node))
    return graph.expression(made[-1], (*law.columns, column))
