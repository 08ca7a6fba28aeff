"""The arithmetic of a run is settled, and refused, before anything starts."""

import json
import math
from pathlib import Path

import pytest
import yaml

from llmsr.config import resolve
from llmsr.errors import UserError
from llmsr.grpo.gpu_memory import GIB, advice, disk_bytes
from llmsr.grpo.plan import EMBEDDED, arithmetic, make_plan
from llmsr.grpo.settings import DEFAULT_MODEL, GrpoConfig
from llmsr.models.loading import read_shape


def verl(**settings):
    return make_plan(GrpoConfig(trainer="verl", **settings), cuda=True)


def test_the_recipe_is_the_default_of_chat_models():
    plan = verl()
    config = plan.config
    assert (plan.trainer, plan.model_path) == ("verl", DEFAULT_MODEL)
    recipe = yaml.safe_load((Path(__file__).parents[2] / "configs" / "recipe.yaml").read_text())
    del recipe["budget"]
    assert {name: getattr(config, name) for name in recipe} == recipe
    assert plan.run_dir.parts[-2:] == ("llmsr_grpo_outputs", "oscillator1")
    assert not plan.notes


@pytest.mark.parametrize(
    ("settings", "gpu", "cluster", "chosen"),
    [
        ({}, 141 * GIB, False, "local"),
        ({}, 24 * GIB, False, "local"),  # the optimiser of 1.5B parameters on the CPU
        ({"model_path": "a/b-70B"}, 24 * GIB, False, "verl"),
        ({"model_path": "a/b-0.5B"}, 24 * GIB, False, "local"),
        ({"model_path": "a/b-0.5B", "gpu_memory": 4}, 141 * GIB, False, "verl"),
        ({"gpus": 2}, 141 * GIB, False, "verl"),
        ({"lora_rank": 32}, 141 * GIB, False, "verl"),
        ({"attention": "flash_attention_2"}, 141 * GIB, False, "verl"),
        ({"model_path": "a/of-no-known-size"}, 141 * GIB, False, "verl"),
        ({}, None, True, "verl"),
        ({"trainer": "verl"}, 141 * GIB, False, "verl"),
    ],
)
def test_one_gpu_that_holds_the_model_trains_in_one_process(settings, gpu, cluster, chosen):
    plan = make_plan(GrpoConfig(**settings), cuda=gpu is not None, gpu_bytes=gpu, cluster=cluster)
    assert plan.trainer == chosen
    assert plan.model_path == settings.get("model_path", DEFAULT_MODEL)
    assert any("local trainer is used" in note for note in plan.notes) == (chosen == "local")


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
    assert plan.config.steps_per_epoch == per_epoch
    assert plan.config.steps == 3 * per_epoch


@pytest.mark.parametrize(("budget", "steps", "epochs"), [(1, 1, 1), (40, 1, 1), (41, 2, 1), (200, 5, 2)])
def test_a_budget_of_answers_is_rounded_up_to_steps_and_sets_the_epochs(budget, steps, epochs):
    plan = verl(prompts=32, batch_size=8, rollout_n=5, epochs=7, budget=budget)
    assert (plan.config.steps, plan.config.epochs) == (steps, epochs)
    assert plan.config.steps * plan.config.answers_per_step >= budget
    assert any(f"{steps} steps for --budget {budget}" in line for line in arithmetic(plan))


def test_reward_rank_is_advantage_rank():
    assert verl(reward="rank").config == verl(advantage="rank").config
    with pytest.raises(UserError, match="--advantage rank"):
        GrpoConfig(reward="rank", advantage="drgrpo")


def test_a_warm_start_needs_a_memory():
    with pytest.raises(UserError, match="--memory"):
        GrpoConfig(warm_start="logs/x", memory="none")
    embedded = str(EMBEDDED)
    assert verl(model_path=embedded).config.memory == "none"
    assert verl(model_path=embedded, warm_start="logs/x").config.memory == "islands"


def test_adapters_have_a_learning_rate_of_their_own():
    assert verl(lora_rank=32).config.learning_rate == 3e-5
    assert verl(lora_rank=32, learning_rate=1e-5).config.learning_rate == 1e-5


def test_a_link_to_a_model_is_followed_when_the_run_begins(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "final").symlink_to("first")
    plan = make_plan(GrpoConfig(trainer="local", model_path=str(tmp_path / "final")), cuda=False)
    assert plan.model_path == str(tmp_path / "first")


def test_the_quick_test_of_the_readme_is_a_run():
    plan = make_plan(GrpoConfig(epochs=1, batch_size=4, rollout_n=2), cuda=False)
    assert plan.config.steps >= 1
    assert plan.config.answers_per_step == 8


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batch_size": 6, "rollout_n": 5, "gpus": 4}, "--batch_size"),
        ({"prompts": 10, "batch_size": 64}, "--prompts"),
        ({"advantage": "max_at_k", "k": 6, "rollout_n": 5}, "--k"),
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
        {"logger": "console,nothing"},
        {"temperature": math.nan},
        {"k": 1},
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


