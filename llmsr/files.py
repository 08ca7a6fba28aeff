"""Text files written whole or not at all, locks, streams that can no longer be written, the import path."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from llmsr.errors import UserError


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all; `UserError` where that is not possible."""
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def lock(file: int, wait: bool = False) -> bool:
    """Lock an open file for this process until it is closed; False if another one holds it.

    With `wait` it is waited for.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 0, os.SEEK_SET)  # the lock is on the byte at the file's position
            msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def output_fault(path: str, error: OSError) -> UserError:
    """What to say where an output cannot be written; `-` is standard output."""
    return UserError(f"cannot write {'to standard output' if path == '-' else path}: {error.strerror}")


def silence(stream: IO[str]) -> None:
    """Let what is left in a stream's buffer go nowhere, since closing it would try to write it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def import_path(environment: Mapping[str, str]) -> str:
    """PYTHONPATH with which another Python finds this package, also a clone's from any folder."""
    package_parent = str(Path(__file__).resolve().parents[1])
    paths = [package_parent, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return os.pathsep.join(dict.fromkeys(paths))
