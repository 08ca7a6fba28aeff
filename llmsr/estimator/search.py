"""One search over a problem in memory: as `main.py` runs it, with warm workers and files only on demand."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.estimator.run_files import RunFiles
from llmsr.estimator.warm import lent_evaluator, lent_proposer
from llmsr.problem.loading import Problem
from llmsr.proposers.proposer import Proposer, ProposerConfig
from llmsr.sample import Sample
from llmsr.search.search import Search
from llmsr.search.settings import SearchSettings


@dataclass(frozen=True)
class Asked:
    """What is to be searched and by whom.

    `proposer` is the caller's own one, None for what `proposer_config` says. `earlier` are the samples that
    the search continues, `seeds` bodies that it begins with. `directory` is where files go, None for none.
    """

    problem: Problem
    settings: SearchSettings
    proposer_config: ProposerConfig
    proposer: Proposer | None = None
    fitter: str = "best"
    fit_timeout: float = 10.0
    workers: int = 1
    earlier: Sequence[Sample] = ()
    seeds: Sequence[str] = ()
    directory: str | Path | None = None
    progress: bool = False


@dataclass(frozen=True)
class Found:
    """All samples, earlier ones included, and before them, as number 0, what the search began with."""

    begun: list[Sample]
    samples: list[Sample]


class _Record:
    """The samples of a search, in memory and, where asked for, in a run's archive."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        self.files: RunFiles | None = None

    def append(self, sample: Sample) -> None:
        self.samples.append(sample)
        if self.files is not None:
            self.files.append(sample)


def search_table(asked: Asked) -> Found:
    """Search until the budget is spent; UserError where the proposer cannot be had or gives up."""
    record = _Record(asked.earlier)
    observers: list[Any] = []
    with contextlib.ExitStack() as stack:
        evaluator = stack.enter_context(
            lent_evaluator(asked.problem, asked.fitter, asked.fit_timeout, asked.workers)
        )
        proposer = asked.proposer or stack.enter_context(lent_proposer(asked.proposer_config))
        if asked.progress:
            from llmsr.report.progress import Progress

            observers.append(stack.enter_context(Progress(asked.settings.budget)))
        if asked.directory is not None:
            described = {"fitter": asked.fitter, "fit_timeout": asked.fit_timeout}
            record.files = stack.enter_context(
                RunFiles(
                    asked.directory,
                    asked.problem,
                    asked.settings,
                    asked.proposer_config,
                    described,
                    asked.earlier,
                )
            )
            observers.append(record.files.observe)
        engine = Search(
            asked.problem,
            proposer,
            evaluator,
            record,
            asked.settings,
            observers,
            asked.earlier,
            asked.seeds,
        )
        begun = [Sample(0, "", seed) for seed in engine.seeds]
        if record.files is not None:
            record.files.begin(begun)
        totals = engine.run()
        if record.files is not None:
            record.files.finish(totals)
    return Found(begun, record.samples)
