"""What a run takes of each GPU and of the disk, and the passes, the cache and the place of the optimiser
that fit there.

The estimate is of what PyTorch allocates in the training process at most; docs/grpo.md has it beside measured
peaks. With VERL vLLM's process comes on top while answers are drawn; it has given back its share by the time
of an update. The local trainer keeps the keys and values of its answers.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from llmsr.grpo.settings import Settled
from llmsr.models.loading import ModelShape

GIB = 2.0**30
CONTEXT = 1.5 * GIB  # CUDA context, NCCL buffers and kernels of the two processes on a GPU
USUAL_GPU = 80 * GIB  # of a machine that is not at hand
USABLE = 0.92  # of a GPU: allocators keep what is between their blocks
CHUNK_ROWS = 1024  # rows of logits that a pass holds at once (`log_probs.CHUNK_ROWS`)
MOST_TOKENS, FEWEST_TOKENS = 32_768, 2_048
CPU_TOKENS = 8_192  # of a pass of the local trainer on a CPU: 1.9 GB for the embedded model
ENGINE = 1.5 * GIB  # of vLLM beside weights and cache: graphs, buffers of the sampler
SMALLEST_CACHE, LARGEST_CACHE_SHARE = 0.5 * GIB, 0.2
TINY_PARAMETERS = 50e6


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes per GPU, by what they are for."""

    training_state: float
    gradients: float
    gathered: float
    activations: float
    layer: float
    logits: float
    vllm_weights: float
    cache: float

    @property
    def update(self) -> float:
        """The most that the training process allocates."""
        whole = self.training_state + self.gathered + (0.0 if self.vllm_weights else self.cache)
        # the gradients are not there yet while the activations are all held
        return max(whole, whole - self.gradients + self.activations + max(self.logits, self.layer))

    @property
    def rollout(self) -> float:
        """What must fit while answers are drawn: vLLM beside the resting training state."""
        return self.training_state + self.vllm_weights + self.cache + ENGINE

    @property
    def peak(self) -> float:
        """What a GPU must have."""
        return max(self.update, self.rollout) + CONTEXT


@dataclass(frozen=True)
class MemoryPlan:
    """How a run fits: tokens of a pass, whether the CPU keeps and steps the optimiser, what vLLM is given."""

    tokens_per_pass: int
    offload: bool
    gpu_bytes: float
    vllm_share: float
    estimate: MemoryEstimate
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.estimate.peak <= self.gpu_bytes


