"""What a problem asks of its equations beside its rows: said by flags, by a spec's comments, or in Python.

A spec says it by comments such as `# llmsr: loss = huber`. What flags say is written into the spec's text in
the same way, so that a run's copy of a spec tells all that its fits depend on.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from llmsr.config import Checked, option, resolve
from llmsr.errors import UserError

LOSSES = ("mse", "mae", "huber", "quantile")
_LINE = re.compile(r"#\s*llmsr\s*:\s*(.*?)\s*$")
_SHORT = {"least_squares": ("loss", "mse")}


@dataclass(frozen=True)
class Declarations(Checked):
    """what is asked of equations; in a spec a comment says the same, such as # llmsr: loss = huber"""

    loss: str = option(
        "",
        "what constants minimise: mse, mae, huber, huber:BEND or quantile:Q; empty: the spec's evaluate; the "
        "bend is in the target's units, or with --sigma in standard errors",
    )
    sigma: str = option("", "column of measurement errors: no input, its rows weigh 1/sigma^2")
    weights: str = option("", "column of weights: no input; rows of weight 0 are left out")
    group: str = option("", "column of groups: no input; one law, its constants fitted for each group")

    operators: str = option(
        "", "operators and functions that equations may use, such as +,-,*,/,exp (default: all)"
    )
    max_complexity: int | None = option(
        None, "operators, columns and constants of an equation at most", least=1
    )
    max_depth: int | None = option(None, "depth of an equation's tree at most, its leaves counted", least=1)
    template: str = option(
        "",
        'a fixed form with holes, such as "f(x)*exp(-g(t)) + p0": only the holes are searched, each a '
        "function of its columns; unknown names are constants",
    )
    required: str = option("", "columns that every equation must use, separated by commas")
    forbidden: str = option("", "columns that no equation may use, separated by commas")
    shape: str = option(
        "",
        "what equations must be in a column, at data and box: x=even, x=odd, t=increasing, t=decreasing, "
        "s=bounded; commas join several",
    )
    nesting: str = option(
        "", "how many of some functions may stand inside one of them, such as sin/cos=0,exp=1"
    )
    complexities: str = option(
        "", "what counts more than 1 in the complexity, such as exp=3,pow=2,constant=2,column=1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        loss_of(self.loss)
        if self.sigma and self.weights:
            raise UserError(f"{self.flag}sigma and {self.flag}weights both weigh the rows; keep one")

    @property
    def said(self) -> dict[str, Any]:
        """What differs from the defaults, by name."""
        return {f.name: v for f in fields(Declarations) if (v := getattr(self, f.name)) != f.default}

    @property
    def roles(self) -> dict[str, str]:
        """The columns of a table that are neither input nor target, by what they are for."""
        return {role: column for role in ("sigma", "weights", "group") if (column := getattr(self, role))}


def loss_of(text: str) -> tuple[str, float | None]:
    """The name of a loss and the number behind its colon; `UserError` for what is none."""
    name, colon, number = text.partition(":")
    try:
        value = float(number) if colon else None
    except ValueError:
        value = float("nan")
    known = not text or name in LOSSES
    fits = value is None if name in ("", "mse", "mae") else name == "huber" or value is not None
    inside = value is None or 0 < value < (1 if name == "quantile" else float("inf"))
    if not (known and fits and inside):
        raise UserError(
            f"--loss must be mse, mae, huber, huber:BEND with a positive bend, or quantile:Q with Q between "
            f"0 and 1; got {text!r}"
        )
    return name, value


def declarations_of(given: Mapping[str, Any]) -> Declarations:
    """The declarations among settings of any kind."""
    known = {f.name for f in fields(Declarations)}
    made: Declarations = resolve(Declarations, given={k: v for k, v in given.items() if k in known})[0]
    return made


def is_declaration(line: str) -> bool:
    """Whether a line of a spec is a comment that declares something."""
    return _LINE.match(line.strip()) is not None


def declared(text: str) -> list[tuple[str, str]]:
    """The names and values of a spec's comments: of `# llmsr: units t=s; v=m/s` units and what follows."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = (_LINE.match(token.string) for token in tokens if token.type == tokenize.COMMENT)
    return [_parted(told[1]) for told in comments if told]


def _parted(told: str) -> tuple[str, str]:
    if told in _SHORT:
        return _SHORT[told]
    name, _, value = told.partition(" ") if told.startswith("units ") else told.partition("=")
    return name.strip(), value.strip()


def read_declarations(text: str, path: str) -> Declarations:
    """What the comments of a spec's text declare; `UserError` for one that cannot be meant."""
    given: dict[str, str] = {}
    known = [f.name for f in fields(Declarations)]
    for name, value in declared(text):
        if name == "units":
            continue
        if name not in known or not value:
            raise UserError(
                f"{path}: unknown declaration {f'{name} = {value}' if value else name!r}; there are "
                f"least_squares, units x=m; y=s and, as NAME = VALUE, {', '.join(known)}"
            )
        if name in given:
            raise UserError(f"{path}: {name} is declared twice; keep one")
        given[name] = value
    try:
        return declarations_of(given)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def with_declarations(text: str, asked: Declarations) -> str:
    """The text of a spec that declares, beside or in place of its own, what is asked by other means."""
    said = asked.said
    if not said:
        return text
    kept = [
        line
        for line in text.rstrip("\n").split("\n")
        if not (told := _LINE.match(line.strip())) or _parted(told[1])[0] not in said
    ]
    return "\n".join([*kept, "", *(f"# llmsr: {name} = {value}" for name, value in said.items()), ""])
