"""The page for people who know PySR: what it names exists, its examples run."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from llmsr import SymbolicRegressor
from llmsr.declarations import Declarations
from llmsr.settings import ProposerConfig, SearchSettings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "pysr.md").read_text(encoding="utf-8")
EXAMPLES = (ROOT / "docs" / "pysr_examples.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", EXAMPLES, re.MULTILINE | re.DOTALL)
ROWS = [
    row.strip("| ").split(" | ") for row in PAGE.splitlines() if row.startswith("| ") and " | " in row[2:]
]


def test_at_most_six_rows_say_no():
    assert sum(right.startswith("**no**") for _, right in ROWS) == 6


def test_every_parameter_and_public_method_of_ours_is_named():
    said = " ".join(right for _, right in ROWS)
    ours = {name for name in inspect.signature(SymbolicRegressor).parameters if name != "search"}
    ours |= {"refit", "latex_table", "torch", "jax", "code", "uncertainty_", "equations_", "best_index_"}
    elsewhere = {"max_params", "proposer_options", "search_options", "problem_options"}
    assert {name for name in ours - elsewhere if name not in said} == set()


@pytest.mark.parametrize(
    ("options", "settings"),
    [("search", SearchSettings), ("problem", Declarations), ("proposer", ProposerConfig)],
)
def test_every_option_that_is_named_exists(options, settings):
    known = {field.name for field in fields(settings)}
    for inside in re.findall(rf"{options}_options={{(.*?)}}", PAGE + EXAMPLES):
        assert set(re.findall(r'"(\w+)": ', inside)) <= known


def test_every_flag_that_is_named_exists():
    flags = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    for flag in set(re.findall(r"--[a-z_]+", PAGE)):
        assert re.search(rf"{flag}\b", flags), flag


@pytest.mark.slow
def test_the_examples_run():
    assert len(BLOCKS) == 12
    code = "\n".join(BLOCKS)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr
