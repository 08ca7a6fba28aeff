"""The supply chain: what is installed is pinned and hashed, and importing reaches for nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-torch.lock", "requirements-gpu.lock"]


def entries(name: str) -> list[str]:
    """The requirements of a file, continued lines joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(name):
    for entry in entries(name):
        assert re.match(r"^[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==[\w.!+]+ ", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry[:80]


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_host_and_no_path(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?:i|f|-index|-find|-extra|-trusted)", text, re.MULTILINE)
    assert " @ " not in text


def locked(*names: str) -> dict[str, list[Requirement]]:
    """The locked packages by normal name; there are several where the version depends on Python's."""
    found: dict[str, list[Requirement]] = {}
    for name in names:
        for entry in entries(name):
            requirement = Requirement(entry.split(" --hash")[0].strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(requirement: Requirement) -> str:
    (one,) = requirement.specifier
    return one.version


def required(name: str) -> list[Requirement]:
    lines = [line.split("#")[0].strip() for line in entries(name)]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize(
    ("requirements", "locks"),
    [
        ("requirements.txt", ("requirements.lock", "requirements-torch.lock")),
        ("requirements-gpu.txt", ("requirements-gpu.lock",)),
    ],
)
def test_what_is_locked_is_what_is_required(requirements, locks):
    found = locked(*locks)
    for wanted in required(requirements):
        versions = [version(one) for one in found.get(canonicalize_name(wanted.name), [])]
        assert versions, f"{wanted} is not locked: run scripts/lock.sh"
        assert all(map(wanted.specifier.contains, versions)), (wanted, versions)


def test_the_versions_of_a_lock_exclude_each_other():
    for python in ("3.11", "3.12", "3.13"):
        for name, choices in locked("requirements.lock").items():
            environment = {"python_version": python, "python_full_version": f"{python}.1"}
            fitting = [one for one in choices if one.marker is None or one.marker.evaluate(environment)]
            assert len(fitting) <= 1, (name, python)


def test_the_gpu_lock_and_its_constraints_agree_on_python_3_11():
    found = locked("requirements-gpu.lock")
    environment = {"python_version": "3.11", "python_full_version": "3.11.7"}
    for wanted in required("constraints-gpu.txt"):
        if wanted.marker is None or wanted.marker.evaluate(environment):
            versions = [version(one) for one in found.get(canonicalize_name(wanted.name), [])]
            assert versions, f"{wanted} is not locked"
            assert all(map(wanted.specifier.contains, versions)), (wanted, versions)


def test_one_version_of_torch_is_named_everywhere():
    installed = re.search(r"^LLMSR_TORCH=(\S+)$", (ROOT / "scripts" / "venv.sh").read_text(), re.MULTILINE)
    assert installed is not None
    assert [version(one) for one in locked("requirements-torch.lock")["torch"]] == [installed.group(1)]


NO_NETWORK = """
import importlib, pkgutil, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError(f"a socket was opened: {args}")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import llmsr
for module in pkgutil.walk_packages(llmsr.__path__, "llmsr."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        assert not str(error.name).startswith("llmsr"), error
print("imported")
"""


@pytest.mark.slow
def test_importing_every_module_opens_no_connection_and_writes_no_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-B", "-c", NO_NETWORK],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1:] == ["imported"], done.stderr[-2000:]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and ".nv" not in path.parts]
    assert written == []
