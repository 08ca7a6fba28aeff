"""A table of the runs below a folder, training and search alike, with what `usage.py` recorded of each.

python tests/gpu/table.py OUT
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmsr.archive import read_archive
from llmsr.grpo.verl.launch import read_verl_metrics
from llmsr.sample import Sample, is_llm_sample

SPLITS = ("train", "test_id", "test_ood")
PEAK, MFU = "actor/perf/max_memory_allocated_gb", "perf/mfu/actor"
MARKS = (128, 256, 512, 1024, 1920)


def main() -> int:
    out = Path(sys.argv[1])
    for folder in sorted(path.parent for path in out.glob("*/archive")):
        samples = [s for s in read_archive(folder) if is_llm_sample(s)]
        if samples:
            print(f"## {folder.name}\n" + "\n".join(lines(folder, samples)) + "\n")
    return 0


def lines(folder: Path, samples: list[Sample]) -> list[str]:
    """What one run came to."""
    valid = [s for s in samples if s.evaluation.ok]
    distinct = {s.evaluation.canonical for s in valid}
    told = [
        f"samples {len(samples)}, valid {len(valid) / len(samples):.1%}, distinct {len(distinct)}, "
        f"tokens {sum(s.tokens for s in samples)}"
    ]
    rewards = [s.reward for s in samples if s.reward is not None]
    if rewards:
        fifth = max(1, len(rewards) // 6)
        first, last = statistics.fmean(rewards[:fifth]), statistics.fmean(rewards[-fifth:])
        told.append(f"mean reward {first:.3f} in the first sixth, {last:.3f} in the last")
    reached = []
    for mark in (*(m for m in MARKS if m < len(samples)), len(samples)):
        known = [s for s in samples[:mark] if s.evaluation.ok]
        best = min(known, key=_error, default=None)
        if best is not None:
            values = " / ".join(_figure(best.evaluation.nmse.get(split)) for split in SPLITS)
            reached.append(f"  {mark} samples, {best.elapsed:.0f} s when found: {values}")
    told += ["best NMSE so far, train / test_id / test_ood:", *reached]
    logs = sorted((folder / "metrics").glob("verl-*.jsonl"))
    steps = [metrics for path in logs for _, metrics in read_verl_metrics(path)][1:]  # the first warms up
    if steps:
        names = sorted({name for metrics in steps for name in metrics.phases})
        phases = [f"{n} {statistics.median([m.phases.get(n, 0.0) for m in steps]):.2f}" for n in names]
        whole = statistics.median([metrics.seconds for metrics in steps])
        told.append(f"seconds a step, median: {whole:.2f} ({', '.join(phases)})")
    told += list(_passes(logs))
    for path in sorted(folder.parent.glob(f"{folder.name}*.usage.jsonl")):
        summary = json.loads(path.read_text().splitlines()[-1]).get("summary")
        told.append(f"{path.name}: {json.dumps(summary) if summary else 'still running or killed'}")
    return told


def _passes(logs: Sequence[Path]) -> Iterator[str]:
    """VERL's own figures of its passes: the peak that they allocate, the share of the GPU's arithmetic."""
    records = [json.loads(line)["data"] for path in logs for line in path.read_text().splitlines()]
    peaks = [data[PEAK] for data in records if PEAK in data]
    if peaks:
        share = statistics.median([data[MFU] for data in records if MFU in data])
        yield f"peak of the training process: {max(peaks):.1f} GiB; MFU as VERL counts it: {share:.0%}"


def _error(sample: Sample) -> float:
    nmse = sample.evaluation.nmse.get("train")
    return math.inf if nmse is None else nmse


def _figure(value: float | None) -> str:
    return f"{value:.2e}" if value is not None else "-"


if __name__ == "__main__":
    sys.exit(main())
