"""Groups of rows that obey one law with constants of their own, and that law as one equation of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmsr.errors import UserError
from llmsr.expression.graph import Expression, Graph

MOST_GROUPS = 200


@dataclass
class GroupReader:
    """Reads a column of groups as numbers, as they come; `names` are the texts of its cells."""

    names: dict[str, int] = field(default_factory=dict)

    def __call__(self, series: Any) -> np.ndarray:
        """The numbers of a pandas series of texts, NaN where one is missing."""
        texts = [text.strip() if isinstance(text, str) else None for text in series]
        codes = [np.nan if text is None else self.names.setdefault(text, len(self.names)) for text in texts]
        return np.array(codes, dtype=float)

    def texts(self, codes: np.ndarray) -> np.ndarray:
        """The texts of numbers, an array of str."""
        return np.array(list(self.names), dtype=object)[codes.astype(int)]


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
