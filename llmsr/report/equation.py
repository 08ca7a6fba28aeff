"""One equation of a run in every form that people want: text, LaTeX, sympy, Python, rounded and exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from llmsr.errors import UserError
from llmsr.expression import Refusal
from llmsr.expression.graph import Expression
from llmsr.expression.printing import to_latex, to_numpy_source, to_sympy, to_text
from llmsr.fitting.metrics import split_nmse
from llmsr.problem.bodies import read_body
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec
from llmsr.report.tidy import Tidy, tidy
from llmsr.sample import Sample

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


@dataclass(frozen=True)
class Equation:
    """A valid sample with its graph. The forms are exact, to the last digit, where not called tidy.

    `score` is its gain on the front, see `front.scores`.
    """

    sample: Sample
    problem: Problem
    expression: Expression
    score: float = 0.0

    @classmethod
    def of(
        cls, sample: Sample, problem: Problem, score: float = 0.0, known: Equation | None = None
    ) -> Equation:
        """The equation of a sample; `known` is the same one with another score, whose work is kept."""
        if known is None:
            return cls(sample, problem, expression_of(sample, problem.spec), score)
        made = replace(known, score=score)
        made.__dict__.update({k: v for k, v in known.__dict__.items() if k not in made.__dict__})
        return made

    @property
    def target(self) -> str:
        return self.problem.target

    @property
    def params(self) -> tuple[float, ...]:
        return self.sample.evaluation.params or ()

    @property
    def constants(self) -> dict[str, float]:
        """The fitted constants that the equation uses, by the author's names."""
        return {f"{self.problem.spec.params_name}[{i}]": self.params[i] for i in self.expression.params}

    @cached_property
    def tidy(self) -> Tidy:
        """The equation with short constants and without terms that do not matter."""
        return tidy(self.expression, self.params, self.problem.train)

    @cached_property
    def tidy_nmse(self) -> Mapping[str, float | None]:
        """The NMSE of the tidied equation on every split."""
        return split_nmse(self.tidy.expression, (), self.problem)

    @cached_property
    def text(self) -> str:
        return self._text(self.expression, self.params)

    @cached_property
    def tidy_text(self) -> str:
        return self._text(self.tidy.expression, None)

    @cached_property
    def latex(self) -> str:
        return self._latex(self.expression, self.params)

    @cached_property
    def tidy_latex(self) -> str:
        return self._latex(self.tidy.expression, None)

    @cached_property
    def sympy(self) -> str:
        """The right-hand side in sympy's syntax; empty where sympy cannot say it, or only too slowly."""
        if (self.sample.evaluation.complexity or 0) > SYMPY_LIMIT or _degree(self.expression) > SYMPY_DEGREE:
            return ""
        try:
            formula = _by_sympy_names(to_sympy(self.expression, self.params))
            return str(formula) if _is_real(formula) else ""
        except _SYMPY_ERRORS:
            return ""

    @cached_property
    def python(self) -> str:
        """The source of `equation(*columns)` with its constants, needing only numpy as np."""
        return to_numpy_source(self.expression, "equation", self.params)

    @cached_property
    def tidy_python(self) -> str:
        return to_numpy_source(self.tidy.expression, "rounded", ())

    def _text(self, expression: Expression, params: tuple[float, ...] | None) -> str:
        """`target = ...`, behind the intermediate results where the equation is too long for one line."""
        before, mark, last = to_text(expression, params, digits=None).rpartition("; ")
        return f"{before}{mark}{self.target} = {last}"

    def _latex(self, expression: Expression, params: tuple[float, ...] | None) -> str:
        from llmsr.expression.printing.latex import latex_name

        name, right = latex_name(self.target), to_latex(expression, params, digits=None)
        if right.startswith(r"\begin{aligned}"):
            before, _, last = right.rpartition(r" \\ & ")
            return rf"{before} \\ {name} &= {last}"
        return f"{name} = {right}"


def _by_sympy_names(formula: Any) -> Any:
    """The formula with Min, Max, Mod and floor for undefined functions, so that sympy reads its text.

    Nothing is evaluated, which for Min and Max can take long.
    """
    import sympy as sp

    named = {
        "minimum": lambda a, b: sp.Min(a, b, evaluate=False),
        "maximum": lambda a, b: sp.Max(a, b, evaluate=False),
        "fmin": lambda a, b: sp.Min(a, b, evaluate=False),
        "fmax": lambda a, b: sp.Max(a, b, evaluate=False),
        "mod": lambda a, b: sp.Mod(a, b, evaluate=False),
        "floordiv": lambda a, b: sp.floor(a / b, evaluate=False),
    }
    present = {f.func.__name__ for f in formula.atoms(sp.core.function.AppliedUndef)}
    for name in present & named.keys():
        formula = formula.replace(sp.Function(name), named[name])
    return formula


def _is_real(formula: Any) -> bool:
    """Whether the formula is free of infinities, intervals and imaginary numbers, which no row can be."""
    import sympy as sp

    return not formula.has(sp.oo, -sp.oo, sp.zoo, sp.nan, sp.I, sp.AccumBounds)


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
