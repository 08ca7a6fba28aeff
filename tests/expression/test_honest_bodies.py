"""Bodies as language models write them are understood, and mean what plain numpy makes of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from llmsr.expression import Expression, Refusal, evaluate, parse


def bodies_of(name: str) -> list[dict]:
    """The cases of one file: columns, note and body each."""
    text = (Path(__file__).parents[1] / "support" / "bodies" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


BODIES = bodies_of("honest")
VERSIONS = {
    "equation_v0": "    return params[0] * x + params[1] * v\n",
    "equation_v1": "    y = equation_v0(x, v, params)\n    return y + params[2] * x ** 3\n",
}


def inputs_for(columns: list[str], seed: int = 0) -> np.ndarray:
    """Rows in the ranges of the problems, shape (200, columns)."""
    random = np.random.default_rng(seed)
    ranges = {
        "x": (-1.5, 1.5),
        "v": (-1, 1),
        "t": (0, 50),
        "temp": (1, 40),
        "pH": (2, 12),
        "strain": (0, 0.2),
    }
    return np.column_stack([random.uniform(*ranges.get(name, (1.0, 5.0)), 200) for name in columns])


def run_by_numpy(body: str, columns: list[str], inputs: np.ndarray, params: np.ndarray) -> np.ndarray:
    """What Python itself computes; only for bodies written in this repository."""
    versions = [
        f"def {name}(x, v, params):\n{text}"
        for name, text in VERSIONS.items()
        if f"{name}" in body or name[-1] == "0"
    ]
    source = "\n".join([*versions, f"def equation({', '.join(columns)}, params):\n{body}"])
    names: dict = {"np": np, "math": math}
    exec(source, names)
    with np.errstate(all="ignore"):
        return names["equation"](*(inputs[:, i].copy() for i in range(len(columns))), params.copy())


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case["note"])
def test_an_honest_body_equals_numpy(case: dict) -> None:
    columns, body = case["columns"], case["body"]
    expression = parse(body, columns, versions=VERSIONS if columns == ["x", "v"] else None)
    assert isinstance(expression, Expression), str(expression)
    inputs = inputs_for(columns)
    for params in (np.linspace(0.4, 2.2, 10), np.linspace(-1.3, 1.1, 10)):
        expected = run_by_numpy(body, columns, inputs, params)
        assert np.shape(expected) == (len(inputs),)
        result = evaluate(expression, inputs, params)
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("case", bodies_of("refused"), ids=lambda case: case["note"])
def test_an_honest_body_beyond_the_subset_is_refused_with_its_reason(case: dict) -> None:
    found = parse(case["body"], case["columns"])
    assert isinstance(found, Refusal)
    assert case["reason"] in found.reason
    assert found.line is not None


def test_there_are_enough_bodies_and_few_that_are_refused() -> None:
    assert len(BODIES) >= 60
    assert len(bodies_of("refused")) <= 0.1 * len(BODIES)
    assert len({case["body"] for case in BODIES}) == len(BODIES)


def test_the_usual_body_takes_about_a_millisecond() -> None:
    import time

    for case in BODIES:
        parse(case["body"], case["columns"], versions=VERSIONS)
    start = time.process_time()
    for case in BODIES:
        parse(case["body"], case["columns"], versions=VERSIONS)
    assert (time.process_time() - start) / len(BODIES) < 0.02
