"""What `--workers` may say."""

import builtins

import pytest

from llmsr.cli.score import ScoreSettings
from llmsr.config import parse_workers
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.problem.loading import load_problem
from llmsr.settings import RunSettings


@pytest.mark.parametrize(("text", "found"), [("0", 0), ("2", 2), (3, 3), ("ray", "ray"), (" RAY ", "ray")])
def test_workers_are_a_number_or_ray(text, found):
    assert parse_workers(text) == found


@pytest.mark.parametrize("text", ["-1", "two", "1.5", "", "²", "99999999"])
def test_anything_else_is_a_sentence_before_anything_starts(text):
    with pytest.raises(UserError, match="or ray"):
        RunSettings(workers=text)
    with pytest.raises(UserError, match="or ray"):
        ScoreSettings(workers=text)


def test_without_ray_its_installation_is_named(monkeypatch):
    real = builtins.__import__

    def without_ray(name, *args, **kwargs):
        if name == "ray":
            raise ImportError("no module named ray")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(UserError, match="pip install ray"):
        Evaluator(load_problem("oscillator1"), workers="ray")
