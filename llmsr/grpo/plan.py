"""What the flags of a training run come to: trainer, model, batch arithmetic, every default."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.grpo.settings import DEFAULT_MODEL, GrpoConfig
from llmsr.models.gpu_memory import (
    CPU_TOKENS,
    FEWEST_TOKENS,
    GIB,
    USUAL_GPU,
    MemoryPlan,
    Work,
    describe,
    plan_memory,
)
from llmsr.models.shape import ARCHITECTURES, ModelShape, read_shape
from llmsr.proposers.known_names import EMBEDDED as EMBEDDED

SAVE_SECONDS = 600.0  # between checkpoints, where no number of steps is asked for
FINISHED_FILE = "latest_finished_iteration.txt"  # beside the checkpoints of a training that came to its end
STEPS_PER_EPOCH, TINY_STEPS_PER_EPOCH = 4, 3
# what found most, docs/decisions/0010-recipe.md
FULL_SIZE = {
    "batch_size": 20, "learning_rate": 2e-6, "rollout_n": 8, "max_prompt_length": 768,
    "memory": "islands", "novelty": True,
}  # fmt: skip
LORA_LEARNING_RATE = 3e-5  # at 1e-6 adapters of rank 32 hardly move
TINY_SIZE = {
    "batch_size": 8, "learning_rate": 5e-5, "rollout_n": 12, "max_prompt_length": 1536,
    "memory": "none", "novelty": False,
}  # fmt: skip
TINY_PARAMETERS = 50e6


@dataclass(frozen=True)
class Settled(GrpoConfig):
    """Settings of which none is open."""

    batch_size: int = 1
    learning_rate: float = 1e-6
    rollout_n: int = 2
    max_prompt_length: int = 1
    max_response_length: int = 1
    memory: str = "none"
    novelty: bool = False
    test_freq: int = 0
    k: int = 2
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class Plan:
    """A run in full: no setting is open. `notes` are sentences about what was chosen for the user.

    `rows` training prompts make `steps_per_epoch` steps of `answers_per_step` answers; `shape` is the
    model's, None where it is not known without the network, `memory` how the run fits its GPUs.
    """

    config: Settled
    trainer: str
    model_path: str
    tiny: bool
    run_dir: Path
    rows: int
    steps_per_epoch: int
    steps: int
    answers_per_step: int
    attention: str
    shape: ModelShape | None
    memory: MemoryPlan | None
    notes: tuple[str, ...]

    @property
    def checkpoints(self) -> Path:
        """The folder that holds global_step_N."""
        return self.run_dir / "checkpoints" / "llm_sr_grpo" / f"llmsr_grpo_{self.config.label}"

    @property
    def final(self) -> Path:
        return self.run_dir / "checkpoints" / "final"

    @property
    def tokens_per_pass(self) -> int:
        """Tokens of a training pass per GPU at most."""
        if self.memory is not None:
            return self.memory.tokens_per_pass
        return FEWEST_TOKENS if self.trainer == "verl" else CPU_TOKENS

    @property
    def n_gpus(self) -> int:
        return self.config.gpus * self.config.nnodes


def make_plan(config: GrpoConfig, cuda: bool, gpu_bytes: float | None = None, cluster: bool = False) -> Plan:
    """The plan of a run on a machine with or without a CUDA device; `UserError` if the numbers cannot work.

    `gpu_bytes` is the size of the smallest GPU that is there, None where that is not known. `cluster` tells
    that a Ray cluster is to be used.
    """
    notes: list[str] = []
    gpu = cuda or cluster
    model_path = _model_path(config, gpu, notes)
    shape = read_shape(model_path)
    parameters = shape.parameters if shape is not None else None
    tiny = parameters is not None and parameters < TINY_PARAMETERS
    sizes = {**(TINY_SIZE if tiny else FULL_SIZE), "max_response_length": config.answer_tokens}
    if config.lora_rank:
        sizes["learning_rate"] = LORA_LEARNING_RATE
    if config.warm_start:
        sizes["memory"] = "islands"  # which it fills
    chosen = {name: value for name, value in sizes.items() if getattr(config, name) is None}
    if tiny and chosen and parameters is not None:
        sizes = {name: value for name, value in chosen.items() if not isinstance(value, str | bool)}
        listed = ", ".join(f"{name} {value:g}" for name, value in sizes.items())
        notes.append(f"chosen for a model of {parameters / 1e6:.1f}M parameters: {listed}")
    settled = _settled(config, chosen, parameters, tiny)
    answers_per_step = settled.batch_size * settled.rollout_n
    local = None
    if shape is not None and cuda and config.device not in ("cpu", "mps"):
        local = _memory(settled, shape, gpu_bytes, "local")
    trainer = config.trainer if config.trainer != "auto" else _trainer(settled, shape, gpu, local, notes)
    memory = local
    if trainer == "verl":
        memory = _memory(settled, shape, gpu_bytes, "verl") if shape is not None else None
    steps_per_epoch = (settled.prompts or 0) // settled.batch_size
    steps = settled.epochs * steps_per_epoch
    if config.budget is not None:
        steps = min(steps, math.ceil(config.budget / answers_per_step))
    plan = Plan(
        config=settled,
        trainer=trainer,
        model_path=model_path,
        tiny=tiny,
        run_dir=run_directory(settled),
        rows=settled.prompts or 0,
        steps_per_epoch=steps_per_epoch,
        steps=steps,
        answers_per_step=answers_per_step,
        attention=_attention(settled, shape),
        shape=shape,
        memory=memory,
        notes=(*notes, *(memory.notes if memory is not None else ())),
    )
    _check(plan)
    return plan


def run_directory(config: GrpoConfig) -> Path:
    """The run's directory; without --output_dir the problem's, in which a run gets a numbered folder."""
    return Path(config.output_dir or f"llmsr_grpo_outputs/{config.label}").resolve()


def _trainer(
    config: Settled, shape: ModelShape | None, gpu: bool, local: MemoryPlan | None, notes: list[str]
) -> str:
    """The local trainer for one GPU that holds all of it, VERL for more; `local` is how the first would fit.

    On one GPU VERL's processes cost more than they bring: docs/grpo.md has both side by side.
    """
    if not gpu:
        notes.append("no CUDA device here: the local trainer is used instead of VERL (--trainer)")
        return "local"
    asks_verl = config.lora_rank or config.gpu_memory_utilization is not None
    one = config.gpus * config.nnodes == 1 and config.attention in ("auto", "packed")
    fits = local is not None and local.fits and shape is not None and shape.packs
    if one and not asks_verl and fits and _draws_quickly(shape):
        notes.append("the model fits one GPU: the local trainer is used, which starts sooner (--trainer)")
        return "local"
    return "verl"


def _draws_quickly(shape: ModelShape | None) -> bool:
    """Whether the local trainer draws a model's answers by a CUDA graph; taken for true until it is known."""
    return shape is not None and shape.architecture in {"", *ARCHITECTURES}


