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

from llmsr.files import write_file
from llmsr.grpo.plan import Plan

VERL_VERSION = "0.9.1"
VLLM_VERSION = "0.24.0"
CONFIG_NAME = "grpo_config"
PLUGIN = Path(__file__).with_name("plugin.py")
MEMORY_DATASET = Path(__file__).with_name("memory_dataset.py")

# variables of the launching shell that reach every worker on every node
PASSED_ON = (
    "NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_NVLS_ENABLE",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST", "NVSHMEM_DISABLE_NVLS",
    "VLLM_LOGGING_LEVEL", "VLLM_USE_V1", "VLLM_ATTENTION_BACKEND", "VLLM_USE_FLASHINFER_SAMPLER",
    "VERL_LOGGING_LEVEL", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE",
    "PYTORCH_CUDA_ALLOC_CONF", "WANDB_MODE", "CUDA_HOME",
)  # fmt: skip

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
    lora = config.lora_rank > 0
    memory = {"path": str(MEMORY_DATASET), "name": "MemoryDataset"}
    fsdp = {
        "use_torch_compile": False,
        "param_offload": config.offload,
        "seed": config.seed,
    }
    return {
        "hydra": {
            "searchpath": ["pkg://verl.trainer.config"],
            "run": {"dir": str(plan.run_dir / "logs" / "hydra")},
            "output_subdir": None,
        },
        "defaults": ["ppo_trainer", "_self_"],
        # ours, by the plugin: gated groups, and the same arithmetic as the local trainer's
        "algorithm": {"adv_estimator": f"llmsr_{config.advantage}", "use_kl_in_reward": False},
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
            **({} if config.memory == "none" else {"custom_cls": memory}),
        },
        "actor_rollout_ref": {
            "model": {
                "path": plan.model_path,
                "trust_remote_code": config.trust_remote_code,
                "custom_chat_template": template,
                "use_remove_padding": True,
                "enable_gradient_checkpointing": config.gradient_checkpointing,
                "override_config": {"attn_implementation": plan.attention},
                "lora_rank": config.lora_rank,
                **({"lora_alpha": config.lora_alpha, "target_modules": "all-linear"} if lora else {}),
                # vLLM gets plain weights: it refuses the embedding that tied models send with their adapters
                **({"lora": {"merge": True}} if lora else {}),
            },
            "actor": {
                "strategy": "fsdp2",
                "optim": {"lr": config.learning_rate},
                "ppo_mini_batch_size": config.batch_size,
                "ppo_micro_batch_size_per_gpu": plan.micro_batch_size,
                "ppo_epochs": 1,
                "loss_agg_mode": "seq-mean-token-sum-norm" if config.advantage == "drgrpo" else "token-mean",
                "entropy_coeff": config.entropy_coef,
                "calculate_entropy": True,
                "use_kl_loss": config.kl_coef > 0,
                "kl_loss_coef": config.kl_coef,
                "kl_loss_type": "low_var_kl",
                "use_torch_compile": False,
                "data_loader_seed": config.seed,
                "fsdp_config": {**fsdp, "optimizer_offload": config.offload},
                # a model with adapters has no plain weights to write; the export merges them
                "checkpoint": {
                    "save_contents": ["model", "optimizer", "extra", *([] if lora else ["hf_model"])]
                },
            },
            "ref": {"log_prob_micro_batch_size_per_gpu": plan.micro_batch_size, "fsdp_config": fsdp},
            "rollout": {
                "name": "vllm",
                "n": config.rollout_n,
                "temperature": config.temperature,
                "seed": config.seed,
                "tensor_model_parallel_size": config.tensor_parallel,
                "gpu_memory_utilization": config.gpu_memory_utilization,
                # capturing CUDA graphs takes longer than it saves on a tiny model
                "enforce_eager": plan.tiny,
                "max_model_len": config.max_prompt_length + config.max_response_length,
                "max_num_batched_tokens": max(8192, config.max_prompt_length + config.max_response_length),
                "log_prob_micro_batch_size_per_gpu": plan.micro_batch_size,
                "agent": {"num_workers": min(4, config.batch_size)},
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
            "total_training_steps": plan.steps,
            "save_freq": config.save_freq,
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
    return [sys.executable, "-m", "verl.trainer.main_ppo", *config, *overrides]


def write_config(config: Mapping[str, Any], run_dir: Path) -> Path:
    """Write grpo_config.yaml, whole or not at all."""
    import yaml

    path = run_dir / f"{CONFIG_NAME}.yaml"
    write_file(path, yaml.safe_dump(dict(config), sort_keys=False, width=110))
    return path


def _ray_init(plan: Plan, metrics_path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    package_parent = str(Path(__file__).resolve().parents[3])
    paths = [package_parent, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    variables |= {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "LLMSR_RUN_DIR": str(plan.run_dir),
        "VERL_FILE_LOGGER_PATH": str(metrics_path),
    }
    runtime = {"runtime_env": {"env_vars": variables}}
    if environment.get("RAY_ADDRESS"):
        return runtime  # a running cluster knows its own size, and Ray refuses to be told
    needed = RAY_CPUS_PER_GPU * plan.config.gpus + RAY_CPUS_BESIDE
    return {"num_cpus": max(os.cpu_count() or 1, needed), "include_dashboard": False, **runtime}
