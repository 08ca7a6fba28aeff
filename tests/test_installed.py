"""The package as people install it: what its wheel holds, what importing it costs, other systems, extras."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from llmsr import __version__
from llmsr.errors import UserError
from llmsr.problem.loading import load_problem

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = (
    "torch",
    "transformers",
    "sklearn",
    "pandas",
    "pyarrow",
    "sympy",
    "numba",
    "openai",
    "rich",
    "jinja2",
)

# A system with neither the modules nor the calls that only Unix has.
ELSEWHERE = """
import importlib, os, pkgutil, sys
for name in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None
for name in ("fork", "pwrite", "pread", "O_CLOEXEC", "killpg", "getpgid"):
    delattr(os, name)
"""
FIT = """
from llmsr.evaluator import Evaluator
from llmsr.expression import parse
from llmsr.expression.canonical import canonicalize
from llmsr.fitting import fit
from llmsr.problem.loading import load_problem
problem = load_problem("oscillator1")
law = "return params[0]*np.sin(x) + params[1]*v**3 + params[2]*x**3 + params[3]*x*v + params[4]*x*np.cos(x)"
found = fit(canonicalize(parse(law, ("x", "v"))), problem)
assert found.status == "ok" and found.loss < 1e-20, found
"""


def python(code, folder=ROOT, **options):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, **options
    )


def test_the_command_line_loads_nothing_heavy_before_it_is_needed():
    code = f"""
import sys
sys.argv = ["llmsr", "run", "--help"]
from llmsr.cli import main
try:
    main()
except SystemExit:
    pass
print(sorted(set({HEAVY}) & sys.modules.keys()), file=sys.stderr)
"""
    done = python(code)
    assert done.stderr.strip() == "[]"
    assert "--budget" in done.stdout


def test_a_system_without_unix_calls_imports_and_fits():
    done = python(ELSEWHERE + FIT)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_problems_specs_model_and_types(tmp_path):
    source = tmp_path / "source"
    for name in ("llmsr", "data", "specs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert wheel.stat().st_size < 15e6
    assert {"llmsr/py.typed", "llmsr/proposers/skeleton_lm/model.safetensors"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    code = """
from llmsr.problem.loading import load_problem
print(load_problem("bactgrow").spec.path, len(load_problem("stressstrain").train))
"""
    (tmp_path / "empty").mkdir()
    done = python(code, tmp_path / "empty", env={"PYTHONPATH": str(tmp_path / "site")})
    assert done.stdout.split() == [
        str(tmp_path / "site/llmsr/shipped/specs/specification_bactgrow_numpy.txt"), "2161",
    ], done.stderr  # fmt: skip


def test_problems_of_ones_own_do_not_hide_the_shipped_ones(tmp_path, monkeypatch):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_problem("bactgrow").name == "bactgrow"
    with pytest.raises(UserError, match="oscilator"):
        load_problem("oscilator1")


def test_the_version_is_told_once_and_in_the_changelog():
    assert PROJECT["version"] == __version__
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(__version__)}\b", log, re.MULTILINE)


def test_the_scripts_of_a_clone_install_what_the_package_asks_for():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    installed = {Requirement(line).name: line for line in lines if line and not line.startswith("#")}
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["lm"], *extras["api"], *extras["rl"]]
    asked = [text for text in asked if not text.startswith("llmsr[")]
    assert sorted(asked) == sorted(installed.values())


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_the_extra_for_models_the_grammar_proposes_and_says_so(missing):
    code = f"""
import importlib.util as u
find = u.find_spec
u.find_spec = lambda name: None if name == {missing!r} else find(name)
from llmsr.proposers.choice import chosen_proposer
from llmsr.settings import ProposerConfig
print(chosen_proposer(ProposerConfig()), chosen_proposer(ProposerConfig(model_path="m")))
"""
    done = python(code)
    assert done.stdout.split() == ["grammar", "transformers"]
    assert "llmsr[lm]" in done.stderr
