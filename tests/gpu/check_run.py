"""Check a finished run: every answer archived once, the reward rising, the exported model loadable by
vLLM.

python tests/gpu/check_run.py RUN --steps 30 --rising --vllm
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmsr.archive import read_archive
from llmsr.grpo.progress import StepMetrics
from llmsr.grpo.run_record import RunRecord
from llmsr.grpo.verl.launch import read_verl_metrics


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rising", action="store_true")
    parser.add_argument("--vllm", action="store_true")
    options = parser.parse_args()

    record = RunRecord.read(options.run)
    samples = read_archive(options.run)
    training = [sample for sample in samples if sample.proposer == "policy"]
    wanted = options.steps * record.answers_per_step
    assert len(training) == wanted, f"{len(training)} answers in the archive, {wanted} were trained on"
    assert [s.number for s in samples] == list(range(1, len(samples) + 1)), "numbers are missing or twice"

    steps = {metrics.step: metrics for metrics in _steps(options.run / "metrics")}
    assert sorted(steps) == list(range(1, options.steps + 1)), f"steps logged: {sorted(steps)}"
    for step, metrics in sorted(steps.items()):
        block = [s.reward for s in training if s.step == step]
        gap = abs(sum(block) / len(block) - metrics.reward)
        assert gap < 1e-3, f"step {step}: the archive's mean reward is off by {gap}"
    rewards = [steps[step].reward for step in sorted(steps)]
    first, last = sum(rewards[:5]) / 5, sum(rewards[-5:]) / 5
    if options.rising:
        assert last > first, f"mean reward {first:.3f} at first, {last:.3f} at last"

    late = [steps[step] for step in sorted(steps)[2:]] or list(steps.values())
    phases: dict[str, float] = {}
    for metrics in late:
        for name, seconds in metrics.phases.items():
            phases[name] = phases.get(name, 0.0) + seconds / len(late)
    fits = sum(s.evaluation.fit_seconds for s in training) / max(len(training), 1)
    report = {
        "run": str(options.run),
        "answers": len(training),
        "valid": sum(s.evaluation.ok for s in training) / len(training),
        "reward_first_5": first,
        "reward_last_5": last,
        "seconds_per_step": sum(m.seconds for m in late) / len(late),
        "phases": {name: round(seconds, 3) for name, seconds in phases.items()},
        "fit_seconds_per_answer": fits,
        "best": json.loads((options.run / "result.json").read_text())["best"],
    }
    print(json.dumps(report, indent=2))
    if options.vllm:
        from vllm import LLM, SamplingParams

        final = options.run / "checkpoints" / "final"
        # a fixed cache, since others may be using the GPU
        engine = LLM(str(final), kv_cache_memory_bytes=2**30, enforce_eager=True, max_model_len=1024)
        text = (
            engine.generate(["def equation_v0(x, v, params):\n"], SamplingParams(max_tokens=16))[0]
            .outputs[0]
            .text
        )
        print("vLLM continues:", repr(text))
    return 0


def _steps(folder: Path) -> Iterator[StepMetrics]:
    """What either trainer told of the steps."""
    for path in sorted(folder.glob("*.jsonl")):
        if path.name == "local.jsonl":
            yield from (StepMetrics(**json.loads(line)) for line in path.read_text().splitlines())
        else:
            yield from (metrics for _, metrics in read_verl_metrics(path))


if __name__ == "__main__":
    sys.exit(main())
