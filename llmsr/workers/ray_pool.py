"""Workers on a Ray cluster: `WorkerPool`'s interface, with an actor for each process.

The cluster is the one at RAY_ADDRESS, or one that is started on this machine for as long as a pool is open.
What was running before stays as it was. Each actor holds one CPU, makes its state once and answers one task
at a time; a task that passes its deadline ends the actor's process and is a `timeout`. A task whose actor or
node is lost goes to another actor, up to `ATTEMPTS` times; then it is a `crash`.

What cannot be survived is the loss of the node that this process itself runs on: Ray ends the process.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from typing import Any

from llmsr.workers.base import START_SECONDS, Pool, Setup, Task, Worker, WorkerFailure
from llmsr.workers.ray_cluster import join_cluster, leave_cluster, one_line, runtime_environment

ATTEMPTS = 3  # actors that one task may lose
LOST_SECONDS = 30.0  # Ray's own health check takes about as long to tell that a node is gone


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
        self._ray = join_cluster()
        self._actors = self._ray.remote(_Actor).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, runtime_env=runtime_environment()
        )
        workers = max(1, size or int(self._ray.cluster_resources().get("CPU", 1)))
        super().__init__(workers, setup, setup_args, memory_bytes=memory_bytes)

    def close(self) -> None:
        """End all workers, cancel what waits, and end the cluster if it is ours; safe to call twice."""
        first = not self._closed.is_set()
        super().close()
        if first:
            leave_cluster()

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
            return WorkerFailure("lost", one_line(error))

    def kill(self) -> None:
        self._ray.kill(self._actor)
