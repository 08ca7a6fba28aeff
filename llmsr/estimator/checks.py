"""What an estimator is given, checked, and errors as scikit-learn has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from llmsr.errors import UserError
from llmsr.problem.loading import variance_fault

PROPOSER_PARTS = ("name", "parallel_prompts", "propose")


def check_proposer(proposer: object) -> None:
    """UserError where an object lacks what a search asks of a source of completions."""
    lacking = [part for part in PROPOSER_PARTS if not hasattr(proposer, part)]
    if lacking:
        raise UserError(
            f"proposer must be a name or an object with {', '.join(PROPOSER_PARTS)}; "
            f"{type(proposer).__name__} has no {', '.join(lacking)}"
        )


def check_target(y: np.ndarray) -> None:
    """UserError where y, of shape (rows,), does not vary or its variance is no number to divide by."""
    if y.min() == y.max():
        raise UserError(f"y is {y[0]:g} in every row; give data in which it varies")
    fault = variance_fault(y)
    if fault:
        raise UserError(f"the variance of y {fault}; rescale y")


@contextlib.contextmanager
def raised_as(kind: type[Exception]) -> Iterator[None]:
    """A `UserError` inside becomes an error of this kind with its sentence."""
    try:
        yield
    except UserError as error:
        raise kind(str(error)) from None
