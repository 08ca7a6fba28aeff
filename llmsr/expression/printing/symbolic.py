"""An equation as a sympy expression; sympy is imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from types import SimpleNamespace
from typing import Any

import numpy as np

from llmsr.expression.graph import Expression, complexity
from llmsr.expression.operations import OPS
from llmsr.expression.printing.infix import fill, unused_prefix

LARGEST = 2000
"""The largest complexity that is handed to sympy, whose own algorithms work on the tree."""

_LOGIC = ("and", "or", "not", "xor")


def to_sympy(expression: Expression, params: Sequence[float] | None = None, digits: int | None = None) -> Any:
    """The expression over symbols named like the columns (and p0, p1, ... where `params` is None).

    The symbols have no assumptions, so that `subs({"x": 1})` and formulas that people write meet them.
    `where` becomes Piecewise, conditions used as numbers Piecewise of 1 and 0. Questions that no real number
    answers (isnan, isinf, isfinite) stay undefined functions of the same name, which `lambdify` knows. sympy
    simplifies as it builds, so values agree where every step is finite: sqrt(x)**2 becomes x. `digits` rounds
    the numbers. Raises ValueError for an equation larger than `LARGEST`, for one that compares with NaN, and
    when `params` is too short.
    """
    import sympy as sp

    if complexity(expression) > LARGEST:
        raise ValueError(f"the equation has more than {LARGEST} operations and leaves, too many for sympy")
    if params is not None:
        expression = fill(expression, params)
    symbols = [sp.Symbol(name) for name in expression.columns]
    prefix = unused_prefix(expression.columns, ["p", "param", "params"])
    made: list[Any] = []
    try:
        for op, args, value in expression.nodes:
            if op == "const":
                made.append(_number(float(value), digits))  # type: ignore[arg-type]
            elif op == "column":
                made.append(symbols[int(value)])  # type: ignore[arg-type]
            elif op == "param":
                made.append(sp.Symbol(f"{prefix}{int(value)}"))  # type: ignore[arg-type]
            else:
                made.append(_operation(op, [made[a] for a in args]))
        return _as_number(made[-1])
    except TypeError as error:
        raise ValueError(f"sympy has no form of this equation: {error}") from error


def lambdify(expression: Expression, formula: Any) -> Callable[..., np.ndarray]:
    """A numpy callable of the columns for a formula of `to_sympy` (with numbers in it)."""
    import sympy as sp

    names: dict[str, Any] = {op: row.kernel for op, row in OPS.items() if row.sympy is None}
    for op in (np.logical_and, np.logical_or):
        # sympy writes logical_and.reduce((a, b)), which numpy refuses for an array beside a number
        names[op.__name__] = SimpleNamespace(reduce=partial(reduce, op))
    # a pole that sympy found while building, such as 1/0, is not finite for us
    pole = sp.Dummy("pole")
    symbols = [sp.Symbol(name) for name in expression.columns]
    formula = formula.xreplace({sp.zoo: pole})
    function = sp.lambdify([*symbols, pole], formula, modules=[names, "scipy", "numpy"])
    return lambda *columns: function(*columns, np.nan)


def _number(value: float, digits: int | None) -> Any:
    import sympy as sp

    if not np.isfinite(value):
        return sp.nan if np.isnan(value) else sp.oo if value > 0 else -sp.oo
    if digits is not None:
        value = float(f"{value:.{digits}g}")
    return sp.Integer(int(value)) if value == int(value) and abs(value) < 1e9 else sp.Float(value)


def _is_condition(value: Any) -> bool:
    from sympy.logic.boolalg import Boolean

    return isinstance(value, Boolean) and not value.is_Symbol


def _as_number(value: Any) -> Any:
    import sympy as sp

    return sp.Piecewise((sp.Integer(1), value), (sp.Integer(0), True)) if _is_condition(value) else value


def _as_condition(value: Any) -> Any:
    import sympy as sp

    return value if _is_condition(value) else sp.Ne(value, 0)


def _operation(op: str, args: list[Any]) -> Any:
    import sympy as sp

    row = OPS[op]
    conditions = len(args) if op in _LOGIC else 1 if op == "where" else 0
    args = [_as_condition(a) if i < conditions else _as_number(a) for i, a in enumerate(args)]
    if row.sympy is None:
        return sp.Function(op)(*args)
    return getattr(sp, row.sympy or op)(*args) if isinstance(row.sympy, str) else row.sympy(sp, *args)
