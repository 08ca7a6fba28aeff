"""Settings name what there is to choose, and refuse numbers that are out of bounds."""

import math
from dataclasses import dataclass

import pytest

from llmsr import context, fitting, settings
from llmsr.config import Checked, option
from llmsr.errors import UserError
from llmsr.grpo import settings as training
from llmsr.grpo.advantage import batch_advantages


def test_the_choices_of_a_setting_are_those_that_are_done():
    assert tuple(context.CONTEXTS) == settings.CONTEXTS
    assert settings.FITTERS == fitting.MODES
    for name in training.ADVANTAGES:
        found = batch_advantages([0.1, 0.5, 0.9, -0.5], ["a"] * 4, name)
        assert len(found) == 4


@dataclass(frozen=True)
class Numbers(Checked):
    """numbers"""

    positive: float = option(1.0, "", above=0)
    count: int | None = option(None, "", least=2)
    weight: float = option(0.0, "", least=0)
    share: float = option(0.5, "", above=0, most=1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"positive": 0.0}, "--positive must be a positive number, got 0.0"),
        ({"positive": math.nan}, "--positive must be a positive number, got nan"),
        ({"positive": math.inf}, "--positive must be a positive number, got inf"),
        ({"count": 1}, "--count must be at least 2, got 1"),
        ({"weight": -1.0}, "--weight must be a finite number of at least 0, got -1.0"),
        ({"weight": math.nan}, "--weight must be a finite number of at least 0, got nan"),
        ({"share": 0.0}, "--share must be above 0 and at most 1, got 0.0"),
        ({"share": 1.1}, "--share must be above 0 and at most 1, got 1.1"),
    ],
)
def test_a_number_out_of_bounds_is_one_sentence(given, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        Numbers(**given)


def test_numbers_at_their_bounds_are_taken():
    Numbers(positive=1e-300, count=2, weight=0.0, share=1.0)
