"""Kills a search at random moments and resumes it: does its archive equal that of a run left alone?

    python benchmarks/kill_and_resume.py [--kills 50] [--budget 300] [--seed 0] [--refine run]

A run is killed by SIGKILL and resumed until it ends, then the next one begins, until all kills are used up.
Prints one JSON object; exit code 1 if an archive, a sample file or the result differs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from replays import completions, write_replay  # noqa: E402

from llmsr.archive import read_archive  # noqa: E402
from llmsr.sample import REFINE  # noqa: E402

# what a clock puts into a record, and which of two equal equations was the one to be fitted
VOLATILE = ("seconds", "elapsed", "fit_seconds", "cpu_seconds", "evaluations")


def command(run_dir: Path, replay: Path, budget: int, *more: str) -> list[str]:
    return [
        sys.executable,
        "main.py",
        *("--proposer", "replay", "--replay_path", str(replay), "--log_path", str(run_dir)),
        *("--workers", "1", "--budget", str(budget), "--islands", "3", "--reset_every", "50"),
        *more,
    ]


def state_of(run_dir: Path) -> tuple[list[dict], dict[str, dict], dict]:
    """Archive, sample files and result of a run, without what a clock put there."""
    records = [sample.to_record() for sample in read_archive(run_dir)]
    records = [{k: v for k, v in record.items() if k not in VOLATILE} for record in records]
    files = {path.name: json.loads(path.read_text()) for path in (run_dir / "samples").iterdir()}
    result = json.loads((run_dir / "result.json").read_text())
    return (
        records,
        files,
        {key: result.get(key) for key in ("best", "samples", "valid", "distinct", "tokens")},
    )


def archived(run_dir: Path) -> int:
    """Samples in a run's archive so far."""
    path = run_dir / "archive" / "search.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def run(command: list[str], kill_when: Callable[[], bool] = lambda: False) -> int | None:
    """The exit code, or None if the process was killed because `kill_when` said so."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            if kill_when():
                process.kill()
                process.wait()
                return None
            time.sleep(0.003)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"exit code {process.returncode}: {errors.read().decode()[-500:]}")
    return 0


def kill_and_resume(folder: Path, kills: int, budget: int, seed: int = 0, refine: str = "run") -> dict:
    """What became of runs that were killed `kills` times in all."""
    refining = ("--refine", refine)
    draw = random.Random(seed)
    replay = write_replay(folder / "texts.jsonl", completions(budget, seed))
    began = time.monotonic()
    run(command(folder / "whole", replay, budget, *refining))
    alone = time.monotonic() - began
    whole = state_of(folder / "whole")
    used, runs, equal, left_over = 0, 0, 0, []

    def moment(run_dir: Path) -> Callable[[], bool]:
        """In turn: after a drawn time, or once a drawn number of samples is archived."""
        if used >= kills:
            return lambda: False
        if used % 2:
            end = time.monotonic() + draw.uniform(0.0, alone)
            return lambda: time.monotonic() >= end
        samples = draw.randint(archived(run_dir), budget)
        return lambda: archived(run_dir) > samples

    while used < kills:
        run_dir, ended = folder / f"killed{runs}", False
        while not ended:
            resume = ["--resume"] if (run_dir / "archive").exists() else []
            ended = run(command(run_dir, replay, budget, *refining, *resume), moment(run_dir)) == 0
            if not ended:
                used += 1
                left_over.append(archived(run_dir))
        runs += 1
        equal += state_of(run_dir) == whole
    return {
        "kills": used,
        "runs": runs,
        "equal_to_the_run_left_alone": equal,
        "budget": budget,
        "refine": refine,
        "refinements": sum(record["proposer"] == REFINE for record in whole[0]),
        "seconds_left_alone": round(alone, 2),
        "archived_at_kills": left_over,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="in all")
    parser.add_argument("--budget", type=int, default=300, help="samples of each run")
    parser.add_argument("--seed", type=int, default=0, help="of bodies and moments")
    parser.add_argument("--refine", choices=("off", "run", "island"), default="run", help="as of main.py")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_resume(Path(folder), asked.kills, asked.budget, asked.seed, asked.refine)
    print(json.dumps(found, indent=2))
    return 0 if found["equal_to_the_run_left_alone"] == found["runs"] else 1


if __name__ == "__main__":
    sys.exit(main())
