"""One search over a table in memory: as `main.py` runs it, with warm workers and files only on demand."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.archive import read_archive
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.estimator.warm import lent_evaluator, lent_proposer
from llmsr.files import write_file
from llmsr.problem.column_names import identifiers
from llmsr.problem.loading import Problem, variance_fault
from llmsr.proposers.proposer import Proposer
from llmsr.report.runs import Outputs
from llmsr.run_directory import RunLock, write_configuration
from llmsr.sample import Sample
from llmsr.search.search import Observer, Search
from llmsr.search.totals import SearchArchive
from llmsr.settings import ProposerConfig, SearchSettings

PROPOSER_PARTS = ("name", "parallel_prompts", "propose")


def search_table(
    problem: Problem,
    settings: SearchSettings,
    proposer_config: ProposerConfig,
    *,
    own_proposer: Proposer | None = None,
    fitter: str = "best",
    fit_timeout: float = 10.0,
    workers: int = 1,
    earlier: Sequence[Sample] = (),
    seeds: Sequence[str] = (),
    directory: str | Path | None = None,
    progress: bool = False,
) -> tuple[list[Sample], list[Sample]]:
    """(what the search began with, as samples of number 0; all samples, `earlier` ones included).

    Searches until the budget is spent. `own_proposer` is the caller's, None for what the configuration says.
    `earlier` are the samples that the search resumes, `seeds` bodies that it begins with, `directory` is
    where files go, None for none. `UserError` where the proposer cannot be had or gives up.
    """
    record = _Record(earlier)
    observers: list[Observer] = []
    outputs: Outputs | None = None
    with contextlib.ExitStack() as stack:
        evaluator = stack.enter_context(lent_evaluator(problem, fitter, fit_timeout, workers))
        proposer = own_proposer or stack.enter_context(lent_proposer(proposer_config))
        if progress:
            from llmsr.report.display import SearchProgress

            observers.append(stack.enter_context(SearchProgress(settings.budget)))
        if directory is not None:
            described = as_mapping(settings, proposer_config)
            described |= {"fitter": fitter, "fit_timeout": fit_timeout}
            record.archive, outputs = stack.enter_context(
                run_files(Path(directory), problem, described, earlier)
            )
            observers.append(outputs)
        search = Search(problem, proposer, evaluator, record, settings, observers, earlier, seeds)
        # what the search began with is on the front too: it may be what nothing beats
        begun = [Sample(0, "", seed) for seed in search.seeds]
        for sample in begun if outputs else []:
            outputs.front.add(sample)  # type: ignore[union-attr]
        search.run()
        if outputs is not None:
            outputs.finish()
    return begun, record.samples


class _Record:
    """The samples of a search, in memory and, where asked for, in a run's archive."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        self.archive: SearchArchive | None = None

    def append(self, sample: Sample) -> None:
        self.samples.append(sample)
        if self.archive is not None:
            self.archive.append(sample)


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
    header = ",".join(identifiers((*problem.spec.columns, problem.target)))
    for name, split in problem.splits.items():
        text = io.StringIO()
        rows = np.column_stack([split.inputs, split.target])
        np.savetxt(text, rows, fmt="%.17g", delimiter=",", header=header, comments="")
        write_file(folder / f"{name}.csv", text.getvalue())


def check_proposer(proposer: object) -> None:
    """UserError where an object lacks what a search asks of a source of completions."""
    lacking = [part for part in PROPOSER_PARTS if not hasattr(proposer, part)]
    if lacking:
        raise UserError(
            f"proposer must be a name or an object with {', '.join(PROPOSER_PARTS)}; "
            f"{type(proposer).__name__} has no {', '.join(lacking)}"
        )


def check_target(y: np.ndarray) -> None:
    """UserError where y, of shape (rows,), does not vary or its variance is no number to divide by."""
    if y.min() == y.max():
        raise UserError(f"y is {y[0]:g} in every row; give data in which it varies")
    fault = variance_fault(y)
    if fault:
        raise UserError(f"the variance of y {fault}; rescale y")


@contextlib.contextmanager
def raised_as(kind: type[Exception]) -> Iterator[None]:
    """A `UserError` inside becomes an error of this kind with its sentence."""
    try:
        yield
    except UserError as error:
        raise kind(str(error)) from None
