"""What an estimator and its fits are given, checked: parameters, rows and their weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from llmsr.config import Checked, option, resolve
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.problem.columns import identifiers
from llmsr.report.front import RULES
from llmsr.settings import FITTERS, UNITS

PROPOSER_PARTS = ("name", "parallel_prompts", "propose")


@dataclass(frozen=True)
class Parameters(Checked):
    """The parameters of `SymbolicRegressor` that go into no other settings, with what they may be."""

    flag = ""
    selection: str = option("best", "", choices=RULES)
    fitter: str = option("best", "", choices=FITTERS)
    fit_timeout: float = option(10.0, "", above=0)
    check_units: str = option("words", "", choices=UNITS)
    max_params: int | None = option(None, "", least=1)
    max_columns: int = option(20, "", least=1)


@dataclass(frozen=True)
class GivenRows:
    """The rows that count of a fit: `X` (rows, columns) and `y` (rows,), float64.

    `asked` declares the columns of weights and the like, which are in `columns`, (rows,) each.
    """

    X: np.ndarray
    y: np.ndarray
    asked: Declarations
    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls,
        X: np.ndarray,
        y: Any,
        sample_weight: Any,
        options: Mapping[str, Any] | None,
        names: Any,
        group: Any = None,
    ) -> GivenRows:
        """The rows with a weight above 0; `names` are those of the columns. `UserError` for bad weights.

        `group` (rows,) names the rows' groups.
        """
        y = np.asarray(y, dtype=np.float64)
        asked: Declarations = resolve(Declarations, given=options or {})[0]
        if asked.roles:
            role = next(iter(asked.roles))
            raise UserError(
                f"problem_options cannot name a column of {role}; give fit sample_weight or group instead"
            )
        columns: dict[str, np.ndarray] = {}
        if group is not None:
            texts = group_texts(group, len(X))
            asked, columns = replace(asked, group=_free("group", names)), {"group": texts}
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
            if (weights < 0).any() or not weights.any():
                bad = "negative" if (weights < 0).any() else "0 in every row"
                raise UserError(f"sample_weight is {bad}; weights are positive, or 0 for rows to leave out")
            kept = weights > 0
            X, y, weights = X[kept], y[kept], weights[kept]
            columns = {name: column[kept] for name, column in columns.items()}
            if len(y) < 2:
                raise UserError("only one row has a weight above 0; give at least two")
            # equal weights are none, to the last digit
            if weights.min() < weights.max():
                asked = replace(asked, weights=_free("weight", names))
                columns["weights"] = weights
        return cls(X, y, asked, columns)

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """All that the rows hold."""
        texts = (np.array(c, dtype=str) if c.dtype == object else c for c in self.columns.values())
        return (self.X, self.y, *texts)


def group_texts(group: Any, rows: int) -> np.ndarray:
    """The names of the groups of rows as texts, shape (rows,); `UserError` where they are not one a row."""
    names = np.asarray(group, dtype=object)
    if names.shape != (rows,):
        raise UserError(f"group has the shape {names.shape}; give one name for each of {rows} rows")
    return np.array([str(name) for name in names], dtype=object)


def _free(name: str, taken: Any) -> str:
    """The name, with as many `_` behind it as make it none of those that are taken."""
    known = set(identifiers(list(taken)))
    while name in known:
        name += "_"
    return name


@contextlib.contextmanager
def raised_as(kind: type[Exception]) -> Iterator[None]:
    """A `UserError` inside becomes an error of this kind with its sentence."""
    try:
        yield
    except UserError as error:
        raise kind(str(error)) from None