def write_shape(folder, **changes):
    folder.mkdir(exist_ok=True)
    shape = {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True, **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(shape))
    return str(folder)


@pytest.mark.parametrize(("architecture", "chosen"), [("qwen2", "local"), ("phi3", "verl")])
def test_a_model_that_the_local_trainer_draws_slowly_is_left_to_verl(tmp_path, architecture, chosen):
    model = write_shape(tmp_path / "model", model_type=architecture)
    config = GrpoConfig(model_path=model, output_dir=str(tmp_path / "run"))
    assert make_plan(config, cuda=True, gpu_bytes=80 * GIB).trainer == chosen


def test_sizes_are_read_from_the_folder_or_the_name(tmp_path):
    assert 6e6 < read_shape(str(EMBEDDED)).parameters < 8e6
    assert read_shape("Qwen/Qwen2.5-1.5B-Instruct").parameters == 1.5e9
    assert read_shape("some/model") is None
    half = read_shape(write_shape(tmp_path / "half"))
    assert half.parameters == pytest.approx(494e6, rel=0.01)
    assert read_shape(write_shape(tmp_path / "bad", hidden_size=None)) is None


def test_experts_and_nested_configurations_are_counted(tmp_path):
    plain = read_shape(write_shape(tmp_path / "plain"))
    experts = read_shape(write_shape(tmp_path / "experts", num_experts=8, num_experts_per_tok=2))
    assert experts.parameters > 5 * plain.parameters
    assert experts.layer_width == 2 * plain.layer_width
    text = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "config.json").write_text(json.dumps({"text_config": text}))
    nested = read_shape(str(tmp_path / "nested"))
    assert nested.parameters == plain.parameters
    assert plain.packs
    assert not nested.packs


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 4096},
        {"attn_logit_softcapping": 50.0},
        {"logits_scaling": 8.0},
        {"layer_types": ["full_attention", "sliding_attention"]},
    ],
)
def test_other_attention_than_a_pack_computes_is_left_to_verl(tmp_path, changes):
    assert not read_shape(write_shape(tmp_path / "model", **changes)).packs
    assert verl(model_path=str(tmp_path / "model")).attention == "sdpa"


def test_a_window_that_is_switched_off_is_none(tmp_path):
    path = write_shape(tmp_path / "model", sliding_window=32_768, use_sliding_window=False)
    assert verl(model_path=path).attention == "packed"


def test_every_sentence_of_the_arithmetic_holds():
    text = " ".join(arithmetic(verl(gpus=2, batch_size=8, rollout_n=5)))
    assert "8 prompts x 5 answers = 40 answers per step" in text
    assert "40 answers / 2 GPUs = 20 per GPU" in text


def memory_of(gpu=80, **settings):
    return make_plan(GrpoConfig(trainer="verl", **settings), True, gpu * GIB).memory


def test_adapters_more_gpus_and_the_cpu_optimiser_lower_the_memory():
    def of(**settings):
        return memory_of(**settings).estimate.update

    assert of(offload=True) < of(lora_rank=16) < of()
    assert of(gpus=4) < of()


def test_passes_shrink_with_the_gpu_and_the_optimiser_leaves_it_last():
    large, middle, small = memory_of(80), memory_of(40), memory_of(24)
    assert large.fits
    assert middle.fits
    assert not middle.offload
    assert small.offload
    assert "--lora_rank" in " ".join(small.notes)
    assert not memory_of(24, lora_rank=32).offload
    tight, roomy = (memory_of(gpu, lora_rank=16, batch_size=80) for gpu in (18, 80))
    assert tight.tokens_per_pass < roomy.tokens_per_pass
    assert not tight.offload


def test_a_part_of_a_gpu_is_planned_for_as_a_small_gpu():
    part, small = memory_of(141, gpu_memory=24.0), memory_of(24)
    assert part.tokens_per_pass == small.tokens_per_pass
    assert part.vllm_share == pytest.approx(small.vllm_share * 24 / 141, rel=0.01)


def test_what_fits_no_gpu_is_said_with_what_to_do():
    memory = memory_of(4)
    assert not memory.fits
    assert "--model_path" in advice(memory.offload, lora=False)
    assert "--offload" in advice(False, lora=False)


def test_checkpoints_are_weighed():
    shape = read_shape("Qwen/Qwen2.5-1.5B-Instruct")
    assert disk_bytes(shape, lora=False, checkpoints=2) == 1.5e9 * (3 * 12 + 4)
    assert disk_bytes(shape, lora=True, checkpoints=2) < disk_bytes(shape, lora=False, checkpoints=2)
