"""The architecture holds: rooms import downwards, nobody in a circle, no module that is too long to read."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import house

# What breaks a rule; these lists may only shrink.
CIRCLES: set[tuple[str, ...]] = set()
UPWARD: set[str] = set()
LONG: set[str] = set()


@pytest.fixture(scope="module")
def modules():
    return house.read_modules()


def written(folder, sources):
    """The modules of a package that has these files."""
    for name, text in sources.items():
        path = folder / "llmsr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return house.read_modules(folder)


def test_no_modules_import_each_other_in_a_circle(modules):
    assert set(house.import_circles(modules)) <= CIRCLES


def test_a_room_imports_only_from_floors_below_its_own(modules):
    assert set(house.upward_imports(modules)) <= UPWARD


def test_every_module_can_be_read_in_one_go(modules):
    assert {m.name for m in modules.values() if m.lines > 400} <= LONG


def test_a_circle_over_a_late_import_is_found(tmp_path):
    made = written(
        tmp_path,
        {
            "files.py": "def f():\n    from llmsr.search import loop\n",
            "search/__init__.py": "",
            "search/loop.py": "from llmsr.archive import x\n",
            "archive.py": "import llmsr.files\n",
        },
    )
    assert house.import_circles(made) == [("llmsr.archive", "llmsr.files", "llmsr.search.loop")]
    assert house.upward_imports(made) == ["llmsr.files -> llmsr.search.loop"]


def test_what_only_a_type_checker_imports_does_not_count(tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from llmsr.cli import x\n"
    made = written(tmp_path, {"files.py": text, "cli.py": "import llmsr.files  # why\n"})
    assert made["llmsr.files"].imports == frozenset()
    assert made["llmsr.cli"].comments == 1


def test_a_room_without_a_floor_is_told(tmp_path):
    made = written(tmp_path, {"files.py": "import llmsr.attic\n", "attic.py": ""})
    with pytest.raises(KeyError, match="attic"):
        house.upward_imports(made)


@pytest.mark.slow
def test_a_way_is_recorded_in_the_parent_and_in_its_workers():
    house.compile_kernels()
    ways = {name: house.trace(name) for name in house.WAYS}
    for way in ways.values():
        assert {"llmsr.evaluator", "llmsr.workers.pool", "llmsr.workers.process"} <= set(way.modules)
        assert any(name.startswith("llmsr.fitting") for name in way.modules)
    assert "llmsr.archive" in ways["search sample"].modules
    assert any(name.startswith("llmsr.grpo") for name in ways["GRPO answer"].modules)
