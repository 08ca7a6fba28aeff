"""What a memory begins with: the spec's own equation, and the best of an earlier run (`--warm_start`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from llmsr.archive import read_archive
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.files import write_file
from llmsr.search.population import Member
from llmsr.search.search import member_of
from llmsr.search.totals import score_of

SEEDS_FILE = "memory_seeds.json"
POOL_EQUATIONS = 12  # the best of the pool: they give way as soon as the policy finds better ones
WARM_EQUATIONS = 200  # of an earlier run, the best ones of different canonical form


def memory_seeds(evaluator: Evaluator, warm_start: str | None, pool: Sequence[Member] = ()) -> list[Member]:
    """The spec's own equation and those of `warm_start`, or else `pool`, fitted by this run's evaluator.

    With the spec's equation alone nearly all prompts of the first steps would be the same. Those
    of a run are fitted again so that all members are graded by one ruler. A `UserError` where the earlier run
    has nothing that fits this problem.
    """
    own = [evaluator.evaluate(evaluator.problem.spec.seed_body)]
    bodies = earlier_bodies(Path(warm_start), evaluator.problem.name) if warm_start else []
    found = [future.result() for future in [evaluator.submit(body) for body in bodies]]
    if warm_start and not any(evaluation.ok for evaluation in found):
        raise UserError(
            f"--warm_start {warm_start}: no equation of that run can be used for {evaluator.problem.name}"
        )
    members = [member_of(0, evaluation) for evaluation in [*own, *found] if evaluation.ok]
    members += () if warm_start else pool[-POOL_EQUATIONS:]
    return list({member.canonical: member for member in members}.values())


def earlier_bodies(run_dir: Path, problem: str) -> list[str]:
    """The best bodies of a run's archive, one of each canonical form, best first."""
    if not (run_dir / "archive").is_dir():
        raise UserError(f"--warm_start {run_dir} holds no run: its archive is missing")
    samples = [s for s in read_archive(run_dir) if s.evaluation.ok and s.problem in ("", problem)]
    best = {s.evaluation.canonical: s for s in sorted(samples, key=lambda s: score_of(s.evaluation))}
    ranked = sorted(best.values(), key=lambda s: (-score_of(s.evaluation), s.number))
    return [sample.evaluation.body for sample in ranked[:WARM_EQUATIONS]]


def write_seeds(run_dir: Path, seeds: Mapping[str, Sequence[Member]]) -> None:
    """Write SEEDS_FILE, which travels with the run."""
    record = {name: [asdict(member) for member in members] for name, members in seeds.items()}
    write_file(run_dir / SEEDS_FILE, json.dumps(record, indent=1) + "\n")


def read_seeds(run_dir: Path) -> dict[str, list[Member]]:
    """The members by problem that `write_seeds` wrote."""
    record = json.loads((run_dir / SEEDS_FILE).read_text(encoding="utf-8"))
    return {
        name: [Member(**{**member, "params": tuple(member["params"])}) for member in members]
        for name, members in record.items()
    }
