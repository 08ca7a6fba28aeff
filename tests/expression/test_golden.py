"""Answers of real models are read as the golden file keeps them; `scripts/golden.py` compares all of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "golden.py"
    spec = importlib.util.spec_from_file_location("golden", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_sample_of_the_kept_answers_is_read_and_fitted_as_before(golden: ModuleType) -> None:
    cases = golden.load()[::15]
    assert len(cases) > 300
    assert {case["found"]["status"] for case in cases} >= {"ok", "empty", "syntax", "unsupported"}
    assert any("nmse" in case["found"] for case in cases)
    kinds = golden.compare(cases)
    assert not kinds, golden.report(cases, kinds, 3)


def test_every_kind_of_difference_is_seen(golden: ModuleType) -> None:
    found = {"status": "ok", "form": "a", "complexity": 3, "values": [1.0, None, -2.0], "nmse": 1e-3}
    changed = {
        "status: ok -> syntax": {"status": "syntax"},
        "values": {"values": [1.0, None, -2.01]},
        "canonical form, values equal": {"form": "b"},
        "complexity, form equal": {"complexity": 4},
        "train NMSE: larger": {"nmse": None},
        "train NMSE: smaller": {"nmse": 1e-4},
    }
    for kind, change in changed.items():
        assert golden.difference(found, found | change) == kind
    assert golden.difference(found, dict(found)) is None
    assert golden.difference(found | {"nmse": 1e-12}, found | {"nmse": 1e-28}) is None
