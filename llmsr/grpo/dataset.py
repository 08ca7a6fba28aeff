"""From specs and data to parquet: prompts that differ, each with what its reward must know.

A row is what VERL reads: `data_source`, `prompt` (messages), `ability`, `reward_model`, `extra_info`. The
local trainer reads the same rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from llmsr.errors import UserError
from llmsr.problem.loading import Problem
from llmsr.prompt import INSTRUCTION, Version, build_prompt, indent_body, version_bodies
from llmsr.proposers.proposer import chat_messages
from llmsr.search.population import Member

WORDINGS = (
    INSTRUCTION,
    "Write the body of the last function, an equation with a smaller error than the ones above it.",
    "Improve on the earlier versions: complete the last function with a better equation for these data.",
    "The functions below are attempts at one law. Complete the last one so that it fits the data best.",
)
SHOWN_ROWS = 5

Row = dict[str, Any]
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class PromptForm:
    """How prompts are put to the model.

    `details` adds scores, fitted constants, data rows, column ranges and other wordings. `chat` writes a
    system message and a user message, else one user message that is the bare text. `tokens` counts the tokens
    of messages, of which a prompt may have `max_tokens`.
    """

    details: bool = False
    chat: bool = True
    tokens: Callable[[Messages], int] | None = None
    max_tokens: int | None = None

    def messages(self, rng: Random, problem: Problem, members: Sequence[Member]) -> Messages:
        """A prompt that shows the members, worst first."""
        versions = [_version(problem, member, self.details and rng.random() < 0.7) for member in members]
        text = _prompt(rng, problem, versions, self.details)
        return chat_messages(text) if self.chat else [{"role": "user", "content": text}]

    def fits(self, messages: Messages) -> bool:
        return self.tokens is None or self.max_tokens is None or self.tokens(messages) <= self.max_tokens


def pool_size(n_prompts: int) -> int:
    """Equations that a pool needs, so that `n_prompts` prompts can all differ in the equations they show."""
    return max(24, math.ceil(math.sqrt(3 * n_prompts)) + 4)


def prompt_rows(
    problem: Problem, pool: Sequence[Member], n_train: int, n_validation: int, seed: int, form: PromptForm
) -> tuple[list[Row], list[Row]]:
    """Training and validation rows of one problem; no two of all these show the same equations.

    A prompt that is too long shows one equation less, and if that does not help there is a `UserError`.
    """
    rng = Random(f"prompts {problem.name} {seed}")
    seen: set[tuple[str, ...]] = set()
    rows: list[Row] = []
    for number in range(n_train + n_validation):
        chosen = _new_choice(rng, pool, seen, problem.name)
        while not form.fits(messages := form.messages(rng, problem, chosen)):
            if len(chosen) == 1 and form.tokens:
                raise UserError(
                    f"a prompt of {problem.name} has {form.tokens(messages)} tokens with one earlier "
                    f"equation; raise --max_prompt_length above {form.max_tokens} or shorten the spec's text"
                )
            chosen = chosen[1:]
            if _key(chosen) in seen:
                chosen = _new_choice(rng, pool, seen, problem.name, count=1)
        seen.add(_key(chosen))
        split = "train" if number < n_train else "validation"
        rows.append(prompt_row(problem, messages, chosen, number, split))
    return rows[:n_train], rows[n_train:]


def prompt_row(
    problem: Problem,
    messages: Messages,
    shown: Sequence[Member],
    number: int,
    split: str,
    island: int | None = None,
) -> Row:
    """The row of a prompt; `number` tells it from the others of its run."""
    return {
        "data_source": f"llmsr/{problem.name}",
        "prompt": messages,
        "ability": "equation_discovery",
        "reward_model": {"style": "rule", "ground_truth": problem.name},
        "extra_info": {
            "index": number,
            "split": split,
            "problem": problem.name,
            "prompt_id": number,
            # JSON texts: a column of mappings would give every row the union of all keys
            "versions": json.dumps(version_bodies(problem.spec, [member.version() for member in shown])),
            "shown": json.dumps([member.canonical for member in shown]),
            "shown_nmse": json.dumps([member.nmse for member in shown]),
            "parents": json.dumps([member.sample for member in shown]),
            "island": -1 if island is None else island,
        },
    }


def mixed(groups: Sequence[Sequence[Row]], seed: int) -> list[Row]:
    """The rows of several problems in one seeded order, numbered anew by `extra_info.index`."""
    rows = [row for group in groups for row in group]
    Random(f"order {seed}").shuffle(rows)
    return [row | {"extra_info": row["extra_info"] | {"index": i}} for i, row in enumerate(rows)]


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """The rows as a parquet file, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    temporary = path.with_name(path.name + ".part")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), temporary)
    temporary.replace(path)


def read_parquet(path: Path) -> list[Row]:
    """The rows of a parquet file as `write_parquet` wrote them."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


def _new_choice(
    rng: Random, pool: Sequence[Member], seen: set[tuple[str, ...]], name: str, count: int | None = None
) -> list[Member]:
    """One or two equations of the pool, worst first, that no earlier prompt showed together."""
    for _ in range(1000):
        wanted = count or (2 if rng.random() < 0.8 else 1)
        if len(pool) < wanted:
            continue
        chosen = [pool[i] for i in sorted(rng.sample(range(len(pool)), wanted))]
        if _key(chosen) not in seen:
            return chosen
    raise UserError(
        f"{len(pool)} earlier equations of {name} give no more than {len(seen)} different prompts; lower "
        f"--prompts"
    )


def _key(chosen: Sequence[Member]) -> tuple[str, ...]:
    return tuple(member.canonical for member in chosen)


def _version(problem: Problem, member: Member, commented: bool) -> Version:
    version = member.version()
    if not commented:
        return version
    return replace(version, body=f"    {_comment(problem, member)}\n{indent_body(member.body)}")


def _comment(problem: Problem, member: Member) -> str:
    name = problem.spec.params_name
    used = [f"{value:.4g}" for i, value in enumerate(member.params) if f"{name}[{i}]" in member.body]
    fitted = f"; fitted {name} used: {', '.join(used)}" if used else ""
    return f"# error on the data (NMSE): {member.nmse:.2e}{fitted}"


def _prompt(rng: Random, problem: Problem, versions: Sequence[Version], details: bool) -> str:
    spec = problem.spec
    if not details:
        return build_prompt(spec, versions)
    notes = {0: "", 1: _data_rows(rng, problem), 2: _column_ranges(problem)}[rng.randrange(3)]
    preface = f"{spec.preface.rstrip()}\n\n{notes}" if notes else spec.preface
    text = build_prompt(replace(spec, preface=preface), versions)
    return text.replace(INSTRUCTION, rng.choice(WORDINGS), 1)


def _data_rows(rng: Random, problem: Problem) -> str:
    chosen = sorted(rng.sample(range(len(problem.train)), min(SHOWN_ROWS, len(problem.train))))
    lines = ["# some rows of the data: " + ", ".join((*problem.spec.columns, problem.target))]
    for i in chosen:
        values = (*problem.train.inputs[i], problem.train.target[i])
        lines.append("#   " + ", ".join(f"{value:.4g}" for value in values))
    return "\n".join(lines)


def _column_ranges(problem: Problem) -> str:
    lines = ["# ranges of the data (5%, median, 95%):"]
    columns = (*problem.train.inputs.T, problem.train.target)
    for name, values in zip((*problem.spec.columns, problem.target), columns, strict=True):
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
        lines.append(f"#   {name}: {low:.4g}, {middle:.4g}, {high:.4g}")
    return "\n".join(lines)
