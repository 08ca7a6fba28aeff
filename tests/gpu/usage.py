"""Run a command and record what it takes: GPU memory, host memory, seconds; a JSON line a second.

    python tests/gpu/usage.py OUT.jsonl COMMAND ARGUMENT...

Host memory is the proportional set size of every process that began after this one (Ray's daemons leave
their parent's tree), so nothing else should start beside it. GPU memory is what nvidia-smi calls used, per
device, other users of the device included. The last line is the summary; the exit code is the command's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 1.0


def main() -> int:
    out, command = Path(sys.argv[1]), sys.argv[2:]
    began, first = time.monotonic(), _start_ticks(Path("/proc/self"))
    peak_host = 0
    peak_gpus: list[int] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command)
        while True:
            code = process.poll()
            host, gpus = host_bytes(first), gpu_mebibytes()
            peak_host = max(peak_host, host)
            peak_gpus = [max(pair) for pair in zip(peak_gpus or gpus, gpus, strict=True)]
            seconds = round(time.monotonic() - began, 1)
            file.write(json.dumps({"seconds": seconds, "host_mib": host // 2**20, "gpu_mib": gpus}) + "\n")
            file.flush()
            if code is not None:
                break
            time.sleep(SECONDS)
        summary = {
            "summary": {"seconds": seconds, "peak_host_gib": round(peak_host / 2**30, 2),
                        "peak_gpu_gib": [round(g / 1024, 2) for g in peak_gpus], "exit_code": code}
        }  # fmt: skip
        file.write(json.dumps(summary) + "\n")
    return code


def host_bytes(first: int) -> int:
    """The memory of all processes that began at or after `first` clock ticks from boot."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if _start_ticks(folder) < first:
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended, or is not ours to look at
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def gpu_mebibytes() -> list[int]:
    """Used memory of every GPU; an empty list without nvidia-smi."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(line) for line in done.stdout.split()] if done.returncode == 0 else []


def _start_ticks(folder: Path) -> int:
    return int((folder / "stat").read_text().rpartition(")")[2].split()[19])


if __name__ == "__main__":
    sys.exit(main())
