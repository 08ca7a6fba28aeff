"""A memory in prompts that learns from the run's own archive (`--memory`): a population per problem.

It begins with seeds and is fed by the archive; the equations of a prompt are a function of the seed, the
prompt's number and the answers archived before its step. So a resumed run replays its archive (draws
included, which count as visits in some populations) and goes on as if it had not stopped; answers of steps
that no checkpoint holds stay in the archive alone until they are drawn again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from llmsr.archive import ArchiveTail
from llmsr.grpo.dataset import PromptForm, Row, prompt_row
from llmsr.grpo.run_record import RunRecord, load_run_problem, read_seeds
from llmsr.problem.loading import Problem
from llmsr.proposers.known_names import in_known_names, knows_few_names
from llmsr.refinement.refiner import best_refinement
from llmsr.sample import POLICY, REFINE, Sample
from llmsr.search.population import Draw, Population
from llmsr.search.search import make_population, member_of
from llmsr.settings import SearchSettings

DRAWS = 3  # tells the generators of these draws from the search's, which have 0 to 2


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
