"""Which GPUs the meter watches: those that CUDA_VISIBLE_DEVICES leaves to the command."""

import os

import pytest

from llmsr.benchmark.meter import Gpus

TWO_GPUS = """#!/bin/sh
case "$*" in
  *--id=1*) echo 512;;
  *) echo 1024; echo 512;;
esac
"""


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """`nvidia-smi` of a machine with two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(TWO_GPUS)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(("visible", "watched"), [(None, [0, 0]), ("1", [0]), ("", None)])
def test_only_visible_gpus_are_watched(visible, watched, two_gpus, monkeypatch):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Gpus(watch=True).held() == watched


def test_none_is_watched_unless_asked(two_gpus):
    assert Gpus(watch=False).held() is None
