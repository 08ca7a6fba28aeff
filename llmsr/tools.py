"""What a model may call before it answers: tools over the training rows, each told in a few lines of text.

An equation that comes with a call is read and fitted as every answer is; nothing of it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from llmsr.context import Known, notes
from llmsr.evaluator import Evaluator
from llmsr.expression import Refusal
from llmsr.expression.graph import evaluate
from llmsr.problem.spec import read_body
from llmsr.prompt import Chat, Version
from llmsr.sample import Evaluation

PARTS = 8  # of a column's range, for residuals
EVALUATE = "evaluate"

_EQUATION = "the function's body, such as: return params[0] * x + params[1]"
_TOLD: dict[str, tuple[str, dict[str, str]]] = {
    EVALUATE: (
        "Fit the constants of an equation to the data: its error (NMSE), constants, and where it is wrong.",
        {"equation": _EQUATION},
    ),
    "describe": (
        "The values of a column, or of the target: smallest, quartiles, largest.",
        {"column": "its name"},
    ),
    "correlate": (
        "How closely the target follows an expression of the columns: correlation of values and of ranks.",
        {"expression": "of columns and numbers, such as: x**2 * np.sin(v)"},
    ),
    "residual": (
        f"Target minus fitted equation on average, in {PARTS} parts of a column with equally many rows.",
        {"equation": _EQUATION, "column": "the column's name"},
    ),
}

SCHEMAS: tuple[dict[str, Any], ...] = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": words,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string", "description": told} for key, told in asked.items()},
                "required": list(asked),
            },
        },
    }
    for name, (words, asked) in _TOLD.items()
)


class Tools:
    """The tools over the problem of an evaluator; a model may call them in `turns` replies before its answer.

    Calls may come from several threads at once.
    """

    schemas = SCHEMAS

    def __init__(self, evaluator: Evaluator, turns: int) -> None:
        self.evaluator = evaluator
        self.problem = evaluator.problem
        self.turns = turns

    def asked(self, chat: Chat) -> Chat:
        """The chat with a sentence about the tools; the model begins its replies by itself."""
        *others, question = chat.free().messages
        told = f" Before that you may call {', '.join(_TOLD)}, in at most {self.turns} replies."
        question = question | {"content": question["content"] + told}
        return replace(chat.free(), messages=(*others, question), stops=())

    def equation_of(self, call: Mapping[str, Any]) -> str | None:
        """The equation that a call asks to be evaluated; None of a call of any other kind."""
        equation = _arguments(call).get("equation") if call["function"]["name"] == EVALUATE else None
        return _whole(equation) if isinstance(equation, str) else None

    def call(self, call: Mapping[str, Any]) -> str:
        """What a tool says to a call {"function": {"name", "arguments"}}; a sentence where it cannot."""
        name, given = call["function"]["name"], _arguments(call)
        if name not in _TOLD:
            return f"there is no tool {name!r}; there are {', '.join(_TOLD)}"
        wanted = list(_TOLD[name][1])
        if any(not isinstance(given.get(key), str) for key in wanted):
            return f"{name} takes {' and '.join(wanted)}, as text"
        tool: Callable[..., str] = getattr(self, f"_{name}")
        return tool(*(given[key] for key in wanted))

    def _evaluate(self, equation: str) -> str:
        found = self.evaluator.evaluate(_whole(equation))
        if not found.ok:
            return f"refused: {found.reason}"
        known = Known(self.problem, ["the equation"], [_version(found)])
        return "\n".join(notes(["scores", "constants", "residuals"], known))

    def _describe(self, column: str) -> str:
        values = self._column(column)
        if isinstance(values, str):
            return values
        marks = ", ".join(f"{value:.4g}" for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
        different = len(np.unique(values))
        return f"{column}: {marks} (smallest, quartiles, largest); {different} different of {len(values)}"

    def _correlate(self, expression: str) -> str:
        found = read_body(self.problem.spec, _whole(expression))
        if isinstance(found, Refusal):
            return f"refused: {found.reason}"
        if found.params:
            return "refused: an expression of columns and numbers has no constants to fit; call evaluate"
        train = self.problem.train
        with np.errstate(all="ignore"):
            values = evaluate(found, train.inputs, np.empty(0))
        if not np.isfinite(values).all() or np.ptp(values) == 0 or np.ptp(train.target) == 0:
            return "the expression, or the target, is one number or not finite on some rows"
        ranks = (np.argsort(np.argsort(values)), np.argsort(np.argsort(train.target)))
        plain, ranked = (np.corrcoef(one, other)[0, 1] for one, other in ((values, train.target), ranks))
        return f"correlation with the target {plain:.4f}, of ranks {ranked:.4f}"

    def _residual(self, equation: str, column: str) -> str:
        values = self._column(column)
        if isinstance(values, str):
            return values
        found = self.evaluator.evaluate(_whole(equation))
        fitted = read_body(self.problem.spec, found.body) if found.ok else None
        if found.params is None or fitted is None or isinstance(fitted, Refusal):
            return f"refused: {found.reason}"
        train = self.problem.train
        with np.errstate(all="ignore"):
            residual = train.target - evaluate(fitted, train.inputs, np.array(found.params))
        order = np.argsort(values, kind="stable")
        parts = [part for part in np.array_split(order, PARTS) if len(part)]
        return "\n".join(
            f"{column} {values[part[0]]:.4g} to {values[part[-1]]:.4g}: {residual[part].mean():.3g}"
            for part in parts
        )

    def _column(self, name: str) -> np.ndarray | str:
        """The training values of a column or of the target, or a sentence that says there is none."""
        spec, train = self.problem.spec, self.problem.train
        if name == self.problem.target:
            return train.target
        if name in spec.columns:
            return train.inputs[:, spec.columns.index(name)]
        return f"there is no column {name!r}; there are {', '.join(spec.columns)}, and {self.problem.target}"


def _arguments(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call, which are JSON text; none of any other text."""
    try:
        given = json.loads(call["function"]["arguments"])
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def _whole(equation: str) -> str:
    """A function's body where an expression alone may stand."""
    return equation if "return" in equation or "def " in equation else f"return {equation.strip()}"


def _version(found: Evaluation) -> Version:
    score = found.score if found.score is not None else -float("inf")
    return Version(found.body, score, params=found.params, nmse=found.nmse.get("train"))
