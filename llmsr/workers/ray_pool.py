"""Workers on a Ray cluster: `WorkerPool`'s interface, with an actor for each process.

The cluster is the one at RAY_ADDRESS, or one that is started on this machine for as long as a pool is open.
What was running before stays as it was. Each actor holds one CPU, makes its state once and answers one task
at a time; a task that passes its deadline ends the actor's process and is a `timeout`. A task whose actor or
node is lost goes to another actor, up to `ATTEMPTS` times; then it is a `crash`.

What cannot be survived is the loss of the node that this process itself runs on: Ray ends the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmsr.workers.base import END_SECONDS, START_SECONDS, Pool, Setup, Task, WorkerFailure
from llmsr.workers.process import Raised
from llmsr.workers.ray_actor import RayActor
from llmsr.workers.ray_cluster import join_cluster, leave_cluster, one_line, runtime_environment

ATTEMPTS = 3  # actors that one task may lose
LOST_SECONDS = 30.0  # Ray's own health check takes about as long to tell that a node is gone
RETRY_SECONDS = 5.0  # between two tries to start an actor while others are at work


class RayPool(Pool):
    """`size` actors that run `function(state, *args)`; each makes `state = setup(*setup_args)` once.

    `size` None takes all CPUs that the cluster has now. Functions must be importable (module level) and
    arguments picklable; an existing cluster is sent the package `llmsr`, and its nodes must have what that
    imports. Thread-safe. Use as a context manager, or call `close`. `replaced` counts the actors that took
    the place of lost or killed ones. Raises UserError where Ray is missing or cannot be reached.
    """

    def __init__(
        self,
        size: int | None,
        setup: Callable[..., Any],
        setup_args: tuple[Any, ...] = (),
        *,
        memory_bytes: int | None = None,
    ) -> None:
        self._ray = join_cluster()
        workers = max(1, size or int(self._ray.cluster_resources().get("CPU", 1)))
        super().__init__(workers, Setup(setup, self._stored(setup_args), memory_bytes))
        self._actors = self._ray.remote(RayActor).options(
            num_cpus=1, max_restarts=0, max_task_retries=0, runtime_env=runtime_environment()
        )
        self._lock = threading.Lock()
        self._open: set[Any] = set()  # handles of actors, waiting for a CPU or at work
        self._live = 0
        self._start_failure = WorkerFailure("crash", "a Ray worker could not be started")
        self._start_threads()

    def close(self) -> None:
        """Kill all actors, cancel what waits, and end the cluster if it is ours; safe to call twice."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            actors = list(self._open)
        for actor in actors:
            self._ray.kill(actor)
        for _ in self._threads:
            self._tasks.put(None)
        end = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))
        self._cancel_waiting()
        leave_cluster()

    # one thread per actor: it starts the actor, feeds it, and replaces it when it is lost

    def _serve(self) -> None:
        worker: _Worker | None = None
        started = False
        while not self._closed.is_set():
            if worker is None:
                self.replaced += started
                worker = self._start()
                started = started or worker is not None
                if worker is None and self._live:
                    self._closed.wait(RETRY_SECONDS)
                    continue
            task = self._tasks.get()
            if task is None or self._closed.is_set():
                self._tasks.put(task)  # what is left is ended below
                break
            if not (task.running or task.begin()):
                continue
            if worker is None:
                task.finish(self._start_failure)
            elif not self._answered(worker, task):
                self._discard(worker)
                worker = None
        if worker is not None:
            self._discard(worker)
        self._cancel_waiting()
        self._tasks.put(None)  # for the next thread that waits

    def _answered(self, worker: _Worker, task: Task) -> bool:
        """Whether the worker is fit for another task; one that it could not answer is handed on."""
        # an idle actor's death shows only when it is asked: that must not count against the task again
        if (task.lost and not worker.is_alive()) or worker.make(self._setup) is not True:
            self._tasks.put(task)
            return False
        outcome = worker.run(task)
        if not isinstance(outcome, _Lost):
            task.finish(outcome)
            return not isinstance(outcome, WorkerFailure)
        task.lost += 1
        if task.lost < ATTEMPTS and not self._closed.is_set():
            self._tasks.put(task)
        else:
            times = f", the last of {task.lost}" if task.lost > 1 else ""
            task.finish(WorkerFailure("crash", f"the Ray worker died ({outcome.reason}{times})"))
        return False

    def _start(self) -> _Worker | None:
        """A worker with its state; None once the pool is closed or where the cluster does not give one."""
        with self._lock:
            if self._closed.is_set():
                return None
            actor = self._actors.remote()
            self._open.add(actor)
        worker, begin = _Worker(self._ray, actor), time.monotonic()
        hello = actor.hello.remote()
        while not self._ray.wait([hello], timeout=1.0)[0]:
            # others at work: a full cluster is worth the wait
            if self._closed.is_set() or (not self._live and time.monotonic() - begin > START_SECONDS):
                self._discard(worker)
                self._note_failure(f"the cluster gave no CPU within {START_SECONDS:g} s")
                return None
        try:
            worker.node = self._ray.get(hello)
        except self._ray.exceptions.RayError as error:
            self._discard(worker)
            self._note_failure(one_line(error))
            return None
        with self._lock:
            self._live += 1
        made = worker.make(self._setup)
        if made is True:
            return worker
        self._discard(worker)
        self._note_failure(f"{made.kind}: {made.text}" if isinstance(made, Raised) else made.reason)
        return None

    def _note_failure(self, why: str) -> None:
        self._start_failure = WorkerFailure("crash", f"a Ray worker could not be started ({why})")

    def _discard(self, worker: _Worker) -> None:
        self._ray.kill(worker.actor)
        with self._lock:
            self._open.discard(worker.actor)
            self._live -= worker.node is not None

    def _cancel_waiting(self) -> None:
        while not self._tasks.empty():
            task = self._tasks.get()
            if task is not None and task.running:
                task.finish(WorkerFailure("crash", "the pool was closed"))
            elif task is not None:
                task.future.cancel()

    def _stored(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """References to the arguments, which travel to each node once."""
        return tuple(self._ray.put(arg) for arg in args)


@dataclass(frozen=True)
class _Lost:
    """The actor or its node went away, for whatever reason."""

    reason: str


class _Worker:
    """This process's end of one actor; `node` is the id of the node that it runs on."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self.actor = actor
        self.node: str | None = None
        self._setup: Setup | None = None  # by which its state was made

    def make(self, setup: Setup) -> Any:
        """True once the actor has the state that `setup` makes, or what went wrong."""
        if self._setup is setup:
            return True
        made = self._answer(self.actor.make.remote(setup.function, setup.memory, *setup.args), START_SECONDS)
        self._setup = setup if made is True else None
        if made is None:
            return _Lost(f"no state within {START_SECONDS:g} s")
        return made

    def is_alive(self) -> bool:
        """Whether the idle actor answers."""
        return self._answer(self.actor.hello.remote(), LOST_SECONDS) == self.node

    def run(self, task: Task) -> Any:
        """What the task returned, `Raised`, a `WorkerFailure` of kind timeout, or `_Lost`."""
        timeout = WorkerFailure("timeout", f"no result within {task.deadline:g} s")
        begin = time.monotonic()
        try:
            reference = self.actor.run.remote(task.deadline, task.function, *task.args)
        except Exception as error:  # noqa: BLE001 - what cannot be pickled is the caller's to hear of
            return Raised(type(error).__name__, str(error))
        # the actor ends itself at the deadline; who says nothing beyond it is stopped, or out of reach
        outcome = self._answer(reference, task.deadline + LOST_SECONDS)
        if outcome is not None and not isinstance(outcome, _Lost):
            return outcome
        if time.monotonic() - begin < task.deadline:
            return outcome
        return timeout if self._node_is_there() else _Lost("its node is gone")

    def _answer(self, reference: Any, seconds: float) -> Any:
        """The value of a reference, `Raised`, `_Lost`, or None if nothing came in time."""
        if not self._ray.wait([reference], timeout=seconds)[0]:
            return None
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Raised(type(error.cause).__name__, str(error.cause))
        except self._ray.exceptions.RayError as error:
            return _Lost(one_line(error))

    def _node_is_there(self) -> bool:
        return any(node["NodeID"] == self.node and node["Alive"] for node in self._ray.nodes())
