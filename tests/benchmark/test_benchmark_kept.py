"""The measures that are kept with the project are those of the matrix that it ships."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from llmsr.benchmark.cells import CellDirectory
from llmsr.benchmark.plan import PEER, Plan, read_plan
from llmsr.benchmark.results import read_results
from llmsr.cli.benchmark import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = sorted((ROOT / "benchmarks" / "results").glob("seed*.tar.xz"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(ROOT / "configs" / "benchmark.yaml", SETTINGS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("kept")
    for archive in ARCHIVES:
        with tarfile.open(archive) as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):  # extractall has no filter in 3.11.2
                path = output / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
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
