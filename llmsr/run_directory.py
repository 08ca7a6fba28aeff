"""A run's directory: who holds it, what was asked for, and with which versions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.errors import UserError
from llmsr.files import lock, write_file
from llmsr.problem.loading import Problem

DATA = "train_data"  # in versions.json, the SHA-256 of the train rows

_URL = re.compile(r"(\w+://)(?:[^/?\s]*@)?([^?,\s]*)(?:\?[^,\s]*)?")
RECORDED = ("llmsr", "numpy", "scipy", "numba", "torch", "transformers", "openai", "vllm", "verl", "ray",
            "trl")  # fmt: skip


def write_configuration(run_dir: Path, settings: dict[str, Any], problem: Problem | None = None) -> None:
    """Write the resolved settings (`config.yaml`) and the versions they ran with (`versions.json`).

    The latter also tells the train rows apart from others, see `check_data`. Each file stands whole or not
    at all.
    """
    import yaml

    versions = _versions() | ({} if problem is None else {DATA: _data_version(problem)})
    texts = {
        "versions.json": json.dumps(versions, indent=2) + "\n",
        "config.yaml": yaml.safe_dump(settings, sort_keys=False),
    }
    for name, text in texts.items():
        write_file(run_dir / name, text)


def changed_settings(
    stored: Mapping[str, Any], settings: Mapping[str, Any], free: Collection[str]
) -> list[str]:
    """The settings, but for the free ones, that differ from those stored with a run; new ones do not."""
    return [k for k, v in settings.items() if k not in free and k in stored and stored[k] != v]


def check_unchanged(run_dir: Path, changed: Sequence[str]) -> None:
    """`UserError` that names the settings in which a continuation differs from its run, if there are any."""
    if changed:
        raise UserError(
            f"the run in {run_dir} was made with another {', '.join(changed)}; "
            "leave these out to continue it, or begin a new run"
        )


def check_data(run_dir: Path, problem: Problem) -> None:
    """`UserError` if the train rows are others than those that the run in a directory was begun with."""
    try:
        versions = json.loads((run_dir / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # an older run, or one whose versions are lost: nothing to compare with
    if versions.get(DATA) not in (None, _data_version(problem)):
        raise UserError(
            f"the train rows of {problem.name} are not those that the run in {run_dir} was begun with; "
            "put those back, or begin a new run"
        )


def _data_version(problem: Problem) -> str:
    # the other splits decide nothing in a run
    rows = np.column_stack(problem.train.columns)
    return hashlib.sha256(rows.tobytes()).hexdigest()


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they may be written down: a URL's user, password and query are left out."""
    return {
        name: _URL.sub(r"\1\2", value) if isinstance(value, str) else value
        for name, value in settings.items()
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class RunLock:
    """Holds a run directory for this process; a second holder gets a `UserError`."""

    def __init__(self, run_dir: str | Path) -> None:
        self.path = Path(run_dir) / "lock"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # the file stays when the lock is gone: removing it would race with the next holder
            self._file = open(self.path, "w")  # noqa: SIM115 - held until release
        except OSError as error:
            raise UserError(f"cannot write to {run_dir}: {error.strerror}") from None
        if not lock(self._file.fileno()):
            self._file.close()
            raise UserError(
                f"another process is writing to {run_dir}; wait for it or choose another directory"
            )

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
