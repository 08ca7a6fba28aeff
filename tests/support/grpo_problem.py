"""A small problem of its own for the tests of training: 80 rows of y = 2 x - 0.5 z."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SPEC = '''"""Find an equation for y, given x and z."""

import numpy as np
from scipy.optimize import minimize

MAX_NPARAMS = 10
PRAMS_INIT = [1.0] * MAX_NPARAMS


@evaluate.run
def evaluate(data: dict) -> float:
    """Score of the equation: minus the mean squared error."""
    inputs, outputs = data["inputs"], data["outputs"]
    x, z = inputs[:, 0], inputs[:, 1]

    def loss(params):
        predicted = equation(x, z, params)
        return np.mean((predicted - outputs) ** 2)

    result = minimize(loss, PRAMS_INIT, method="BFGS")
    error = result.fun
    if np.isnan(error) or np.isinf(error):
        return None
    return -error


@equation.evolve
def equation(x: np.ndarray, z: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Equation for y."""
    return params[0] * x + params[1]
'''


def write_problem(folder: Path, name: str = "plane") -> tuple[str, str]:
    """Write spec and data below `folder`; the spec's path and the data folder come back."""
    random = np.random.default_rng(0)
    for split in ("train", "test_id", "test_ood"):
        rows = random.uniform(-2, 2, (80, 2)) * (2 if split == "test_ood" else 1)
        target = 2 * rows[:, 0] - 0.5 * rows[:, 1] + 0.1 * rows[:, 0] ** 3
        path = folder / "data" / name / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = np.column_stack([rows, target])
        np.savetxt(path, table, delimiter=",", header="x,z,y", comments="")
    spec = folder / "spec.txt"
    spec.write_text(SPEC)
    return str(spec), str(folder / "data")
