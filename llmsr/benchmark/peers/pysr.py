"""PySR: SymbolicRegression.jl from Python. It needs Julia, which it downloads itself on its first import."""

from __future__ import annotations

import re

from pysr import PySRRegressor

from llmsr.benchmark.peers import PeerSettings
from llmsr.benchmark.peers.run import Budget, Report
from llmsr.problem.loading import Problem

ITERATIONS = 10  # between two reports
_FUNCTION = re.compile(r"\b(sin|cos|tanh|exp|log|sqrt|abs)\(")


def fit(problem: Problem, settings: PeerSettings, seed: int, budget: Budget, report: Report) -> None:
    """Search in one thread until the CPU seconds are spent; Julia's compilation is part of them.

    Every few iterations the member of least loss is reported.
    """
    model = PySRRegressor(
        niterations=ITERATIONS,
        binary_operators=["+", "-", "*", "/", "^"],
        unary_operators=["sin", "cos", "tanh", "exp", "log", "sqrt", "abs"],
        constraints={"^": (-1, 1)},
        maxsize=40,
        parallelism="serial",
        deterministic=True,
        random_state=seed,
        warm_start=True,
        model_selection="accuracy",
        progress=False,
        verbosity=0,
        temp_equation_file=True,
    )
    while budget.left > 0:
        model.set_params(timeout_in_seconds=max(1.0, budget.left))
        model.fit(problem.train.inputs, problem.train.target, variable_names=list(problem.spec.columns))
        best = model.equations_.sort_values("loss").iloc[0]
        report("return " + body_of(str(best["equation"])))


def body_of(text: str) -> str:
    """The equation's text as a Python expression with numpy's functions."""
    return _FUNCTION.sub(r"np.\1(", text.replace("^", "**"))
