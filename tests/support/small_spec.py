"""A spec file of few lines: the usual least squares over named columns."""

from collections.abc import Sequence

HEAD = """import numpy as np
from scipy.optimize import minimize
MAX_NPARAMS = 10
PRAMS_INIT = [1.0] * MAX_NPARAMS
"""
LEAST_SQUARES = """
    inputs, outputs = data["inputs"], data["outputs"]
    x, v = inputs[:, 0], inputs[:, 1]
    def loss(params):
        predicted = equation(x, v, params)
        return np.mean((predicted - outputs) ** 2)
    result = minimize(loss, PRAMS_INIT, method="BFGS")
    error = result.fun
    if np.isnan(error) or np.isinf(error):
        return None
    return -error
"""
EQUATION = "def equation(x, v, params):\n    return params[0] * x\n"


def spec_text(evaluate: str = LEAST_SQUARES, head: str = HEAD, equation: str = EQUATION) -> str:
    """The spec with this head, body of `evaluate` and `equation`; by default in columns x and v."""
    return f"{head}\n@evaluate.run\ndef evaluate(data):{evaluate}\n@equation.evolve\n{equation}"


def spec_of(columns: Sequence[str], task: str, target: str) -> str:
    """A spec in these columns that begins with a line in the first."""
    names = ", ".join(columns)
    unpacked = ", ".join(f"inputs[:, {i}]" for i in range(len(columns)))
    arguments = ", ".join(f"{name}: np.ndarray" for name in (*columns, "params"))
    evaluate = LEAST_SQUARES.replace("x, v = inputs[:, 0], inputs[:, 1]", f"{names} = {unpacked}")
    evaluate = evaluate.replace("equation(x, v,", f"equation({names},")
    equation = (
        f'def equation({arguments}) -> np.ndarray:\n    """{target}"""\n'
        f"    return params[0] * {columns[0]} + params[1]\n"
    )
    return spec_text(evaluate, f'"""{task}"""\n{HEAD}', equation)
