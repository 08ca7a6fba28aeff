"""A problem made in memory from arrays, names and words: no files, the spec written as `new` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmsr.errors import UserError
from llmsr.problem.column_names import doubles, identifiers
from llmsr.problem.loading import Problem, Split
from llmsr.problem.spec import parse_spec
from llmsr.problem.spec_writing import Quantity, spec_text

Words = Mapping[str, str] | Sequence[str] | None


@dataclass(frozen=True)
class Labels:
    """What the user calls the columns and the target, and what is known of them in words."""

    columns: tuple[str, ...]
    target: str = "y"
    description: str = ""
    units: Mapping[str, str] | None = None
    meanings: Mapping[str, str] | None = None

    @classmethod
    def of(
        cls, columns: Sequence[object], target: object, description: str, units: Words, meanings: Words
    ) -> Labels:
        """Labels with units and meanings by name, or in the columns' order; UserError for unknown names."""
        names = tuple(str(column) for column in columns)
        twice = doubles(names)
        if twice:
            raise UserError(f"the column name {twice[0]!r} stands twice; give every column its own name")
        known = (*names, str(target))
        found = [_by_name(words, known, kind) for words, kind in ((units, "units"), (meanings, "meanings"))]
        return cls(names, str(target), description or "", *found)

    def chosen(self, positions: Sequence[int]) -> Labels:
        """The labels of some of the columns."""
        columns = tuple(self.columns[i] for i in positions)
        return Labels(columns, self.target, self.description, self.units, self.meanings)

    def quantities(self) -> tuple[list[Quantity], Quantity]:
        """The inputs and the target as a spec names and describes them."""
        units, meanings = self.units or {}, self.meanings or {}
        made = []
        for label, name in zip(
            (*self.columns, self.target), (*identifiers(self.columns), self.target), strict=True
        ):
            meaning = meanings.get(label) or (label if label != name else "")
            made.append(Quantity(name, meaning, units.get(label, "")))
        return made[:-1], made[-1]


def _by_name(words: Words, names: Sequence[str], kind: str) -> dict[str, str]:
    if words is None:
        return {}
    if isinstance(words, Mapping):
        unknown = [str(key) for key in words if str(key) not in names]
        if unknown:
            raise UserError(f"{kind} names {unknown[0]!r}, which is no column; there are: {', '.join(names)}")
        return {str(key): str(value) for key, value in words.items() if value is not None}
    if isinstance(words, str) or len(words) not in (len(names) - 1, len(names)):
        raise UserError(f"{kind} must be a mapping, or one text per column in their order")
    return {name: str(value) for name, value in zip(names, words, strict=False) if value is not None}


def table_problem(
    inputs: np.ndarray, target: np.ndarray, labels: Labels, max_params: int | None = None
) -> Problem:
    """The problem whose train split is `inputs` (rows, columns) and `target` (rows,), float64 and finite."""
    quantities, wanted = labels.quantities()
    text = spec_text(quantities, wanted, labels.description, max_params)
    spec = parse_spec(text, "the generated spec")
    split = Split(np.ascontiguousarray(inputs), np.ascontiguousarray(target))
    return Problem("table", spec, labels.target, {"train": split})


def strongest_columns(inputs: np.ndarray, target: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The positions, ascending, of the `count` columns that a forest of random trees makes most use of."""
    from sklearn.ensemble import ExtraTreesRegressor

    step = -(-len(target) // 5000)
    forest = ExtraTreesRegressor(n_estimators=100, min_samples_leaf=2, random_state=seed)
    forest.fit(inputs[::step], target[::step])
    return np.sort(np.argsort(-forest.feature_importances_, kind="stable")[:count])
