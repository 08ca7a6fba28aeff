"""The files of a search that was begun from Python, for the verbs `show` and `report` like those of a run."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from llmsr.archive import read_archive
from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.problem.column_names import identifiers
from llmsr.problem.loading import Problem
from llmsr.proposers.proposer import ProposerConfig
from llmsr.report.outputs import Outputs
from llmsr.run_directory import RunLock, write_configuration
from llmsr.sample import Sample
from llmsr.search.settings import SearchSettings
from llmsr.search.totals import SearchArchive, Totals


class RunFiles:
    """A run's directory while its search goes on; use as a context manager.

    `earlier` are the samples that the search continues. A directory that holds another run is a `UserError`.
    """

    def __init__(
        self,
        directory: str | Path,
        problem: Problem,
        settings: SearchSettings,
        proposer: ProposerConfig,
        more: Mapping[str, Any],
        earlier: Sequence[Sample],
    ) -> None:
        self.directory = Path(directory)
        folder = self.directory / "problems"
        described = as_mapping(settings, proposer) | dict(more)
        described |= {"problem_name": problem.name, "data_dir": str(folder)}
        described["spec_path"] = str(folder / problem.name / "specification.txt")
        self._lock = RunLock(self.directory)
        try:
            known = read_archive(self.directory)
            if known and [s.completion for s in known] != [s.completion for s in earlier]:
                raise UserError(f"{directory} already holds a run; name another directory")
            write_configuration(self.directory, described)
            write_problem(folder / problem.name, problem)
            self.archive = SearchArchive(self.directory)
        except BaseException:
            self._lock.release()
            raise
        for sample in [] if known else earlier:
            self.archive.append(sample)
        self.outputs = Outputs(self.directory, problem, described)
        self.observe = self.outputs

    def begin(self, seeds: Iterable[Sample]) -> None:
        """Take in the equations that the search begins with; they are on the front but no samples."""
        for sample in seeds:
            self.outputs.front.add(sample)

    def append(self, sample: Sample) -> None:
        self.archive.append(sample)

    def finish(self, totals: Totals) -> None:
        self.outputs.finish(totals, complete=True)

    def __enter__(self) -> RunFiles:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.archive.close()
        self._lock.release()


def write_problem(folder: Path, problem: Problem) -> None:
    """Write the spec and one CSV file per split, numbers in full precision."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    write_file(folder / "specification.txt", problem.spec.text)
    header = ",".join(identifiers((*problem.spec.columns, problem.target)))
    for name, split in problem.splits.items():
        text = io.StringIO()
        rows = np.column_stack([split.inputs, split.target])
        np.savetxt(text, rows, fmt="%.17g", delimiter=",", header=header, comments="")
        write_file(folder / f"{name}.csv", text.getvalue())
