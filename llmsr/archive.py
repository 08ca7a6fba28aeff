"""Every sample of a run, once, durable: append-only JSON lines, one file per writing process.

    <run>/archive/<writer>.jsonl      one record per line (Sample.to_record)

A record is written by one system call and never changed. A process that dies in the middle of one leaves an
unfinished last line; readers skip it and the next writer of that file removes it. What is not promised: the
records survive the process's death, not the machine's, for which `close` and `sync` flush to the disk.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmsr.errors import UserError
from llmsr.sample import REFINE, REFINEMENT, Sample

BLOCK = 2**20
BINARY = getattr(os, "O_BINARY", 0)  # Windows would write other line ends


class Archive:
    """The writer of one file of a run's archive; `append` is thread-safe."""

    def __init__(self, run_dir: str | Path, writer: str = "search") -> None:
        self.path = Path(run_dir) / "archive" / f"{writer}.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | BINARY, 0o644)
        except OSError as error:
            raise UserError(f"cannot write the archive {self.path}: {error.strerror}") from None
        self._lock = threading.Lock()
        self._end = self._drop_unfinished_line()

    def append(self, sample: Sample) -> None:
        """Write one record; a full disk leaves the archive as it was and raises a `UserError`."""
        # ASCII only, so that a character is never cut in the middle
        line = (json.dumps(sample.to_record(), ensure_ascii=True) + "\n").encode()
        with self._lock:
            try:
                written = 0
                while written < len(line):
                    os.lseek(self._file, self._end + written, os.SEEK_SET)
                    written += os.write(self._file, line[written:])
            except OSError as error:
                # half a record would stand in the way of the next one
                os.ftruncate(self._file, self._end)
                reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
                raise UserError(
                    f"cannot write to {self.path}: {reason}; make room and continue with --resume"
                ) from None
            self._end += len(line)

    def close(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _drop_unfinished_line(self) -> int:
        """Remove what stands behind the last line end; the file's length is what is returned."""
        size = end = os.fstat(self._file).st_size
        while end:
            begin = max(0, end - BLOCK)
            os.lseek(self._file, begin, os.SEEK_SET)
            found = os.read(self._file, end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            os.ftruncate(self._file, end)
        return end


class SearchArchive(Archive):
    """Writes `archive/search.jsonl` and, once there is a refinement, `archive/refine.jsonl`."""

    _refinements: Archive | None = None

    def append(self, sample: Sample) -> None:
        if sample.kind != REFINEMENT:
            super().append(sample)
            return
        self._refinements = self._refinements or Archive(self.path.parents[1], REFINE)
        self._refinements.append(sample)

    def close(self) -> None:
        super().close()
        if self._refinements is not None:
            self._refinements.close()


def holds_records(run_dir: str | Path) -> bool:
    """Whether anything stands in a run's archive; one that failed before its first sample leaves it empty."""
    return any(path.stat().st_size for path in (Path(run_dir) / "archive").glob("*.jsonl"))


def read_archive(run_dir: str | Path) -> list[Sample]:
    """All samples of a run, ascending by number, refinements behind the sample that they refine.

    Where that leaves ties, files and lines decide.

    An unfinished last line is skipped; any other line that is no record is a `UserError`.
    """
    samples: list[Sample] = []
    for path in sorted((Path(run_dir) / "archive").glob("*.jsonl")):
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith("\n"):
                    break
                try:
                    samples.append(Sample.from_record(_object(line)))
                except (ValueError, TypeError, RecursionError) as error:
                    raise UserError(
                        f"{path}, line {number} is no sample ({error}); remove that line to go on"
                    ) from None
    return sorted(samples, key=lambda sample: (sample.number, sample.kind == REFINEMENT))


def _object(line: str) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("number"), int):
        raise ValueError("expected a JSON object with a number")
    return record


class ArchiveTail:
    """Follows the archive of one run from its beginning; who takes from it shares it with nobody."""

    def __init__(self, run_dir: str | Path) -> None:
        self.folder = Path(run_dir) / "archive"
        self._read: dict[Path, int] = {}

    def new(self) -> list[Sample]:
        """New samples, ascending by number; unfinished lines wait for the next look."""
        samples = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                block = file.read()
            whole = block[: block.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            samples += [Sample.from_record(json.loads(line)) for line in whole.splitlines()]
        return sorted(samples, key=lambda sample: sample.number)
