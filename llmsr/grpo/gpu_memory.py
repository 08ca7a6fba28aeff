"""How much GPU memory a VERL run takes, estimated from the model's shape; the formula is in docs/grpo.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llmsr.grpo.plan import Plan

GIB = 2**30
CONTEXT = 1.5 * GIB  # CUDA context, NCCL buffers and kernels of the two processes on a GPU


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes per GPU, by what they are for."""

    training_state: float
    reference: float
    pass_activations: float
    logits: float

    @property
    def update(self) -> float:
        """What must fit while the policy is updated; vLLM has freed its share by then."""
        return self.training_state + self.reference + self.pass_activations + self.logits + CONTEXT

    def rollout(self, gpu_bytes: float, share: float) -> float:
        """What must fit while answers are drawn: vLLM's share beside the resting training state."""
        return self.training_state + self.reference + share * gpu_bytes + CONTEXT


def estimate_memory(plan: Plan) -> MemoryEstimate | None:
    """The estimate, None where the model's size is not known."""
    if plan.parameters is None:
        return None
    config, shape = plan.config, _shape(plan.model_path, plan.parameters)
    lora = config.lora_rank > 0
    # float32 weights; with all weights trained also gradients and two Adam moments in float32
    state = plan.parameters * (4 if lora else 16) / plan.n_gpus
    if config.offload:
        state = plan.parameters * (4 if lora else 8) / plan.n_gpus
    tokens = plan.micro_batch_size * (config.max_prompt_length + config.max_response_length)
    # bfloat16: kept per layer with checkpointing its input, without about 17 hidden widths
    per_layer = 2 * shape["hidden"] if config.gradient_checkpointing else 34 * shape["hidden"]
    return MemoryEstimate(
        training_state=state,
        # adapters are switched off to get the reference, so it needs no copy
        reference=0.0 if lora or not config.kl_coef else plan.parameters * 4 / plan.n_gpus,
        pass_activations=tokens * per_layer * shape["layers"] + tokens * 34 * shape["hidden"],
        # bfloat16 logits, their float32 copy and its gradient, over the whole sequence
        logits=tokens * shape["vocabulary"] * 10.0,
    )


def format_memory(plan: Plan, gpu_bytes: float | None) -> list[str]:
    """The estimate in sentences; `gpu_bytes` is the size of this machine's GPU, None without one."""
    estimate = estimate_memory(plan)
    if estimate is None:
        return [f"GPU memory: the size of {plan.model_path} is not known here, no estimate"]
    config = plan.config
    lines = [
        f"GPU memory while updating, per GPU: {estimate.update / GIB:.1f} GiB (training state "
        f"{estimate.training_state / GIB:.1f}, reference {estimate.reference / GIB:.1f}, activations "
        f"{estimate.pass_activations / GIB:.1f}, logits of {plan.micro_batch_size} answers "
        f"{estimate.logits / GIB:.1f})"
    ]
    share = config.gpu_memory_utilization
    resting = (estimate.training_state + estimate.reference + CONTEXT) / GIB
    lines.append(
        f"GPU memory while answers are drawn: {resting:.1f} GiB + {share:.0%} of the GPU for vLLM"
        + (
            f" = {estimate.rollout(gpu_bytes, share) / GIB:.1f} of {gpu_bytes / GIB:.0f} GiB"
            if gpu_bytes
            else ""
        )
    )
    if gpu_bytes and max(estimate.update, estimate.rollout(gpu_bytes, share)) > gpu_bytes:
        lines.append("that is more than the GPU has: " + out_of_memory_advice(plan))
    return lines


def out_of_memory_advice(plan: Plan) -> str:
    """Which flags to lower, and to what."""
    config = plan.config
    steps = []
    if plan.micro_batch_size > 1:
        steps.append(f"--micro_batch_size {max(1, plan.micro_batch_size // 4)} (now {plan.micro_batch_size})")
    if config.gpu_memory_utilization > 0.25:
        steps.append(f"--gpu_memory_utilization {max(0.2, config.gpu_memory_utilization - 0.15):.2f} "
                     f"(now {config.gpu_memory_utilization:.2f})")  # fmt: skip
    if not config.offload:
        steps.append("--offload")
    if config.lora_rank == 0:
        steps.append("--lora_rank 32")
    if config.max_response_length > 256:
        steps.append(f"--max_response_length 256 (now {config.max_response_length})")
    return "try " + ", then ".join(steps) if steps else "take a smaller --model_path or more --gpus"


def _shape(model_path: str, parameters: float) -> dict[str, float]:
    """Hidden width, layers and vocabulary: from config.json, else those of a usual model of that size."""
    path = Path(model_path) / "config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        return {
            "hidden": config["hidden_size"],
            "layers": config["num_hidden_layers"],
            "vocabulary": config["vocab_size"],
        }
    layers = 24 if parameters < 1e9 else 28 if parameters < 5e9 else 32
    return {"hidden": (parameters / layers / 12) ** 0.5, "layers": layers, "vocabulary": 151_936}
