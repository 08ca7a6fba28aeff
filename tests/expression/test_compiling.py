"""What numba compiled is found again by the next process, and never once a source of it has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

PACKAGE = Path(__file__).resolve().parents[2] / "llmsr"
INNER = """from llmsr.expression.engine.compiling import jit


@jit
def inner(x):
    return x + {}
"""
OUTER = """from llmsr.expression.engine.compiling import jit
from llmsr.fitting.inner import inner


@jit
def outer(x):
    return 10 * inner(x)
"""
PROGRAM = """
from llmsr.expression.engine.kept import alone, folder, note_complete
from llmsr.fitting.outer import outer
with alone():
    answer = outer(1)
    note_complete()
print(answer, sum(outer.stats.cache_misses.values()), folder())
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with two compiled functions more, one inside the other."""
    kept_out = shutil.ignore_patterns("__pycache__", "*.safetensors")
    copy = shutil.copytree(PACKAGE, tmp_path / "llmsr", ignore=kept_out)
    (copy / "fitting" / "inner.py").write_text(INNER.format(1))
    (copy / "fitting" / "outer.py").write_text(OUTER)
    return copy


def start(package: Path, cache: str = "") -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": cache}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=package.parent,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> tuple[int, int, str]:
    out, _ = process.communicate(timeout=120)
    value, misses, folder = out.split()
    return int(value), int(misses), folder


def test_a_changed_function_is_compiled_anew_inside_its_callers(package: Path) -> None:
    assert answer(start(package))[:2] == (20, 1)
    assert answer(start(package))[:2] == (20, 0)
    (package / "fitting" / "inner.py").write_text(INNER.format(2))
    assert answer(start(package))[:2] == (30, 1)


def test_of_processes_that_start_together_one_compiles(package: Path) -> None:
    answers = [answer(process) for process in [start(package) for _ in range(3)]]
    assert [value for value, _, _ in answers] == [20] * 3
    assert sum(misses for _, misses, _ in answers) == 1
    assert len({folder for *_, folder in answers}) == 1


def test_where_nothing_can_be_written_each_process_compiles(package: Path) -> None:
    assert answer(start(package, cache="/dev/null/none")) == (20, 1, "None")
    assert not list(package.rglob("*.nbi"))


def test_a_folder_named_by_the_user_is_used(package: Path, tmp_path: Path) -> None:
    value, _, folder = answer(start(package, cache=str(tmp_path / "mine")))
    assert value == 20
    assert Path(folder).parent == tmp_path / "mine"


def test_a_machine_that_compiled_nothing_yet_is_known_without_the_compiler(tmp_path: Path) -> None:
    program = """
import sys
from llmsr.expression.engine.kept import is_compiled, note_complete
print(is_compiled(), "numba" in sys.modules)
note_complete()
print(is_compiled())
"""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "True"]


def test_no_compiled_function_is_outside_the_digest() -> None:
    from llmsr.expression.engine.kept import compiled_sources

    words = ("@jit", "@callback", "njit", "cfunc")
    found = {path for path in PACKAGE.rglob("*.py") if any(word in path.read_text() for word in words)}
    allowed = {PACKAGE / "expression" / "engine" / "compiling.py"}
    assert found - allowed <= set(compiled_sources())
