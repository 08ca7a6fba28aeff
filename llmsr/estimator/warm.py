"""A search over a table in memory, as `main.py` runs it, with workers and local models that stay warm.

They stay in this process, so that the next fit need not start them again. What is lent is its borrower's
alone until it is handed back. A child made by fork begins with nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from joblib import effective_n_jobs

from llmsr.archive import SearchArchive, read_archive
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.files import write_file
from llmsr.problem.columns import identifiers
from llmsr.problem.loading import Problem
from llmsr.prompt import Prompt
from llmsr.proposers.choice import Bandit, chosen_proposer, make_bandit, make_proposer
from llmsr.proposers.proposer import BatchProposer, Completion, Proposer
from llmsr.report.display import SearchProgress
from llmsr.report.runs import Outputs
from llmsr.run_directory import RunLock, write_configuration
from llmsr.sample import Sample
from llmsr.search.search import Observer, Search
from llmsr.settings import ProposerConfig, SearchSettings

if TYPE_CHECKING:
    from llmsr.estimator.regressor import SymbolicRegressor

LOCAL = ("skeleton-lm", "transformers")  # proposers that are a model in this process
MODELS = 2  # local models that stay loaded
REMEMBERED = 256  # groups of prompts whose completions are kept for whoever asks the same again

_lock = threading.Lock()
_idle: list[Evaluator] = []  # at most one: its processes hold memory
_models: dict[ProposerConfig, Proposer] = {}


class Remembering:
    """A model in this process that is not asked the same twice.

    Its completions depend on prompts and seeds alone. The folds of a cross-validation, and fits of other
    tables with equal column names, begin with equal prompts: to a model that reads the text alone
    (`reads_chats` False) they are equal whatever their chats tell of the data.
    """

    def __init__(self, inner: BatchProposer, reads_chats: bool) -> None:
        self.inner = inner
        self.reads_chats = reads_chats
        self.name = inner.name
        self.parallel_prompts = inner.parallel_prompts
        self.batch_prompts = inner.batch_prompts
        self._known: OrderedDict[tuple[object, ...], list[list[Completion]]] = OrderedDict()
        self._lock = threading.Lock()

    def propose(self, prompt: Prompt, n: int, seed: int) -> list[Completion]:
        return self.propose_many([prompt], n, [seed])[0]

    def propose_many(self, prompts: Sequence[Prompt], n: int, seeds: Sequence[int]) -> list[list[Completion]]:
        asked = [repr(prompt) if self.reads_chats else prompt.text for prompt in prompts]
        # the seeds belong to the question: another seed is another answer
        key = (*asked, n, *seeds)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self.inner.propose_many(prompts, n, seeds)
        else:  # no time is spent on them again
            known = [[replace(completion, seconds=0.0) for completion in one] for one in known]
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known

    def close(self) -> None:
        self.inner.close()


def search_table(
    model: SymbolicRegressor,
    problem: Problem,
    settings: SearchSettings,
    proposer_config: ProposerConfig,
    earlier: Sequence[Sample] = (),
    seeds: Sequence[str] = (),
) -> tuple[list[Sample], list[Sample]]:
    """(what the search began with, as samples of number 0; all samples, `earlier` ones included).

    Searches as the model says, until the budget is spent. `earlier` are the samples that the search resumes,
    `seeds` bodies that it begins with. `UserError` where the proposer cannot be had or gives up.
    """
    samples: list[Sample] = []
    observers: list[Observer] = [lambda sample, totals: samples.append(sample)]
    archive: Any = []  # takes samples as an archive does, where none is to be written
    outputs: Outputs | None = None
    with contextlib.ExitStack() as stack:
        evaluator = stack.enter_context(lent_evaluator(model, problem))
        proposer: Any = model.proposer
        if isinstance(proposer, str):
            proposer = stack.enter_context(lent_proposer(proposer_config))
        if model.verbose > 0:
            observers.append(stack.enter_context(SearchProgress(settings.budget, problem)))
        if model.output_dir is not None:
            described = as_mapping(settings, proposer_config)
            described |= {"fitter": model.fitter, "fit_timeout": model.fit_timeout}
            files = run_files(Path(model.output_dir), problem, described, earlier)
            archive, outputs = stack.enter_context(files)
            observers.append(outputs)
        search = Search(problem, proposer, evaluator, archive, settings, observers, earlier, seeds)
        begun = [Sample(0, "", seed) for seed in search.seeds]
        if outputs is not None:
            # what the search began with is on the front too: it may be what nothing beats
            for sample in begun:
                outputs.front.add(sample)
        search.run()
        if outputs is not None:
            outputs.finish()
    return begun, samples


@contextlib.contextmanager
def run_files(
    directory: Path, problem: Problem, settings: Mapping[str, Any], earlier: Sequence[Sample]
) -> Iterator[tuple[SearchArchive, Outputs]]:
    """A run's directory as the verbs read it, held while its search goes on: its archive and its outputs.

    `earlier` are the samples that the search resumes. A directory that holds another run is a `UserError`.
    """
    folder = directory / "problems"
    described = dict(settings) | {
        "problem_name": problem.name,
        "data_dir": str(folder),
        "spec_path": str(folder / problem.name / "specification.txt"),
    }
    with RunLock(directory):
        known = read_archive(directory)
        if known and [s.completion for s in known] != [s.completion for s in earlier]:
            raise UserError(f"{directory} already holds a run; name another directory")
        write_configuration(directory, described)
        write_problem(folder / problem.name, problem)
        with SearchArchive(directory) as archive:
            for sample in [] if known else earlier:
                archive.append(sample)
            yield archive, Outputs(directory, problem, described)


def write_problem(folder: Path, problem: Problem) -> None:
    """Write the spec and one CSV file per split, numbers in full precision."""
    write_file(folder / "specification.txt", problem.spec.text)
    import pandas as pd

    header = [*identifiers((*problem.spec.columns, problem.target)), *problem.spec.asked.roles.values()]
    for name, split in problem.splits.items():
        rows = pd.DataFrame(np.column_stack(split.columns), columns=header)
        if split.group is not None:
            rows[problem.spec.asked.group] = np.array(split.groups)[split.group]
        write_file(folder / f"{name}.csv", rows.to_csv(index=False, lineterminator="\n"))


@contextlib.contextmanager
def lent_evaluator(model: SymbolicRegressor, problem: Problem) -> Iterator[Evaluator]:
    """An evaluator of the problem; its workers stay for the next borrower unless the borrower fails."""
    evaluator, workers = None, effective_n_jobs(model.n_jobs)
    with _lock:
        if _idle and _idle[0].pool.size == workers:
            evaluator = _idle.pop()
    if evaluator is None:
        evaluator = Evaluator(problem, model.fitter, model.fit_timeout, workers)
    else:
        # starting processes takes longer than most fits of a cross-validation
        evaluator.take(problem, model.fitter, model.fit_timeout)
    try:
        yield evaluator
    except BaseException:
        evaluator.close()  # something may still be in flight
        raise
    with _lock:
        dropped = _idle[:]
        _idle[:] = [evaluator]
    for other in dropped:
        other.close()


@contextlib.contextmanager
def lent_proposer(config: ProposerConfig) -> Iterator[Proposer | Bandit]:
    """The proposer of a configuration; a model in this process stays loaded and may be shared."""
    if chosen_proposer(config) not in LOCAL or config.prices:
        with contextlib.closing(make_bandit(config)) as bandit:
            yield bandit
        return
    with _lock:
        model = _models.pop(config, None) or Remembering(
            cast(BatchProposer, make_proposer(config)), chosen_proposer(config) != "skeleton-lm"
        )
        _models[config] = model
        while len(_models) > MODELS:
            _models.pop(next(iter(_models))).close()
    yield model


def release() -> None:
    """End the idle workers and drop the loaded models."""
    with _lock:
        evaluators, models = _idle[:], list(_models.values())
        _idle.clear()
        _models.clear()
    for evaluator in evaluators:
        evaluator.close()
    for model in models:
        model.close()


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _models.clear()


atexit.register(release)
os.register_at_fork(after_in_child=_forget)
