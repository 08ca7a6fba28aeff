"""Numbers of a training run's samples, shared by all processes that score through one locked file.

The file must lie on a file system with working `flock` when several nodes write.
"""

from __future__ import annotations

import os
from pathlib import Path

from llmsr.errors import UserError
from llmsr.files import lock, write_file


def next_numbers(run_dir: Path, training: bool, new: bool = True) -> tuple[int, int]:
    """The next sample number of the run, and the count of training answers so far, this one included.

    An answer that is not `new` takes no number and counts all the same.
    Shared by all processes through a locked file, so that samples are numbered in the order they were scored.
    The file keeps its width and is written in one call, so that no moment finds it empty.
    """
    path = Path(run_dir) / "archive" / "counter"
    path.parent.mkdir(exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not lock(file, wait=True):
            raise UserError(f"{path} cannot be locked; write the run to a file system with locks")
        number, trained = (int(word) for word in (os.pread(file, 64, 0) or b"0 0").split())
        number, trained = number + new, trained + training
        os.pwrite(file, _counter(number, trained), 0)
    finally:
        os.close(file)
    return number, trained


def set_numbers(run_dir: Path, number: int, trained: int) -> None:
    """Continue the numbering after sample `number` and `trained` training answers."""
    (Path(run_dir) / "archive").mkdir(parents=True, exist_ok=True)
    write_file(Path(run_dir) / "archive" / "counter", _counter(number, trained).decode())


def _counter(number: int, trained: int) -> bytes:
    return f"{number:020d} {trained:020d}".encode()
