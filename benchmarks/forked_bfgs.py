"""LLM-SR's way of scoring a body, as a process of its own: fork, import scipy, exec, BFGS from ones.

Reads JSON lines `{"body", "columns", "data"}` (data: a .npz with `inputs` and `target`) from stdin and
answers `{"loss", "cpu_seconds", "seconds"}`. CPU is the forked child's, user and system. The body is
executed: only for texts that we wrote ourselves. The parent holds numpy and the data but, as there, not
scipy.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import textwrap
import time

import numpy as np

TIMEOUT_SECONDS = 60
PROGRAM = """
import numpy as np
from scipy.optimize import minimize

def equation({columns}, params):
{body}

def evaluate(inputs, outputs):
    def loss(params):
        prediction = equation(*inputs.T, params)
        return np.mean((prediction - outputs) ** 2)
    result = minimize(lambda p: loss(p), [1.0] * 10, method="BFGS")
    return result.fun
"""


def child(program: str, inputs: np.ndarray, target: np.ndarray, pipe: int) -> None:
    """Runs the program and writes its loss, or nan where it fails, to the pipe."""
    loss = math.nan
    try:
        np.seterr(all="ignore")
        namespace: dict = {}
        exec(program, namespace)
        loss = float(namespace["evaluate"](inputs, target))
    except Exception as error:  # noqa: BLE001 - whatever a body raises is a failed evaluation here
        print(repr(error), file=sys.stderr)
    os.write(pipe, json.dumps(loss).encode())


def main() -> None:
    loaded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for line in sys.stdin:
        task = json.loads(line)
        if task["data"] not in loaded:
            with np.load(task["data"]) as data:
                loaded[task["data"]] = (data["inputs"], data["target"])
        inputs, target = loaded[task["data"]]
        program = PROGRAM.format(
            columns=", ".join(task["columns"]), body=textwrap.indent(task["body"], "    ")
        )
        began = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(TIMEOUT_SECONDS)
            child(program, inputs, target, writer)
            os._exit(0)
        os.close(writer)
        text = b""
        while chunk := os.read(reader, 4096):
            text += chunk
        os.close(reader)
        os.waitpid(pid, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        loss = json.loads(text) if text else math.nan
        answer = {"loss": loss, "cpu_seconds": cpu, "seconds": time.perf_counter() - began}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
