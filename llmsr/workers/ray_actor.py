"""What runs in a Ray cluster for `RayPool`: a state, and a process that ends at a task's deadline."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from typing import Any

from llmsr.workers.process import Raised


class RayActor:
    """What runs in the cluster: a state, and one task after the other on it."""

    def __init__(self) -> None:
        self._state: Any = None
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk

    def hello(self) -> str:
        """The id of the node that this is."""
        import ray

        return ray.get_runtime_context().get_node_id()

    def make(self, function: Callable[..., Any], memory: int | None, *args: Any) -> Any:
        """True with the state `function(*args)` made and the memory limited (bytes), or `Raised`."""
        try:
            self._state = function(*args)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            return Raised(type(error).__name__, str(error))
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        return True

    def run(self, deadline: float, function: Callable[..., Any], *args: Any) -> Any:
        """The value of `function(state, *args)` or `Raised`; the process ends after `deadline` seconds."""
        # the kernel ends the process, whatever it is busy with, and whether or not the network is well
        signal.setitimer(signal.ITIMER_REAL, deadline)
        try:
            return function(self._state, *args)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            return Raised(type(error).__name__, str(error))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
