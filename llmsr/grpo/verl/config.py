"""Our settings in VERL's words: the only module that knows VERL's configuration keys (version 0.9.1).

The file that `write_config` makes names VERL's own `ppo_trainer` as its default and states every key that
a run of ours decides; `python -m verl.trainer.main_ppo --config-path DIR --config-name grpo_config` takes
it as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmsr.files import import_path, write_file
from llmsr.grpo.advantage import SUMMED
from llmsr.grpo.plan import Plan

# the newest pair: verl 0.9.1 demands vllm 0.24.0, torch 2.11.0 and transformers 5.9.0
VERL_VERSION = "0.9.1"
VLLM_VERSION = "0.24.0"
CONFIG_NAME = "grpo_config"
AGENT_LOOP, AGENT_LOOPS = "llmsr_begun_answer", "agent_loops.yaml"
PLUGIN = Path(__file__).with_name("plugin.py")
MEMORY_DATASET = Path(__file__).with_name("memory_dataset.py")
ENGINE = "llmsr.grpo.verl.engine"
ATTENTION = "llmsr_packed"  # `packing.ATTENTION`; torch and transformers are not imported for its name

# variables of the launching shell that reach every worker on every node: whole families, and some by name
PASSED_PREFIXES = ("NCCL_", "GLOO_", "TORCH_NCCL_", "VLLM_")
PASSED_NAMES = (
    "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS", "VERL_LOGGING_LEVEL", "HF_HOME",
    "HF_HUB_OFFLINE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE", "PYTORCH_CUDA_ALLOC_CONF", "WANDB_MODE",
    "CUDA_HOME",
)  # fmt: skip

NEVER = 1_000_000_000  # steps
AGENT_WORKERS = 4  # processes per node
UNKNOWN_SHARE = 0.4  # of a GPU for vLLM, where the size of the model is not known
LARGEST_GRAPH = 512  # answers that decode together in one CUDA graph; more are decoded without

# A Ray node must offer the CPUs that VERL's own processes ask for: three for the GPU worker and controller
# each,
# one per storage unit, and one to spare; they mostly wait, so there may be fewer real cores.
RAY_CPUS_PER_GPU = 3
RAY_CPUS_BESIDE = 6


def verl_config(
    plan: Plan, *, template: str | None, metrics_path: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The whole configuration as nested plain data.

    `template` takes the place of the model's own chat template. VERL's file logger writes to
    `metrics_path`. `environment` are this shell's variables.
    """
    config = plan.config
    lora, summed = config.lora_rank > 0, config.advantage in SUMMED
    memory = {"path": str(MEMORY_DATASET), "name": "MemoryDataset"}
    packed = plan.attention == "packed"
    offload = plan.memory is not None and plan.memory.offload
    fsdp = {"use_torch_compile": False, "seed": config.seed}
    tokens = plan.tokens_per_pass
    return {
        "hydra": {
            "searchpath": ["pkg://verl.trainer.config"],
            "run": {"dir": str(plan.run_dir / "logs" / "hydra")},
            "output_subdir": None,
        },
        "defaults": ["ppo_trainer", "_self_"],
        # ours, by the plugin: gated groups, and the same arithmetic as the local trainer's
        "algorithm": {
            "adv_estimator": f"llmsr_{config.advantage}",
            "use_kl_in_reward": False,
            # one update a step: the probabilities with which vLLM drew the answers are those before the
            # update, so that no pass is spent on them; the progress lines tell if the two drift apart
            "rollout_correction": {"bypass_mode": True},
        },
        "data": {
            "train_files": str(plan.run_dir / "llmsr_train.parquet"),
            "val_files": str(plan.run_dir / "llmsr_val.parquet"),
            "train_batch_size": config.batch_size,
            "max_prompt_length": config.max_prompt_length,
            "max_response_length": config.max_response_length,
            "filter_overlong_prompts": True,
            "truncation": "error",
            "dataloader_num_workers": 0,
            "shuffle": True,
            "seed": config.seed,
            "trust_remote_code": config.trust_remote_code,
            "apply_chat_template_kwargs": {"enable_thinking": config.thinks},
            **({} if config.memory == "none" else {"custom_cls": memory}),
        },
        "actor_rollout_ref": {
            "model": {
                "path": plan.model_path,
                "trust_remote_code": config.trust_remote_code,
                "custom_chat_template": template,
                "use_remove_padding": True,
                "enable_gradient_checkpointing": not plan.tiny,
                "override_config": {"attn_implementation": ATTENTION if packed else plan.attention},
                # without packs VERL's chunked logits: its plain ones hold tokens x vocabulary three times
                **(
                    {"external_lib": ENGINE}
                    if packed
                    else {"use_fused_kernels": True, "fused_kernel_options": {"impl_backend": "torch"}}
                ),
                "lora_rank": config.lora_rank,
                **({"lora_alpha": 2 * config.lora_rank, "target_modules": "all-linear"} if lora else {}),
                # vLLM gets plain weights: it refuses the embedding that tied models send with their adapters
                **({"lora": {"merge": True}} if lora else {}),
            },
            "actor": {
                "strategy": "fsdp2",
                # one launch of a kernel for all weights, where the plain one makes dozens
                "optim": {"lr": config.learning_rate, "override_optimizer_config": {"fused": True}},
                "ppo_mini_batch_size": config.batch_size,
                "use_dynamic_bsz": True,
                "ppo_max_token_len_per_gpu": tokens,
                "ppo_epochs": 1,
                # a sum over tokens is divided by a constant, else by the longest answer of a micro-batch
                "loss_agg_mode": "seq-mean-token-sum-norm" if summed else "token-mean",
                "loss_scale_factor": config.max_response_length if summed else None,
                "calculate_entropy": True,
                "use_kl_loss": config.kl_coef > 0,
                "kl_loss_coef": config.kl_coef,
                "kl_loss_type": "low_var_kl",
                "use_torch_compile": False,
                "data_loader_seed": config.seed,
                "fsdp_config": {**fsdp, "offload_policy": offload},
                # a model with adapters has no plain weights to write; the export merges them
                "checkpoint": {
                    "save_contents": ["model", "optimizer", "extra", *([] if lora else ["hf_model"])]
                },
            },
            "ref": {
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": tokens,
                "fsdp_config": {**fsdp, "model_dtype": "bf16"},
            },
            "rollout": {
                "name": "vllm",
                "n": config.rollout_n,
                "temperature": config.temperature,
                "seed": config.seed,
                "tensor_model_parallel_size": config.tensor_parallel,
                "gpu_memory_utilization": UNKNOWN_SHARE if plan.memory is None else plan.memory.vllm_share,
                # capturing CUDA graphs takes longer than it saves on a tiny model
                "enforce_eager": plan.tiny,
                "cudagraph_capture_sizes": None if plan.tiny else _graph_sizes(plan),
                "max_model_len": config.longest,
                "max_num_batched_tokens": max(8192, config.longest),
                "calculate_log_probs": True,
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": tokens,
                "engine_kwargs": {"vllm": _engine_arguments(plan)},
                # the loop is ours: it begins the answers and says where they end; to make a request of an
                # answer takes ten milliseconds, so that several share them
                "agent": {
                    "num_workers": min(AGENT_WORKERS * config.nnodes, config.batch_size),
                    "default_agent_loop": AGENT_LOOP,
                    "agent_loop_config_path": str(plan.run_dir / AGENT_LOOPS),
                },
                "val_kwargs": {"n": 1, "do_sample": True, "temperature": config.temperature},
            },
        },
        "reward": {
            "num_workers": config.nnodes,
            "custom_reward_function": {
                "path": str(plan.run_dir / "llmsr_reward.py"),
                "name": "compute_score",
            },
        },
        "transfer_queue": {
            "backend": {
                "SimpleStorage": {"num_data_storage_units": config.nnodes, "total_storage_size": 100_000}
            }
        },
        "trainer": {
            "project_name": "llm_sr_grpo",
            "experiment_name": f"llmsr_grpo_{config.label}",
            "default_local_dir": str(plan.checkpoints),
            "logger": list(config.loggers) if "file" in config.loggers else [*config.loggers, "file"],
            "n_gpus_per_node": config.gpus,
            "nnodes": config.nnodes,
            "total_epochs": config.epochs,
            "total_training_steps": config.steps,
            "save_freq": config.save_freq or NEVER,
            "test_freq": config.test_freq or -1,
            "val_before_train": bool(config.test_freq),
            "resume_mode": "auto" if config.resume else "disable",
            "max_actor_ckpt_to_keep": config.keep_checkpoints or None,
            "v1": {"sampler": {"custom_sampler": {"path": str(PLUGIN), "name": "PromptReplayBuffer"}}},
        },
        "ray_kwargs": {"ray_init": _ray_init(plan, metrics_path, environment)},
    }


