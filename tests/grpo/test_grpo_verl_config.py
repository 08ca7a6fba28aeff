"""The configuration that VERL gets: complete, ours, and accepted by VERL where it is installed."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from grpo_problem import write_problem
from verl_plugin import loaded_plugin

from llmsr.grpo import gpu_memory
from llmsr.grpo.advantage import batch_advantages
from llmsr.grpo.plan import EMBEDDED, make_plan, memory_sentences
from llmsr.grpo.reward_function import Evaluators, RewardFunction
from llmsr.grpo.run_record import write_run_files
from llmsr.grpo.settings import ADVANTAGES, GrpoConfig
from llmsr.grpo.training import train
from llmsr.grpo.verl.config import ATTENTION, MEMORY_DATASET, command, verl_config, write_config
from llmsr.grpo.verl.launch import EngineWatch, child_environment, explain_failure, read_verl_metrics

needs_verl = pytest.mark.skipif(
    importlib.util.find_spec("verl") is None or importlib.util.find_spec("hydra") is None,
    reason="verl is not installed (tests/grpo/verl_requirements.txt)",
)

# keys that VERL reads although its own default configuration does not name them
BEYOND_DEFAULTS = {
    "actor_rollout_ref.actor.optim.override_optimizer_config.fused",
    *(f"actor_rollout_ref.rollout.engine_kwargs.vllm.{name}" for name in (
        "generation_config", "kv_cache_memory_bytes", "distributed_executor_backend",
        "compilation_config.mode", "compilation_config.cudagraph_mode",
    )),
    "actor_rollout_ref.model.override_config.attn_implementation",
    "ray_kwargs.ray_init.include_dashboard",
    "data.apply_chat_template_kwargs.enable_thinking",
    *(f"ray_kwargs.ray_init.runtime_env.env_vars.{name}" for name in (
        "PYTHONPATH", "LLMSR_RUN_DIR", "VERL_FILE_LOGGER_PATH", "NCCL_DEBUG"
    )),
}  # fmt: skip

VARIANTS = {
    "plain": {},
    "lora": {"lora_rank": 16},
    "rank": {"reward": "rank", "budget": 5000},
    "memory": {"memory": "puct", "advantage": "entropic", "novelty": True},
    "drgrpo": {"advantage": "drgrpo"},
    "max_at_k": {"advantage": "max_at_k", "k": 3},
    "no reference": {"kl_coef": 0.0, "test_freq": 0},
    "eight": {"gpus": 8, "offload": True, "tensor_parallel": 2},
    "embedded": {"model_path": str(EMBEDDED)},
}


def config_of(folder, environment=None, **settings):
    plan = make_plan(GrpoConfig(trainer="verl", output_dir=str(folder), **settings), cuda=True)
    given = {"NCCL_DEBUG": "INFO"} if environment is None else environment
    return plan, verl_config(plan, template=None, metrics_path=folder / "m.jsonl", environment=given)


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_what_a_user_sets_arrives(tmp_path):
    _, config = config_of(
        tmp_path,
        epochs=3,
        batch_size=32,
        learning_rate=2e-6,
        rollout_n=4,
        gpus=2,
        nnodes=2,
        kl_coef=0.01,
        seed=7,
    )
    rollout, actor = config["actor_rollout_ref"]["rollout"], config["actor_rollout_ref"]["actor"]
    assert (config["data"]["train_batch_size"], actor["ppo_mini_batch_size"], rollout["n"]) == (32, 32, 4)
    assert (actor["optim"]["lr"], actor["kl_loss_coef"], actor["use_kl_loss"]) == (2e-6, 0.01, True)
    trainer = config["trainer"]
    assert (trainer["n_gpus_per_node"], trainer["nnodes"], trainer["total_epochs"]) == (2, 2, 3)
    assert trainer["default_local_dir"].endswith("checkpoints/llm_sr_grpo/llmsr_grpo_oscillator1")
    assert config["data"]["seed"] == 7


def test_no_network_is_needed_by_default(tmp_path):
    _, config = config_of(tmp_path)
    assert config["trainer"]["logger"] == ["console", "file"]


def test_the_file_logger_is_never_lost_since_progress_reads_it(tmp_path):
    _, config = config_of(tmp_path, logger="wandb")
    assert config["trainer"]["logger"] == ["wandb", "file"]


def test_without_divergence_no_reference_model_is_loaded(tmp_path):
    _, config = config_of(tmp_path, kl_coef=0.0)
    assert config["actor_rollout_ref"]["actor"]["use_kl_loss"] is False


def test_variables_reach_workers_and_secrets_reach_no_file(tmp_path):
    environment = {
        "NCCL_DEBUG": "INFO",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "API_KEY": "secret",
        "WANDB_API_KEY": "secret",
    }
    plan, config = config_of(tmp_path, environment)
    variables = config["ray_kwargs"]["ray_init"]["runtime_env"]["env_vars"]
    assert (variables["NCCL_DEBUG"], variables["VLLM_LOGGING_LEVEL"]) == ("INFO", "DEBUG")
    assert (
        "secret" not in write_config(config, plan.run_dir if plan.run_dir.is_dir() else tmp_path).read_text()
    )


def test_a_running_cluster_is_not_told_its_size(tmp_path):
    _, alone = config_of(tmp_path, {})
    _, joined = config_of(tmp_path, {"RAY_ADDRESS": "10.0.0.1:6379"})
    assert "num_cpus" in alone["ray_kwargs"]["ray_init"]
    assert "num_cpus" not in joined["ray_kwargs"]["ray_init"]


def test_only_a_small_model_keeps_its_activations(tmp_path):
    for chosen, anew in (({}, True), ({"model_path": str(EMBEDDED)}, False)):
        _, config = config_of(tmp_path, **chosen)
        assert config["actor_rollout_ref"]["model"]["enable_gradient_checkpointing"] is anew


def test_overrides_stand_last(tmp_path):
    words = command(tmp_path, ["trainer.total_epochs=1"])
    assert words[1:3] == ["-m", "llmsr.grpo.verl.main"]
    assert words[-1] == "trainer.total_epochs=1"


def test_the_child_sees_the_package_and_the_callers_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("NCCL_DEBUG", "TRACE")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    plan, _ = config_of(tmp_path)
    environment = child_environment(plan, tmp_path / "m.jsonl")
    assert environment["NCCL_DEBUG"] == "TRACE"
    assert environment["HYDRA_FULL_ERROR"] == "0"
    assert str(Path(__file__).resolve().parents[2]) in environment["PYTHONPATH"].split(os.pathsep)
    assert "HF_HUB_OFFLINE" not in environment or os.environ.get("HF_HUB_OFFLINE")


@pytest.mark.parametrize(
    ("log", "code", "wanted"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", 1, "--lora_rank"),
        (
            "ValueError: Free memory on device is less than desired GPU memory utilization",
            1,
            "lower actor_rollout_ref.rollout.gpu_memory_utilization",
        ),
        (
            "ValueError: No available memory for the cache blocks. Try",
            1,
            "raise actor_rollout_ref.rollout.gpu_memory_utilization",
        ),
        ("'Error in memory profiling. Initial free memory 63.63 GiB'", 1, "start again"),
        ("ValueError: Total available GPUs 1 is less than total desired GPUs 8", 1, "--gpus"),
        ("", -9, "host memory"),
        ("a\nKeyError: 'x'\nb", 1, "KeyError: 'x'"),
    ],
)
def test_a_failure_is_one_sentence_with_the_log(tmp_path, log, code, wanted):
    plan, _ = config_of(tmp_path)
    path = tmp_path / "verl.log"
    path.write_text(log)
    sentence = explain_failure(plan, path, code)
    assert wanted in sentence
    assert str(path) in sentence
    assert "\n" not in sentence


def test_a_dead_engine_is_seen_in_the_log_though_verl_waits_on(tmp_path):
    log = tmp_path / "verl.log"
    log.write_text("step:1 - all is well\n(EngineCore pid=7) RuntimeError: Worker failed ")
    watch = EngineWatch(log)
    assert watch.dead_for() == 0.0
    with open(log, "a") as file:
        file.write("with error 'no such weight', please check the stack trace above\n")
    assert watch.dead_for() >= 0.0
    assert watch.reason == "no such weight"
    time.sleep(0.01)
    assert watch.dead_for() > 0.0


def test_memory_is_estimated_or_said_to_be_unknown(tmp_path):
    plan, _ = config_of(tmp_path)
    assert "GiB" in memory_sentences(plan)[0]
    small, _ = config_of(tmp_path, gpu_memory=4.0)
    assert "more than the 4 GiB" in " ".join(memory_sentences(small))
    assert "no estimate" in memory_sentences(replace(plan, memory=None))[0]


def test_a_step_spends_no_pass_on_probabilities_that_vllm_told(tmp_path):
    _, config = config_of(tmp_path)
    assert config["algorithm"]["rollout_correction"] == {"bypass_mode": True}
    assert config["actor_rollout_ref"]["rollout"]["calculate_log_probs"] is True
    assert config["actor_rollout_ref"]["actor"]["ppo_epochs"] == 1


def test_vllm_draws_from_the_distribution_that_is_trained(tmp_path):
    _, config = config_of(tmp_path)
    arguments = config["actor_rollout_ref"]["rollout"]["engine_kwargs"]["vllm"]
    assert arguments["generation_config"] == "vllm"
    sizes = config["actor_rollout_ref"]["rollout"]["cudagraph_capture_sizes"]
    assert sizes[-1] == 160
    assert sizes == sorted(set(sizes))


def test_packed_passes_are_verls_engine_of_ours_and_else_its_chunked_logits(tmp_path):
    model = config_of(tmp_path)[1]["actor_rollout_ref"]["model"]
    assert (model["external_lib"], "use_fused_kernels" in model) == ("llmsr.grpo.verl.engine", False)
    assert model["override_config"]["attn_implementation"] == ATTENTION
    model = config_of(tmp_path, attention="sdpa")[1]["actor_rollout_ref"]["model"]
    assert ("external_lib" in model, model["use_fused_kernels"]) == (False, True)


def test_the_name_of_the_attention_is_the_one_that_is_registered():
    from llmsr.models import log_probs, packing

    assert packing.ATTENTION == ATTENTION
    assert log_probs.CHUNK_ROWS == gpu_memory.CHUNK_ROWS


def test_verls_own_metrics_are_read_line_by_line(tmp_path):
    path = tmp_path / "verl.jsonl"
    assert list(read_verl_metrics(path)) == []
    whole = '{"step": 1, "data": {"critic/score/mean": 0.25, "timing_s/step": 8.0, "timing_s/gen": 2.0}}\n'
    path.write_text('{"step": 0, "data": {"val-core/x": 1.0}}\n' + whole + '{"step": 2, "da')
    ((offset, metrics),) = read_verl_metrics(path)
    assert (metrics.step, metrics.reward, metrics.seconds) == (1, 0.25, 8.0)
    assert metrics.phases == {"answers": 2.0}
    assert list(read_verl_metrics(path, offset)) == []


@needs_verl
@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_verl_knows_every_key_and_accepts_the_file_as_it_is(tmp_path, variant):
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    plan, config = config_of(tmp_path, **VARIANTS[variant])
    write_config(config, tmp_path)
    folder = str(Path(importlib.util.find_spec("verl").origin).parent / "trainer" / "config")
    GlobalHydra.instance().clear()
    with initialize_config_dir(folder, version_base=None):
        known = set(leaves(OmegaConf.to_container(compose("ppo_trainer"), resolve=False)))
    ours = set(leaves({k: v for k, v in config.items() if k not in ("hydra", "defaults")}))
    assert ours - known <= BEYOND_DEFAULTS

    done = subprocess.run(
        [*command(tmp_path, ["trainer.total_epochs=99"]), "--cfg", "job", "--resolve"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env=child_environment(plan, tmp_path / "metrics.jsonl"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert resolved["trainer"]["total_epochs"] == 99
    for path in ours - {"trainer.total_epochs"}:
        assert _at(resolved, path) == _at(config, path), path
    assert resolved["actor_rollout_ref"]["rollout"]["prompt_length"] == plan.config.max_prompt_length


@needs_verl
@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_verls_own_validation_passes(tmp_path, variant):
    _, config = config_of(tmp_path, **VARIANTS[variant])
    write_config(config, tmp_path)
    code = (
        "import sys\n"
        "from hydra import compose, initialize_config_dir\n"
        "from verl.trainer.ppo.utils import need_critic, need_reference_policy\n"
        "from verl.utils.config import omega_conf_to_dataclass, validate_config\n"
        "with initialize_config_dir(sys.argv[1], version_base=None):\n"
        "    config = compose('grpo_config')\n"
        "assert not need_critic(config)\n"
        "config.actor_rollout_ref.model.lora_rank = 0  # its check imports vllm\n"
        "validate_config(config, need_reference_policy(config), False)\n"
        "omega_conf_to_dataclass(config.actor_rollout_ref.rollout)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


@needs_verl
def test_our_advantages_are_registered_with_verl(tmp_path, monkeypatch):
    import numpy as np
    import torch
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    assert loaded_plugin().__name__ == "PromptReplayBuffer"
    plan, _ = config_of(tmp_path)
    write_run_files(plan, [])
    monkeypatch.setenv("LLMSR_RUN_DIR", str(plan.run_dir))
    rewards = torch.tensor([[0.0, 0.1], [0.0, 0.2], [0.0, 0.7], [-1.0, 0.0], [0.0, 0.3], [0.0, 0.3]])
    mask = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0], [1, 1], [1, 1]])
    index = np.array(["a"] * 4 + ["b"] * 2, dtype=object)
    for kind in ADVANTAGES:
        advantages, returns = get_adv_estimator_fn(f"llmsr_{kind}")(
            token_level_rewards=rewards, response_mask=mask, index=index
        )
        wanted = batch_advantages(rewards.sum(-1).numpy(), list(index), kind)
        assert advantages[:, 0].tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
        assert advantages[3, 1] == 0
        assert not advantages[4:].any()
        assert torch.equal(advantages, returns)


@needs_verl
def test_the_dataset_asks_the_memory_for_training_rows_and_leaves_validation_alone(tmp_path, monkeypatch):
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import collate_fn
    from verl.utils.import_utils import load_extern_object

    spec, data = write_problem(tmp_path)
    run_dir = tmp_path / "run"
    settings = GrpoConfig(
        problem_name="plane", spec_path=spec, data_dir=data, output_dir=str(run_dir), trainer="verl",
        model_path=str(EMBEDDED), memory="puct", prompts=4, batch_size=2, rollout_n=2, validation_prompts=2,
        workers=1, dry_run=True,
    )  # fmt: skip
    train(settings)
    config = yaml.safe_load((run_dir / "grpo_config.yaml").read_text())
    assert config["data"]["custom_cls"] == {"path": str(MEMORY_DATASET), "name": "MemoryDataset"}
    monkeypatch.setenv("LLMSR_RUN_DIR", str(run_dir))
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tokenizer.chat_template = config["actor_rollout_ref"]["model"]["custom_chat_template"]
    made = load_extern_object(str(MEMORY_DATASET), "MemoryDataset")
    data_config = OmegaConf.create(config["data"] | {"cache_dir": str(tmp_path)})

    def dataset(split):
        return made(str(run_dir / f"llmsr_{split}.parquet"), tokenizer, data_config)

    rows = dataset("train")
    first = [rows[i] for i in (2, 0)]
    assert [row["extra_info"]["index"] for row in first] == [row["index"] for row in first] == [0, 1]
    assert all(set(json.loads(row["extra_info"]["parents"])) == {0} for row in first)
    law = "    return params[0] * z + params[1] * x + params[2] * x**3\n"
    with RewardFunction(run_dir, Evaluators(run_dir, 1)) as function:
        for row in first:
            for body in (law, "    return params[0] * x\n"):
                function.compute_score("", body, "plane", row["extra_info"])
    later = rows[1]
    assert any(json.loads(later["extra_info"]["parents"]))
    assert later["raw_prompt"][0]["content"].count("def equation_v") > 1
    batch = collate_fn([rows[3], later])
    assert batch["extra_info"][0]["island"] >= 0
    kept = dataset("val")[0]
    assert kept["raw_prompt"] == kept["prompt"]
    assert kept["extra_info"]["split"] == "validation"


@needs_verl
def test_the_agent_loop_begins_answers_and_ends_them_at_stops(tmp_path):
    import hydra
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.utils.dataset.rl_dataset import RLHFDataset
    from verl.workers.rollout.replica import TokenOutput

    plan, config = config_of(tmp_path, thinking="off")
    write_config(config, tmp_path)
    agent = config["actor_rollout_ref"]["rollout"]["agent"]
    (loop,) = OmegaConf.load(agent["agent_loop_config_path"])
    assert loop.name == agent["default_agent_loop"]
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    asked = []

    class Server:
        async def generate(self, **given):
            asked.append(given)
            return TokenOutput(token_ids=tokenizer(" x\n")["input_ids"], log_probs=None)

    rollout = {"prompt_length": plan.config.max_prompt_length, "response_length": 128}
    made = OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "data": config["data"]})

    async def drawn():
        running = hydra.utils.instantiate(
            config=loop, trainer_config=DictConfigWrap(made), server_manager=Server(), tokenizer=tokenizer,
            processor=None, hf_model_type=None, dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(made.data), tools=None,
        )  # fmt: skip
        info = {"begun": "    return", "stops": json.dumps(["\n"])}
        said = [{"role": "user", "content": "params[0]"}]
        return await running.run({"temperature": 1.0}, raw_prompt=said, extra_info=info, priority=0)

    output = asyncio.run(drawn())
    assert asked[0]["sampling_params"] == {"temperature": 1.0, "stop": ["\n"]}
    assert tokenizer.decode(asked[0]["prompt_ids"]) == tokenizer.decode(
        tokenizer("<user>params[0]<assistant>    return", add_special_tokens=False)["input_ids"]
    )
    assert output.prompt_ids == asked[0]["prompt_ids"]
    assert tokenizer.decode(output.response_ids) == " x\n"
    assert output.response_mask == [1] * len(output.response_ids)


def _at(tree, path):
    for key in path.split("."):
        tree = tree[key]
    return tree
