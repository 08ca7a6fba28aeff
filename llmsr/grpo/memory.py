"""Earlier equations that prompts show: a fixed pool, or a memory that learns from the run's own archive.

A pool is made without a language model, before training. A memory (`--memory`) is a population per problem.
It begins with seeds and is fed by the archive; the equations of a prompt are a function of the seed, the
prompt's number and the answers archived before its step. So a resumed run replays its archive (draws
included, which count as visits in some populations) and goes on as if it had not stopped; answers of steps
that no checkpoint holds stay in the archive alone until they are drawn again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from llmsr.archive import ArchiveTail, read_archive
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.files import write_file
from llmsr.grpo.dataset import PromptForm, Row, prompt_row
from llmsr.grpo.run_record import RunRecord, load_run_problem
from llmsr.problem.holes import guess_bodies
from llmsr.problem.loading import Problem
from llmsr.proposers.grammar import mutate, random_body
from llmsr.proposers.known_names import in_known_names, knows_few_names
from llmsr.refinement.refiner import best_refinement
from llmsr.sample import POLICY, REFINE, Sample
from llmsr.search.population import Draw, Member, Population
from llmsr.search.search import make_population, member_of
from llmsr.settings import SearchSettings

MAX_BODY = 400  # characters of an equation in the pool; longer ones leave the model no room
SEEDS_FILE = "memory_seeds.json"
POOL_EQUATIONS = 12  # the best of the pool: they give way as soon as the policy finds better ones
WARM_EQUATIONS = 200  # of an earlier run, the best ones of different canonical form
DRAWS = 3  # tells the generators of these draws from the search's, which have 0 to 2


def build_pool(problem: Problem, evaluator: Evaluator, size: int, seed: int, guess: str = "") -> list[Member]:
    """`size` different valid equations, worst first: the spec's seed, guesses, random ones, changes of these.

    They depend on the arguments alone. Fewer come back where the grammar finds no more.
    """
    rng = Random(f"pool {problem.name} {seed}")
    spec = problem.spec
    form: dict[str, Any] = {
        "signed": np.flatnonzero((problem.train.inputs < 0).any(axis=0)).tolist(),
        "module": "torch" if spec.dialect == "torch" else "np",
        "params_name": spec.params_name,
    }

    def drawn(known: list[Member]) -> str:
        if not known or rng.random() >= 0.5:
            return random_body(rng, spec.columns, spec.max_params, **form)
        # parents come from the better half, so that the pool spans a range of scores
        better = sorted(known, key=lambda member: member.nmse)[: max(1, len(known) // 2)]
        first, second = rng.choice(better), rng.choice(better)
        return mutate(rng, first.body, spec.columns, spec.max_params, other=second.body, **form)

    found: dict[str, Member] = {}
    failure = ""
    for attempt in range(8):
        known = list(found.values())
        batch = [spec.seed_body, *guess_bodies(problem, guess).values()] if attempt == 0 else []
        batch += [drawn(known) for _ in range(size - len(batch))]
        for evaluation in [future.result() for future in [evaluator.submit(body) for body in batch]]:
            if not evaluation.ok:
                failure = failure or f"{evaluation.status}: {evaluation.reason}"
            elif len(evaluation.body) <= MAX_BODY and len(found) < size:
                found.setdefault(evaluation.canonical, member_of(0, evaluation))
        if len(found) >= size:
            break
    if not found:
        raise UserError(f"not one equation of {problem.name} could be fitted, the first ended with {failure}")
    return sorted(found.values(), key=lambda member: (-member.nmse, member.canonical))


def memory_seeds(
    evaluator: Evaluator, warm_start: str | None, pool: Sequence[Member] = (), guess: str = ""
) -> list[Member]:
    """The spec's own equation, guesses and those of `warm_start`, or else `pool`, fitted by this evaluator.

    With the spec's equation alone nearly all prompts of the first steps would be the same. Those of a run are
    fitted again so that all members are graded by one ruler. A `UserError` where the earlier run has nothing
    that fits this problem.
    """
    begun = [evaluator.problem.spec.seed_body, *guess_bodies(evaluator.problem, guess).values()]
    own = [evaluator.evaluate(body) for body in begun]
    bodies = _earlier_bodies(Path(warm_start), evaluator.problem.name) if warm_start else []
    found = [future.result() for future in [evaluator.submit(body) for body in bodies]]
    if warm_start and not any(evaluation.ok for evaluation in found):
        raise UserError(
            f"--warm_start {warm_start}: no equation of that run can be used for {evaluator.problem.name}"
        )
    members = [member_of(0, evaluation) for evaluation in [*own, *found] if evaluation.ok]
    members += () if warm_start else pool[-POOL_EQUATIONS:]
    return list({member.canonical: member for member in members}.values())


def _earlier_bodies(run_dir: Path, problem: str) -> list[str]:
    """The best bodies of a run's archive, one of each canonical form, best first."""
    if not (run_dir / "archive").is_dir():
        raise UserError(f"--warm_start {run_dir} holds no run: its archive is missing")
    samples = [s for s in read_archive(run_dir) if s.evaluation.ok and s.problem in ("", problem)]
    best = {s.evaluation.canonical: s for s in sorted(samples, key=lambda s: s.evaluation.worth)}
    ranked = sorted(best.values(), key=lambda s: (-s.evaluation.worth, s.number))
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


