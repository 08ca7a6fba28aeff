"""Other optimisers: each takes a body and a problem and returns the mean squared error on the train rows.

They execute bodies, so only trusted ones. `fit_engine.py` puts them beside our fit.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import numpy as np
from scipy import optimize

from llmsr.expression import parse
from llmsr.problem.loading import Problem


def executed(body: str, columns: tuple[str, ...]) -> Callable:
    """The body as a Python function of the columns and params."""
    namespace: dict = {"np": np}
    exec(f"def equation({', '.join(columns)}, params):\n{textwrap.indent(body, '    ')}", namespace)
    return namespace["equation"]


def scipy_least_squares(body: str, problem: Problem) -> float:
    equation, train = executed(body, problem.spec.columns), problem.train
    columns = list(train.inputs.T)
    used = parse(body, problem.spec.columns).params
    params = np.ones(10)

    def residual(theta: np.ndarray) -> np.ndarray:
        params[list(used)] = theta
        return equation(*columns, params) - train.target

    found = optimize.least_squares(residual, np.ones(len(used)), method="lm" if used else "trf")
    return 2.0 * float(found.cost) / len(train)


def torch_bfgs(body: str, problem: Problem) -> float:
    import torch

    from llmsr.expression.printing import callable_for

    equation = callable_for(parse(body, problem.spec.columns), "torch")
    columns = [torch.from_numpy(np.ascontiguousarray(c)) for c in problem.train.inputs.T]
    target = torch.from_numpy(problem.train.target)

    def value_and_slope(theta: np.ndarray) -> tuple[float, np.ndarray]:
        params = torch.tensor(theta, requires_grad=True)
        loss = ((equation(*columns, params) - target) ** 2).mean()
        loss.backward()
        slope = np.zeros(10) if params.grad is None else params.grad.numpy()
        return loss.item(), slope

    return float(optimize.minimize(value_and_slope, np.ones(10), jac=True, method="BFGS").fun)


def operon_levenberg_marquardt() -> Callable[[str, Problem], float]:
    from operon_peer import Fitter

    fitters: dict[str, Fitter] = {}

    def fitted(body: str, problem: Problem) -> float:
        if problem.name not in fitters:
            fitters[problem.name] = Fitter(problem.train)
        return fitters[problem.name](parse(body, problem.spec.columns))

    return fitted
