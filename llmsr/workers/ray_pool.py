"""Workers on a Ray cluster: `WorkerPool`'s interface, with an actor for each process.

The cluster is the one at RAY_ADDRESS, or one that is started on this machine for as long as a pool is open.
What was running before stays as it was. Each actor holds one CPU, makes its state once and answers one task
at a time; a task that passes its deadline ends the actor's process and is a `timeout`. A task whose actor or
node is lost goes to another actor, up to `ATTEMPTS` times; then it is a `crash`.

What cannot be survived is the loss of the node that this process itself runs on: Ray ends the process.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmsr.errors import UserError
from llmsr.interruption import handlers_kept
from llmsr.workers.pool import (
    SECRET,
    START_SECONDS,
    Pool,
    Setup,
    Task,
    Worker,
    WorkerFailure,
    single_thread_environment,
)

ATTEMPTS = 3  # actors that one task may lose
LOST_SECONDS = 30.0  # Ray's own health check takes about as long to tell that a node is gone
CONNECT_SECONDS = 10.0
STORE_BYTES = 256 * 2**20  # of a cluster of our own; the problem is the largest thing in it


class RayPool(Pool):
    """A pool of Ray actors; `size` None takes all CPUs that the cluster has at the moment.

    An existing cluster is sent the package `llmsr`, and its nodes must have what that imports. Raises
    UserError where Ray is missing or cannot be reached.
    """

    attempts = ATTEMPTS

    def __init__(
        self,
        size: int | None,
        setup: Callable[..., Any],
        setup_args: tuple[Any, ...] = (),
        *,
        memory_bytes: int | None = None,
    ) -> None:
        self._ray = _join_cluster()
        self._actors = self._ray.remote(_Actor).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, runtime_env=_runtime_environment()
        )
        # a cluster may have no CPU free at the moment, and grow later
        workers = max(1, size or int(self._ray.cluster_resources().get("CPU", 1)))
        super().__init__(workers, setup, setup_args, memory_bytes=memory_bytes)

    def close(self) -> None:
        """End all workers, cancel what waits, and end the cluster if it is ours; safe to call twice."""
        first = not self._closed.is_set()
        super().close()
        if first:
            _leave_cluster()

    def _stored(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """References to the arguments, which travel to each node once."""
        return tuple(self._ray.put(arg) for arg in args)

    def _new_worker(self) -> Worker:
        """An actor that has a CPU; while others are at work, a full cluster is worth the wait."""
        worker = _RayWorker(self._ray, self._actors.remote())
        begin = time.monotonic()
        while not worker.has_begun():
            if self._closed.is_set() or (not self._workers and time.monotonic() - begin > START_SECONDS):
                worker.end()
                raise OSError(0, f"the cluster gave no CPU within {START_SECONDS:g} s")
        return worker


class _Actor:
    """What runs in the cluster: a state, and one task after the other on it."""

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk

    def hello(self) -> str:
        """The id of the node that this is."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def make(self, function: Callable[..., Any], memory: int | None, *args: Any) -> bool:
        """Make the state `function(*args)`, then limit the memory (bytes)."""
        self._state = function(*args)
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        return True

    def run(self, deadline: float, function: Callable[..., Any], *args: Any) -> Any:
        """The value of `function(state, *args)`; the process ends after `deadline` seconds."""
        # the kernel ends the process, whatever it is busy with, and whether or not the network is well
        signal.setitimer(signal.ITIMER_REAL, deadline)
        try:
            return function(self._state, *args)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class _RayWorker(Worker):
    """This process's end of one actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self._hello = actor.hello.remote()
        self._node: Any = None  # the id of the node that it runs on

    def has_begun(self) -> bool:
        """Whether the actor has a CPU, within a second; OSError where it never will."""
        if not self._ray.wait([self._hello], timeout=1.0)[0]:
            return False
        self._node = self._answer(self._hello, 1.0)
        if isinstance(self._node, WorkerFailure):
            raise OSError(0, self._node.reason)
        return True

    def _make(self, setup: Setup) -> Any:
        return self._answer(self._actor.make.remote(setup.function, setup.memory, *setup.args), START_SECONDS)

    def is_alive(self, task: Task) -> bool:
        # an idle actor's death shows only when it is asked: that must not count against the task again
        return not task.lost or self._answer(self._actor.hello.remote(), LOST_SECONDS) == self._node

    def run(self, task: Task) -> Any:
        timeout = WorkerFailure("timeout", f"no result within {task.deadline:g} s")
        begin = time.monotonic()
        reference = self._actor.run.remote(task.deadline, task.function, *task.args)
        # the actor ends itself at the deadline; who says nothing beyond it is stopped, or out of reach
        outcome = self._answer(reference, task.deadline + LOST_SECONDS)
        lost = isinstance(outcome, WorkerFailure) and outcome.kind == "lost"
        if not lost or time.monotonic() - begin < task.deadline:
            return outcome
        there = any(node["NodeID"] == self._node and node["Alive"] for node in self._ray.nodes())
        return timeout if there else WorkerFailure("lost", "its node is gone")

    def _answer(self, reference: Any, seconds: float) -> Any:
        """The value of a reference; a failure of kind `raised`, or `lost` also if nothing came in time."""
        if not self._ray.wait([reference], timeout=seconds)[0]:
            return WorkerFailure("lost", f"no answer within {seconds:g} s")
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return WorkerFailure.raised(error.cause)
        except self._ray.exceptions.RayError as error:
            return WorkerFailure("lost", _one_line(error))

    def kill(self) -> None:
        self._ray.kill(self._actor)


# ---- the cluster that this process's pools share

_lock = threading.Lock()
_pools = 0
_joined = False  # by us: to be left when the last pool closes


def _join_cluster() -> Any:
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
        raise UserError(f"cannot use the Ray cluster {address}: {_one_line(error)}") from None


def _keep_off_standard_output(ray: Any) -> None:
    """Ray tells of each dead worker on standard output, which is for results; failures have their reasons.

    No setting of Ray's turns that off.
    """
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *args, **kwargs: None


def _leave_cluster() -> None:
    """Disconnect when the last pool has closed; a cluster of our own ends with that, no other does."""
    global _pools, _joined
    import ray

    with _lock:
        _pools -= 1
        if _pools == 0 and _joined:
            ray.shutdown()
            _joined = False


def _runtime_environment() -> dict[str, Any]:
    """An actor's variables: one thread for numeric libraries, where the package is, no keys of services."""
    ours = single_thread_environment()
    variables = {name: value for name, value in ours.items() if name.endswith("_NUM_THREADS")}
    secrets = {name: "" for name in os.environ if SECRET.search(name)}
    return {"env_vars": variables | secrets | {"PYTHONPATH": ours["PYTHONPATH"]}}


def _one_line(error: BaseException) -> str:
    """The error's text on one line, at most 300 characters of it."""
    return " ".join(str(error).split())[:300]
