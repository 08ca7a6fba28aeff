"""Ten thousand hostile texts through `python -m llmsr score`: is every one answered, and does it grow?

    python benchmarks/attack_soak.py [--count 10000] [--workers 2] [--seed 0]

Prints one JSON object: answers in order, statuses, seconds, and the parent's and the workers' resident memory
in MB over the tenths of the run. Exit code 1 if a line is missing, out of order, or scored falsely.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from hostile_texts import hostile_lines  # noqa: E402

FALSE_SCORE = 1e-9  # train NMSE on oscillator1 that no text of the generator can honestly reach


def resident_mb(pid: int) -> float:
    """A process's resident memory in MB; 0 once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0
    )


def below(pid: int) -> list[int]:
    """The process ids of all descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="texts")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--seed", type=int, default=0, help="of the generator")
    parser.add_argument("--keep", help="file that keeps the answers")
    asked = parser.parse_args()
    given = [identity for _, identity in hostile_lines(asked.count, asked.seed)]
    command = [sys.executable, "-m", "llmsr", "score", "--workers", str(asked.workers), "--fit_timeout", "2"]
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )

        def feed() -> None:
            assert process.stdin is not None
            for line, _ in hostile_lines(asked.count, asked.seed):
                process.stdin.write(line)
            process.stdin.close()

        threading.Thread(target=feed, daemon=True).start()
        found: list[dict] = []
        memory = []
        times = []
        kept = open(asked.keep, "wb") if asked.keep else None  # noqa: SIM115
        assert process.stdout is not None
        for line in process.stdout:
            found.append(json.loads(line))
            if kept is not None:
                kept.write(line)
            if len(found) % max(1, asked.count // 10) == 0:
                memory.append((resident_mb(process.pid), sum(map(resident_mb, below(process.pid)))))
                times.append(time.monotonic() - began)
        code = process.wait()
        errors.seek(0)
        told = errors.read().decode(errors="replace")
    false = [r for r in found if r["status"] == "ok" and r["nmse"]["train"] < FALSE_SCORE]
    in_order = [record["id"] for record in found] == given
    result = {
        "texts": asked.count,
        "exit_code": code,
        "standard_error": told[:500],
        "answers": len(found),
        "in_order": in_order,
        "false_scores": len(false),
        "statuses": dict(collections.Counter(record["status"] for record in found)),
        "seconds": round(time.monotonic() - began, 1),
        "parent_mb_by_tenths": [round(parent) for parent, _ in memory],
        "workers_mb_by_tenths": [round(workers) for _, workers in memory],
        "seconds_by_tenths": [round(t, 1) for t in times],
    }
    print(json.dumps(result, indent=2))
    return 0 if code == 0 and in_order and not false and not told else 1


if __name__ == "__main__":
    sys.exit(main())
