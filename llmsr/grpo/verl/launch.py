"""Starts VERL as a child process, watches it, and says in one sentence what went wrong.

Ray is VERL's: a cluster named by RAY_ADDRESS is joined, otherwise VERL starts one that ends with it.
Nothing here stops Ray or any process that it did not start.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmsr.errors import UserError
from llmsr.grpo.gpu_memory import GIB, advice, disk_bytes, free_disk
from llmsr.grpo.plan import Plan
from llmsr.grpo.progress import StepMetrics
from llmsr.grpo.verl.config import UNKNOWN_SHARE, VERL_VERSION, VLLM_VERSION, command, run_variables

POLL_SECONDS = 1.0
DEAD_ENGINE_SECONDS = 60.0  # in which VERL may still end by itself
STOP_SECONDS = 30.0
INSTALL = "pip install -r requirements-gpu.txt"


@dataclass(frozen=True)
class Device:
    """A GPU that this process may use: bytes in all, and bytes that nobody holds."""

    total: float
    free: float


def cuda_devices() -> list[Device]:
    """The CUDA devices that this process may use."""
    # asked of the driver's own tool: importing torch would take ten seconds of the start
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
        return []
    asked = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [*asked, *(["-i", visible] if visible else [])], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    pairs = (line.split(",") for line in done.stdout.splitlines() if line.strip())
    return [Device(float(total) * 2**20, float(free) * 2**20) for total, free in pairs]


def preflight(plan: Plan, devices: Sequence[Device]) -> None:
    """Refuse, in one sentence, what would fail minutes later; with RAY_ADDRESS the GPUs may be elsewhere."""
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    for package, wanted in (("verl", VERL_VERSION), ("vllm", VLLM_VERSION)):
        found = version(package)
        if found is None:
            raise UserError(f"--trainer verl needs {package} {wanted}, which is not installed: {INSTALL}")
        if found != wanted:
            raise UserError(f"--trainer verl needs {package} {wanted}, found {found}: {INSTALL}")
    if importlib.util.find_spec("transfer_queue") is None:
        raise UserError(f"verl {VERL_VERSION} cannot train without TransferQueue: {INSTALL}")
    if not cluster:
        if not devices:
            raise UserError("--trainer verl needs a CUDA device and none is visible; use --trainer local")
        if plan.config.nnodes > 1:
            raise UserError("--nnodes above 1 needs a running Ray cluster: set RAY_ADDRESS to its head node")
        if len(devices) < plan.config.gpus:
            raise UserError(
                f"--gpus {plan.config.gpus} asks for more than the {len(devices)} GPUs that are visible"
            )
        _check_memory(plan, devices[: plan.config.gpus])
    _check_disk(plan)


def _check_memory(plan: Plan, devices: Sequence[Device]) -> None:
    if plan.memory is None:
        return
    needed, free = plan.memory.estimate.peak, min(device.free for device in devices)
    told = f"the run needs {needed / GIB:.1f} GiB of a GPU by estimate"
    if not plan.memory.fits:
        raise UserError(
            f"{told}, and it may take {plan.memory.gpu_bytes / GIB:.1f}: "
            f"{advice(plan.memory.offload, plan.config.lora_rank > 0)}"
        )
    if needed > free:
        raise UserError(
            f"{told}, and {free / GIB:.1f} are free: other processes hold the rest; end them, wait, or name "
            "other GPUs in CUDA_VISIBLE_DEVICES"
        )


def _check_disk(plan: Plan) -> None:
    if plan.shape is None:
        return
    kept = plan.config.keep_checkpoints or plan.config.steps
    needed, free = disk_bytes(plan.shape, plan.config.lora_rank > 0, kept), free_disk(plan.run_dir)
    if needed > free:
        raise UserError(
            f"{kept} checkpoints of {plan.model_path} take {needed / GIB:.0f} GiB, and {plan.run_dir} has "
            f"{free / GIB:.0f} GiB left: lower --keep_checkpoints, or choose another --output_dir"
        )


def train_with_verl(
    plan: Plan,
    overrides: Sequence[str],
    metrics_path: Path,
    on_step: Callable[[StepMetrics], object],
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run VERL to its end; its output goes to logs/, every finished step to `on_step`.

    `meanwhile` is called while VERL starts; it may write what VERL waits for.

    `UserError` if it fails; KeyboardInterrupt ends it first.
    """
    log = plan.run_dir / "logs" / f"verl-{time.strftime('%Y%m%d-%H%M%S')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"VERL's output goes to {log}", file=sys.stderr)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command(plan.run_dir, overrides),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(plan, metrics_path),
            start_new_session=True,  # so that Ctrl-C reaches it once, from here
        )
        offset = 0
        engines = EngineWatch(log)
        try:
            meanwhile()
            while True:
                code = process.poll()
                for behind, metrics in read_verl_metrics(metrics_path, offset):
                    on_step(metrics)
                    offset = behind
                if code is not None:
                    break
                if engines.dead_for() > DEAD_ENGINE_SECONDS:
                    raise UserError(f"an engine of vLLM died ({engines.reason}); the log is {log}")
                time.sleep(POLL_SECONDS)
        except BaseException:
            _stop(process)
            raise
    if code != 0:
        raise UserError(explain_failure(plan, log, code))


