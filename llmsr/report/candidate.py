"""An equation of a front with all that is shown of it, free of the data that it was fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from llmsr.expression.graph import Expression, evaluate
from llmsr.expression.printing import to_latex, to_sympy, to_text
from llmsr.expression.printing.latex import latex_name
from llmsr.problem.column_names import with_labels
from llmsr.report.tidy import Tidy
from llmsr.sample import Sample

BLOCK_ROWS = 65_536
SYMPY_LIMIT = 400  # complexity; sympy's own algorithms work on the tree, and slowly


@dataclass(frozen=True)
class Candidate:
    """A fitted equation. `labels` are its columns as the user names them, `target` likewise.

    `score` is what it gains on the next simpler one, see `llmsr.report.front.scores`.
    """

    sample: Sample
    expression: Expression
    tidy: Tidy
    labels: tuple[str, ...]
    target: str
    score: float = 0.0

    @property
    def params(self) -> tuple[float, ...]:
        return self.sample.evaluation.params or ()

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """The prediction for inputs of shape (rows, columns), in blocks; not finite where undefined."""
        predicted = np.empty(len(inputs))
        params = np.asarray(self.params)
        for start in range(0, len(inputs), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            predicted[rows] = evaluate(self.expression, inputs[rows], params)
        return predicted

    def text(self, exact: bool) -> str:
        """One line, `target = ...`; `exact` shows all digits of the fitted constants."""
        expression, params = self._form(exact)
        target = self.target if self.target.isidentifier() else f"`{self.target}`"
        shown = to_text(expression, params, digits=None)
        return f"{target} = {with_labels(shown, expression.columns, self.labels)}"

    def latex(self, exact: bool) -> str:
        expression, params = self._form(exact)
        symbols = [latex_name(label) for label in self.labels]
        return (
            f"{latex_name(self.target)} = {to_latex(expression, params, column_latex=symbols, digits=None)}"
        )

    def sympy(self, exact: bool) -> Any:
        """The right-hand side over real symbols with the user's names.

        ValueError where sympy cannot say it.
        """
        if (self.sample.evaluation.complexity or 0) > SYMPY_LIMIT:
            raise ValueError(f"the equation is larger than complexity {SYMPY_LIMIT}, too large for sympy")
        expression, params = self._form(exact)
        return to_sympy(replace(expression, columns=self.labels), params)

    @cached_property
    def row(self) -> dict[str, Any]:
        """What a table of equations shows of it."""
        evaluation = self.sample.evaluation
        try:
            formula = str(self.sympy(exact=False))
        except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError, RecursionError):
            formula = ""  # sympy cannot say every equation on real numbers
        return {
            "complexity": evaluation.complexity,
            "loss": evaluation.train_mse,
            "score": self.score,
            "equation": self.text(exact=False),
            "exact": self.text(exact=True),
            "sympy": formula,
            "latex": self.latex(exact=False),
            "nmse": evaluation.nmse.get("train"),
            "sample": self.sample.number,
        }

    def _form(self, exact: bool) -> tuple[Expression, Sequence[float] | None]:
        return (self.expression, self.params) if exact else (self.tidy.expression, None)
