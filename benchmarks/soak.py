"""A long search by replay: do memory and samples per second stay flat from the first to the last tenth?

    python benchmarks/soak.py [--samples 50000] [--workers 1] [--seed 0]

The bodies are cheap to fit and nearly all different. Prints one JSON object with samples per second and the
parent's and the workers' resident memory in MB at the end of every tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests" / "support")]

from attack_soak import below, resident_mb  # noqa: E402
from replays import TERMS  # noqa: E402

FUNCTIONS = ("np.sin", "np.cos", "np.tanh", "np.exp", "np.abs", "")


def bodies(count: int, seed: int, path: Path) -> Path:
    """A replay file of `count` bodies, linear in their constants; a tenth repeats, a tenth is faulty."""
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        text = "    return params[0] * x\n"
        for _ in range(count):
            kind = draw.random()
            if kind < 0.1:
                shown = f"    return params[0] * x + undefined_{draw.randrange(10**6)}\n"
            elif kind < 0.2:
                shown = text
            else:
                terms = [draw.choice(TERMS).format(i) for i in range(draw.randint(1, 3))]
                factor = f"{draw.choice(FUNCTIONS)}({draw.uniform(-2, 2):.3f} * {draw.choice('xv')})"
                text = shown = f"    return {' + '.join(terms)} + params[4] * {factor}\n"
            file.write(json.dumps({"completion": shown}) + "\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000, help="in all")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--seed", type=int, default=0, help="of bodies and search")
    parser.add_argument("--search", default="islands", help="as of main.py")
    asked = parser.parse_args()

    import os

    from llmsr.archive import Archive
    from llmsr.evaluator import Evaluator
    from llmsr.problem.loading import load_problem
    from llmsr.proposers.proposer import Replay
    from llmsr.report.runs import Outputs
    from llmsr.search.search import Search
    from llmsr.search.totals import write_sample_file
    from llmsr.settings import SearchSettings

    problem = load_problem("oscillator1", None, str(ROOT / "data"))
    marks: list[tuple[float, float, float]] = []

    def watch(sample: object, totals: object) -> None:
        if totals.samples % max(1, asked.samples // 10) == 0:  # type: ignore[attr-defined]
            workers = sum(map(resident_mb, below(os.getpid())))
            marks.append((time.monotonic(), resident_mb(os.getpid()), workers))

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        replay = Replay(bodies(asked.samples, asked.seed, Path(folder) / "bodies.jsonl"))
        evaluator = stack.enter_context(Evaluator(problem, workers=asked.workers))
        archive = stack.enter_context(Archive(folder))
        outputs = Outputs(folder, problem, {})
        settings = SearchSettings(budget=asked.samples, seed=asked.seed, search=asked.search, refine="off")
        observers = [outputs, lambda s, _: write_sample_file(Path(folder), problem.spec, s), watch]
        search = Search(problem, replay, evaluator, archive, settings, observers)
        began = time.monotonic()
        totals = search.run()
        times = [began, *(mark[0] for mark in marks)]
        members = [len(island.members) for island in getattr(search.population, "islands", [])]
        found = {
            "samples": totals.samples,
            "valid": totals.valid,
            "distinct": totals.distinct,
            "largest_island": max(members, default=0),
            "seconds": round(times[-1] - began, 1),
            "samples_per_second_by_tenths": [
                round(asked.samples / 10 / (b - a), 1) for a, b in itertools.pairwise(times)
            ],
            "parent_mb_by_tenths": [round(mark[1], 1) for mark in marks],
            "workers_mb_by_tenths": [round(mark[2], 1) for mark in marks],
        }
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
