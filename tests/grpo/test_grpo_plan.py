"""The arithmetic of a run is settled, and refused, before anything starts."""

import math

import pytest

from llmsr.config import resolve
from llmsr.errors import UserError
from llmsr.grpo.gpu_memory import estimate_memory, out_of_memory_advice
from llmsr.grpo.model_size import model_parameters
from llmsr.grpo.plan import EMBEDDED, arithmetic, make_plan
from llmsr.grpo.settings import DEFAULT_MODEL, GrpoConfig


def verl(**settings):
    return make_plan(GrpoConfig(trainer="verl", **settings), cuda=True)


def test_the_promised_defaults_with_verl():
    plan = make_plan(GrpoConfig(), cuda=True)
    config = plan.config
    assert (plan.trainer, plan.model_path) == ("verl", DEFAULT_MODEL)
    assert (config.epochs, config.batch_size, config.learning_rate, config.rollout_n) == (10, 64, 1e-6, 5)
    assert plan.run_dir.parts[-2:] == ("llmsr_grpo_outputs", "oscillator1")
    assert not plan.notes


def test_without_a_gpu_trainer_and_model_change_and_it_is_said():
    plan = make_plan(GrpoConfig(), cuda=False)
    assert (plan.trainer, plan.model_path) == ("local", str(EMBEDDED))
    assert any("local trainer" in note for note in plan.notes)
    assert any("skeleton-lm" in note for note in plan.notes)


def test_what_the_user_sets_is_never_replaced():
    given = {"batch_size": 4, "rollout_n": 2, "learning_rate": 1e-6, "max_response_length": 99}
    config = make_plan(GrpoConfig(**given), cuda=False).config
    assert {name: getattr(config, name) for name in given} == given


def test_a_named_model_is_kept_on_a_cpu():
    assert make_plan(GrpoConfig(model_path="a/b-0.5B"), cuda=False).model_path == "a/b-0.5B"


@pytest.mark.parametrize(("prompts", "per_epoch"), [(64, 1), (127, 1), (128, 2), (None, 4)])
def test_an_epoch_is_whole_steps(prompts, per_epoch):
    plan = verl(prompts=prompts, batch_size=64, epochs=3)
    assert plan.steps_per_epoch == per_epoch
    assert plan.steps == 3 * per_epoch


@pytest.mark.parametrize(("budget", "steps", "epochs"), [(1, 1, 1), (40, 1, 1), (41, 2, 1), (200, 5, 2)])
def test_a_budget_of_answers_is_rounded_up_to_steps_and_sets_the_epochs(budget, steps, epochs):
    plan = verl(prompts=32, batch_size=8, rollout_n=5, epochs=7, budget=budget)
    assert (plan.steps, plan.config.epochs) == (steps, epochs)
    assert plan.steps * plan.answers_per_step >= budget
    assert any(f"{steps} steps for --budget {budget}" in line for line in arithmetic(plan))


def test_reward_rank_is_advantage_rank():
    assert verl(reward="rank").config == verl(advantage="rank").config
    with pytest.raises(UserError, match="--advantage rank"):
        GrpoConfig(reward="rank", advantage="drgrpo")


def test_a_warm_start_needs_a_memory_and_verl_does_not_reset():
    with pytest.raises(UserError, match="--memory"):
        GrpoConfig(warm_start="logs/x")
    with pytest.raises(UserError, match="--warm_start"):
        verl(reset_every=5)


def test_the_quick_test_of_the_readme_is_a_run():
    plan = make_plan(GrpoConfig(epochs=1, batch_size=4, rollout_n=2), cuda=False)
    assert plan.steps >= 1
    assert plan.answers_per_step == 8


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batch_size": 6, "rollout_n": 5, "gpus": 4}, "--batch_size"),
        ({"prompts": 10, "batch_size": 64}, "--prompts"),
        ({"gpus": 4, "tensor_parallel": 3}, "--tensor_parallel"),
    ],
)
def test_batches_that_verl_would_refuse_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        verl(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"rollout_n": 1},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"problem_name": " , "},
        {"problem_name": "a,a"},
        {"problem_name": "a,b", "spec_path": "x"},
        {"gpu_memory_utilization": 1.5},
        {"logger": "console,nothing"},
        {"temperature": math.nan},
        {"fit_timeout": math.inf},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError):
        GrpoConfig(**settings)


def test_the_local_trainer_refuses_what_it_cannot_do():
    for settings in ({"lora_rank": 8}, {"gpus": 2}):
        with pytest.raises(UserError):
            make_plan(GrpoConfig(trainer="local", **settings), cuda=False)


def test_a_renamed_setting_is_an_error_that_names_the_nearest():
    with pytest.raises(UserError, match="rollout_n"):
        resolve(GrpoConfig, given={"rollouts_n": 5})


def test_sizes_are_read_from_the_folder_or_the_name():
    assert 6e6 < model_parameters(str(EMBEDDED)) < 8e6
    assert model_parameters("Qwen/Qwen2.5-1.5B-Instruct") == 1.5e9
    assert model_parameters("some/model") is None


def test_every_sentence_of_the_arithmetic_holds():
    text = " ".join(arithmetic(verl(gpus=2, batch_size=8, rollout_n=5)))
    assert "8 prompts x 5 answers = 40 answers per step" in text
    assert "40 answers / 2 GPUs = 20 per GPU" in text


def test_lora_offload_and_smaller_passes_lower_the_memory_estimate():
    def of(**settings):
        return estimate_memory(verl(**settings)).update

    assert of(lora_rank=16) < of(offload=True) < of()
    assert of(micro_batch_size=1) < of(micro_batch_size=8)
    assert of(gpus=4) < of()


def test_the_advice_names_flags_and_values():
    advice = out_of_memory_advice(verl(micro_batch_size=8))
    assert "--micro_batch_size 2 (now 8)" in advice
    assert "--offload" in advice
