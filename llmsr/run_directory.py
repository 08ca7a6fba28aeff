"""A run's directory: who holds it, what was asked for, and with which versions."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.files import write_file

RECORDED = (
    "llmsr",
    "numpy",
    "scipy",
    "numba",
    "torch",
    "transformers",
    "openai",
    "vllm",
    "verl",
    "ray",
    "trl",
)


def write_configuration(run_dir: Path, settings: dict[str, Any]) -> None:
    """Write the resolved settings (`config.yaml`) and the versions they ran with (`versions.json`).

    Each file stands whole or not at all.
    """
    import yaml

    texts = {
        "versions.json": json.dumps(_versions(), indent=2) + "\n",
        "config.yaml": yaml.safe_dump(settings, sort_keys=False),
    }
    for name, text in texts.items():
        write_file(run_dir / name, text)


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they may be written down: a URL's user, password and query are left out."""
    return {
        name: _bare_url(value) if isinstance(value, str) and "://" in value else value
        for name, value in settings.items()
    }


def _bare_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


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
            self._file = open(self.path, "w")  # noqa: SIM115 - held until release
        except OSError as error:
            raise UserError(f"cannot write to {run_dir}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(
                f"another process is writing to {run_dir}; wait for it or choose another directory"
            ) from None

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
