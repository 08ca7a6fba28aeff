"""Kills training at random moments: is every answer that was scored in the archive, once?

    python benchmarks/kill_training.py [--kills 20] [--scorer_kills 20] [--seed 0]

First the local trainer: it is killed by SIGKILL and resumed until it ends, and its archive and weights are
compared with those of a run left alone. Then processes that score answers into one archive side by side, as
VERL's do: each is killed and replaced at random moments. Prints one JSON object; exit code 1 if anything
was lost or counted twice.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from grpo_problem import write_problem  # noqa: E402

from llmsr.archive import read_archive  # noqa: E402
from llmsr.sample import POLICY, REFINE  # noqa: E402

TRAINING = [
    "--trainer", "local", "--batch_size", "2", "--rollout_n", "4", "--max_response_length", "24",
    "--workers", "1", "--prompts", "4", "--validation_prompts", "2", "--save_freq", "1", "--epochs", "2",
    "--refine", "run", "--refine_fits", "4",
]  # fmt: skip
SCORER = """
import os, sys
from llmsr.grpo.reward_function import Evaluators
from llmsr.grpo.reward_function import RewardFunction
run_dir, name, told = sys.argv[1:]
info = {"problem": "plane", "index": 1, "split": "train", "versions": "{}", "shown": "[]"}
with RewardFunction(run_dir, Evaluators(run_dir, 1)) as function:
    for number in range(10**9):
        text = f"    return params[0] * x + params[1] * z # {name} {number}"
        function.compute_score("llmsr/plane", text, "plane", info)
        with open(told, "a") as file:
            file.write(text + "\\n")
"""


def answers_of(run_dir: Path) -> Counter[tuple[object, ...]]:
    """The training answers in an archive and their refinements, without their numbers and times."""
    samples = [sample for sample in read_archive(run_dir) if sample.proposer in (POLICY, REFINE)]
    return Counter((s.proposer, s.step, s.prompt, s.completion, s.reward) for s in samples)


def kill_trainer(folder: Path, kills: int, draw: random.Random) -> dict[str, object]:
    """What became of training runs that were killed `kills` times in all."""
    from llmsr.grpo.export import read_weights

    spec, data = write_problem(folder)
    train = [sys.executable, "main.py", "--use_rl", "--problem_name", "plane", "--spec_path", spec]
    train += ["--data_dir", data, *TRAINING]
    began = time.monotonic()
    subprocess.run([*train, "--output_dir", str(folder / "whole")], cwd=ROOT, check=True, capture_output=True)
    seconds = time.monotonic() - began
    whole = answers_of(folder / "whole")
    used, runs, equal, differences = 0, 0, 0, []
    while used < kills:
        run_dir, done = folder / f"killed{runs}", None
        while done is None:
            command = [*train, "--output_dir", str(run_dir)]
            if (run_dir / "archive" / "counter").exists() or (run_dir / "checkpoints").exists():
                command.append("--resume")
            wait = draw.uniform(0.2 * seconds, seconds) if used < kills else None
            done = finished_within(command, wait)
            used += done is None
        runs += 1
        found = answers_of(run_dir)
        weights = [dict(read_weights(d / "checkpoints" / "final")) for d in (folder / "whole", run_dir)]
        same = all((weights[0][name] == weights[1][name]).all() for name in weights[0])
        equal += same and found == whole
        differences.append({"lost": sum((whole - found).values()), "twice": sum((found - whole).values())})
    return {
        "kills": used,
        "runs": runs,
        "equal_to_the_run_left_alone": equal,
        "refinements": sum(n for (kind, *_), n in whole.items() if kind == REFINE),
        "answers": differences,
    }


def finished_within(command: list[str], seconds: float | None) -> int | None:
    """0 for a program that ended well, or None if it was killed after so many seconds."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None
        errors.seek(0)
        told = errors.read().decode()
        if code and "has finished its" not in told:  # killed between its last file and its end
            raise SystemExit(f"exit code {code}: {told[-500:]}")
    return 0


def kill_scorers(run_dir: Path, kills: int, draw: random.Random, processes: int = 2) -> dict[str, object]:
    """What the archive holds after processes that score into it were killed; `run_dir` is a run's."""
    told = run_dir / "told"
    told.mkdir()
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCORER, str(run_dir), name, str(told / name)]
        return subprocess.Popen(command, cwd=ROOT)

    def answered(name: str) -> bool:
        return (told / name).exists()

    names = [f"scorer{i}" for i in range(processes)]
    running = [start(name) for name in names]
    try:
        for kill in range(kills):
            place = kill % processes
            end = time.monotonic() + 60
            while not answered(names[place]) and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 0.5))
            running[place].kill()
            running[place].wait()
            names[place] = f"again{kill}"
            if kill < kills - processes:
                running[place] = start(names[place])
    finally:
        for process in running:
            process.kill()
            process.wait()
    samples = read_archive(run_dir)
    archived = Counter(sample.completion for sample in samples)
    scored = {line for path in told.iterdir() for line in path.read_text().splitlines()}
    count = int((run_dir / "archive" / "counter").read_text().split()[0])
    return {
        "kills": kills,
        "scored": len(scored),
        "archived": len(samples),
        "lost": len(scored - set(archived)),
        "twice": sum(n > 1 for n in archived.values()),
        "numbers_used_twice": len(samples) - len({sample.number for sample in samples}),
        "numbers_skipped": count - len(samples),
    }


def run_for_scorers(folder: Path) -> Path:
    """The directory of a training run that has not begun."""
    from llmsr.grpo.answer_archive import set_number
    from llmsr.grpo.plan import make_plan
    from llmsr.grpo.run_record import write_run_files
    from llmsr.grpo.settings import GrpoConfig
    from llmsr.problem.loading import load_problem

    spec, data = write_problem(folder)
    config = GrpoConfig(
        problem_name="plane", spec_path=spec, data_dir=data, output_dir=str(folder / "scored"), workers=1
    )
    plan = make_plan(config, cuda=False)
    write_run_files(plan, [load_problem("plane", spec, data)])
    set_number(plan.run_dir, 0)
    return plan.run_dir


def sound(found: dict[str, object]) -> bool:
    """Whether nothing was lost or counted twice; a killed process leaves at most its last number unused."""
    if "runs" in found:
        return found["equal_to_the_run_left_alone"] == found["runs"]
    lost = found["lost"], found["twice"], found["numbers_used_twice"]
    return lost == (0, 0, 0) and 0 <= int(str(found["numbers_skipped"])) <= int(str(found["kills"])) + 2


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of the local trainer")
    parser.add_argument("--scorer_kills", type=int, default=20, help="of processes that score answers")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        scorers = kill_scorers(run_for_scorers(Path(folder)), asked.scorer_kills, draw)
        (Path(folder) / "trainer").mkdir()
        trainer = kill_trainer(Path(folder) / "trainer", asked.kills, draw) if asked.kills else {}
    print(json.dumps({"scorers": scorers, "trainer": trainer}, indent=2))
    return 0 if all(sound(found) for found in (scorers, trainer) if found) else 1


if __name__ == "__main__":
    sys.exit(main())
