import json
import os
import subprocess
import sys
from pathlib import Path

USAGE = Path(__file__).resolve().parents[1] / "gpu" / "usage.py"


def summary(tmp_path, code, path=os.environ["PATH"]):
    out = tmp_path / "usage.jsonl"
    command = [sys.executable, str(USAGE), str(out), sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, check=False)
    return done.returncode, json.loads(out.read_text().splitlines()[-1])["summary"]


def test_the_peak_of_every_gpu_and_of_the_host_is_recorded(tmp_path):
    """`nvidia-smi` is asked anew each second; here one answers that counts up on the first of two GPUs."""
    program = tmp_path / "nvidia-smi"
    asked = tmp_path / "asked"
    program.write_text(f"#!/bin/sh\necho x >> {asked}\necho $(($(wc -l < {asked}) * 1024))\necho 512\n")
    program.chmod(0o755)
    code = "import time; block = b'x' * (400 << 20); time.sleep(1.5)"
    returned, told = summary(tmp_path, code, f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert returned == told["exit_code"] == 0
    assert told["peak_gpu_gib"] == [len(asked.read_text().splitlines()), 0.5]
    assert told["peak_host_gib"] >= 0.39  # and whatever else began on this machine meanwhile
    assert told["seconds"] >= 1.5


def test_a_machine_without_a_gpu_has_none_and_a_failure_is_passed_on(tmp_path):
    returned, told = summary(tmp_path, "raise SystemExit(7)", path="/usr/bin:/bin")
    assert returned == told["exit_code"] == 7
    assert told["peak_gpu_gib"] == []
