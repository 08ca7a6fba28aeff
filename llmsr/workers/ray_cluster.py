"""The Ray cluster that this process's pools share: joined at RAY_ADDRESS, or started and ended here."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmsr.errors import UserError
from llmsr.interruption import handlers_kept
from llmsr.workers.pool import SECRET, single_thread_environment

CONNECT_SECONDS = 10.0
STORE_BYTES = 256 * 2**20  # of a cluster of our own; the problem is the largest thing in it

_lock = threading.Lock()
_pools = 0
_joined = False  # by us: to be left when the last pool closes


def join_cluster() -> Any:
    """Ray's module, connected; UserError where it is missing or the cluster cannot be had."""
    global _pools, _joined
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of what it will do
    try:
        import ray
    except ImportError:
        raise UserError("--workers ray needs the package ray: pip install ray") from None
    with _lock:
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS") or "local"
            _keep_off_standard_output(ray)
            _connect(ray, address)
            _joined = True
        _pools += 1
        return ray


def _connect(ray: Any, address: str) -> None:
    """UserError where nobody answers; Ray itself would wait long and end the process in some cases."""
    package = {
        "py_modules": [str(Path(__file__).resolve().parents[1])],
        "excludes": ["**/*.safetensors", "**/__pycache__"],
    }
    settings: dict[str, Any] = {"runtime_env": package}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        settings = {
            "num_cpus": os.cpu_count(),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    elif address != "auto":
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        try:
            socket.create_connection((parts.hostname or "", parts.port or 6379), CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Ray cluster answers at RAY_ADDRESS={address} ({error}): "
                "start one, or unset RAY_ADDRESS to have one on this machine"
            ) from None
    try:
        with handlers_kept():  # how a run ends is not Ray's to say
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **settings)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
        raise UserError(f"cannot use the Ray cluster {address}: {one_line(error)}") from None


def _keep_off_standard_output(ray: Any) -> None:
    """Ray tells of each dead worker on standard output, which is for results; failures have their reasons.

    No setting of Ray's turns that off.
    """
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *args, **kwargs: None


def leave_cluster() -> None:
    """Disconnect when the last pool has closed; a cluster of our own ends with that, no other does."""
    global _pools, _joined
    import ray

    with _lock:
        _pools -= 1
        if _pools == 0 and _joined:
            ray.shutdown()
            _joined = False


def runtime_environment() -> dict[str, Any]:
    """An actor's variables: one thread for numeric libraries, where the package is, no keys of services."""
    ours = single_thread_environment()
    variables = {name: value for name, value in ours.items() if name.endswith("_NUM_THREADS")}
    secrets = {name: "" for name in os.environ if SECRET.search(name)}
    return {"env_vars": variables | secrets | {"PYTHONPATH": ours["PYTHONPATH"]}}


def one_line(error: BaseException) -> str:
    """The error's text on one line, at most 300 characters of it."""
    return " ".join(str(error).split())[:300]
