"""The search loop: draw, prompt, propose, evaluate, keep; prompts in flight, the same archive every time.

Sampling and fitting overlap: up to `lookahead` prompts are asked ahead. Prompt k is drawn when the samples of
all prompts up to k - lookahead are in, and samples are numbered and archived in the order of their prompts.
So the archive depends on the seed and on the proposer, not on which worker was quicker, and a resumed run
replays what is archived and goes on as if it had not stopped.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from llmsr.completion import MAX_TEXT
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator, Hole
from llmsr.interruption import uninterrupted
from llmsr.pictures import picture_of
from llmsr.problem.holes import guess_bodies, hole_spec
from llmsr.problem.loading import Problem
from llmsr.problem.spec import Spec
from llmsr.prompt import Prompt, Version, make_prompt, version_bodies
from llmsr.proposers.choice import Bandit, batch_of
from llmsr.proposers.proposer import BatchProposer, Completion, Proposer, ProposerFailure
from llmsr.refinement.refiner import Refiner
from llmsr.sample import GUESS, Evaluation, Sample, is_llm_sample
from llmsr.search.population import (
    BestOfN,
    Draw,
    Islands,
    Member,
    Population,
    SequentialBestOfN,
    Top,
    member_of,
)
from llmsr.search.puct import Puct
from llmsr.search.refining import Refining
from llmsr.search.totals import Totals
from llmsr.settings import SearchSettings
from llmsr.tools import Tools

FAILED_PROMPTS = 5  # in a row, before the search gives up on its proposer
RECENT_REFUSALS = 40


class Recorder(Protocol):
    """Where samples go, each once and in their order, refinements after the sample that they refine."""

    def append(self, sample: Sample) -> None: ...


Observer = Callable[[Sample, Totals], None]
"""Who watches a search: told of every sample once it is archived."""


@dataclass(frozen=True)
class _Asked:
    """A prompt in flight: what it shows, and the completions it is to bring."""

    number: int
    draw: Draw
    count: int
    seed: int
    refusals: tuple[str, ...] = ()


_Received = list[list[tuple[Completion, Future[Evaluation]]]]


@dataclass(frozen=True)
class _Group:
    """Prompts that are asked together; their completions, with the evaluations under way, are to come."""

    prompts: list[_Asked]
    received: Future[_Received]
    proposer: str


class Search:
    """One search over one problem.

    `run` returns the totals; `earlier` are the archived samples of the run that is resumed, in their order.
    `seeds` are bodies that the populations begin with beside the spec's own.
    Interrupting `run` (KeyboardInterrupt) loses only what was still in flight.
    """

    def __init__(
        self,
        problem: Problem,
        proposer: Proposer | Bandit,
        evaluator: Evaluator,
        archive: Recorder,
        settings: SearchSettings,
        observers: Iterable[Observer] = (),
        earlier: Iterable[Sample] = (),
        seeds: Sequence[str] = (),
    ) -> None:
        self.problem = problem
        self.bandit = proposer if isinstance(proposer, Bandit) else Bandit([proposer])
        self.evaluator = evaluator
        self.archive = archive
        self.settings = settings
        self.observers = list(observers)
        others = set(settings.kinds) - {"scores", "refusals"}
        if (problem.spec.template or problem.groups) and (others or settings.turns):
            flag = f"--context {min(others)} speaks" if others else "--turns lets tools speak"
            told = f"{flag} of whole equations and of all rows; a template and groups have none such"
            raise UserError(f"{told}, leave it out")
        self.bandit.check(settings)
        self._tools = Tools(evaluator, settings.turns) if settings.turns else None
        self.prompts_ahead = settings.lookahead or self.bandit.ahead
        self.totals = Totals()
        self.ended = ""  # by which limit, before the budget was spent, as a sentence
        # the clock tells how long a run took, what is compiled for it included, and decides nothing in it
        earlier = list(earlier)
        self._began = time.monotonic() - max((sample.elapsed for sample in earlier), default=0.0)
        self.seed_evaluation = _seed_evaluation(problem.spec, evaluator)
        begun = [self.seed_evaluation, *(evaluator.evaluate(body) for body in seeds)]
        self.seeds = [evaluation for evaluation in begun if evaluation.ok]
        guessed = {
            line: evaluator.submit(body) for line, body in guess_bodies(problem, settings.guess).items()
        }
        self.guesses = [
            Sample(0, line, evaluation.result(), proposer=GUESS, kind=GUESS, refinement=number)
            for number, (line, evaluation) in enumerate(guessed.items(), start=1)
        ]
        known = [*self.seeds, *(guess.evaluation for guess in self.guesses if guess.evaluation.ok)]
        self.population = make_population(settings, [member_of(0, e) for e in known], problem.spec)
        self._refusals: deque[str] = deque(maxlen=RECENT_REFUSALS)
        self._earlier: dict[int, list[Sample]] = defaultdict(list)
        for sample in filter(is_llm_sample, earlier):
            self._earlier[sample.prompt].append(sample)
        self._last_archived = max(self._earlier, default=-1)
        self._refining: Refining | None = None
        if settings.refine != "off":
            refiner = Refiner(evaluator, settings.refine_fits)
            self._refining = Refining(refiner, settings.patience, known, earlier)
        best = max((one.worth for one in known), default=-math.inf)
        self._best: dict[int | None, float] = defaultdict(lambda: best)
        self._guesses_archived = sum(sample.kind == GUESS for sample in earlier)
        self._wanted = settings.budget

    def run(self) -> Totals:
        self._begin()
        self._skip_archived_completions()
        in_flight: deque[_Group] = deque()
        failed = dict.fromkeys(self.bandit.proposers, 0)
        next_prompt = 0
        with _Asking(self.bandit.parallel_prompts) as asking:
            while True:
                while self._wanted > 0 and (
                    most := self.bandit.room(sum(len(g.prompts) for g in in_flight), self.prompts_ahead)
                ):
                    given_up = [name for name, count in failed.items() if count >= FAILED_PROMPTS]
                    in_flight.append(self._ask(next_prompt, most, given_up, asking.submit))
                    next_prompt += len(in_flight[-1].prompts)
                if not in_flight:
                    return self.totals
                group = in_flight.popleft()
                try:
                    self._receive(group)
                    failed[group.proposer] = 0
                except ProposerFailure as failure:
                    self.totals.failed_prompts += len(group.prompts)
                    # what a failed prompt owes is asked of later ones, so the budget is spent in full
                    self._wanted += sum(asked.count for asked in group.prompts)
                    failed[group.proposer] += 1
                    # the others go on where one of several gives up
                    if all(count >= FAILED_PROMPTS for count in failed.values()):
                        raise UserError(
                            f"{group.proposer} failed on {failed[group.proposer]} prompts in a row: "
                            f"{failure}; what was found is kept, continue with --resume"
                        ) from None

    def _begin(self) -> None:
        """Score the guesses, search the data for structures, show the best of all to every island."""
        self._archive_refinements(self.guesses, self._guesses_archived)
        if self._refining is None:
            return
        further = self.guesses if self.settings.refine != "structure" else ()
        seconds = min(self.settings.structure_seconds, self.settings.seconds or math.inf)
        found, archived = self._refining.begin(seconds, further, len(self.guesses))
        self._archive_refinements(found, archived)
        self.ended = self.totals.limit_met(self.settings)
        ranked = self._refining.refiner.ranked(found)
        members = [member_of(0, sample.evaluation) for sample in ranked[: self.settings.functions_per_prompt]]
        if self.settings.refine_shown:
            self.population.found(members)
        if self.ended or (self.settings.stop_at_floor and self._refining.finished):
            self._wanted = 0

    def _skip_archived_completions(self) -> None:
        """A proposer that reads a fixed list goes on behind what earlier prompts took from it."""
        whole = [s for p, samples in self._earlier.items() if p < self._last_archived for s in samples]
        for name, proposer in self.bandit.proposers.items():
            taken = sum(sample.proposer == name for sample in whole)
            if taken and hasattr(proposer, "skip"):
                proposer.skip(taken)

    def _ask(
        self, first: int, most: int, given_up: Sequence[str], submit: Callable[..., Future[_Received]]
    ) -> _Group:
        """Draw the next prompts and send them off, unless the archive has all that they brought."""
        name = self.bandit.chosen(np.random.default_rng([self.settings.seed, 3, first]), given_up)
        # a proposer that gave up left nothing in the archive: there it stands who was asked instead
        known = [s.proposer for s in self._earlier.get(first, ()) if s.proposer in self.bandit.proposers]
        name = next(iter(known), name)
        proposer = self.bandit.proposers[name]
        prompts: list[_Asked] = []
        while len(prompts) < min(most, batch_of(proposer)) and self._wanted > 0:
            number = first + len(prompts)
            count = min(self.settings.samples_per_prompt, self._wanted)
            self._wanted -= count
            # a generator per prompt: a resumed run draws the same without repeating the draws before
            draw = self.population.draw(np.random.default_rng([self.settings.seed, 0, number]))
            seed = int(np.random.SeedSequence([self.settings.seed, 2, number]).generate_state(1)[0])
            prompts.append(_Asked(number, draw, count, seed, tuple(self._refusals)))
        if prompts[-1].number < self._last_archived:
            received: Future[_Received] = Future()
            received.set_result([[] for _ in prompts])
        else:
            received = submit(self._propose, proposer, prompts)
        return _Group(prompts, received, name)

    def _propose(self, proposer: Proposer, prompts: list[_Asked]) -> _Received:
        """Ask for the prompts' completions and hand those that are not archived yet to the evaluator."""
        holes = [self._hole(asked) for asked in prompts]
        shown = [self._shown(asked, hole) for asked, hole in zip(prompts, holes, strict=True)]
        prompted = [self._prompt(*what, asked.refusals) for asked, what in zip(prompts, shown, strict=True)]
        if isinstance(proposer, BatchProposer):
            seeds = [asked.seed for asked in prompts]
            answers = proposer.propose_many(prompted, self.settings.samples_per_prompt, seeds)
        else:
            answers = [proposer.propose(prompted[0], prompts[0].count, prompts[0].seed)]
        received = []
        for asked, hole, (_, versions), completions in zip(prompts, holes, shown, answers, strict=True):
            names = version_bodies(self.problem.spec, versions)
            new = completions[self._archived(asked) : asked.count]
            received.append([(c, self.evaluator.submit(c.text, names, hole)) for c in new])
        return received

    def _prompt(self, problem: Problem, versions: Sequence[Version], refusals: Sequence[str]) -> Prompt:
        """The prompt that shows these equations, with the tools and the picture that the run asks for."""
        prompt = make_prompt(problem, versions, self.settings, refusals)
        if self.settings.vision and prompt.chat:
            prompt = replace(prompt, chat=replace(prompt.chat, picture=picture_of(problem, versions)))
        return replace(prompt, tools=self._tools)

    def _hole(self, asked: _Asked) -> Hole | None:
        """The hole of the template that a prompt asks for, in the best equation that it shows."""
        template = self.problem.spec.template
        if template is None:
            return None
        name = list(template.holes)[asked.number % len(template.holes)]
        members = asked.draw.members
        return Hole(name, members[-1].body if members else template.seed)

    def _shown(self, asked: _Asked, hole: Hole | None) -> tuple[Problem, list[Version]]:
        """The problem that a prompt states, and the earlier equations in it: of a hole what stands there."""
        versions = [member.version() for member in asked.draw.members]
        template = self.problem.spec.template
        if hole is None or template is None:
            return self.problem, versions
        parts = [(template.parts(version.body) or {}).get(hole.name, "") for version in versions]
        own = [replace(v, body=part, params=None) for v, part in zip(versions, parts, strict=True) if part]
        return replace(self.problem, spec=hole_spec(self.problem.spec, hole.name)), own

    def _archived(self, asked: _Asked) -> int:
        """How many of a prompt's completions need not be evaluated again."""
        whole = asked.number < self._last_archived
        return asked.count if whole else len(self._earlier.get(asked.number, ()))

    def _receive(self, group: _Group) -> None:
        """Archive and keep the samples of a group, in the order of its prompts."""
        answers = group.received.result()
        missing = exhausted = 0
        for asked, completions in zip(group.prompts, answers, strict=True):
            archived = self._earlier.pop(asked.number, [])
            for sample in archived:
                self._note(sample)
                self._keep(sample)
            for completion, evaluation in completions:
                sample = self._sample(asked, group.proposer, completion, evaluation.result())
                self._record([sample])
                self._keep(sample)
            missing += asked.count - len(archived) - len(completions)
            exhausted += not archived and not completions and asked.number > self._last_archived
        # a proposer that brings nothing at all has no more to bring: a list of texts that is read to its end
        self.ended = self.ended or self.totals.limit_met(self.settings)
        self._wanted = 0 if exhausted or self.ended else self._wanted + missing

    def _sample(self, asked: _Asked, proposer: str, completion: Completion, evaluation: Evaluation) -> Sample:
        return Sample(
            number=self.totals.samples + 1,
            completion=completion.text[:MAX_TEXT],
            evaluation=evaluation,
            prompt=asked.number,
            island=asked.draw.island,
            parents=tuple(member.sample for member in asked.draw.members),
            proposer=proposer,
            tokens=completion.tokens,
            prompt_tokens=completion.prompt_tokens,
            cost=self.bandit.cost(proposer, completion),
            finish_reason=completion.finish_reason,
            seconds=completion.seconds,
            elapsed=round(time.monotonic() - self._began, 3),
            seed=asked.seed,
            duplicate_of=self.totals.first_with.get(evaluation.canonical) if evaluation.ok else None,
        )

    def _keep(self, sample: Sample) -> None:
        score, best = sample.evaluation.worth, self._best[sample.island]
        self._best[sample.island] = max(score, best)
        self.bandit.tell(sample.proposer, sample.tokens, sample.cost, score > best)
        if sample.evaluation.ok:
            self.population.add(member_of(sample.number, sample.evaluation), sample.island)
        elif sample.evaluation.reason:
            self._refusals.append(sample.evaluation.reason)
        if self._refining is not None and self.settings.refine != "structure":
            self._refine(sample, self._refining)
        self.population.end_of_sample(self.totals.samples)

    def _refine(self, sample: Sample, refining: Refining) -> None:
        """Archive the refinements of a record and show the best of them to the prompts of its island."""
        found, archived = refining.of(sample, self.population.bar(sample.island))
        self._archive_refinements(found, archived)
        if self.settings.stop_at_floor and refining.finished:
            self._wanted = 0
        best = refining.refiner.best(sample, found)
        if best is not None and self.settings.refine_shown:
            self.population.add(member_of(best.number, best.evaluation), best.island)

    def _archive_refinements(self, found: list[Sample], archived: int) -> None:
        """Count the refinements, or guesses, that are archived already, archive the others."""
        elapsed = round(time.monotonic() - self._began, 3)
        for refinement in found[:archived]:
            self._note(refinement)
        self._record([replace(refinement, elapsed=elapsed) for refinement in found[archived:]])

    def _record(self, samples: list[Sample]) -> None:
        """Archive new samples and count them, both or neither whenever the run is interrupted."""
        with uninterrupted():
            for sample in samples:
                self.archive.append(sample)
                self._note(sample)

    def _note(self, sample: Sample) -> None:
        self.totals.add(sample)
        for observe in self.observers:
            observe(sample, self.totals)


