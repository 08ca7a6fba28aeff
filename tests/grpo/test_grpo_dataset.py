"""Prompts differ, validation is apart, no column is lost, and a row says what its reward must know."""

import json

import numpy as np
import pytest
from grpo_problem import write_problem

from llmsr.errors import UserError
from llmsr.evaluator import Evaluator
from llmsr.grpo import dataset
from llmsr.grpo.dataset import PromptForm, build_pool, memory_seeds, row_chat
from llmsr.problem.loading import load_problem
from llmsr.prompt import INSTRUCTION
from llmsr.search.search import make_population
from llmsr.settings import PromptSettings, SearchSettings

N_TRAIN, N_VALIDATION = 40, 8
BARE = PromptForm(chat=False)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    spec, data = write_problem(tmp_path_factory.mktemp("problem"))
    return load_problem("plane", spec, data)


@pytest.fixture(scope="module")
def pool(problem):
    with Evaluator(problem, workers=1) as evaluator:
        return build_pool(problem, evaluator, 12, seed=0)


@pytest.fixture(scope="module")
def rows(problem, pool):
    return dataset.prompt_rows(problem, pool, N_TRAIN, N_VALIDATION, seed=0, form=BARE)


def text(row):
    return row["prompt"][-1]["content"]


def test_the_pool_is_valid_distinct_and_ascends_in_score(pool):
    assert len({member.canonical for member in pool}) == len(pool) == 12
    errors = [member.nmse for member in pool]
    assert errors == sorted(errors, reverse=True)


def test_the_first_prompts_with_memory_show_more_than_the_specs_own_equation(problem, pool):
    with Evaluator(problem, workers=1) as evaluator:
        seeds = memory_seeds(evaluator, None, pool)
    assert {member.canonical for member in pool} <= {member.canonical for member in seeds}
    population = make_population(SearchSettings(search="islands"), seeds, problem.spec)
    draws = [population.draw(np.random.default_rng(i)) for i in range(20)]
    assert len({draw.members for draw in draws}) > 10


def test_all_prompts_differ_and_validation_shares_none(rows):
    train, validation = rows
    assert len(train) == N_TRAIN
    assert len(validation) == N_VALIDATION
    assert len({text(row) for row in train + validation}) == N_TRAIN + N_VALIDATION


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(problem, pool, rows):
    again = dataset.prompt_rows(problem, pool, N_TRAIN, N_VALIDATION, seed=0, form=BARE)
    other = dataset.prompt_rows(problem, pool, N_TRAIN, N_VALIDATION, seed=1, form=BARE)
    assert again == rows
    assert other != rows


def test_every_column_is_in_the_signature_that_is_to_be_completed():
    problem = load_problem("oscillator2")
    with Evaluator(problem, workers=1) as evaluator:
        pool = build_pool(problem, evaluator, 1, seed=0)
    (row,), _ = dataset.prompt_rows(problem, pool, 1, 0, seed=0, form=PromptForm())
    assert row["extra_info"]["begun"].endswith("def equation(t, x, v, params):\n    return")


def test_later_versions_are_better_than_earlier_ones(rows):
    for row in rows[0]:
        errors = json.loads(row["extra_info"]["shown_nmse"])
        assert errors == sorted(errors, reverse=True)


def test_the_row_names_every_shown_equation_for_inlining_and_for_copies(rows, problem):
    for row in rows[0]:
        info = row["extra_info"]
        versions = json.loads(info["versions"])
        assert list(versions) == [f"equation_v{i}" for i in range(len(versions))]
        assert len(json.loads(info["shown"])) == len(versions) >= 1
        assert all(body.strip() in text(row) for body in versions.values())


def test_the_fields_that_verl_reads_are_there(rows):
    for row in rows[0] + rows[1]:
        assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
        assert row["prompt"][-1]["role"] == "user"
        assert isinstance(row["reward_model"]["ground_truth"], str)


def test_parquet_gives_back_what_was_written(rows, tmp_path):
    dataset.write_parquet(rows[0], tmp_path / "rows.parquet")
    assert dataset.read_parquet(tmp_path / "rows.parquet") == rows[0]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_context_shows_constants_data_and_ranges(problem, pool):
    form = PromptForm(PromptSettings(context="constants,columns,rows"))
    train, _ = dataset.prompt_rows(problem, pool, 40, 0, seed=0, form=form)
    for row in train:
        assert all(wanted in text(row) for wanted in ("fitted: params[", "some rows of the data", "median"))


def test_without_a_chat_the_prompt_is_the_one_form_that_the_search_uses(rows):
    assert all(text(row).startswith(INSTRUCTION) for row in rows[0])
    assert not any("# error" in text(row) for row in rows[0])


def test_a_prompt_that_is_too_long_shows_less_and_then_is_refused(problem, pool):
    def length(chat):
        return chat.messages[-1]["content"].count("def equation_v")

    train, _ = dataset.prompt_rows(
        problem, pool, 6, 0, 0, PromptForm(chat=False, tokens=length, max_tokens=2)
    )
    assert {length(row_chat(row)) for row in train} == {2}
    with pytest.raises(UserError, match="--max_prompt_length"):
        dataset.prompt_rows(problem, pool, 6, 0, 0, PromptForm(chat=False, tokens=length, max_tokens=1))


def test_more_prompts_than_the_pool_can_tell_apart_are_refused(problem, pool):
    with pytest.raises(UserError, match="--prompts"):
        dataset.prompt_rows(problem, pool[:2], 10, 0, seed=0, form=PromptForm())


def test_mixing_keeps_every_row_and_numbers_them_anew(rows):
    train, validation = rows
    together = dataset.mixed([train, validation], seed=3)
    assert sorted(map(text, together)) == sorted(map(text, train + validation))
    assert [row["extra_info"]["index"] for row in together] == list(range(len(together)))
