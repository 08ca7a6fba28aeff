"""gplearn: genetic programming on trees with protected functions; else its own defaults."""

from __future__ import annotations

import numpy as np
from gplearn.functions import make_function
from gplearn.genetic import SymbolicRegressor

from llmsr.benchmark.peers import PeerSettings
from llmsr.benchmark.peers.run import Budget, Report
from llmsr.problem.loading import Problem

MOST_GENERATIONS = 100_000
LARGEST_EXPONENT = 50.0

# what its protected functions compute, in words that our reader knows
HELPERS = """add = lambda a, b: a + b
sub = lambda a, b: a - b
mul = lambda a, b: a * b
div = lambda a, b: np.where(np.abs(b) > 0.001, a / b, 1.0)
sqrt = lambda a: np.sqrt(np.abs(a))
log = lambda a: np.where(np.abs(a) > 0.001, np.log(np.abs(a)), 0.0)
sin = lambda a: np.sin(a)
cos = lambda a: np.cos(a)
exp = lambda a: np.exp(np.minimum(a, 50.0))
"""


def _exp(values: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(values, LARGEST_EXPONENT))


def fit(problem: Problem, settings: PeerSettings, seed: int, budget: Budget, report: Report) -> None:
    """Evolve generation by generation until the CPU seconds are spent, reporting each generation's best."""
    exponential = make_function(function=_exp, name="exp", arity=1)
    model = SymbolicRegressor(
        population_size=settings.population_size,
        function_set=("add", "sub", "mul", "div", "sqrt", "log", "sin", "cos", exponential),
        metric="mse",
        feature_names=list(problem.spec.columns),
        warm_start=True,
        low_memory=True,
        random_state=seed,
        generations=0,
    )
    while budget.left > 0 and model.generations < MOST_GENERATIONS:
        model.set_params(generations=model.generations + 1)
        model.fit(problem.train.inputs, problem.train.target)
        report(f"{HELPERS}return {model._program}")
