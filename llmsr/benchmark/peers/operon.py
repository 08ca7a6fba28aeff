"""pyoperon: Operon's genetic programming in C++, constants by Levenberg-Marquardt, in single precision."""

from __future__ import annotations

import re

from pyoperon.sklearn import SymbolicRegressor

from llmsr.benchmark.peers import PeerSettings
from llmsr.benchmark.peers.run import Budget, Report
from llmsr.problem.loading import Problem

SYMBOLS = "add,sub,mul,div,pow,sin,cos,tanh,exp,log,sqrt,abs,square,constant,variable"
GENERATIONS = 20  # between two reports
DIGITS = 17
_FUNCTION = re.compile(r"\b(sin|cos|tanh|exp|log|sqrt|abs)\(")


def fit(problem: Problem, settings: PeerSettings, seed: int, budget: Budget, report: Report) -> None:
    """Evolve until the CPU seconds are spent, reporting the best equation every few generations.

    Each stretch goes on from the last one's individuals with a seed of its own.
    """
    model = SymbolicRegressor(
        allowed_symbols=SYMBOLS,
        population_size=settings.population_size,
        generations=GENERATIONS,
        max_evaluations=10**12,
        optimizer_iterations=3,
        n_threads=1,
        warm_start=True,
    )
    stretch = 0
    while budget.left > 0:
        model.set_params(random_state=1 + 100_003 * seed + stretch, max_time=max(1, int(budget.left)))
        model.fit(problem.train.inputs, problem.train.target)
        text = model.get_model_string(model.model_, DIGITS, list(problem.spec.columns))
        report("return " + body_of(text))
        stretch += 1


def body_of(text: str) -> str:
    """Operon's infix text as a Python expression with numpy's functions."""
    return _FUNCTION.sub(r"np.\1(", text.replace("^", "**"))
