"""Workers and local models that stay warm in this process, so that the next fit need not start them again.

What is lent is its borrower's alone until it is handed back. A child made by fork begins with nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from llmsr.evaluator import Evaluator
from llmsr.problem.loading import Problem
from llmsr.prompt import Prompt
from llmsr.proposers.choice import chosen_proposer, make_proposer
from llmsr.proposers.proposer import BatchProposer, Completion, Proposer
from llmsr.settings import ProposerConfig

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


@contextlib.contextmanager
def lent_evaluator(problem: Problem, fitter: str, fit_timeout: float, workers: int) -> Iterator[Evaluator]:
    """An evaluator of the problem; its workers stay for the next borrower unless the borrower fails."""
    evaluator = None
    with _lock:
        if _idle and _idle[0].pool.size == workers:
            evaluator = _idle.pop()
    if evaluator is None:
        evaluator = Evaluator(problem, fitter, fit_timeout, workers)
    else:
        evaluator.take(problem, fitter, fit_timeout)
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
def lent_proposer(config: ProposerConfig) -> Iterator[Proposer]:
    """The proposer of a configuration; a model in this process stays loaded and may be shared."""
    if chosen_proposer(config) not in LOCAL:
        with contextlib.closing(make_proposer(config)) as proposer:
            yield proposer
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