def plan_memory(
    config: Settled, shape: ModelShape, *, local: bool, packed: bool, gpu_bytes: float | None
) -> MemoryPlan:
    """The largest passes that fit a GPU; the optimiser goes to the host if nothing else fits.

    `local` tells of the local trainer, which draws and trains with one copy of the weights, `packed` that a
    prompt is read once for all its answers. `gpu_bytes` is the whole of a GPU, None where it is not known.
    """
    room = config.gpu_memory * GIB if config.gpu_memory else gpu_bytes or USUAL_GPU
    answers = max(1, config.answers_per_step // config.n_gpus)
    prompts = max(1, config.batch_size // config.n_gpus) if packed else answers
    # prompts and answers are half as long as they may be, so most passes hold half of what is allowed
    step_tokens = (prompts * config.max_prompt_length + answers * config.max_response_length) // 2
    # keys and values in bfloat16 of all answers that a GPU draws in a step, each with its prompt
    cache = 2.0 * answers * config.longest * shape.layers * shape.cache_width / config.tensor_parallel
    if not local:  # answers that find no room wait their turn
        cache = max(SMALLEST_CACHE, min(cache, LARGEST_CACHE_SHARE * room))
    sizes = [MOST_TOKENS >> i for i in range(20) if MOST_TOKENS >> i >= FEWEST_TOKENS]
    # no larger than a step needs: what is left over is of no use
    sizes = [size for size in sizes if size < 2 * step_tokens] or sizes[-1:]
    places = [False, True] if config.offload is None else [config.offload]
    for offload, tokens in product(places, sizes):
        estimate = _estimate(config, shape, local, min(tokens, step_tokens), offload, cache)
        if estimate.peak <= USABLE * room:
            break
    notes: tuple[str, ...] = ()
    if offload and config.offload is None:
        notes = (
            f"weights and optimiser take more than {room / GIB:.0f} GiB of GPU memory: they are kept "
            f"and stepped on the CPU ({16 * shape.parameters / GIB:.0f} GiB of host memory); quicker: "
            "--lora_rank 32",
        )
    # vLLM knows no other measure than a share of the whole GPU
    share = (estimate.vllm_weights + cache + ENGINE + CONTEXT) / (gpu_bytes or room)
    return MemoryPlan(tokens, offload, room, round(min(0.95, share), 4), estimate, notes)


def _estimate(
    config: Settled, shape: ModelShape, local: bool, tokens: int, offload: bool, cache: float
) -> MemoryEstimate:
    """The estimate for passes of `tokens` tokens.

    float32 weights, their gradients and two moments of Adam are 16 bytes a parameter, shared among the GPUs;
    with adapters the weights alone; nothing of it with the CPU optimiser. bfloat16 copies of the embeddings
    stay for a pass, those of two layers come and go; the embeddings' gradient is summed in float32.
    """
    lora = config.lora_rank > 0
    # bfloat16 weights beside the optimiser's; VERL's are gathered from these for a pass
    state = 18 if local else 4 if lora else 16
    kept = 2 if local else 0  # on the GPU, of what the CPU's optimiser steps
    # a small model's activations are kept, others made anew
    layers_kept = shape.layers if shape.parameters < TINY_PARAMETERS else 0
    per_token = 36.0 * shape.hidden + 9.0 * shape.layer_width  # of one layer, forwards and backwards
    embedding_gradient = 0.0 if lora else 6 * shape.embedding
    return MemoryEstimate(
        training_state=shape.parameters * (kept if offload else state) / config.n_gpus,
        gradients=0.0 if offload or lora else 4 * shape.parameters / config.n_gpus,
        gathered=0.0 if local else 2 * shape.embedding + 4 * shape.layer_parameters,
        activations=tokens * (2.0 * shape.hidden * shape.layers + per_token * layers_kept),
        layer=tokens * per_token,
        logits=min(tokens, CHUNK_ROWS) * shape.vocabulary * 8.0 + embedding_gradient,
        vllm_weights=0.0 if local else 2 * shape.parameters / config.tensor_parallel,
        cache=cache,
    )


def disk_bytes(shape: ModelShape, lora: bool, checkpoints: int) -> float:
    """Bytes that a run's checkpoints take: float32 weights and two moments each, the exported model once.

    One more than is kept lies there while it is written.
    """
    each = shape.parameters * (4.5 if lora else 12)
    return each * (checkpoints + 1) + 4 * shape.parameters


def free_disk(folder: Path) -> float:
    """Free bytes of the file system that will hold `folder`."""
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def describe(plan: MemoryPlan, lora: bool) -> list[str]:
    """The plan in sentences."""
    e = plan.estimate
    drawing = f"vLLM's weights {e.vllm_weights / GIB:.1f} and cache" if e.vllm_weights else "keys and values"
    lines = [
        f"GPU memory while updating, per GPU: {e.update / GIB:.1f} GiB (training state "
        f"{e.training_state / GIB:.1f}, gathered weights {e.gathered / GIB:.1f}, "
        f"passes of {plan.tokens_per_pass} tokens {(e.activations + e.layer) / GIB:.1f}, logits "
        f"{e.logits / GIB:.1f})",
        f"GPU memory while answers are drawn: {e.rollout / GIB:.1f} GiB (training state "
        f"{e.training_state / GIB:.1f}, {drawing} {e.cache / GIB:.1f})",
    ]
    if not plan.fits:
        lines.append(
            f"that is more than the {plan.gpu_bytes / GIB:.0f} GiB of the GPU: {advice(plan.offload, lora)}"
        )
    return lines


def advice(offload: bool, lora: bool) -> str:
    """Which flags lower what a GPU must hold."""
    steps = [*([] if offload else ["--offload"]), *([] if lora else ["--lora_rank 32"])]
    steps += ["a smaller --batch_size or --max_response_length", "a smaller --model_path", "more --gpus"]
    return "try " + ", then ".join(steps)
