"""Source code regenerated from the graph: the only code of an equation that ever runs.

The text comes from operations and numbers alone, never from what a model wrote.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from llmsr.expression.graph import Expression
from llmsr.expression.operations import OPS
from llmsr.expression.printing.infix import (
    ATOM,
    COMPARE,
    OR,
    POWER,
    SUM,
    Infix,
    Piece,
    fill,
    safe_names,
    unused_prefix,
)

RESERVED = frozenset({"np", "torch", "special", "float", "params"})
"""Names that mean something in the text, so that no column and no function has them."""


class _Numpy(Infix):
    templates: ClassVar = Infix.templates | {"param": "%s[%s]", "times": "%s * %s", "quotient": "%s / %s"}
    flat: ClassVar = False
    zeros: ClassVar = "np.zeros(np.shape({}))"

    def number(self, value: float) -> str:
        return repr(float(value)) if np.isfinite(value) else f'float("{float(value)!r}")'

    def arguments(self, args: list[Piece]) -> str:
        return ", ".join(self.wrap(a, OR) for a in args)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        # Python, numpy and torch all compute a small whole power alike
        if exponent.number and not exponent.negative and not base.number and exponent.text[0].isdigit():
            value = float(exponent.text)
            if value == int(min(value, 100)) and value >= 1:
                return Piece(f"{self.wrap(base, ATOM)}**{int(value)}", POWER)
        return self.other_power(base, exponent)

    def other_power(self, base: Piece, exponent: Piece) -> Piece:
        return Piece(f"np.power({self.arguments([base, exponent])})")

    def as_number(self, piece: Piece) -> Piece:
        return Piece(f"np.where({piece.text}, 1.0, 0.0)")

    def call(self, op: str, args: list[Piece]) -> Piece:
        return Piece(f"{OPS[op].numpy}({self.arguments(args)})")


class _Torch(_Numpy):
    zeros: ClassVar = "torch.zeros_like({})"

    def other_power(self, base: Piece, exponent: Piece) -> Piece:
        return Piece(f"{self.wrap(base, ATOM)} ** {self.wrap(exponent, ATOM)}", POWER)

    def as_number(self, piece: Piece) -> Piece:
        return Piece(f"({piece.text}).double()")

    def compare(self, op: str, a: Piece, b: Piece) -> Piece:
        text = super().compare(op, a, b).text
        return Piece(f"torch.tensor({text})") if a.number and b.number else Piece(text, COMPARE)

    def call(self, op: str, args: list[Piece]) -> Piece:
        if len(args) > 1:  # torch's functions of two arguments take no plain numbers
            args = [
                Piece(f"torch.tensor({self.wrap(a, OR)}, dtype=torch.float64)") if a.number else a
                for a in args
            ]
        name = OPS[op].torch or OPS[op].numpy.partition(".")[2]
        if "{" in name:
            return Piece(name.format(*(self.wrap(a, OR) for a in args)))
        return Piece(f"torch.{name}({self.arguments(args)})")


def _source(kind: type[_Numpy], expression: Expression, name: str, params: Sequence[float] | None) -> str:
    # names become code: nothing but plain identifiers may pass
    if safe_names([name], RESERVED) != (name,):
        raise ValueError(f"{name!r} cannot be the name of a function here")
    if params is not None:
        expression = fill(expression, params)
    columns = safe_names(expression.columns, {*RESERVED, name})
    code = kind(expression, columns, unused_prefix(columns, ["t", "s", "term"]), prefix="params")
    result = code.render()
    if result.boolean:
        result = code.as_number(result)
    text = code.wrap(result, OR)
    if not expression.inputs and columns:  # one value per row, also where no column is used
        text = f"{code.wrap(result, SUM)} + {kind.zeros.format(columns[0])}"
    lines = [f"def {name}({', '.join([*columns, *([] if params is not None else ['params'])])}):"]
    body = [f"    {target} = {value}" for target, value in code.assignments] + [f"    return {text}"]
    if kind is _Numpy and any("special." in line for line in body):
        lines.append("    from scipy import special")
    return "\n".join([*lines, *body]) + "\n"


def to_numpy_source(
    expression: Expression, name: str = "equation", params: Sequence[float] | None = None
) -> str:
    """A function definition that needs only `np` in its namespace (scipy.special is imported inside if used).

    The header is `def NAME(x, v, params):`, or without `params` when values are given: they are then written
    into the text in full precision. Columns whose names are no plain identifiers become c0, c1, ... It takes
    float64 arrays of shape (rows,) and returns one; numpy may warn about rows that are not finite.
    Raises ValueError when `name` is no identifier or `params` is too short.
    """
    return _source(_Numpy, expression, name, params)


def to_torch_source(
    expression: Expression, name: str = "equation", params: Sequence[float] | None = None
) -> str:
    """The same as a function of float64 tensors that needs only `torch`; every operation is covered.

    gamma goes through lgamma, which costs some digits for large arguments.
    """
    return _source(_Torch, expression, name, params)


def to_numpy_body(expression: Expression, params_name: str = "params") -> str:
    """The statements of `to_numpy_source` for a function whose arguments have the columns' own names.

    Columns must be identifiers of Python; those that the text names otherwise are renamed at its top.
    """
    columns = expression.columns
    renamed = zip(safe_names(columns, {*RESERVED, "equation"}), columns, strict=True)
    used = {columns[index] for index in expression.inputs}
    lines = [f"{new} = {own}" for new, own in renamed if new != own and own in used]
    if params_name != "params":
        lines.append(f"params = {params_name}")
    statements = textwrap.dedent(to_numpy_source(expression).split("\n", 1)[1])
    return "\n".join([*lines, statements])


def callable_for(
    expression: Expression, dialect: str = "numpy", params: Sequence[float] | None = None
) -> Callable[..., Any]:
    """A callable `f(*columns, params)` (without params when values are given), compiled from our own source.

    It returns shape (rows,), also when the expression uses no column; numpy warnings are silenced inside.
    `dialect` is "numpy" or "torch". Raises ValueError for another dialect.
    """
    namespace: dict[str, Any]
    if dialect == "numpy":
        namespace, text = {"np": np}, to_numpy_source(expression, params=params)
    elif dialect == "torch":
        import torch

        namespace, text = {"torch": torch}, to_torch_source(expression, params=params)
    else:
        raise ValueError(f"dialect must be 'numpy' or 'torch', not {dialect!r}")
    exec(compile(text, f"<equation in {dialect}>", "exec"), namespace)
    function: Callable[..., Any] = namespace["equation"]
    if dialect == "torch":
        return function

    def equation(*args: Any, **named: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            values: np.ndarray = function(*args, **named)
        return values

    return equation
