"""One equation as people read it: its line, LaTeX, sympy, Python and JSON, rounded and with all digits."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from keyword import iskeyword
from typing import Any

import numpy as np
from scipy.special import stdtrit

from llmsr.errors import UserError
from llmsr.expression import Refusal
from llmsr.expression.graph import Expression, evaluate
from llmsr.expression.printing import (
    fill,
    latex_name,
    latex_unit,
    to_latex,
    to_numpy_source,
    to_sympy,
    to_text,
)
from llmsr.fitting import split_nmse
from llmsr.fitting.uncertainty import LEVEL, Uncertainty, uncertainty
from llmsr.problem.columns import with_labels
from llmsr.problem.holes import hole_expressions
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec, read_body
from llmsr.problem.split import over_groups
from llmsr.report.markup import render
from llmsr.report.simplify import Simplified, simplify
from llmsr.sample import REFINEMENT, Sample

BLOCK_ROWS = 65_536
SYMPY_LIMIT = 400  # complexity; sympy's own algorithms work on the tree, and slowly
SYMPY_DEGREE = 2000  # sympy writes the number in (2*x)**n out

# what sympy raises where it cannot say an equation on real numbers
_SYMPY_ERRORS = (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError, RecursionError)


def expression_of(sample: Sample, spec: Spec) -> Expression:
    """The graph of an archived equation, read again from its body; `UserError` where that cannot be."""
    found = read_body(spec, sample.evaluation.body)
    if isinstance(found, Refusal) or sample.evaluation.params is None:
        reason = found.reason if isinstance(found, Refusal) else "it has no fitted constants"
        raise UserError(
            f"the archived equation of sample {sample.number} cannot be read with {spec.path} ({reason}); "
            "use the spec that the run was made with"
        )
    return found


def description(sample: Sample, target: str) -> dict[str, Any]:
    """What `result.json` says of a valid sample, whether it is on the front or not."""
    evaluation = sample.evaluation
    told = ("latex", "body", "params", "complexity", "train_mse", "nmse", "fitter", "engine")
    return {
        "sample": sample.number,
        "proposer": sample.proposer,
        "equation": f"{target} = {evaluation.expression}",
        **{name: getattr(evaluation, name) for name in told},
        "params": list(evaluation.params or ()),
        "nmse": dict(evaluation.nmse),
    }


@dataclass(frozen=True)
class Equation:
    """A fitted equation with all that is shown of it, free of the rows that it was fitted to.

    `labels` are its columns as the user names them, `target` likewise; both need not be identifiers. Forms
    are asked for as `exact`, with all digits of the fitted constants, or as simplified on the training rows.
    `simplified_nmse` has the errors of the latter, one per split. `uncertainty` is that of the constants.
    `units` are the texts of the columns' units and, last, the target's; empty where nothing is known.
    `parts` are what stands in the holes of a template. With `groups` the equation has one more column, the
    place of a row's group among these names; `law` is it without that, its constants left open.
    """

    sample: Sample
    expression: Expression
    simplified: Simplified
    target: str
    labels: tuple[str, ...]
    simplified_nmse: Mapping[str, float | None] = field(default_factory=dict)
    params_name: str = "params"
    problem: str = ""
    note: str = ""
    uncertainty: Uncertainty | None = None
    units: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    law: Expression | None = None

    @classmethod
    def of(cls, sample: Sample, problem: Problem, labels: tuple[str, ...] | None = None) -> Equation:
        """The equation of a problem's valid sample; without `labels` columns are called as in the spec."""
        law = expression = expression_of(sample, problem.spec)
        params, train, groups = sample.evaluation.params or (), problem.train, problem.groups
        if groups:
            column = problem.spec.asked.group
            expression = over_groups(law, column, len(groups), len(params) // len(groups))
            train = replace(train, inputs=train.with_group, group=None, groups=())
            labels = (*(labels or law.columns), column)
            error = sample.evaluation.nmse.get("train") or 0.0
            simplified = Simplified(fill(expression, params), error, exact=True)
        else:
            # at once and not on demand, so that an equation, and a pickled estimator, holds no rows
            simplified = simplify(expression, params, train)
        return cls(
            sample,
            expression,
            simplified,
            problem.target,
            labels or expression.columns,
            split_nmse(simplified.expression, (), problem),
            problem.spec.params_name,
            problem.name,
            problem.note,
            uncertainty(expression, params, train),
            tuple(problem.spec.units.get(name, "") for name in (*expression.columns, problem.target)),
            _parts(problem.spec, sample),
            groups,
            law if groups else None,
        )

    @property
    def params(self) -> tuple[float, ...]:
        return self.sample.evaluation.params or ()

    @property
    def complexity(self) -> int:
        return self.sample.evaluation.complexity or 0

    @property
    def nmse(self) -> Mapping[str, float | None]:
        """The errors with all digits, one per split; None where a prediction is not finite."""
        return self.sample.evaluation.nmse

    @property
    def is_refined(self) -> bool:
        """Whether it was made out of a sample by refinement."""
        return self.sample.kind == REFINEMENT

    @property
    def constants(self) -> dict[str, float]:
        """The fitted constants that the equation uses, by the author's names."""
        return {self._constant(i): self.params[i] for i in self.expression.params}

    def _constant(self, index: int) -> str:
        if not self.groups:
            return f"{self.params_name}[{index}]"
        group, own = divmod(index, len(self.params) // len(self.groups))
        return f"p{own} of {self.groups[group]}"

    @property
    def by_group(self) -> dict[str, dict[str, float]]:
        """The constants of every group, called as in `text`; empty without groups."""
        if self.law is None:
            return {}
        stride = len(self.params) // len(self.groups)
        return {
            name: {f"p{i}": self.params[place * stride + i] for i in self.law.params}
            for place, name in enumerate(self.groups)
        }

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """The prediction for inputs of shape (rows, columns), in blocks; not finite where undefined."""
        blocks = np.split(inputs, range(BLOCK_ROWS, len(inputs), BLOCK_ROWS))
        return np.concatenate([evaluate(self.expression, b, np.asarray(self.params)) for b in blocks])

    def predict_within(
        self, inputs: np.ndarray, level: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(prediction, standard deviation of a new row about it, half an interval of this level).

        All of shape (rows,). `UserError` where the fit tells no errors, or for a level outside 0 to 1.
        """
        level = LEVEL if level is None else level
        if not 0 < level < 1:
            raise UserError(f"an interval holds a share of the measurements between 0 and 1, not {level:g}")
        known = self.uncertainty
        if known is None or not np.isfinite(known.noise):
            raise UserError(
                "the fit tells no errors of predictions: they need the loss mse or huber, constants and more "
                "rows than constants"
            )
        deviation = known.prediction(self.expression, inputs)
        return self.predict(inputs), deviation, deviation * stdtrit(known.freedom, 0.5 + level / 2)

    def text(self, exact: bool = False) -> str:
        """`target = ...`, behind the intermediate results where the equation is too long for one line."""
        expression, params = self._shown(exact)
        before, mark, last = to_text(expression, params, digits=None).rpartition("; ")
        target = self.target if self.target.isidentifier() else f"`{self.target}`"
        labels = self.labels[: len(expression.columns)]
        return with_labels(f"{before}{mark}", expression.columns, labels) + (
            f"{target} = {with_labels(last, expression.columns, labels)}"
        )

    def latex(self, exact: bool = False) -> str:
        """`target = ...` in LaTeX without delimiters; an `aligned` block where it is long."""
        expression, params = self._shown(exact)
        symbols = [latex_name(label) for label in self.labels]
        name, right = latex_name(self.target), to_latex(expression, params, symbols, digits=None)
        if right.startswith(r"\begin{aligned}"):
            before, _, last = right.rpartition(r" \\ & ")
            return rf"{before} \\ {name} &= {last}"
        return f"{name} = {right}"

    def latex_units(self) -> str:
        """The symbols that have a unit, with it, as a LaTeX text; empty where none has."""
        names = [latex_name(name) for name in (*self.labels, self.target)]
        pairs = zip(names, self.units, strict=False)
        return ", ".join(f"${name}$ in ${latex_unit(unit)}$" for name, unit in pairs if unit)

    def sympy(self, exact: bool = False) -> Any:
        """The right-hand side over symbols named like the labels.

        ValueError where sympy cannot say it, or only too slowly.
        """
        if self.complexity > SYMPY_LIMIT or _degree(self.expression) > SYMPY_DEGREE:
            raise ValueError(f"the equation is larger than complexity {SYMPY_LIMIT}, too large for sympy")
        expression, params = self._form(exact)
        return to_sympy(replace(expression, columns=self.labels), params)

    def sympy_text(self, exact: bool = False) -> str:
        """The right-hand side as text that `sympy.sympify` reads; empty where sympy cannot say it.

        A column whose name means something to sympy, such as E or beta, has a `_` behind it there.
        """
        import sympy as sp

        try:
            formula = replace(self, labels=self._sympy_names()).sympy(exact)
            # no row can be an infinity, an interval or an imaginary number
            unreal = (sp.oo, -sp.oo, sp.zoo, sp.nan, sp.I, sp.AccumBounds)
            return "" if formula.has(*unreal) else str(formula)
        except _SYMPY_ERRORS:
            return ""

    def _sympy_names(self) -> tuple[str, ...]:
        import sympy as sp

        names = zip(self.labels, self.expression.columns, strict=True)
        plain = [label if label.isidentifier() else name for label, name in names]
        return tuple(f"{n}_" if hasattr(sp, n) or hasattr(builtins, n) or iskeyword(n) else n for n in plain)

    @cached_property
    def exact_sympy(self) -> str:
        """`sympy_text` with all digits, made once: of all forms it alone takes long."""
        return self.sympy_text(exact=True)

    def python(self) -> str:
        """The source of a module: `equation(*columns)` with all digits, `rounded(*columns)` for reading."""
        exact = to_numpy_source(self.expression, "equation", self.params)
        rounded = to_numpy_source(self.simplified.expression, "rounded", ())
        return render("best_equation.py.txt", e=self, exact=exact, rounded=rounded)

    @property
    def errors(self) -> dict[str, Any]:
        """The errors of the constants as plain data, see `Uncertainty.to_json`; of none no constants."""
        return self.uncertainty.to_json(list(self.constants)) if self.uncertainty else {"constants": {}}

    def tex(self) -> str:
        """A LaTeX file to be \\input into a document that uses amsmath."""
        return render("best_equation.tex", e=self)

    def to_json(self) -> dict[str, Any]:
        """What `result.json` says of a member of the front, beside its score."""
        return description(self.sample, self.target) | {
            "exact": self.text(exact=True),
            "constants": self.constants,
            "parts": dict(self.parts),
            "groups": self.by_group,
            "uncertainty": self.errors,
            "rounded": {
                "equation": self.text(),
                "latex": self.latex(),
                "nmse": dict(self.simplified_nmse),
                "recognised": [vars(r) for r in self.simplified.recognised],
            },
        }

    def _shown(self, exact: bool) -> tuple[Expression, tuple[float, ...] | None]:
        """What a line or LaTeX shows: of groups the law with open constants."""
        return self._form(exact) if self.law is None else (self.law, None)

    def _form(self, exact: bool) -> tuple[Expression, tuple[float, ...] | None]:
        return (self.expression, self.params) if exact else (self.simplified.expression, None)


def _parts(spec: Spec, sample: Sample) -> dict[str, str]:
    """What stands in the holes of the template, `f(x)` to its text; empty without a template."""
    found = hole_expressions(spec, sample.evaluation.body) if spec.template else {}
    if isinstance(found, Refusal) or spec.template is None:
        return {}
    params = sample.evaluation.params or ()
    return {spec.template.call(name): to_text(inner, params) for name, inner in found.items()}


def _degree(expression: Expression) -> float:
    """The largest power that multiplying out could bring, by the whole and constant exponents alone."""
    degrees: list[float] = []
    for op, args, _ in expression.nodes:
        inner = [degrees[a] for a in args] or [1.0]
        degree = sum(inner) if op == "mul" else max(inner)
        if op == "pow" and expression.nodes[args[1]].op == "const":
            degree = inner[0] * max(1.0, abs(float(expression.nodes[args[1]].value or 0.0)))
        degrees.append(degree)
    return max(degrees)