def command(run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """The command that trains; Hydra overrides stand last and win."""
    config = ["--config-path", str(run_dir), "--config-name", CONFIG_NAME]
    return [sys.executable, "-m", "llmsr.grpo.verl.main", *config, *overrides]


def write_config(config: Mapping[str, Any], run_dir: Path) -> Path:
    """Write grpo_config.yaml, and agent_loops.yaml that it names, each whole or not at all."""
    import yaml

    loops = [{"name": AGENT_LOOP, "_target_": "llmsr.grpo.verl.begun_answer.BegunAnswerLoop"}]
    write_file(run_dir / AGENT_LOOPS, yaml.safe_dump(loops))
    path = run_dir / f"{CONFIG_NAME}.yaml"
    write_file(path, yaml.safe_dump(dict(config), sort_keys=False, width=110))
    return path


def _graph_sizes(plan: Plan) -> list[int]:
    """Numbers of answers for which vLLM captures a CUDA graph: powers of two up to a step's answers."""
    config = plan.config
    answers = min(LARGEST_GRAPH, max(1, config.answers_per_step // config.n_gpus * config.tensor_parallel))
    return [*(size for size in (2**k for k in range(20)) if size < answers), answers]


def _engine_arguments(plan: Plan) -> dict[str, Any]:
    """What vLLM is told beside VERL's own words for it.

    Its generation config is vLLM's, since a model's own may set top-k or a repetition penalty, which would
    draw answers from another distribution than the one that is trained. Only whole decoding steps become
    CUDA graphs: compiling a model for more takes a minute at the start and saves fractions of a second a
    step. A cache of fixed size is not measured at the start, so that neighbours on the GPU do not disturb it.
    An engine on one GPU needs no process beside its own.
    """
    arguments: dict[str, Any] = {"generation_config": "vllm"}
    if plan.config.tensor_parallel == 1:
        arguments["distributed_executor_backend"] = "uni"
    if not plan.tiny:
        arguments["compilation_config"] = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
    if plan.memory is not None:
        arguments["kv_cache_memory_bytes"] = int(plan.memory.estimate.cache)
    return arguments


def run_variables(plan: Plan, metrics_path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What every process of a run must find in its environment: this package, the run, the metrics file."""
    return {
        "PYTHONPATH": import_path(environment),
        "LLMSR_RUN_DIR": str(plan.run_dir),
        "VERL_FILE_LOGGER_PATH": str(metrics_path),
    }


def _ray_init(plan: Plan, metrics_path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    variables = {
        name: value
        for name, value in environment.items()
        if value and (name in PASSED_NAMES or name.startswith(PASSED_PREFIXES))
    }
    variables |= run_variables(plan, metrics_path, environment)
    runtime = {"runtime_env": {"env_vars": variables}}
    if environment.get("RAY_ADDRESS"):
        return runtime  # a running cluster knows its own size, and Ray refuses to be told
    needed = RAY_CPUS_PER_GPU * plan.config.gpus + RAY_CPUS_BESIDE
    return {"num_cpus": max(os.cpu_count() or 1, needed), "include_dashboard": False, **runtime}
