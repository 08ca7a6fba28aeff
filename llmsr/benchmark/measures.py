"""What one run came to, from its archive and its meter alone: a few kilobytes that everything later reads.

    python -m llmsr.benchmark.measures DIR/cells/oscillator1/islands/seed0      measures a finished run anew

LLM samples are counted without refinements and validation answers; a refinement belongs to the sample that it
refines. The equation is picked by the training rows alone: the least NMSE, and below 1e-26, where differences
are rounding, the smallest equation. Errors on test_id and test_ood are then looked up, None where a
prediction is not finite.
"""

from __future__ import annotations

import itertools
import json
import math
import runpy
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.archive import read_archive
from llmsr.benchmark.plan import GRPO, PEER
from llmsr.benchmark.runner import read_json, read_usages
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.fitting import predict, within_tolerance
from llmsr.problem.loading import Problem, load_problem, locate
from llmsr.report.equation import expression_of
from llmsr.report.front import NMSE_FLOOR, Front, PickedFront
from llmsr.sample import REFINEMENT, VALIDATION, Sample, is_llm_sample

THRESHOLDS = ("0.01", "0.0001", "1e-06", "1e-10")  # of the training NMSE
TAU = 0.1  # of Acc_tau
SPLITS = ("train", "test_id", "test_ood")
COSTS = ("samples", "tokens", "cpu_seconds", "gpu_seconds", "seconds", "fits")
SHOWN_CHARACTERS = 400  # of an equation


def measure(directory: Path) -> dict[str, Any]:
    """Write and return the measures of the finished run in a cell's directory."""
    state = read_json(directory / "cell.json")
    if state is None:
        raise UserError(f"{directory} holds no cell of a benchmark (no cell.json)")
    samples = [s for s in read_archive(directory / "run") if s.kind != VALIDATION]
    # a training that was resumed from a checkpoint did some steps twice
    if state["kind"] == GRPO:
        record = read_json(directory / "run" / "run.json") or {}
        samples = without_lost_steps(samples, int(record.get("answers_per_step") or 0))
    whole = len(samples)
    if state["kind"] != PEER:
        samples = within_budget(samples, int(state["budget"]))
    if not samples:
        raise UserError(f"the archive in {directory / 'run'} is empty")
    usages = read_usages(directory)
    found = {key: state[key] for key in ("problem", "arm", "kind", "seed", "budget", "jobs", "starts")}
    found |= run_measures(samples, usages, peer=state["kind"] == PEER, cut=len(samples) < whole)
    found |= equation_measures(samples, load_problem(state["problem"]))
    write_file(directory / "measures.json", json.dumps(found) + "\n")
    return found


def run_measures(
    samples: Sequence[Sample], usages: Sequence[Mapping[str, Any]], peer: bool = False, cut: bool = False
) -> dict[str, Any]:
    """Counts, costs and the course of the best equation.

    `improvements` are rows of samples, tokens, CPU seconds, GPU seconds, wall seconds, fits, and the NMSE
    of train, test_id and test_ood; each holds from its row on. A peer has no samples: its rows say 0. `cut`
    tells that the run went on behind these samples: then costs are those up to the last of them.
    """
    counted = [s for s in samples if is_llm_sample(s)]
    valid = [s for s in counted if s.evaluation.ok]
    refined = [s for s in samples if s.kind == REFINEMENT]
    every = [s for s in samples if s.evaluation.ok]
    clock = Clock(usages)
    improvements = list(_improvements(samples, clock, peer))
    return {
        "samples": 0 if peer else len(counted),
        "valid": len(valid),
        "distinct": len({s.evaluation.canonical for s in valid}),
        "refinements": len(refined),
        "refinement_fits": sum(s.evaluation.evaluations > 0 for s in refined),
        "distinct_with_refinements": len({s.evaluation.canonical for s in every}),
        "failures": dict(Counter(s.evaluation.status for s in counted if not s.evaluation.ok)),
        "tokens": sum(s.tokens for s in counted),
        "fits": sum(s.evaluation.evaluations > 0 for s in samples),
        "fit_cpu_seconds": round(sum(s.evaluation.cpu_seconds for s in samples), 2),
        **clock.totals(samples[-1].number if cut else None),
        # four digits of an error are kept; whether a threshold is reached is asked of all
        "improvements": [[*row[:6], *(e if e is None else float(f"{e:.4g}") for e in row[6:])]
                         for row in improvements],
        "reached": {t: next((dict(zip(COSTS, row, strict=False)) for row in improvements
                             if row[6] is not None and row[6] < float(t)), None) for t in THRESHOLDS},
    }  # fmt: skip


def equation_measures(samples: Sequence[Sample], problem: Problem) -> dict[str, Any]:
    """Under `final` the equation of least training NMSE, under `pick` the one that a report would show."""
    best = best_of(samples)
    front = Front()
    for sample in samples:
        front.add(sample)
    picked = PickedFront.of(front.members, problem).pick
    return {
        "note": problem.note,
        "splits": list(problem.splits),
        "final": described(best, problem) if best else None,
        "pick": described(picked.sample, problem) if picked else None,
    }


