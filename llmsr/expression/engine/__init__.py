"""Tapes of array operations and the engines that evaluate them.

The names of the engine of this process are `NAME`, `jit`, `bind`, `gram`, `gradient`, `expired` and
`first_use`. It is chosen when one of them is first asked for: compiled where numba works, else numpy;
`LLMSR_ENGINE=numpy` or `=numba` in the environment decides it by hand. Both agree to rounding.
"""

from __future__ import annotations

import logging
import os
from types import ModuleType
from typing import Any

import numpy as np

from llmsr.errors import UserError

_NAMES = ("NAME", "jit", "bind", "gram", "gradient", "expired", "first_use")


def _choose() -> ModuleType:
    from llmsr.expression.engine import numpy_engine

    wanted = os.environ.get("LLMSR_ENGINE", "auto")
    if wanted not in ("auto", "numba", "numpy"):
        raise UserError(f"LLMSR_ENGINE is {wanted!r}; use auto, numba or numpy.")
    if wanted == "numpy":
        return numpy_engine
    try:
        from llmsr.expression.engine.kept import alone

        with alone():  # importing the engine compiles part of it
            from llmsr.expression.engine import numba_engine

            if not _works(numba_engine):
                raise RuntimeError("its results differ from numpy's")
    except Exception as error:
        if wanted == "numba":
            raise UserError(f"LLMSR_ENGINE=numba, but that engine does not run here: {error}.") from error
        logging.getLogger(__name__).warning("fits run on numpy, several times slower: %s", error)
        return numpy_engine
    return numba_engine


def _works(engine: ModuleType) -> bool:
    """Whether the engine reproduces a small known result, which also loads its compiled code."""
    from llmsr.expression.engine.tape import compile_tape, derivatives
    from llmsr.expression.graph import Graph

    graph = Graph()
    x, p = graph.column(0), graph.param(0)
    root = graph.add("exp", graph.add("mul", p, graph.add("sin", graph.add("mul", p, x))))
    tape = compile_tape(derivatives(graph.expression(root, ("x",))))
    columns = np.linspace(-1.0, 1.0, 11)[None, :]
    program = engine.bind(tape, tape.features(columns), np.zeros(11))
    out = np.zeros((2, 2))
    engine.gram(program.handle, np.array([0.7]), out)
    value = np.exp(0.7 * np.sin(0.7 * columns[0]))
    return bool(np.isclose(out[1, 1], value @ value, rtol=1e-12, atol=0.0))


def __getattr__(name: str) -> Any:
    # late, so that who reads and prints equations need not wait for a compiler
    if name not in _NAMES:
        raise AttributeError(name)
    engine = _choose()
    globals().update({known: getattr(engine, known) for known in _NAMES})
    return globals()[name]
