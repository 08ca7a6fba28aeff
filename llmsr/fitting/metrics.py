"""How well a fitted expression predicts each split: normalised errors and shares within a tolerance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmsr.expression.graph import Expression, Node, evaluate
from llmsr.problem.loading import Problem, Split, nmse


def predict(expression: Expression, params: Sequence[float], split: Split) -> np.ndarray:
    """The prediction for every row of a split, shape (rows,); not finite where the equation is not."""
    return evaluate(expression, split.inputs, np.asarray(params, dtype=np.float64))


def split_nmse(expression: Expression, params: Sequence[float], problem: Problem) -> dict[str, float | None]:
    """The NMSE of every split of the problem; None where a prediction, or the NMSE itself, is not finite."""
    values = {}
    for name, split in problem.splits.items():
        value = nmse(predict(expression, params, split), split.target)
        values[name] = value if np.isfinite(value) else None
    return values


def split_nmse_by_engine(
    expression: Expression, params: Sequence[float], problem: Problem
) -> dict[str, float | None]:
    """As `split_nmse`, to rounding, by the engine that fits: several times cheaper."""
    from llmsr.expression.derive import Derivatives
    from llmsr.expression.engine import chosen as engine
    from llmsr.expression.engine.tape import compile_tape
    from llmsr.fitting.dataset import dataset_of

    nodes = tuple(
        Node("const", (), float(params[int(n.value)])) if n.op == "param" else n  # type: ignore[arg-type]
        for n in expression.nodes
    )
    tape = compile_tape(Derivatives(nodes, len(nodes) - 1, (), ()), max_features=0)
    values: dict[str, float | None] = {}
    squares, nothing = np.empty((1, 1)), np.empty(0)
    for name, split in problem.splits.items():
        data = dataset_of(split)
        program = engine.bind(tape, tape.features(data.full.columns), data.full.target)
        engine.gram(program.handle, nothing, squares)
        with np.errstate(all="ignore"):
            value = squares[0, 0] / len(split) / data.variance
        values[name] = float(value) if np.isfinite(value) else None
    return values


def within_tolerance_share(prediction: np.ndarray, target: np.ndarray, tau: float) -> float:
    """Acc_tau as a share: the part of the rows, 0 to 1, with abs(prediction - target) <= tau * abs(target).

    A prediction that is not finite counts as wrong; a target of 0 asks for exactly 0.
    """
    return float(np.mean(_within(prediction, target, tau)))


def within_tolerance_all(prediction: np.ndarray, target: np.ndarray, tau: float) -> float:
    """Acc_tau of the worst row: 1.0 if every row is within tau as above, else 0.0."""
    return float(np.all(_within(prediction, target, tau)))


def _within(prediction: np.ndarray, target: np.ndarray, tau: float) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(
            np.abs(prediction - target) <= tau * np.abs(target)
        )  # a comparison with nan is False
