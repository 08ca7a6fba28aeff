"""The finals: a few equations of different structure, the pick first."""

import json

import numpy as np

from llmsr.evaluator import Evaluator
from llmsr.problem.columns import Labels, table_problem
from llmsr.report.runs import Outputs
from llmsr.sample import Sample

BODIES = (
    "return params[0]*x**2",
    "return params[0]*x**2.1",
    "return params[0]*x**params[1]",
    "return params[0]*x + params[1]",
    "return params[0]*np.exp(params[1]*x)",
    "return params[0]*np.sin(x)",
    "return params[0]*np.tanh(x) + params[1]*x",
    "return params[0]*x**2 + params[1]*x",
    "return nothing",
)


def test_finals_differ_in_structure_and_begin_with_the_pick(tmp_path):
    x = np.linspace(1, 3, 60)
    problem = table_problem(x[:, None], 2 * x**2, Labels(("x",), "y"))
    with Evaluator(problem, workers=1) as evaluator:
        samples = [Sample(k, "", evaluator.evaluate(body)) for k, body in enumerate(BODIES, start=1)]
    outputs = Outputs(tmp_path, problem, {})
    for sample in samples:
        outputs.add(sample)
    assert "finals" not in outputs.result(complete=False)
    outputs.finish()
    result = json.loads((tmp_path / "result.json").read_text())
    finals = result["finals"]
    assert finals[0] == result["pick"]
    assert len(finals) == 5
    numbers = {final["sample"] for final in finals}
    assert len(numbers & {1, 2, 3}) == 1  # they differ in a number alone
    assert {4, 8} <= numbers
