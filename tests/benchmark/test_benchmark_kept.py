"""The kept measures are of the shipped matrix, whole, and what the shipped tables say."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from llmsr.benchmark.plan import PEER, Plan, read_plan
from llmsr.benchmark.results import Results, read_results
from llmsr.benchmark.runner import CellDirectory
from llmsr.benchmark.tables import write_pages
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


def test_what_a_failure_says_is_text_in_the_page_and_itself_in_the_summary(plan, tmp_path):
    hostile = 'exit code 1: <img src=x onerror="alert(1)"> a | b'
    results = Results(replace(plan, title="<b>bold</b>"), {}, [("oscillator1/<i>/seed0", hostile)], 3)
    write_pages(results, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not [part for part in ("<b>bold", "<i>", "<img") if part in page]
    assert "&lt;img src=x" in page
    assert f"- oscillator1/<i>/seed0: {hostile}" in (tmp_path / "summary.md").read_text(encoding="utf-8")
