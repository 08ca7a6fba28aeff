"""The text of a spec, in LLM-SR's format, written from the names and meanings of a table's columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

MAX_PARAMS = 10  # LLM-SR's number of constants; a linear equation of many columns needs more
MOST_PARAMS = 30
WIDTH = 112
LONGEST = 2000  # characters of a description

_TEMPLATE = '''"""
{task}
"""

import numpy as np
from scipy.optimize import minimize

# the constants of an equation: at most MAX_NPARAMS, fitted from PRAMS_INIT
MAX_NPARAMS = {max_params}
PRAMS_INIT = [1.0] * MAX_NPARAMS


@evaluate.run
def evaluate(data: dict) -> float:
    """Score of the equation after fitting its constants: minus the mean squared error, higher is better."""
    inputs, outputs = data["inputs"], data["outputs"]
{unpacking}

    def loss(params):
        predicted = equation({names}, params)
        return np.mean((predicted - outputs) ** 2)

    result = minimize(loss, PRAMS_INIT, method="BFGS")
    error = result.fun
    if np.isnan(error) or np.isinf(error):
        return None
    return -error


@equation.evolve
{header}
    """Equation for the {target}.

    Args:
{arguments}
        params: the free constants of the equation, fitted to the data.

    Return:
        {returned}, one number per row.
    """
    return {seed}
'''


@dataclass(frozen=True)
class Quantity:
    """A column: its identifier, what it means in words, and its unit; the latter two may be empty."""

    name: str
    meaning: str = ""
    unit: str = ""

    @property
    def words(self) -> str:
        return _one_line(self.meaning).rstrip(".") or self.name

    @property
    def described(self) -> str:
        return f"{self.words} in {_one_line(self.unit)}" if _one_line(self.unit) else self.words


def spec_text(
    inputs: Sequence[Quantity], target: Quantity, description: str = "", max_params: int | None = None
) -> str:
    """A spec whose seed equation is linear in the inputs and whose `evaluate` is the mean squared error.

    `description` is what the model should know about the problem, in free words. Without `max_params` it is
    10, or one more than there are inputs, 30 at most; inputs beyond it are not in the seed equation.
    """
    if max_params is None:
        max_params = max(MAX_PARAMS, min(len(inputs) + 1, MOST_PARAMS))
    names = [quantity.name for quantity in inputs]
    linear = [f"params[{i}] * {name}" for i, name in enumerate(names[: max(1, max_params - 1)])]
    if max_params > 1:
        linear.append(f"params[{len(linear)}]")
    return _TEMPLATE.format(
        task=_task(inputs, target, description),
        max_params=max_params,
        unpacking=_unpacking(names),
        names=", ".join(names),
        header=_header(names),
        target=target.words,
        arguments="\n".join(f"        {q.name}: {q.described}, one number per row." for q in inputs),
        returned=target.described,
        seed=" + ".join(linear),
    )


def _task(inputs: Sequence[Quantity], target: Quantity, description: str) -> str:
    the = [quantity.words if _is_bare(quantity) else f"the {quantity.words}" for quantity in inputs]
    given = the[0] if len(the) == 1 else f"{', '.join(the[:-1])} and {the[-1]}"
    sentence = f"Find an equation for the {target.words}, given {given}."
    told = _one_line(description)
    lines = textwrap.wrap(sentence, WIDTH, break_long_words=False)
    if told:
        told = told if told.endswith((".", "!", "?")) else f"{told}."
        lines += textwrap.wrap(told, WIDTH, break_long_words=False)
    return "\n".join(lines)


def _is_bare(quantity: Quantity) -> bool:
    """Whether the words are a mere name, or bring their own article."""
    return quantity.words == quantity.name or quantity.words.lower().startswith(("the ", "a ", "an "))


def _unpacking(names: Sequence[str]) -> str:
    columns = [f"inputs[:, {i}]" for i in range(len(names))]
    line = f"    {', '.join(names)} = {', '.join(columns)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join(f"    {name} = {column}" for name, column in zip(names, columns, strict=True))


def _header(names: Sequence[str]) -> str:
    typed = [f"{name}: np.ndarray" for name in (*names, "params")]
    line = f"def equation({', '.join(typed)}) -> np.ndarray:"
    if len(line) <= WIDTH:
        return line
    return "def equation(\n" + "".join(f"    {item},\n" for item in typed) + ") -> np.ndarray:"


def _one_line(text: str) -> str:
    """The text as it may stand between triple quotes: one line, printable, nothing that ends or escapes."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    told = re.sub(r"\s+", " ", printable)[:LONGEST].strip()
    return told.replace("\\", "/").replace('"', "'")
