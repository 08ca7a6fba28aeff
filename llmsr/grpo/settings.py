"""The flags of a training run; a default of None is chosen by the trainer (see `plan`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmsr.config import check_not_negative, check_positive, option
from llmsr.errors import UserError
from llmsr.grpo.advantage import ADVANTAGES
from llmsr.prompt import PromptSettings
from llmsr.reward import SHAPES

DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
MEMORIES = ("none", "islands", "puct", "top")
LOGGERS = ("console", "file", "tensorboard", "wandb", "swanlab", "mlflow")


@dataclass(frozen=True)
class GrpoConfig(PromptSettings):
    """training with --use_rl"""

    problem_name: str = option(
        "oscillator1", "the problem's name; several, with commas, are trained on together"
    )
    spec_path: str | None = option(
        None, "spec file of a single problem (default: specs/specification_<problem>_numpy.txt)"
    )
    data_dir: str = option("data", "folder that holds <problem>/{train,test_id,test_ood}.csv")
    model_path: str | None = option(
        None,
        f"model to train, a hub id or a local directory (default: {DEFAULT_MODEL} with VERL, the embedded "
        "skeleton-lm with the local trainer)",
    )
    trainer: str = option(
        "auto", "who trains; auto: verl where a CUDA device is, else local", choices=("auto", "verl", "local")
    )
    epochs: int = option(10, "passes over the prompts")
    budget: int | None = option(
        None, "answers to train on in all, rounded up to whole steps; takes the place of --epochs"
    )
    batch_size: int | None = option(None, "prompts per step (default: 64; 8 for the embedded model)")
    learning_rate: float | None = option(
        None, "learning rate of AdamW (default: 1e-6; 3e-5 with --lora_rank; 5e-5 for the embedded model)"
    )
    rollout_n: int | None = option(
        None, "answers per prompt, the group (default: 5; 12 for the embedded model)"
    )
    prompts: int | None = option(
        None,
        "training prompts; an epoch has prompts // batch_size steps (default: 4 * batch_size; 3 * batch_size "
        "for the embedded model)",
    )
    validation_prompts: int = option(16, "prompts that are only validated on")
    max_prompt_length: int | None = option(
        None,
        "tokens of a prompt at most, the answer's begun part included (default: 768; 1536 for the embedded "
        "model)",
    )
    max_response_length: int | None = option(
        None,
        "tokens of an answer at most (default: 128; 256 with --begin_answer header, 512 with none; with "
        "--thinking on --thinking_tokens more)",
    )
    temperature: float = option(1.0, "sampling temperature of the answers")
    reward: str = option("neg_log_nmse", "shape of the reward, see docs/rewards.md", choices=tuple(SHAPES))
    complexity_weight: float = option(0.0, "reward taken off for an equation of 100 operations")
    advantage: str = option(
        "grpo",
        "how an answer is judged within its group; grpo: distance from the mean over the standard deviation; "
        "drgrpo: the distance; rank: by ranks; best_of_group: only the best counts; entropic: exponentially; "
        "max_at_k: by what it adds to the best of k",
        choices=ADVANTAGES,
    )
    k: int | None = option(None, "max_at_k: answers of which the best counts (default: half of rollout_n)")
    novelty: bool = option(
        False, "an equation that the run has seen before, by canonical form, earns no more than a copy"
    )
    kl_coef: float = option(
        0.0, "weight of the divergence from the starting model, which is then held as a reference in bfloat16"
    )
    memory: str = option(
        "none",
        "where the earlier equations of a prompt come from; none: fixed prompts; islands, puct, top: the "
        "run's own archive, chosen anew at each step as the search of that name does",
        choices=MEMORIES,
    )
    exploration: float = option(1.0, "puct: weight of what was seldom built upon; 0 is greedy")
    warm_start: str | None = option(
        None, "directory of an earlier run, search or training, whose best equations the memory begins with"
    )
    refine: str = option(
        "off",
        "refine new records of the run without a model, by fits that the budget does not count",
        choices=("off", "run"),
    )
    refine_fits: int = option(48, "equations fitted to refine one record, at most")
    lora_rank: int = option(0, "rank of LoRA adapters (VERL); 0 trains all weights")
    gpus: int = option(1, "GPUs per node")
    nnodes: int = option(1, "nodes of the Ray cluster")
    tensor_parallel: int = option(1, "GPUs that share one vLLM engine")
    gpu_memory: float | None = option(
        None, "GiB of each GPU that the run may take (default: all of the GPU that is there)"
    )
    gpu_memory_utilization: float | None = option(
        None, "share of a GPU's memory for vLLM (default: what its weights and a step's answers need)"
    )
    offload: bool | None = option(
        None,
        "keep weights and optimiser in host memory and step them on the CPU (default: where they do not fit "
        "the GPU)",
    )
    gradient_checkpointing: bool | None = option(
        None, "recompute activations (default: above 0.05e9 parameters)"
    )
    attention: str = option(
        "auto",
        "attention of the training passes; packed: a prompt is read once for all its answers; auto: packed "
        "where the model's attention allows it, else sdpa",
        choices=("auto", "packed", "sdpa", "flash_attention_2", "eager"),
    )
    chat_template: str = option(
        "auto",
        "how a prompt is put to the model: model (its own chat template), plain (the bare text), auto "
        "(model where "
        "it has one)",
        choices=("auto", "model", "plain"),
    )
    fitter: str = option("best", "how constants are fitted", choices=("best", "bfgs", "reference"))
    fit_timeout: float = option(5.0, "seconds that one fit may take")
    workers: int = option(0, "processes that fit, per node; 0: one per core, with VERL all but two of them")
    output_dir: str | None = option(
        None, "the run's directory (default: a new one, llmsr_grpo_outputs/<problem>/runs/<number>)"
    )
    save_freq: int | None = option(
        None, "steps between checkpoints (default: ten minutes with VERL, an epoch otherwise)"
    )
    keep_checkpoints: int = option(2, "checkpoints to keep; 0: all")
    test_freq: int | None = option(None, "steps between validations; 0: never (default: one epoch)")
    stop_when_stuck: int = option(
        0,
        "end the training after so many steps in a row that teach nothing, or whose valid share has "
        "collapsed; 0: never",
    )
    logger: str = option("console,file", f"comma-separated: {', '.join(LOGGERS)}")
    resume: bool = option(
        False,
        "go on from the last checkpoint of the run in output_dir, with its settings (default: the newest run "
        "of the problem that has not finished)",
    )
    seed: int = option(0, "seed of prompts, sampling and training order")
    device: str = option("auto", "where the local trainer computes", choices=("auto", "cpu", "cuda", "mps"))
    trust_remote_code: bool = option(
        False, "run Python code that comes with a model; only for models you trust"
    )
    dry_run: bool = option(False, "write all files, print configuration, command and arithmetic, and stop")
    json: bool = option(False, "print the result as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.problems:
            raise UserError("--problem_name is empty; name a problem, or several with commas")
        if len(set(self.problems)) != len(self.problems):
            raise UserError(f"--problem_name names a problem twice: {self.problem_name}")
        if self.spec_path and len(self.problems) > 1:
            raise UserError(
                "--spec_path belongs to a single problem; leave it out when --problem_name names several"
            )
        for name in (
            "epochs", "batch_size", "learning_rate", "prompts", "validation_prompts", "max_prompt_length",
            "max_response_length", "temperature", "gpus", "nnodes", "tensor_parallel", "gpu_memory",
            "fit_timeout", "save_freq", "budget", "refine_fits",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None:
                check_positive(f"--{name}", value)
        for name in (
            "lora_rank", "kl_coef", "complexity_weight", "workers", "keep_checkpoints", "test_freq",
            "exploration", "stop_when_stuck",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None:
                check_not_negative(f"--{name}", value)
        if self.rollout_n is not None and self.rollout_n < 2:
            raise UserError(
                f"--rollout_n must be at least 2, since an answer is judged within its group; it is "
                f"{self.rollout_n}"
            )
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization < 1:
            raise UserError(
                f"--gpu_memory_utilization must lie between 0 and 1, it is {self.gpu_memory_utilization}"
            )
        if self.complexity_weight > 1:
            raise UserError(f"--complexity_weight must not exceed 1, it is {self.complexity_weight}")
        if self.k is not None and self.k < 2:
            raise UserError(f"--k must be at least 2, the best of one answer is that answer; it is {self.k}")
        if self.reward == "rank" and self.advantage not in ("grpo", "rank"):
            raise UserError(f"--reward rank is --advantage rank; leave out --advantage {self.advantage}")
        if self.warm_start and self.memory == "none":
            raise UserError("--warm_start fills the memory; choose one with --memory islands, puct or top")
        for name in self.loggers:
            if name not in LOGGERS:
                raise UserError(f"--logger knows {', '.join(LOGGERS)}; not {name!r}")

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems' names in the order given."""
        return tuple(name.strip() for name in self.problem_name.split(",") if name.strip())

    @property
    def label(self) -> str:
        """The problems' names as one word that a path can hold."""
        return re.sub(r"[^\w.-]+", "_", "+".join(self.problems).replace("+", "_"))

    @property
    def loggers(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.logger.split(",") if name.strip())
