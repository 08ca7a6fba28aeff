"""The supply chain: what is installed is pinned and hashed, and importing reaches for nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-torch.lock", "requirements-gpu.lock"]


def entries(name: str) -> list[str]:
    """The requirements of a file, continued lines joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[=<>!~;]", requirement)[0]).lower()


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


def test_every_requirement_is_locked():
    locked = {normal(entry) for name in LOCKS[:2] for entry in entries(name)}
    wanted = {normal(entry) for entry in entries("requirements.txt")}
    assert wanted <= locked
    assert normal("verl") in {normal(entry) for entry in entries("requirements-gpu.lock")}


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