# VERL's names of what a step's line tells, and ours
PHASES = {
    "timing_s/gen": "answers",
    "timing_s/old_log_prob": "old",
    "timing_s/ref": "ref",
    "timing_s/update_actor": "update",
    "timing_s/update_weights": "sync",
    "timing_s/save_checkpoint": "save",
    "timing_s/testing": "validation",
}
EXTRA = {
    "actor/entropy": "entropy",
    "actor/kl_loss": "kl",
    # before the first update of a step the difference of vLLM's and the trainer's own probabilities, in nats
    # a token
    "actor/ppo_kl": "drift",
    "response_length/clip_ratio": "cut",
}


def read_verl_metrics(path: Path, offset: int = 0) -> Iterator[tuple[int, StepMetrics]]:
    """Steps that VERL's file logger wrote behind byte `offset`, each with the offset behind it."""
    if not path.is_file():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            record = json.loads(line)
            data = record["data"]
            if "critic/score/mean" not in data:
                continue  # validation before the first step
            phases = {ours: data[name] for name, ours in PHASES.items() if name in data}
            extra = {ours: data[name] for name, ours in EXTRA.items() if name in data}
            validated = [v for name, v in data.items() if re.fullmatch(r"val-\w+/.*/reward/mean@\d+", name)]
            if validated:  # one for each problem
                extra["validation"] = sum(validated) / len(validated)
            seconds = float(data.get("timing_s/step", 0.0))
            reward = float(data["critic/score/mean"])
            yield offset, StepMetrics(int(record["step"]), reward, seconds, phases, extra)


class EngineWatch:
    """Reads VERL's log as it grows for an engine that died: VERL then waits for its answers forever."""

    DEATH = re.compile(
        rb"EngineCore.*Worker failed with error '([^\n]*?)',? please check|(EngineDeadError)\b"
    )

    def __init__(self, log: Path) -> None:
        self.reason = ""
        self._log = log
        self._offset = 0
        self._since: float | None = None

    def dead_for(self) -> float:
        """Seconds since the log was first found to tell of a death, 0 if it does not."""
        if self._since is None:
            with open(self._log, "rb") as file:
                file.seek(self._offset)
                block = file.read()
            whole = block[: block.rfind(b"\n") + 1]
            self._offset += len(whole)
            found = self.DEATH.search(whole)
            if found is None:
                return 0.0
            self.reason = (found[1] or found[2]).decode(errors="replace")[:300]
            self._since = time.monotonic()
        return time.monotonic() - self._since


def child_environment(plan: Plan, metrics_path: Path) -> dict[str, str]:
    """This shell's environment, with what VERL's processes need beside it."""
    quiet = {
        "HYDRA_FULL_ERROR": "1",
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }
    return {**quiet, **os.environ, **run_variables(plan, metrics_path, os.environ)}


# what VERL's log may hold, the most telling first, and what it means
FAILURES = (
    (
        "No available memory for the cache blocks",
        "vLLM found no room for its cache: raise actor_rollout_ref.rollout.gpu_memory_utilization behind -- "
        "(now {share}), or end what else uses the GPU",
    ),
    ("OutOfMemoryError|CUDA out of memory", "the GPU ran out of memory: {advice}"),
    (
        "less than desired GPU memory utilization",
        "vLLM found less free GPU memory than the share {share} that it asks for: another process uses the "
        "GPU, or lower actor_rollout_ref.rollout.gpu_memory_utilization behind --",
    ),
    (
        "Error in memory profiling",
        "another process freed or took GPU memory while vLLM measured it: start again",
    ),
    (
        "Total available GPUs .* is less than total desired GPUs",
        "the Ray cluster has fewer GPUs than --gpus {gpus} x --nnodes {nnodes}",
    ),
)


def explain_failure(plan: Plan, log: Path, code: int) -> str:
    """One sentence about a VERL run that ended with `code`, from its log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    meaning = next((told for pattern, told in FAILURES if re.search(pattern, text)), None)
    if meaning is None:
        meaning = f"VERL ended with exit code {code}: {{last}}"
        if code in (-signal.SIGKILL, 137):
            meaning = "VERL was killed, most likely for host memory: lower --workers or free memory"
    config, memory = plan.config, plan.memory
    told = meaning.format(
        share=UNKNOWN_SHARE if memory is None else memory.vllm_share,
        advice=advice(memory is not None and memory.offload, config.lora_rank > 0),
        gpus=config.gpus,
        nnodes=config.nnodes,
        last=_last_error(text),
    )
    return f"{told}; the log is {log}"


def _last_error(text: str) -> str:
    """The last line that names an exception."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if re.search(r"\b\w*(Error|Exception)\b\s*:", line)]
    told = errors[-1] if errors else next((line for line in reversed(lines) if line), "it said nothing")
    return re.sub(r"\x1b\[[0-9;]*m", "", told)[:300]


def version(package: str) -> str | None:
    """The version of a package that can be imported, None where it is not there."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "an unknown version"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the child: it closes its own Ray when interrupted; its session is killed if it does not."""
    for number, seconds in (
        (signal.SIGINT, STOP_SECONDS),
        (signal.SIGTERM, STOP_SECONDS),
        (signal.SIGKILL, 5.0),
    ):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