def described(sample: Sample, problem: Problem) -> dict[str, Any]:
    """An equation with its errors, both kinds of Acc_tau per split, and whether it is the law.

    `match` is None where no law is known; benchmarks/judge.py of a clone knows some.
    """
    evaluation = sample.evaluation
    expression, params = expression_of(sample, problem.spec), evaluation.params or ()
    judge = locate("benchmarks/judge.py")
    matches = runpy.run_path(str(judge))["match"] if judge.is_file() else lambda *of: None
    within = {
        n: within_tolerance(predict(expression, params, s), s.target, TAU) for n, s in problem.splits.items()
    }
    return {
        "sample": sample.number,
        "proposer": sample.proposer,
        "equation": evaluation.expression[:SHOWN_CHARACTERS],
        "complexity": evaluation.complexity,
        "nmse": {split: evaluation.nmse.get(split) for split in problem.splits},
        f"accuracy_{TAU:g}": {
            split: {"share_within": float(rows.mean()), "all_within": float(rows.all())}
            for split, rows in within.items()
        },
        "match": matches(expression, params, problem),
    }


def best_of(samples: Iterable[Sample]) -> Sample | None:
    """The valid sample of least training NMSE; below 1e-26 the smallest equation, the earliest of equals."""
    rated = [s for s in samples if train_nmse(s) is not None]
    return min(rated, key=lambda s: (*_rank(s), s.number), default=None)


def _rank(sample: Sample) -> tuple[float, int]:
    """What the best equation has least of: training NMSE, floored as differences there are rounding; size."""
    return max(train_nmse(sample) or 0.0, NMSE_FLOOR), sample.evaluation.complexity or 0


def train_nmse(sample: Sample) -> float | None:
    """The training NMSE, None for a failure."""
    value = sample.evaluation.nmse.get("train") if sample.evaluation.ok else None
    return value if value is not None and math.isfinite(value) else None


def without_lost_steps(samples: Sequence[Sample], answers_per_step: int) -> list[Sample]:
    """The samples without those of steps that a resumed training did again; a step's last ones stay."""
    of_step: dict[int, int] = defaultdict(int)
    lost: set[int] = set()
    for sample in reversed(samples):
        if sample.step is not None and answers_per_step and is_llm_sample(sample):
            of_step[sample.step] += 1
            if of_step[sample.step] > answers_per_step:
                lost.add(sample.number)
    return [sample for sample in samples if sample.number not in lost]


def within_budget(samples: Sequence[Sample], budget: int) -> list[Sample]:
    """The first `budget` LLM samples with their refinements; a training ends with a whole step, later."""
    counts = itertools.accumulate(map(is_llm_sample, samples))
    return [sample for sample, count in zip(samples, counts, strict=True) if count <= budget]


def _improvements(samples: Sequence[Sample], clock: Clock, peer: bool) -> Iterable[list[float | None]]:
    """A row for every sample that is better than all before it, as `best_of` orders them."""
    lowest = (math.inf, 0)
    counted = tokens = fits = 0
    # a refinement comes behind the sample that it refines, wherever it was archived
    for sample in sorted(samples, key=lambda s: (s.number, not is_llm_sample(s))):
        fits += sample.evaluation.evaluations > 0
        if is_llm_sample(sample):
            counted += 1
            tokens += sample.tokens
        value = train_nmse(sample)
        if value is None or _rank(sample) >= lowest:
            continue
        lowest = _rank(sample)
        # a refinement is there before the next record is
        seconds, cpu, gpu = clock.at(sample.number + (sample.kind == REFINEMENT))
        nmse = [sample.evaluation.nmse.get(split) for split in SPLITS]
        yield [0 if peer else counted, tokens, round(cpu, 2), round(gpu, 2), round(seconds, 2), fits, *nmse]


class Clock:
    """When a run had archived so many records: seconds, CPU and GPU seconds, over all its starts."""

    def __init__(self, usages: Sequence[Mapping[str, Any]]) -> None:
        self._usages = usages
        # records in the archive, and the seconds, CPU and GPU seconds until then
        looks: list[tuple[float, ...]] = [(0, 0.0, 0.0, 0.0)]
        spent = np.zeros(3)
        for usage in usages:
            for *tick, records in usage["ticks"]:
                # fewer than before: a start that removed what could not be continued
                if records >= looks[-1][0]:
                    looks.append((records, *(spent + tick)))
            spent += [usage["seconds"], usage["cpu_seconds"], usage["gpu_seconds"] or 0.0]
        self._looks = np.array(looks)
        self._total = spent

    def at(self, record: int) -> tuple[float, float, float]:
        """(seconds, CPU seconds, GPU seconds) at which record `record`, from 1, was in the archive.

        Between two looks at the archive it is taken to have grown evenly.
        """
        counts, costs = self._looks[:, 0], self._looks[:, 1:]
        after = int(np.searchsorted(counts, record))
        if after == len(counts):
            found = self._total
        elif after == 0:
            found = costs[0]
        else:
            share = (record - counts[after - 1]) / (counts[after] - counts[after - 1])
            found = costs[after - 1] + share * (costs[after] - costs[after - 1])
        seconds, cpu, gpu = found.tolist()
        return seconds, cpu, gpu

    def totals(self, record: int | None = None) -> dict[str, Any]:
        """What all starts took, up to a record on demand; GPU figures are None where there was no GPU."""
        seconds, cpu, gpu = self._total.tolist() if record is None else self.at(record)
        gpus = [u["gpu_seconds"] for u in self._usages if u["gpu_seconds"] is not None]
        gpu_bytes = [u["peak_gpu_bytes"] for u in self._usages if u["peak_gpu_bytes"] is not None]
        return {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "gpu_seconds": round(gpu, 2) if gpus else None,
            "peak_host_bytes": max((u["peak_host_bytes"] for u in self._usages), default=0),
            "peak_gpu_bytes": max(gpu_bytes, default=None),
        }


if __name__ == "__main__":
    try:
        measure(Path(sys.argv[1]))
    except UserError as fault:
        sys.exit(f"llmsr: {fault}")
