"""The kept measures are of the shipped matrix, whole, and what the shipped tables say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from llmsr.benchmark.plan import PEER, Plan, read_plan
from llmsr.benchmark.results import read_results
from llmsr.benchmark.runner import CellDirectory
from llmsr.cli.benchmark import SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    spec = importlib.util.spec_from_file_location("comparison", ROOT / "scripts" / "comparison.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(ROOT / "configs" / "benchmark.yaml", SETTINGS)


@pytest.fixture(scope="module")
def kept(comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("kept")
    comparison.unpack(output)
    return output


def test_every_kept_run_is_a_cell_of_the_shipped_matrix(plan, kept):
    cells = {output for cell in plan.cells if (output := kept / cell.place).is_dir()}
    assert cells == {path.parent for path in kept.glob("cells/*/*/*/cell.json")}
    for cell in plan.cells:
        CellDirectory(cell, kept / cell.place).check()  # raises where flags or budget are others


def test_every_kept_run_is_whole(plan, kept):
    runs = [m for runs in read_results(plan, kept).runs.values() for m in runs]  # the finished ones alone
    assert len(runs) == len(list(kept.glob("cells/*/*/*/cell.json"))) > 0
    assert all(m["kind"] == PEER or m["samples"] == m["budget"] for m in runs)


def test_the_tables_say_what_the_kept_measures_say(comparison):
    page = (ROOT / "docs" / "comparison_tables.md").read_text(encoding="utf-8")
    hint = "run: python scripts/comparison.py > docs/comparison_tables.md"
    assert page == comparison.tables(), hint
