"""The folder that keeps what was compiled for this machine, found without the compiler.

numba's own cache looks only at the file of each function, not at the functions that were compiled into it.
So the folder's name is a digest of all sources that hold compiled functions and of the versions of the
compiler: whatever changes in one of them, everything is compiled anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from llmsr.files import lock

ROOMS = ("expression/engine", "fitting", "refinement")
"""Folders of the package that hold compiled functions; no other module has any."""
_PACKAGE = Path(__file__).resolve().parents[2]
_LOCK, _COMPLETE = "lock", "complete"
WAIT_SECONDS = 60.0


def compiled_sources() -> list[Path]:
    """The modules that hold compiled functions, and the one whose opcodes are compiled into them."""
    modules = [path for room in ROOMS for path in sorted((_PACKAGE / room).glob("*.py"))]
    found = [
        path for path in modules if any(word in path.read_text("utf-8") for word in ("@jit", "@callback"))
    ]
    return [*found, Path(__file__).with_name("compiling.py"), _PACKAGE / "expression" / "operations.py"]


def _digest() -> str:
    total = sha256()
    for version in (sys.version, *map(metadata.version, ("numba", "llvmlite", "numpy"))):
        total.update(f"{version}\n".encode())
    for path in compiled_sources():
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()[:16]


@lru_cache(maxsize=1)
def folder() -> Path | None:
    """The folder of this version's compiled functions, None where none can be written.

    Below `NUMBA_CACHE_DIR` where that is set, else beside the engines, else in the user's cache folder.
    """
    told = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).parent / "__pycache__"
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    name = f"llmsr-compiled-{_digest()}"
    for parent in [Path(told)] if told else [beside, home / "llmsr"]:
        with contextlib.suppress(OSError):
            (parent / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=parent / name).close()
            return parent / name
    return None


def is_compiled() -> bool:
    """Whether the first fit on this machine waits for no compiler: all was compiled, or there is none."""
    if os.environ.get("LLMSR_ENGINE") == "numpy" or find_spec("numba") is None:
        return True
    place = folder()
    return place is not None and (place / _COMPLETE).exists()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While open, no other process is here that has not found everything compiled.

    So of several that start at once the first one compiles and the others load. A lock that is not to be had
    in a minute, or at all, is done without.
    """
    place = folder()
    if place is None or (place / _COMPLETE).exists():
        yield
        return
    try:
        file = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    end = time.monotonic() + WAIT_SECONDS
    try:
        while not lock(file) and time.monotonic() < end:
            time.sleep(0.02)
        yield
    finally:
        os.close(file)


def note_complete() -> None:
    """From now on `alone` lets everybody in at once: all that a fit needs has been compiled."""
    place = folder()
    if place is not None:
        with contextlib.suppress(OSError):
            (place / _COMPLETE).touch()
