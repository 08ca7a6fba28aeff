"""The prompts of a run, those it trains on and those it is validated on, and what its memory begins with.

A row is what VERL reads: `data_source`, `prompt` (messages), `ability`, `reward_model`, `extra_info`. The
local trainer reads the same rows. No two fixed prompts show the same earlier equations; these come from a
pool that is made without a language model, before training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from llmsr.archive import read_archive
from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.grpo.plan import Plan
from llmsr.grpo.progress import say
from llmsr.grpo.run_record import SEEDS_FILE, write_seeds
from llmsr.grpo.settings import GrpoConfig
from llmsr.models.chat_template import ChatTemplate, stop_test
from llmsr.problem.holes import guess_bodies
from llmsr.problem.loading import Problem
from llmsr.prompt import Chat, make_prompt, version_bodies
from llmsr.proposers.grammar import mutate, random_body
from llmsr.proposers.known_names import in_known_names, knows_few_names
from llmsr.search.population import Member
from llmsr.search.search import member_of
from llmsr.settings import PromptSettings

Row = dict[str, Any]

TRAIN, VALIDATION = "llmsr_train.parquet", "llmsr_val.parquet"
RAW_ANSWER_TOKENS = 256
MAX_BODY = 400  # characters of an equation in the pool; longer ones leave the model no room
POOL_EQUATIONS = 12  # the best of the pool: they give way as soon as the policy finds better ones
WARM_EQUATIONS = 200  # of an earlier run, the best ones of different canonical form


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


# ---- the files


def write_prompts(
    plan: Plan,
    problems: Sequence[Problem],
    encoder: ChatTemplate | None,
    evaluator_of: Callable[[str], Evaluator],
) -> None:
    """Write both parquet files, the one of validation last; `encoder` is what `prompt_encoder` gave.

    `evaluator_of` the name of a problem fits the equations that its prompts show.
    """
    config = plan.config
    form = prompt_form(config, encoder, config.max_prompt_length)
    if encoder and encoder.plain and not plan.tiny and config.max_response_length < RAW_ANSWER_TOKENS:
        say(
            f"a model without chat template writes answers of 100 tokens and more, of which "
            f"--max_response_length {config.max_response_length} cuts many off; {RAW_ANSWER_TOKENS} cuts few"
        )
    named = in_known_names if knows_few_names(plan.model_path) else lambda row: row
    counts = (config.prompts, max(config.validation_prompts, len(problems)))
    files: dict[str, list[list[Row]]] = {TRAIN: [], VALIDATION: []}
    seeds = {}
    # a continued run keeps its seeds: answers are archived by their places, and --warm_start may have grown
    seeded = config.memory == "none" or (config.resume and (plan.run_dir / SEEDS_FILE).is_file())
    for place, problem in enumerate(problems):
        own = [count // len(problems) + (place < count % len(problems)) for count in counts]
        evaluator = evaluator_of(problem.name)
        pool = build_pool(problem, evaluator, pool_size(sum(own)), config.seed, config.guess)
        if not seeded:
            seeds[problem.name] = memory_seeds(evaluator, config.warm_start, pool, config.guess)
        made = prompt_rows(problem, pool, own[0], own[1], config.seed, form)
        for groups, rows in zip(files.values(), made, strict=True):
            groups.append([named(row) for row in rows])
    if seeds:
        write_seeds(plan.run_dir, seeds)
    for name, groups in files.items():
        write_parquet(mixed(groups, config.seed), plan.run_dir / name)


def prompt_encoder(plan: Plan) -> ChatTemplate | None:
    """The model's way from messages to tokens; None in a dry run that cannot reach the model.

    `UserError` where the model reads fewer tokens than a prompt and its answer may have.
    """
    from transformers import AutoConfig

    from llmsr.models.loading import load_tokenizer

    config = plan.config
    try:
        tokenizer = load_tokenizer(plan.model_path, config.trust_remote_code)
    except UserError:
        if not config.dry_run:
            raise
        say(
            f"{plan.model_path} cannot be reached here: prompts are written as chats, their lengths unchecked"
        )
        return None
    shape = AutoConfig.from_pretrained(plan.model_path, trust_remote_code=config.trust_remote_code)
    room = getattr(shape.get_text_config(), "max_position_embeddings", None)
    if room is not None and config.longest > room:
        raise UserError(
            f"{plan.model_path} takes {room} tokens in all; --max_prompt_length {config.max_prompt_length} "
            f"and --max_response_length {config.max_response_length} would be {config.longest}: lower one "
            "of them"
        )
    template = ChatTemplate(tokenizer, config.chat_template)
    if not template.plain:
        stop_test(tokenizer, config.stops)
    return template


# ---- rows


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


# ---- earlier equations


def build_pool(problem: Problem, evaluator: Evaluator, size: int, seed: int, guess: str = "") -> list[Member]:
    """`size` different valid equations, worst first: the spec's seed, guesses, random ones, changes of these.

    They depend on the arguments alone. Fewer come back where the grammar finds no more.
    """
    rng = Random(f"pool {problem.name} {seed}")
    spec = problem.spec
    form: dict[str, Any] = {
        "signed": np.flatnonzero((problem.train.inputs < 0).any(axis=0)).tolist(),
        "module": "torch" if spec.dialect == "torch" else "np",
        "params_name": spec.params_name,
    }

    def drawn(known: list[Member]) -> str:
        if not known or rng.random() >= 0.5:
            return random_body(rng, spec.columns, spec.max_params, **form)
        # parents come from the better half, so that the pool spans a range of scores
        better = sorted(known, key=lambda member: member.nmse)[: max(1, len(known) // 2)]
        first, second = rng.choice(better), rng.choice(better)
        return mutate(rng, first.body, spec.columns, spec.max_params, other=second.body, **form)

    found: dict[str, Member] = {}
    failure = ""
    for attempt in range(8):
        known = list(found.values())
        batch = [spec.seed_body, *guess_bodies(problem, guess).values()] if attempt == 0 else []
        batch += [drawn(known) for _ in range(size - len(batch))]
        for evaluation in [future.result() for future in [evaluator.submit(body) for body in batch]]:
            if not evaluation.ok:
                failure = failure or f"{evaluation.status}: {evaluation.reason}"
            elif len(evaluation.body) <= MAX_BODY and len(found) < size:
                found.setdefault(evaluation.canonical, member_of(0, evaluation))
        if len(found) >= size:
            break
    if not found:
        raise UserError(f"not one equation of {problem.name} could be fitted, the first ended with {failure}")
    return sorted(found.values(), key=lambda member: (-member.nmse, member.canonical))


def memory_seeds(
    evaluator: Evaluator, warm_start: str | None, pool: Sequence[Member] = (), guess: str = ""
) -> list[Member]:
    """The spec's own equation, guesses and those of `warm_start`, or else `pool`, fitted by this evaluator.

    With the spec's equation alone nearly all prompts of the first steps would be the same. Those of a run are
    fitted again so that all members are graded by one ruler. A `UserError` where the earlier run has nothing
    that fits this problem.
    """
    begun = [evaluator.problem.spec.seed_body, *guess_bodies(evaluator.problem, guess).values()]
    own = [evaluator.evaluate(body) for body in begun]
    bodies = _earlier_bodies(Path(warm_start), evaluator.problem.name) if warm_start else []
    found = [future.result() for future in [evaluator.submit(body) for body in bodies]]
    if warm_start and not any(evaluation.ok for evaluation in found):
        raise UserError(
            f"--warm_start {warm_start}: no equation of that run can be used for {evaluator.problem.name}"
        )
    members = [member_of(0, evaluation) for evaluation in [*own, *found] if evaluation.ok]
    members += () if warm_start else pool[-POOL_EQUATIONS:]
    return list({member.canonical: member for member in members}.values())


def _earlier_bodies(run_dir: Path, problem: str) -> list[str]:
    """The best bodies of a run's archive, one of each canonical form, best first."""
    if not (run_dir / "archive").is_dir():
        raise UserError(f"--warm_start {run_dir} holds no run: its archive is missing")
    samples = [s for s in read_archive(run_dir) if s.evaluation.ok and s.problem in ("", problem)]
    best = {s.evaluation.canonical: s for s in sorted(samples, key=lambda s: s.evaluation.worth)}
    ranked = sorted(best.values(), key=lambda s: (-s.evaluation.worth, s.number))
    return [sample.evaluation.body for sample in ranked[:WARM_EQUATIONS]]
