"""From specs and data to parquet: prompts that differ, each with what its reward must know.

A row is what VERL reads: `data_source`, `prompt` (messages), `ability`, `reward_model`, `extra_info`. The
local trainer reads the same rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from llmsr.errors import UserError
from llmsr.grpo.settings import GrpoConfig
from llmsr.models.chat_template import ChatTemplate
from llmsr.problem.loading import Problem
from llmsr.prompt import Chat, make_prompt, version_bodies
from llmsr.search.population import Member
from llmsr.settings import PromptSettings

Row = dict[str, Any]


@dataclass(frozen=True)
class PromptForm:
    """How prompts are put to the model that is trained.

    `chat` tells a chat model from one that continues text; `fitting` puts a chat in roles that the model's
    template takes; `tokens` counts a chat's tokens, of which a prompt may have `max_tokens`.
    """

    settings: PromptSettings = field(default_factory=PromptSettings)
    chat: bool = True
    tokens: Callable[[Chat], int] | None = None
    max_tokens: int | None = None
    fitting: Callable[[Chat], Chat] = lambda chat: chat

    def of(self, problem: Problem, members: Sequence[Member]) -> Chat:
        """The prompt that shows the members, worst first."""
        prompt = make_prompt(problem, [member.version() for member in members], self.settings)
        return self.fitting(prompt.form(self.chat))

    def fits(self, chat: Chat) -> bool:
        return self.tokens is None or self.max_tokens is None or self.tokens(chat) <= self.max_tokens


def prompt_form(settings: GrpoConfig, template: ChatTemplate | None, max_tokens: int) -> PromptForm:
    """The form of a run's prompts; without a `template` those of a chat model whose tokens nobody counts."""
    form = PromptForm(settings, max_tokens=max_tokens)
    if template is None:
        return replace(form, chat=settings.chat_template != "plain")
    return replace(form, chat=not template.plain, tokens=template.count, fitting=template.fitting)


def row_chat(row: Row, thinking: bool = False) -> Chat:
    """What a row asks."""
    info = row["extra_info"]
    return Chat(tuple(row["prompt"]), info["begun"], tuple(json.loads(info["stops"])), int(thinking))


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
        while not form.fits(chat := form.of(problem, chosen)):
            if len(chosen) == 1 and form.tokens:
                raise UserError(
                    f"a prompt of {problem.name} has {form.tokens(chat)} tokens with one earlier "
                    f"equation; raise --max_prompt_length above {form.max_tokens} or shorten the spec's text"
                )
            chosen = chosen[1:]
            if _key(chosen) in seen:
                chosen = _new_choice(rng, pool, seen, problem.name, count=1)
        seen.add(_key(chosen))
        split = "train" if number < n_train else "validation"
        rows.append(prompt_row(problem, chat, chosen, number, split))
    return rows[:n_train], rows[n_train:]


def prompt_row(
    problem: Problem,
    chat: Chat,
    shown: Sequence[Member],
    number: int,
    split: str,
    island: int | None = None,
) -> Row:
    """The row of a prompt; `number` tells it from the others of its run."""
    return {
        "data_source": f"llmsr/{problem.name}",
        "prompt": list(chat.messages),
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
            "begun": chat.begun,
            "stops": json.dumps(chat.stops),
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
