"""What came to a run's archive since the last look, while other processes write it."""

from __future__ import annotations

import json
from pathlib import Path

from llmsr.sample import Sample


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