class _Asking(ThreadPoolExecutor):
    """Threads that wait for completions; leaving early drops what has not begun."""

    def __exit__(self, *exc: object) -> None:
        self.shutdown(wait=exc[0] is None, cancel_futures=True)


def _seed_evaluation(spec: Spec, evaluator: Evaluator) -> Evaluation:
    """What the spec's own body is worth; `UserError` where the spec's evaluate cannot even do that."""
    found = evaluator.evaluate(spec.seed_body)
    if found.status == "crash":  # a worker lost to somebody else must not change the run
        found = evaluator.evaluate(spec.seed_body)
    slow = found.status == "timeout" and not spec.least_squares  # other equations will be no quicker
    if found.status in ("error", "crash") or slow:
        raise UserError(f"{spec.path}: its evaluate fails on its own equation: {found.reason}")
    return found


def make_population(settings: SearchSettings, seeds: list[Member], spec: Spec) -> Population:
    """The population that `settings.search` names, of equations for `spec`."""
    if settings.search == "best_of_n":
        return BestOfN(seeds)
    if settings.search == "sequential_best_of_n":
        return SequentialBestOfN(seeds)
    shown = settings.functions_per_prompt
    if settings.search == "puct":
        return Puct(seeds, shown=shown, exploration=settings.exploration)
    if settings.search == "top":
        return Top(seeds, spec, shown=shown, temperature=settings.selection_temperature)
    return Islands(
        seeds,
        count=settings.islands,
        shown=shown,
        rule=settings.selection,
        temperature=settings.selection_temperature,
        reset_every=settings.reset_every,
        seed=settings.seed,
    )
