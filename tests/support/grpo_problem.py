"""A small problem of its own for the tests of training: 80 rows of y = 2 x - 0.5 z."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_spec import spec_of

SPEC = spec_of(("x", "z"), "Find an equation for y, given x and z.", "Equation for y.")


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
