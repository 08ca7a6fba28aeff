"""What a run takes of each GPU and of the disk, and the passes, the cache and the place of the optimiser
that fit there.

The estimate is of what PyTorch allocates in the training process at most; docs/grpo.md has it beside measured
peaks. With VERL vLLM's process comes on top while answers are drawn; it has given back its share by the time
of an update. The local trainer keeps the keys and values of its answers.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from llmsr.models.shape import ModelShape

GIB = 2.0**30
CONTEXT = 1.5 * GIB  # CUDA context, NCCL buffers and kernels of the two processes on a GPU
USUAL_GPU = 80 * GIB  # of a machine that is not at hand
USABLE = 0.92  # of a GPU: allocators keep what is between their blocks
CHUNK_ROWS = 1024  # rows of logits that a pass holds at once (`log_probs.CHUNK_ROWS`)
MOST_TOKENS, FEWEST_TOKENS = 32_768, 2_048
CPU_TOKENS = 8_192  # of a pass of the local trainer on a CPU: 1.9 GB for the embedded model
ENGINE = 1.5 * GIB  # of vLLM beside weights and cache: graphs, buffers of the sampler
SMALLEST_CACHE, LARGEST_CACHE_SHARE = 0.5 * GIB, 0.2


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
    vllm_cache: float

    @property
    def update(self) -> float:
        """The most that the training process allocates."""
        whole = self.training_state + self.gathered + (0.0 if self.vllm_weights else self.vllm_cache)
        # the gradients are not there yet while the activations are all held
        return max(whole, whole - self.gradients + self.activations + max(self.logits, self.layer))

    @property
    def rollout(self) -> float:
        """What must fit while answers are drawn: vLLM beside the resting training state."""
        return self.training_state + self.vllm_weights + self.vllm_cache + ENGINE

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


@dataclass(frozen=True)
class Work:
    """What a run asks of its GPUs; `step_tokens` and `answers` are a GPU's share of a step."""

    gpus: int
    lora: bool
    checkpointing: bool
    step_tokens: int
    answers: int
    longest: int
    tensor_parallel: int = 1
    in_one_process: bool = False  # the local trainer, which draws and trains with one copy of the weights


def plan_memory(
    shape: ModelShape,
    work: Work,
    gpu_bytes: float,
    *,
    physical_bytes: float | None = None,
    offload: bool | None = None,
    share: float | None = None,
) -> MemoryPlan:
    """The largest passes that fit `gpu_bytes` of a GPU; the optimiser goes to the host if nothing else fits.

    `physical_bytes` is the whole of the GPU where a run may take a part alone. `offload` and `share` (of the
    GPU, for vLLM) are taken as given where they are not None.
    """
    # answers that find no room wait their turn
    cache = _cache_bytes(shape, work)
    if not work.in_one_process:
        cache = max(SMALLEST_CACHE, min(cache, LARGEST_CACHE_SHARE * gpu_bytes))
    if share is not None:
        cache = max(SMALLEST_CACHE, share * gpu_bytes - 2 * shape.parameters / work.tensor_parallel - ENGINE)
    sizes = [MOST_TOKENS >> i for i in range(20) if MOST_TOKENS >> i >= FEWEST_TOKENS]
    # no larger than a step needs: what is left over is of no use
    sizes = [size for size in sizes if size < 2 * work.step_tokens] or sizes[-1:]
    notes: list[str] = []
    for to_host in [False, True] if offload is None else [offload]:
        for tokens in sizes:
            estimate = estimate_memory(shape, work, tokens, to_host, cache)
            if estimate.peak <= USABLE * gpu_bytes:
                break
        if estimate.peak <= USABLE * gpu_bytes:
            break
    if to_host and offload is None:
        notes.append(
            f"weights and optimiser take more than {gpu_bytes / GIB:.0f} GiB of GPU memory: they are kept "
            f"and stepped on the CPU ({16 * shape.parameters / GIB:.0f} GiB of host memory); quicker: "
            "--lora_rank 32"
        )
    # vLLM knows no other measure than a share of the whole GPU
    needed = estimate.vllm_weights + estimate.vllm_cache + ENGINE + CONTEXT
    asked = share if share is not None else min(0.95, needed / (physical_bytes or gpu_bytes))
    return MemoryPlan(tokens, to_host, gpu_bytes, round(asked, 4), estimate, tuple(notes))


def estimate_memory(
    shape: ModelShape, work: Work, tokens: int, offload: bool, cache: float = SMALLEST_CACHE
) -> MemoryEstimate:
    """The estimate for passes of `tokens` tokens.

    float32 weights, their gradients and two moments of Adam are 16 bytes a parameter, shared among the GPUs;
    with adapters the weights alone; nothing of it with the CPU optimiser. bfloat16 copies of the embeddings
    stay for a pass, those of two layers come and go; the embeddings' gradient is summed in float32.
    """
    trained = 0.0 if offload or work.lora else shape.parameters / work.gpus
    own = work.in_one_process
    # bfloat16 weights beside the optimiser's; VERL's are gathered from these for a pass
    state = 18 if own else 4 if work.lora else 16
    kept = 2 if own else 0  # on the GPU, of what the CPU's optimiser steps
    layers_kept = 0 if work.checkpointing else shape.layers
    tokens = min(tokens, work.step_tokens)
    per_token = 36.0 * shape.hidden + 9.0 * shape.layer_width  # of one layer, forwards and backwards
    embedding_gradient = 0.0 if work.lora else 6 * shape.embedding
    return MemoryEstimate(
        training_state=shape.parameters * (kept if offload else state) / work.gpus,
        gradients=4 * trained,
        gathered=0.0 if own else 2 * shape.embedding + 4 * shape.layer_parameters,
        activations=tokens * (2.0 * shape.hidden * shape.layers + per_token * layers_kept),
        layer=tokens * per_token,
        logits=min(tokens, CHUNK_ROWS) * shape.vocabulary * 8.0 + embedding_gradient,
        vllm_weights=0.0 if own else 2 * shape.parameters / work.tensor_parallel,
        vllm_cache=cache,
    )


def _cache_bytes(shape: ModelShape, work: Work) -> float:
    """Keys and values in bfloat16 of all answers that a GPU draws in a step, each with its prompt."""
    tokens = work.answers * work.longest
    return 2.0 * tokens * shape.layers * shape.cache_width / work.tensor_parallel


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
        f"{e.training_state / GIB:.1f}, {drawing} {e.vllm_cache / GIB:.1f})",
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
