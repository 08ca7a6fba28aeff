"""The forms of a fitted estimator's equations: text, LaTeX, sympy, code, a table, what a notebook shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.utils.validation import check_is_fitted

from llmsr.estimator.several import for_each_target
from llmsr.expression.graph import Graph
from llmsr.problem.columns import Labels, identifiers
from llmsr.report import exports
from llmsr.report.equation import Equation
from llmsr.report.front import PickedFront
from llmsr.report.markup import render
from llmsr.report.simplify import Simplified
from llmsr.sample import Evaluation, Sample


class Forms:
    """The part of `SymbolicRegressor` that writes its equations; `index` is a row of `equations_`.

    Of several targets each answer is a list with one for each target.
    """

    _front: PickedFront
    best_index_: int

    @for_each_target
    def latex(self, index: int | None = None, *, exact: bool = False) -> str:
        """The equation in LaTeX, the target's name included; its constants rounded unless `exact`.

        `index` is a row of `equations_`, None the pick.
        """
        return self._equation(index).latex(exact)

    @for_each_target
    def sympy(self, index: int | None = None, *, exact: bool = False) -> Any:
        """The right-hand side as a sympy expression; `subs({"x0": 1})` meets its symbols."""
        return self._equation(index).sympy(exact)

    @for_each_target
    def torch(self, index: int | None = None) -> Any:
        """A `torch.nn.Module` of X, shape (rows, columns shown); its constants are a trainable parameter."""
        return exports.to_torch(self._equation(index))

    @for_each_target
    def jax(self, index: int | None = None) -> tuple[Any, Any]:
        """(a function of X, shape (rows, columns shown), and constants; the fitted constants)."""
        return exports.to_jax(self._equation(index))

    @for_each_target
    def code(self, form: str, index: int | None = None) -> str:
        """The equation as text in a form of `llmsr.report.exports.FORMS`: c, julia, excel, python, ..."""
        if form not in exports.FORMS:
            raise ValueError(f"there is no form {form!r}; there are {', '.join(exports.FORMS)}")
        return exports.FORMS[form](self._equation(index))

    @for_each_target
    def latex_table(
        self, columns: Sequence[str] = ("complexity", "latex", "nmse"), *, digits: int = 3
    ) -> str:
        """Columns of `equations_` as a LaTeX tabular; the document needs booktabs and amsmath."""
        return exports.latex_table(self.equations_, columns, digits)

    @for_each_target
    def text(self, index: int | None = None, *, exact: bool = False) -> str:
        """The equation on one line, such as `y = 0.8*sin(x0) - 0.5*x1**3`."""
        return self._equation(index).text(exact)

    @property
    @for_each_target
    def equations_(self) -> Any:
        """The front as a DataFrame, one row per equation; `picked` marks the one that predicts."""
        check_is_fitted(self)
        table = self._front.table()
        return (
            table[["complexity", "loss", "length"]]
            .infer_objects()
            .assign(
                equation=table.rounded_equation,
                exact=table.equation,
                sympy=[equation.sympy_text() for equation in self._front.equations],
                latex=table.rounded_latex,
                nmse=table.nmse_train.astype(float),
                sample=table["sample"].astype(int),
                picked=table.picked == 1,
            )
        )

    # ---- in a notebook

    def _repr_latex_(self) -> str | None:
        """The pick between dollars; None before a fit and of several targets."""
        return f"${self.latex()}$" if hasattr(self, "_front") else None

    def _repr_html_(self) -> str | None:
        """The table of `_repr_mimebundle_`, for readers that know no bundles."""
        return self._repr_mimebundle_().get("text/html")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """The front with its equations typeset; before a fit scikit-learn's own picture of the estimator."""
        if not hasattr(self, "_front"):
            shown: dict[str, str] = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
            return shown
        return {
            "text/plain": f"{self!r}\n{self.text()}",
            "text/html": render("front.html", title=repr(self), front=self._front, best=self.best_index_),
            "text/latex": f"${self.latex()}$",
        }

    @property
    def _best(self) -> Equation:
        return self._front.equations[self.best_index_]

    def _equation(self, index: int | None) -> Equation:
        check_is_fitted(self)
        return self._best if index is None else self._front.equations[index]


def constant_front(labels: Labels, value: float) -> PickedFront:
    """The front of a target that does not vary: its only equation."""
    graph = Graph()
    expression = graph.expression(graph.const(value), identifiers(labels.columns))
    evaluation = Evaluation(
        "ok", body=f"return {value!r}", complexity=1, params=(), score=-0.0, train_mse=0.0
    )
    simplified = Simplified(expression, 0.0, exact=True)
    equation = Equation(Sample(0, "", evaluation), expression, simplified, labels.target, labels.columns)
    return PickedFront((equation,), (0.0,), 0)
