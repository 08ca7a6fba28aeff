"""Small problems and samples for tests of reports."""

from pathlib import Path

import numpy as np
from small_spec import spec_of

from llmsr.expression import parse
from llmsr.expression.graph import Expression, complexity, evaluate
from llmsr.fitting import split_nmse
from llmsr.problem.loading import Problem
from llmsr.problem.spec import parse_spec
from llmsr.problem.split import Split
from llmsr.sample import Evaluation, Sample

SPEC = spec_of(("x", "v", "t"), "Find the law.", "The law.")


def law(inputs: np.ndarray) -> np.ndarray:
    x, v, _ = inputs.T
    return 0.8 * np.sin(x) - 0.5 * v**3 + np.pi / 2 * x * v


def make_problem(truth=law, rows: int = 400, note: str = "") -> Problem:
    """A problem in x, v, t whose target is `truth` of uniform inputs."""
    generator = np.random.default_rng(1)
    splits = {}
    for name, width in (("train", 1.0), ("test_id", 1.0), ("test_ood", 2.0)):
        inputs = generator.uniform(-width, width, (rows, 3))
        splits[name] = Split(inputs, truth(inputs))
    return Problem("mine", parse_spec(SPEC, "mine.txt"), "a", splits, note=note)


def make_sample(problem: Problem, body: str, params=(), number: int = 1, **given) -> Sample:
    """A valid sample as the evaluator would archive it, with these constants."""
    expression = parse(body, problem.spec.columns, params_name=problem.spec.params_name)
    assert isinstance(expression, Expression), expression
    constants = tuple(params) + (1.0,) * (10 - len(params))
    train = problem.train
    mse = float(np.mean((evaluate(expression, train.inputs, np.array(constants)) - train.target) ** 2))
    evaluation = Evaluation(
        status="ok",
        body=body,
        expression=body,
        canonical=f"{number:016x}",
        complexity=complexity(expression),
        params=constants,
        score=-mse,
        train_mse=mse,
        nmse=split_nmse(expression, constants, problem),
        evaluations=1,
    )
    return Sample(number, body, evaluation, **given)


def fake_sample(number: int, size: int, loss: float, canonical: str | None = None, **given) -> Sample:
    """A valid sample of which only size and loss matter."""
    evaluation = Evaluation(
        status="ok",
        canonical=canonical or f"{number:016x}",
        complexity=size,
        score=-loss,
        train_mse=loss,
        nmse={"train": loss},
    )
    return Sample(number, "", evaluation, **given)


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
