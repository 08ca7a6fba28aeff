"""The table of operations: every row is true and complete, and a new operation is one row."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from llmsr.expression.graph import Graph, Symbol
from llmsr.expression.operations import CALL, COPY, OPS, POWER, REALS, TRAITS, TRIG, WHERE, Operation

SAMPLES = np.array([-31.7, -2.5, -2.0, -1.0, -0.6, -0.0, 0.0, 0.3, 0.6, 1.0, 1.7, 2.0, 3.5, 20.0])
EDGES = np.array([*SAMPLES, np.nan, np.inf, -np.inf])
each = pytest.mark.parametrize("row", OPS.values(), ids=list(OPS))


def grid(row: Operation, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every choice of arguments."""
    return tuple(np.array(list(itertools.product(numbers, repeat=row.arity))).T)


def value(row: Operation, *args: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(row.kernel(*args))


@each
def test_the_result_is_float64_and_as_the_traits_say(row: Operation) -> None:
    args = grid(row, SAMPLES)
    result, traits = value(row, *args), set(row.traits.split())
    assert result.dtype == np.float64
    assert traits <= set(TRAITS)
    if traits & {"odd", "even"}:
        assert row.arity == 1
        np.testing.assert_array_equal(value(row, -args[0]), -result if "odd" in traits else result)
    if "commutative" in traits:
        np.testing.assert_array_equal(value(row, *args[::-1]), result)
    if "lattice" in traits:
        np.testing.assert_array_equal(value(row, value(row, *args), args[1]), result)
    assert ("nonnegative" not in traits) or (result >= 0).all()
    assert ("boolean" in traits) == (row.boolean and set(result.tolist()) <= {0.0, 1.0})


@each
def test_the_domain_is_where_results_are_finite(row: Operation) -> None:
    moderate = SAMPLES[np.abs(SAMPLES) < 30]
    args = grid(row, moderate)
    finite = np.isfinite(value(row, *args))
    if row.domain == REALS:
        assert finite.all()
    elif row.domain is not None:
        low, high = row.domain
        assert row.arity == 1
        assert finite[(args[0] > low) & (args[0] < high)].all()


@each
def test_the_spelling_by_other_operations_is_the_same(row: Operation) -> None:
    if row.lowered is None:
        return
    for args in zip(*grid(row, EDGES), strict=True):
        graph = Graph()
        numbers = [graph.const(a) for a in args]
        spelled = row.lowered(*(Symbol(graph, n) for n in numbers))
        if spelled is not None:
            np.testing.assert_allclose(spelled.number, value(row, *args), rtol=1e-14, err_msg=str(args))


@each
def test_every_engine_can_compute_it(row: Operation) -> None:
    pytest.importorskip("numba")
    from llmsr.expression.engine.compiling import loop_address

    if row.opcode in (CALL, POWER, TRIG) and not row.boolean:
        assert isinstance(row.function, np.ufunc)
        assert loop_address(row.function)[0]
    else:
        assert row.opcode >= COPY or row.opcode == WHERE or row.lowered is not None


@each
def test_every_slot_has_a_rule_and_every_printer_a_name(row: Operation) -> None:
    import sympy
    import torch
    from scipy import special

    assert not isinstance(row.derivative, tuple) or len(row.derivative) == row.arity
    module, _, name = row.numpy.partition(".")
    assert getattr({"np": np, "special": special}[module], name) is row.function
    assert "{0}" in row.torch or hasattr(torch, row.torch or name) or row.name in ("neg", "div", "pow")
    assert not isinstance(row.sympy, str) or hasattr(sympy, row.sympy or row.name) or row.name == "add"
    kinds = ["fence", "root", "exponential", "prefix", "infix", "relation", "modulo", "floored", "cases"]
    assert not row.notation or row.notation.split()[0] in kinds


NEW = """
import math
from scipy import special
from llmsr.expression.operations import OPS, Operation, exp
OPS["ndtr"] = Operation(
    "ndtr", special.ndtr, lambda d, y, x: d * (1.0 / math.sqrt(2.0 * math.pi) * exp(-0.5 * x**2)),
    "nonnegative", torch="special.ndtr", sympy=lambda sp, a: (1 + sp.erf(a / sp.sqrt(2))) / 2, word="Φ",
)

import numpy as np, torch
from llmsr.expression.canonical import canonical_hash
from llmsr.expression.engine.tape import derivatives
from llmsr.expression.engine import numba_engine, numpy_engine
from llmsr.expression.engine.tape import compile_tape
from llmsr.expression.graph import Graph, evaluate
from llmsr.expression.printing import callable_for, to_latex, to_sympy, to_text
from llmsr.expression.printing import lambdify
from llmsr.expression.printing import to_mathml

def equation(turned):
    graph = Graph()
    x, p = graph.column(0), graph.param(0)
    return graph.expression(graph.add("ndtr", graph.add("mul", *((x, p) if turned else (p, x)))), ("x",))

f, x, p = equation(False), np.linspace(-2, 2, 9), np.array([0.7])
want = special.ndtr(0.7 * x)
assert np.array_equal(evaluate(f, x[:, None], p), want)
assert canonical_hash(f) == canonical_hash(equation(True))
assert np.allclose(callable_for(f)(x, p), want, rtol=1e-15)
assert np.allclose(callable_for(f, "torch")(torch.tensor(x), torch.tensor(p)).numpy(), want, rtol=1e-12)
assert np.allclose(lambdify(f, to_sympy(f, p))(x), want, rtol=1e-12)
assert to_text(f, p) == "ndtr(0.7*x)"
assert "Φ" in to_latex(f) and "Φ" in to_mathml("y", f)[0]
tape = compile_tape(derivatives(f))
slope = (evaluate(f, x[:, None], p + 1e-6) - evaluate(f, x[:, None], p - 1e-6)) / 2e-6
for engine in (numba_engine, numpy_engine):
    g = np.empty((2, 2))
    assert engine.gram(engine.bind(tape, tape.features(x[None]), np.zeros(9)).handle, p, g)
    assert np.allclose(g, [[slope @ slope, -slope @ want], [-slope @ want, want @ want]], rtol=1e-8)
print("all of it")
"""


def test_a_new_operation_is_one_row() -> None:
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, "-c", NEW],
        env={"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "all of it\n", done.stderr
