"""Checkpoints, and out of one of them checkpoints/final: a complete Hugging Face folder of the trained model.

It holds the weights in the base model's number format, its configuration and its tokenizer, and is verified
before it is called final: it loads, every weight of the base is there, at least one differs from the base,
and none is NaN or infinite.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.plan import Plan
from llmsr.grpo.progress import say

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json",
)  # fmt: skip

BEST = "best"  # beside the checkpoints, the one of highest validation reward
OPTIMIZER_FILES = ("optim*", "local_state*")


class ExportFault(Exception):
    """The trained weights are not what they should be; the text says how."""


class NothingLearned(ExportFault):
    """The trained weights are those that training began from."""


def final_model(plan: Plan) -> dict[str, Any]:
    """The best validated checkpoint as the final model, the last one where none was validated.

    The last one too where the best is the untrained model: who trains wants what was learned.
    """
    checkpoints, best = plan.checkpoints, best_step(plan.checkpoints)
    step = last_step(checkpoints)
    trusts = plan.config.trust_remote_code

    def exported(folder: str, step: int) -> dict[str, Any]:
        trained = trained_folder(checkpoints / folder / "actor")
        return {**export_final(trained, plan.model_path, plan.final, trust_remote_code=trusts), "step": step}

    try:
        if best is not None:
            try:
                found = exported(BEST, best[0])
                say(f"the final model is that of step {best[0]}, the best of those validated: {best[1]:+.3f}")
                return found
            except NothingLearned:
                if step is None or step == best[0]:
                    raise
                say(f"step {best[0]}, the best of those validated, had learned nothing: the last is exported")
        if step is None:
            raise UserError("the training ended before its first checkpoint: lower --save_freq")
        return exported(f"global_step_{step}", step)
    except ExportFault as fault:
        raise UserError(f"the trained model was not exported: {fault}") from None


def export_final(
    trained: Path,
    base: str,
    final: Path,
    *,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Write and verify `final` from the Hugging Face folder `trained` of a checkpoint; tell what was found.

    `base` is the model that training began from, a folder or a hub id. Weights with LoRA adapters are merged,
    whose `r` and `lora_alpha` VERL writes to lora_train_meta.json beside `trained`. A model that brings its
    own Python code needs `trust_remote_code`; the code is copied.
    `ExportFault` if the result does not verify; `final` then stays as it was.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base_folder = local_folder(base)
    before, weights = read_weights(base_folder), read_weights(trained)
    # the number format that most of the base is stored in
    counts: Counter[Any] = Counter()
    for tensor in before.values():
        counts[tensor.dtype] += tensor.numel()
    dtype = counts.most_common(1)[0][0]
    if any("lora_" in name for name in weights):
        weights = merge_adapters(weights, _adapter(trained))
    bad = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if bad:
        raise ExportFault(f"{len(bad)} weights are NaN or infinite, {bad[0]} first; lower --learning_rate")
    compared = compare(before, weights, dtype)

    part = final.with_name(final.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(
        base_folder, dtype=dtype, trust_remote_code=trust_remote_code
    )
    missing, unexpected = model.load_state_dict({k: v.to(dtype) for k, v in weights.items()}, strict=False)
    tied = set(
        getattr(model, "all_tied_weights_keys", None) or getattr(model, "_tied_weights_keys", None) or ()
    )
    if unexpected or set(missing) - tied - {"lm_head.weight"}:
        raise ExportFault(
            f"the checkpoint's weights do not fit the base model: {[*unexpected, *missing][:3]}"
        )
    model.tie_weights()
    model.save_pretrained(part)
    for name in TOKENIZER_FILES:
        source = next((f / name for f in (trained, base_folder) if (f / name).is_file()), None)
        if source is not None and not (part / name).is_file():
            shutil.copyfile(source, part / name)
    # what was written must load by itself and hold what was meant
    again = AutoModelForCausalLM.from_pretrained(part, dtype="auto", trust_remote_code=trust_remote_code)
    AutoTokenizer.from_pretrained(part, trust_remote_code=trust_remote_code)
    if next(again.parameters()).dtype != dtype:
        raise ExportFault(f"{part} holds {next(again.parameters()).dtype}, the base model {dtype}")
    written = again.state_dict()
    if not all(torch.equal(written[k], v.to(dtype)) for k, v in weights.items() if k in written):
        raise ExportFault(f"{part} does not hold the trained weights")
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return {"path": str(final), "dtype": str(dtype).removeprefix("torch."), **compared}


def compare(base: Mapping[str, Any], trained: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """How the trained weights differ from the base's, once rounded to `dtype`; `ExportFault` where they do
    not.

    A merge that silently wrote the base model again is caught here.
    """
    common = [name for name in base if name in trained]
    if not common:
        raise ExportFault("the checkpoint and the base model have no weight in common")
    changed, largest, lost = 0, 0.0, 0
    for name in common:
        if base[name].shape != trained[name].shape:
            raise ExportFault(
                f"{name} has shape {tuple(trained[name].shape)}, in the base {tuple(base[name].shape)}"
            )
        gap = (base[name].float() - trained[name].float()).abs().max().item()
        largest = max(largest, gap)
        rounded = not bool((base[name].to(dtype) == trained[name].to(dtype)).all())
        changed += rounded
        lost += gap > 0 and not rounded
    if changed == 0:
        reason = (
            f"all changes are lost by rounding to {dtype}; train longer or with a higher --learning_rate"
            if lost
            else "not one weight changed"
        )
        raise NothingLearned(f"the trained model equals its base: {reason}")
    return {"weights": len(common), "changed": changed, "largest_change": largest}


def merge_adapters(weights: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    """Plain weights from those of a PEFT model: W + (alpha / r) B A for every adapted W.

    Names may be PEFT's own or, for the base's weights, the plain ones.
    """
    if not adapter.get("lora_alpha"):
        raise ExportFault("the adapters' scale is not recorded; merging would give the base model again")
    scale = float(adapter["lora_alpha"]) / float(adapter["r"])
    merged = {_plain(name): value for name, value in weights.items() if "lora_" not in name}
    downs = {_stem(name): value for name, value in weights.items() if ".lora_A" in name}
    ups = {_stem(name): value for name, value in weights.items() if ".lora_B" in name}
    for stem, down in downs.items():
        name = f"{stem}.weight"
        if stem not in ups or name not in merged:
            raise ExportFault(f"the adapter of {stem} did not find the weight it belongs to")
        merged[name] = merged[name].float() + scale * (ups[stem].float() @ down.float())
    return merged


def _plain(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _stem(name: str) -> str:
    return _plain(name).split(".lora_")[0]


def saved_steps(checkpoints: Path) -> list[int]:
    """The steps that have a checkpoint, ascending."""
    names = [path.name.removeprefix("global_step_") for path in checkpoints.glob("global_step_*")]
    return sorted(int(name) for name in names if name.isdigit())


def last_step(checkpoints: Path) -> int | None:
    """The step of the last complete checkpoint, None where there is none."""
    path = checkpoints / "latest_checkpointed_iteration.txt"
    return int(path.read_text(encoding="utf-8")) if path.is_file() else None


def keep_best(checkpoints: Path, step: int, reward: float) -> None:
    """Set the checkpoint of a step aside if its validation reward is the highest so far.

    Its weights are linked, so that they take no room while the trainer keeps the checkpoint, and stay when it
    removes it. A step without a checkpoint cannot be kept.
    """
    actor = checkpoints / f"global_step_{step}" / "actor"

    def link(part: Path) -> None:
        ignored = shutil.ignore_patterns(*OPTIMIZER_FILES)
        shutil.copytree(actor, part, ignore=ignored, copy_function=_link)

    if actor.is_dir():
        set_aside(checkpoints, step, reward, link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def set_aside(checkpoints: Path, step: int, reward: float, write: Callable[[Path], None]) -> None:
    """Let `write` fill the folder of the best weights if no validation reward so far is higher."""
    best = checkpoints / BEST
    validated = best_step(checkpoints)
    if validated is not None and validated[1] > reward:
        return
    part = best.with_name(f"{BEST}.part")
    shutil.rmtree(part, ignore_errors=True)
    write(part / "actor")
    write_file(part / "validation.json", json.dumps({"step": step, "reward": reward}))
    shutil.rmtree(best, ignore_errors=True)
    part.rename(best)


def best_step(checkpoints: Path) -> tuple[int, float] | None:
    """The step whose checkpoint `keep_best` holds and its validation reward; None if there is none."""
    path = checkpoints / BEST / "validation.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return int(found["step"]), float(found["reward"])


def trained_folder(actor: Path) -> Path:
    """The folder of a checkpoint that holds its weights as safetensors.

    VERL writes one for plain models; the shards of a model with adapters are put together by its own
    merger, which leaves base and adapter apart.
    """
    plain = actor / "huggingface"
    if any(plain.glob("*.safetensors")):
        return plain
    merged = actor / "merged"
    done = subprocess.run(
        [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp",
         "--local_dir", str(actor), "--target_dir", str(merged)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise ExportFault(f"verl.model_merger failed on {actor}: {done.stderr.strip()[-300:]}")
    return merged


def read_weights(folder: Path) -> dict[str, Any]:
    """The tensors of all safetensors files of a folder, by name."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("lora_adapter/*.safetensors"))
    if not files:
        raise ExportFault(f"{folder} holds no safetensors file")
    return {name: tensor for path in files for name, tensor in load_file(path).items()}


def local_folder(model: str) -> Path:
    """The folder of a model's files; a hub id's is in the local cache, fetched if it is not yet."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.py"]
            )
        )
    except Exception as error:  # the hub's errors have no common base
        raise UserError(f"cannot find the model {model}: {str(error).splitlines()[0]}") from error


def _adapter(trained: Path) -> dict[str, Any]:
    for path in (
        trained.parent / "lora_train_meta.json",
        trained / "lora_adapter" / "adapter_config.json",
        trained / "adapter_config.json",
    ):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    raise ExportFault(f"{trained} holds LoRA adapters, but nothing tells their rank and scale")