def _model_path(config: GrpoConfig, gpu: bool, notes: list[str]) -> str:
    """A local folder's path, anything else (a hub id) as it is.

    Links are followed: checkpoints/final of a problem will be another model by the time a run is resumed.
    """
    small = config.trainer == "local" or (config.trainer == "auto" and not gpu)
    model_path = config.model_path or (str(EMBEDDED) if small else DEFAULT_MODEL)
    if config.model_path is None and small:
        notes.append(
            f"the local trainer trains the embedded skeleton-lm; name another model with --model_path "
            f"(on a GPU the default is {DEFAULT_MODEL})"
        )
    expanded = os.path.expanduser(model_path)
    return os.path.realpath(expanded) if os.path.isdir(expanded) else model_path


def _settled(config: GrpoConfig, chosen: Mapping[str, Any], parameters: float | None, tiny: bool) -> Settled:
    """The settings with `chosen` sizes, the rest of what is open by the rules that the flags' help tells."""
    plain = {**as_mapping(config), **chosen}
    batch_size, rollout_n = int(plain["batch_size"]), int(plain["rollout_n"])
    least = math.ceil(len(config.problems) / batch_size)  # every problem once an epoch
    prompts = config.prompts or max(TINY_STEPS_PER_EPOCH if tiny else STEPS_PER_EPOCH, least) * batch_size
    steps_per_epoch = max(1, prompts // batch_size)
    epochs = config.epochs
    if config.budget is not None:
        epochs = math.ceil(math.ceil(config.budget / (batch_size * rollout_n)) / steps_per_epoch)
    auto = {
        "prompts": prompts,
        "epochs": epochs,
        # ranks need the group, which a reward does not see: the flag's older name is an alias
        "reward": "neg_log_nmse" if config.reward == "rank" else config.reward,
        "advantage": "rank" if config.reward == "rank" else config.advantage,
        "test_freq": steps_per_epoch if config.test_freq is None else config.test_freq,
        "k": config.k or max(2, rollout_n // 2),
    }
    if config.gradient_checkpointing is None:
        auto["gradient_checkpointing"] = parameters is None or parameters > TINY_PARAMETERS
    return Settled(**plain | auto)


def arithmetic(plan: Plan) -> list[str]:
    """The batch arithmetic in sentences."""
    config = plan.config
    lines = [
        f"{plan.rows} prompts / {config.batch_size} per step = {plan.steps_per_epoch} steps per epoch; "
        + (
            f"{plan.steps} steps for --budget {config.budget}"
            if config.budget
            else f"{config.epochs} epochs = {plan.steps} steps"
        ),
        f"{config.batch_size} prompts x {config.rollout_n} answers = {plan.answers_per_step} answers per "
        f"step; "
        f"{plan.steps * plan.answers_per_step} in all",
        f"one update per step on all {plan.answers_per_step} answers",
    ]
    if plan.trainer == "verl":
        lines.append(
            f"{plan.answers_per_step} answers / {plan.n_gpus} GPUs = "
            f"{plan.answers_per_step // plan.n_gpus} per GPU, in passes of {plan.tokens_per_pass} tokens"
        )
    return lines


def _memory(config: Settled, shape: ModelShape, gpu_bytes: float | None, trainer: str) -> MemoryPlan:
    gpus = config.gpus * config.nnodes
    answers = max(1, config.batch_size * config.rollout_n // gpus)
    packed = _attention(config, shape) == "packed"
    prompts = max(1, config.batch_size // gpus) if packed else answers
    work = Work(
        gpus=gpus,
        lora=config.lora_rank > 0,
        checkpointing=config.gradient_checkpointing,
        # prompts and answers are half as long as they may be, so most passes hold half of what is allowed
        step_tokens=(prompts * config.max_prompt_length + answers * config.max_response_length) // 2,
        answers=answers,
        longest=config.max_prompt_length + config.max_response_length,
        tensor_parallel=config.tensor_parallel,
        in_one_process=trainer == "local",
    )
    physical = gpu_bytes or USUAL_GPU
    return plan_memory(
        shape,
        work,
        config.gpu_memory * GIB if config.gpu_memory else physical,
        physical_bytes=gpu_bytes,
        offload=config.offload,
        share=config.gpu_memory_utilization,
    )


def memory_sentences(plan: Plan) -> list[str]:
    """What the run takes of a GPU, in sentences."""
    if plan.memory is None:
        return [f"GPU memory: the size of {plan.model_path} is not known here, no estimate"]
    return describe(plan.memory, plan.config.lora_rank > 0)


def _attention(config: GrpoConfig, shape: ModelShape | None) -> str:
    if config.attention != "auto":
        return config.attention
    return "packed" if shape is None or shape.packs else "sdpa"


def _check(plan: Plan) -> None:
    """Whatever VERL or the arithmetic would refuse minutes later."""
    config = plan.config
    if config.k > config.rollout_n:
        raise UserError(f"--k {config.k} must not exceed --rollout_n {config.rollout_n}, the group")
    if plan.rows < config.batch_size:
        raise UserError(
            f"{plan.rows} prompts do not fill one step of --batch_size {config.batch_size}: raise "
            f"--prompts to at "
            f"least {config.batch_size}, or lower --batch_size"
        )
    if plan.trainer != "verl":
        if config.lora_rank:
            raise UserError(
                "the local trainer trains all weights: leave out --lora_rank, or use --trainer verl"
            )
        if plan.n_gpus > 1:
            raise UserError(
                "the local trainer uses one device: leave out --gpus and --nnodes, or use --trainer verl"
            )
        return
    if plan.answers_per_step % plan.n_gpus:
        step = plan.n_gpus
        raise UserError(
            f"--batch_size {config.batch_size} x --rollout_n {config.rollout_n} = {plan.answers_per_step} "
            f"answers do "
            f"not divide evenly among {plan.n_gpus} GPUs: use a --batch_size that is a multiple of {step}"
        )
    if config.gpus % config.tensor_parallel:
        raise UserError(
            f"--tensor_parallel {config.tensor_parallel} must divide --gpus {config.gpus}, since an engine "
            f"stays "
            "within a node"
        )
