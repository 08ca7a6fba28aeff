"""The archive of a search: its samples in one file, their refinements in another."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from llmsr.archive import Archive
from llmsr.sample import REFINE, Sample


class SearchArchive:
    """Writes `archive/search.jsonl` and, once there is a refinement, `archive/refine.jsonl`."""

    def __init__(self, run_dir: str | Path) -> None:
        self._run_dir = run_dir
        self._samples = Archive(run_dir)
        self._refinements: Archive | None = None

    def append(self, sample: Sample) -> None:
        if sample.proposer != REFINE:
            self._samples.append(sample)
            return
        if self._refinements is None:
            self._refinements = Archive(self._run_dir, REFINE)
        self._refinements.append(sample)

    def close(self) -> None:
        self._samples.close()
        if self._refinements is not None:
            self._refinements.close()

    def __enter__(self) -> SearchArchive:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