class LiveMemory:
    """Makes the rows of a run with `--memory`; `form` says how its prompts look."""

    def __init__(self, run_dir: Path, form: PromptForm) -> None:
        record = RunRecord.read(run_dir)
        settings = record.settings
        self.form = form
        self.seed = settings.seed
        self.shows_refinements = settings.refine != "off"
        self._knows_few_names = knows_few_names(record.model_path)
        search = SearchSettings(search=settings.memory, seed=self.seed, exploration=settings.exploration)
        seeds = read_seeds(run_dir)
        self.problems: Mapping[str, Problem] = {
            name: load_run_problem(run_dir, name) for name in record.problems
        }
        self.populations: Mapping[str, Population] = {
            name: make_population(search, seeds[name], problem.spec)
            for name, problem in self.problems.items()
        }
        self._taken = dict.fromkeys(self.problems, 0)
        self._drawn: set[int] = set()
        self._tail = ArchiveTail(run_dir)
        self._released: list[Sample] = []
        self._held: dict[int, list[Sample]] = defaultdict(list)  # refinements by what they refine
        finished: list[Sample] = []
        for sample in self._tail.new():
            if (sample.step or 0) <= record.finished_steps:
                finished.append(sample)
            elif sample.proposer == REFINE:
                self._held[sample.number].append(sample)
        self.take(finished)

    def row(self, row: Row, number: int) -> Row:
        """The row of the run's prompt `number`, for the same problem as `row`."""
        self.take([*self._released, *self._tail.new()])
        self._released = []
        name = row["extra_info"]["problem"]
        draw = self._draw(name, number)
        # as many members as fit into a prompt, the longest left out first
        shown = list(draw.members)
        while True:
            chat = self.form.of(self.problems[name], shown)
            if not shown or self.form.fits(chat):
                made = prompt_row(self.problems[name], chat, shown, number, "train", draw.island)
                return in_known_names(made) if self._knows_few_names else made
            shown.remove(max(shown, key=lambda member: len(member.body)))

    def release(self, samples: Sequence[Sample]) -> None:
        """Let answers in that were archived before the run was resumed, since they were drawn again."""
        for sample in samples:
            self._released += [sample, *self._held.pop(sample.number, ())]

    def take(self, samples: Sequence[Sample]) -> None:
        """Feed the answers, step by step; prompts that another process drew are drawn again first."""
        known = [s for s in samples if s.problem in self.populations and s.step is not None]
        answers = sorted(
            (s for s in known if s.proposer == POLICY), key=lambda sample: (sample.step, sample.number)
        )
        refinements: dict[int, list[Sample]] = defaultdict(list)
        for sample in known if self.shows_refinements else ():
            if sample.proposer == REFINE:
                refinements[sample.number].append(sample)
        for _, step in groupby(answers, key=lambda sample: sample.step):
            block = list(step)
            for number, name in sorted({(s.prompt, s.problem) for s in block}):
                if number not in self._drawn:
                    self._draw(name, number)
            for sample in block:
                self._add(sample, refinements[sample.number])

    def _add(self, sample: Sample, refined: Sequence[Sample]) -> None:
        population = self.populations[sample.problem]
        if sample.evaluation.ok:
            population.add(member_of(sample.number, sample.evaluation), sample.island)
        if best := best_refinement(self.problems[sample.problem].spec, sample, refined):
            population.add(member_of(best.number, best.evaluation), best.island)
        self._taken[sample.problem] += 1
        population.end_of_sample(self._taken[sample.problem])

    def _draw(self, name: str, number: int) -> Draw:
        self._drawn.add(number)
        return self.populations[name].draw(np.random.default_rng([self.seed, DRAWS, number]))
