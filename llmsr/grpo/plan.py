"""What the flags of a training run come to: trainer, model, batch arithmetic, every default."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.config import as_mapping
from llmsr.errors import UserError
from llmsr.grpo.gpu_memory import (
    CPU_TOKENS,
    FEWEST_TOKENS,
    TINY_PARAMETERS,
    MemoryPlan,
    describe,
    plan_memory,
)
from llmsr.grpo.settings import DEFAULT_MODEL, GrpoConfig, Settled
from llmsr.models.loading import ARCHITECTURES, ModelShape, read_shape
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


@dataclass(frozen=True)
class Plan:
    """A run in full: no setting is open. `notes` are sentences about what was chosen for the user.

    `shape` is the model's, None where it is not known without the network, `memory` how the run fits its
    GPUs.
    """

    config: Settled
    trainer: str
    model_path: str
    tiny: bool
    run_dir: Path
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


def make_plan(config: GrpoConfig, cuda: bool, gpu_bytes: float | None = None, cluster: bool = False) -> Plan:
    """The plan of a run on a machine with or without a CUDA device; `UserError` if the numbers cannot work.

    `gpu_bytes` is the size of the smallest GPU that is there, None where that is not known. `cluster` tells
    that a Ray cluster is to be used.
    """
    notes: list[str] = []
    gpu = cuda or cluster
    model_path = _model_path(config, gpu, notes)
    shape = read_shape(model_path)
    tiny = shape is not None and shape.parameters < TINY_PARAMETERS
    settled = _settled(config, shape if tiny else None, notes)
    attention = config.attention
    if attention == "auto":
        attention = "packed" if shape is None or shape.packs else "sdpa"

    def memory(local: bool) -> MemoryPlan | None:
        if shape is None:
            return None
        return plan_memory(settled, shape, local=local, packed=attention == "packed", gpu_bytes=gpu_bytes)

    alone = memory(local=True) if cuda and config.device not in ("cpu", "mps") else None
    trainer = config.trainer if config.trainer != "auto" else _trainer(settled, shape, gpu, alone, notes)
    fit = memory(local=False) if trainer == "verl" else alone
    plan = Plan(
        config=settled,
        trainer=trainer,
        model_path=model_path,
        tiny=tiny,
        run_dir=run_directory(settled),
        attention=attention,
        shape=shape,
        memory=fit,
        notes=(*notes, *(fit.notes if fit is not None else ())),
    )
    _check(plan)
    return plan


def run_directory(config: GrpoConfig) -> Path:
    """The run's directory; without --output_dir the problem's, in which a run gets a numbered folder."""
    return Path(config.output_dir or f"llmsr_grpo_outputs/{config.label}").resolve()


def _trainer(
    config: Settled, shape: ModelShape | None, gpu: bool, alone: MemoryPlan | None, notes: list[str]
) -> str:
    """The local trainer for one GPU that holds all of it, VERL for more; `alone` is how the first would fit.

    On one GPU VERL's processes cost more than they bring: docs/grpo.md has both side by side.
    """
    if not gpu:
        notes.append("no CUDA device here: the local trainer is used instead of VERL (--trainer)")
        return "local"
    one = config.n_gpus == 1 and not config.lora_rank and config.attention in ("auto", "packed")
    fits = shape is not None and shape.packs and alone is not None and alone.fits
    # it draws these models' answers by a CUDA graph; a model is taken for one until it is known
    if one and fits and shape is not None and shape.architecture in {"", *ARCHITECTURES}:
        notes.append("the model fits one GPU: the local trainer is used, which starts sooner (--trainer)")
        return "local"
    return "verl"


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


def _settled(config: GrpoConfig, tiny: ModelShape | None, notes: list[str]) -> Settled:
    """The settings with what is open by the rules that the flags' help tells; `tiny` is the shape of a model
    that has sizes of its own."""
    sizes: dict[str, Any] = {
        **(TINY_SIZE if tiny else FULL_SIZE),
        "max_response_length": config.answer_tokens,
    }
    if config.lora_rank:
        sizes["learning_rate"] = LORA_LEARNING_RATE
    if config.warm_start:
        sizes["memory"] = "islands"  # which it fills
    chosen = {name: value for name, value in sizes.items() if getattr(config, name) is None}
    if tiny and chosen:
        told = [f"{name} {value:g}" for name, value in chosen.items() if not isinstance(value, str | bool)]
        notes.append(f"chosen for a model of {tiny.parameters / 1e6:.1f}M parameters: {', '.join(told)}")
    plain = {**as_mapping(config), **chosen}
    batch_size, rollout_n = plain["batch_size"], plain["rollout_n"]
    least = math.ceil(len(config.problems) / batch_size)  # every problem once an epoch
    prompts = config.prompts or max(TINY_STEPS_PER_EPOCH if tiny else STEPS_PER_EPOCH, least) * batch_size
    steps_per_epoch = max(1, prompts // batch_size)
    if config.budget is not None:
        steps = math.ceil(config.budget / (batch_size * rollout_n))
        plain["epochs"] = math.ceil(steps / steps_per_epoch)
    if config.reward == "rank":  # ranks need the group, which a reward does not see: an older name
        plain |= {"reward": "neg_log_nmse", "advantage": "rank"}
    if config.test_freq is None:
        plain["test_freq"] = steps_per_epoch
    return Settled(**plain | {"prompts": prompts, "k": config.k or max(2, rollout_n // 2)})


def arithmetic(plan: Plan) -> list[str]:
    """The batch arithmetic in sentences."""
    config = plan.config
    answers = config.answers_per_step
    length = f"{config.epochs} epochs = {config.steps} steps"
    if config.budget:
        length = f"{config.steps} steps for --budget {config.budget}"
    lines = [
        f"{config.prompts} prompts / {config.batch_size} per step = {config.steps_per_epoch} steps per "
        f"epoch; {length}",
        f"{config.batch_size} prompts x {config.rollout_n} answers = {answers} answers per step; "
        f"{config.steps * answers} in all",
        f"one update per step on all {answers} answers",
    ]
    if plan.trainer == "verl":
        lines.append(
            f"{answers} answers / {config.n_gpus} GPUs = {answers // config.n_gpus} per GPU, in passes of "
            f"{plan.tokens_per_pass} tokens"
        )
    return lines


def memory_sentences(plan: Plan) -> list[str]:
    """What the run takes of a GPU, in sentences."""
    if plan.memory is None:
        return [f"GPU memory: the size of {plan.model_path} is not known here, no estimate"]
    return describe(plan.memory, plan.config.lora_rank > 0)


def _check(plan: Plan) -> None:
    """Whatever VERL or the arithmetic would refuse minutes later."""
    config = plan.config
    if config.k > config.rollout_n:
        raise UserError(f"--k {config.k} must not exceed --rollout_n {config.rollout_n}, the group")
    if config.prompts < config.batch_size:
        raise UserError(
            f"{config.prompts} prompts do not fill one step of --batch_size {config.batch_size}: raise "
            f"--prompts to at least {config.batch_size}, or lower --batch_size"
        )
    if plan.trainer != "verl":
        if config.lora_rank:
            raise UserError(
                "the local trainer trains all weights: leave out --lora_rank, or use --trainer verl"
            )
        if config.n_gpus > 1:
            raise UserError(
                "the local trainer uses one device: leave out --gpus and --nnodes, or use --trainer verl"
            )
        return
    if config.answers_per_step % config.n_gpus:
        raise UserError(
            f"--batch_size {config.batch_size} x --rollout_n {config.rollout_n} = {config.answers_per_step} "
            f"answers do not divide evenly among {config.n_gpus} GPUs: use a --batch_size that is a multiple "
            f"of {config.n_gpus}"
        )
    if config.gpus % config.tensor_parallel:
        raise UserError(
            f"--tensor_parallel {config.tensor_parallel} must divide --gpus {config.gpus}, since an engine "
            "stays within a node"
        )
