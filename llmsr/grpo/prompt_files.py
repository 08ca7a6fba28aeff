"""The prompts of a run, those it trains on and those it is validated on, and what its memory begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.grpo import dataset
from llmsr.grpo.memory import SEEDS_FILE, build_pool, memory_seeds, write_seeds
from llmsr.grpo.plan import Plan
from llmsr.grpo.progress import say
from llmsr.models.chat_template import ChatTemplate, stop_test
from llmsr.problem.loading import Problem
from llmsr.proposers.known_names import in_known_names, knows_few_names

RAW_ANSWER_TOKENS = 256
TRAIN, VALIDATION = "llmsr_train.parquet", "llmsr_val.parquet"


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
    form = dataset.prompt_form(config, encoder, config.max_prompt_length)
    if encoder and encoder.plain and not plan.tiny and config.max_response_length < RAW_ANSWER_TOKENS:
        say(
            f"a model without chat template writes answers of 100 tokens and more, of which "
            f"--max_response_length {config.max_response_length} cuts many off; {RAW_ANSWER_TOKENS} cuts few"
        )
    train_groups, validation_groups, seeds = [], [], {}
    # a continued run keeps its seeds: answers are archived by their places, and --warm_start may have grown
    seeded = config.memory == "none" or (config.resume and (plan.run_dir / SEEDS_FILE).is_file())
    for place, problem in enumerate(problems):
        n_train, n_validation = (
            count // len(problems) + (place < count % len(problems))
            for count in (config.prompts, max(config.validation_prompts, len(problems)))
        )
        evaluator = evaluator_of(problem.name)
        size = dataset.pool_size(n_train + n_validation)
        pool = build_pool(problem, evaluator, size, config.seed, config.guess)
        if not seeded:
            seeds[problem.name] = memory_seeds(evaluator, config.warm_start, pool, config.guess)
        train_rows, validation_rows = dataset.prompt_rows(
            problem, pool, n_train, n_validation, config.seed, form
        )
        if knows_few_names(plan.model_path):
            train_rows, validation_rows = (
                [in_known_names(row) for row in rows] for rows in (train_rows, validation_rows)
            )
        train_groups.append(train_rows)
        validation_groups.append(validation_rows)
    if seeds:
        write_seeds(plan.run_dir, seeds)
    dataset.write_parquet(dataset.mixed(train_groups, config.seed), plan.run_dir / TRAIN)
    dataset.write_parquet(dataset.mixed(validation_groups, config.seed), plan.run_dir / VALIDATION)


def _check_room(plan: Plan) -> None:
    """`UserError` where the model reads fewer tokens than a prompt and its answer may have."""
    from transformers import AutoConfig

    config = plan.config
    shape = AutoConfig.from_pretrained(plan.model_path, trust_remote_code=config.trust_remote_code)
    room = getattr(shape.get_text_config(), "max_position_embeddings", None)
    wanted = config.max_prompt_length + config.max_response_length
    if room is not None and wanted > room:
        raise UserError(
            f"{plan.model_path} takes {room} tokens in all; --max_prompt_length {config.max_prompt_length} "
            f"and --max_response_length {config.max_response_length} would be {wanted}: lower one of them"
        )


def prompt_encoder(plan: Plan) -> ChatTemplate | None:
    """The model's way from messages to tokens; None in a dry run that cannot reach the model."""
    from llmsr.models.loading import load_tokenizer

    try:
        tokenizer = load_tokenizer(plan.model_path, plan.config.trust_remote_code)
    except UserError:
        if not plan.config.dry_run:
            raise
        say(
            f"{plan.model_path} cannot be reached here: prompts are written as chats, their lengths unchecked"
        )
        return None
    _check_room(plan)
    template = ChatTemplate(tokenizer, plan.config.chat_template)
    if not template.plain:
        stop_test(tokenizer, plan.config.stops)
    return template
