"""The prompts of a run, those it trains on and those it is validated on, and what its memory begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.grpo import dataset
from llmsr.grpo.memory.seeds import SEEDS_FILE, memory_seeds, write_seeds
from llmsr.grpo.plan import Plan
from llmsr.grpo.pool import build_pool
from llmsr.grpo.progress import say
from llmsr.problem.loading import Problem

TRAIN, VALIDATION = "llmsr_train.parquet", "llmsr_val.parquet"


def write_prompts(plan: Plan, problems: Sequence[Problem]) -> str | None:
    """Write both parquet files; the chat template in place of the model's own comes back, if there is one."""
    config = plan.config
    encoder = _encoder(plan)
    form = dataset.PromptForm(
        details=config.prompt_details == "mixed",
        chat=config.chat_template != "plain" if encoder is None else not encoder.plain,
        tokens=encoder.count if encoder else None,
        max_tokens=config.max_prompt_length,
    )
    train_groups, validation_groups, seeds = [], [], {}
    # a continued run keeps its seeds: answers are archived by their places, and --warm_start may have grown
    seeded = config.memory == "none" or (config.resume and (plan.run_dir / SEEDS_FILE).is_file())
    for place, problem in enumerate(problems):
        n_train, n_validation = (
            count // len(problems) + (place < count % len(problems))
            for count in (plan.rows, max(config.validation_prompts, len(problems)))
        )
        with Evaluator(problem, config.fitter, config.fit_timeout, config.workers) as evaluator:
            pool = build_pool(problem, evaluator, dataset.pool_size(n_train + n_validation), config.seed)
            if not seeded:
                seeds[problem.name] = memory_seeds(evaluator, config.warm_start)
        train_rows, validation_rows = dataset.prompt_rows(
            problem, pool, n_train, n_validation, config.seed, form
        )
        train_groups.append(train_rows)
        validation_groups.append(validation_rows)
    if seeds:
        write_seeds(plan.run_dir, seeds)
    dataset.write_parquet(dataset.mixed(train_groups, config.seed), plan.run_dir / TRAIN)
    dataset.write_parquet(dataset.mixed(validation_groups, config.seed), plan.run_dir / VALIDATION)
    return encoder.template if encoder else None


def _encoder(plan: Plan) -> Any:
    """The model's way from messages to tokens; None in a dry run that cannot reach the model."""
    from transformers import AutoTokenizer

    from llmsr.grpo.tokens import PromptTokens
    from llmsr.grpo.verl.launch import check_model

    try:
        check_model(plan.model_path)
        tokenizer = AutoTokenizer.from_pretrained(
            plan.model_path, trust_remote_code=plan.config.trust_remote_code
        )
    except (UserError, OSError, ValueError) as error:
        if not plan.config.dry_run:
            raise UserError(str(error)) from None
        say(
            f"{plan.model_path} cannot be reached here: prompts are written as chats, their lengths unchecked"
        )
        return None
    return PromptTokens(tokenizer, plan.config.chat_template)
