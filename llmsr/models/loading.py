"""Models and tokenizers from directories and the hub, and their sizes without loading them.

What prevents it is one sentence.
"""

from __future__ import annotations

import json
import os
import re
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmsr.errors import UserError, scrubbed
from llmsr.settings import ProposerConfig

HUB_SECONDS = 5.0
LARGE_PARAMETERS = 100_000_000
ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3", "mistral"})  # that packed passes are tested on
USUAL_VOCABULARY = 151_936  # of models whose configuration is not at hand


def load_model(config: ProposerConfig, path: str) -> tuple[Any, Any]:
    """Tokenizer and model of a directory or hub id, on the configured device and ready to sample from.

    Raises UserError when they cannot be had. On a CPU a small model sets torch to one thread.
    """
    try:
        import torch
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise UserError(f"the package {error.name} is missing: pip install torch transformers") from None
    path = os.path.expanduser(path)
    check_path(path)
    device = _device(config.device)
    # stderr is for the progress of the run; what matters of this is raised
    shown = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        local = is_at_hand(path)
        source = {"local_files_only": local, "trust_remote_code": config.trust_remote_code}
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **source)
        dtype = _dtype(config.dtype, device)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=True, dtype=dtype or "auto", output_loading_info=True, **source
        )
        model, loading = loaded
        if loading["missing_keys"]:
            names = ", ".join(sorted(loading["missing_keys"])[:3])
            raise UserError(f"cannot load the model {path}: its files lack weights ({names}, ...)")
        if device == "cpu" and not _is_large(model):
            # its products are too small to share, and spinning threads would take the cores from the fits
            torch.set_num_threads(1)
        return tokenizer, model.to(device, dtype or _cpu_dtype(model)).eval()
    except torch.OutOfMemoryError:
        raise UserError(f"{path} does not fit on {device}: take a smaller model, or --device cpu") from None
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"cannot load the model {path}: {_advice(error)}") from None
    finally:
        transformers.logging.set_verbosity(shown)


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a directory or hub id; `UserError` at once where it cannot be had."""
    import transformers

    path = os.path.expanduser(path)
    check_path(path)
    try:
        local = is_at_hand(path)
        return transformers.AutoTokenizer.from_pretrained(
            path, local_files_only=local, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise UserError(f"cannot load the tokenizer of {path}: {_advice(error)}") from None


def is_at_hand(path: str) -> bool:
    """Whether the model lies in a directory or in the cache; else `UserError` if the hub is out of reach."""
    import transformers

    if Path(path).expanduser().is_dir():
        return True
    cached = transformers.utils.cached_file(
        path,
        "config.json",
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if cached is None:
        _meet_hub(path)
    return cached is not None


def _meet_hub(path: str) -> None:
    """UserError at once when the hub is out of reach; its own client would try for most of a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError(f"the model {path} is not on this machine and HF_HUB_OFFLINE forbids to fetch it")
    # behind a proxy a direct connection says nothing
    if urllib.request.getproxies().get("https"):
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), HUB_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"the model {path} is not on this machine and {hub.hostname} cannot be reached ({error}): "
            "download it elsewhere and give its directory as --model_path"
        ) from None


def _advice(error: Exception) -> str:
    told = scrubbed(str(error))
    if "trust_remote_code" in told:
        return "it brings its own Python code; give --trust_remote_code if you trust it"
    if "safetensors" in told:
        return f"only safetensors files are read ({told})"
    if "connect" in told.lower() or "offline" in told.lower() or "couldn't reach" in told.lower():
        return (
            f"the hub cannot be reached; download the model and give its directory as --model_path ({told})"
        )
    if "not a local folder" in told or "not a valid model identifier" in told or "404" in told:
        return "no such model on the hub; --model_path is a hub id or a directory (log in for a private one)"
    return told


def check_path(path: str) -> None:
    """UserError for what can only be a directory and is none; the nearest name beside it is suggested."""
    directory = Path(path).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise UserError(f"{path} holds no model: config.json is missing")
        return
    # a hub id has one slash and no folder of its first part beside us
    looks_local = (
        path.startswith(("/", "./", "../", "~")) or path.count("/") != 1 or directory.parent.is_dir()
    )
    if looks_local and path.count("/") != 0:
        beside = (
            [p.name for p in directory.parent.iterdir() if p.is_dir()] if directory.parent.is_dir() else []
        )
        near = get_close_matches(directory.name, beside, 1)
        hint = f"; did you mean {directory.parent / near[0]}?" if near else ""
        raise UserError(f"there is no model directory {path}{hint}")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: no CUDA device is present, use --device cpu")
    try:
        torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name} is unknown: use auto, cpu, cuda, cuda:1 or mps") from None
    return name


def _dtype(name: str, device: str) -> Any:
    """The numbers that are asked for, or that a GPU multiplies fastest; None leaves it to `_cpu_dtype`."""
    import torch

    if name != "auto":
        if name not in ("float32", "bfloat16", "float16"):
            raise UserError(f"--dtype {name} is unknown: use auto, float32, bfloat16 or float16")
        return getattr(torch, name)
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return None if device == "cpu" else torch.float32


def _cpu_dtype(model: Any) -> Any:
    """bfloat16 for a large model on a CPU that multiplies it, else float32."""
    import torch

    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if _is_large(model) and fast else torch.float32


def _is_large(model: Any) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) > LARGE_PARAMETERS


# ---- sizes


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder; `embedding` counts its input and output embeddings, which may be one.

    `layer_width` is the feed-forward width that a token passes in a layer, `cache_width` that of its keys and
    values. `packs` tells that packed passes (`packing`) give its probabilities. `architecture` is
    what transformers calls it, empty where that is not known.
    """

    parameters: float
    hidden: int
    layers: int
    vocabulary: int
    layer_width: int
    cache_width: int
    embedding: float
    packs: bool
    architecture: str = ""

    @property
    def layer_parameters(self) -> float:
        """Parameters of one layer."""
        return (self.parameters - self.embedding) / self.layers


def read_shape(model_path: str) -> ModelShape | None:
    """The shape of a model: from its folder's config.json, else guessed from a size in its name.

    None if neither tells, or where the configuration has other words than those of a usual decoder.
    """
    path = Path(model_path) / "config.json"
    if path.is_file():
        try:
            return _of_configuration(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            return None
    size = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", Path(model_path).name)
    return _of_size(float(size[1]) * (1e9 if size[2] in "bB" else 1e6)) if size else None


def is_read_packed(config: Any) -> bool:
    """Whether a loaded model of this configuration attends over packs and slots: full causal attention."""
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return config.model_type in ARCHITECTURES and not sliding


def _of_configuration(config: Mapping[str, Any]) -> ModelShape:
    nested = config.get("text_config")  # models that also see pictures keep their decoder's sizes there
    text = {**config, **nested} if isinstance(nested, Mapping) else config
    hidden, layers, vocabulary = text["hidden_size"], text["num_hidden_layers"], text["vocab_size"]
    heads = text["num_attention_heads"]
    head = text.get("head_dim") or hidden // heads
    kv = text.get("num_key_value_heads") or heads
    experts = text.get("num_experts") or text.get("num_local_experts") or 0
    width = (
        text.get("moe_intermediate_size") or text["intermediate_size"]
        if experts
        else text["intermediate_size"]
    )
    shared = (text.get("n_shared_experts") or 0) * width + (text.get("shared_expert_intermediate_size") or 0)
    all_widths = width * max(1, experts) + shared
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))
    embedding = float(vocabulary * hidden * (1 if tied else 2))
    attention = hidden * head * (2 * heads + 2 * kv)
    return ModelShape(
        parameters=embedding + layers * (attention + 3 * hidden * all_widths + hidden * experts),
        hidden=hidden,
        layers=layers,
        vocabulary=vocabulary,
        layer_width=width * (text.get("num_experts_per_tok") or 1) + shared,
        cache_width=2 * kv * head,
        embedding=embedding,
        packs=not nested and not _unusual(text),
        architecture=str(config.get("model_type", "")),
    )


def _unusual(text: Mapping[str, Any]) -> bool:
    """Whether attention or logits are more than packed passes compute."""
    windows = text.get("sliding_window") and text.get("use_sliding_window", True)
    kinds = set(text.get("layer_types") or ()) - {"full_attention"}
    changed = (
        "attn_logit_softcapping",
        "logit_scale",
        "logits_scaling",
        "attention_chunk_size",
        "attention_dropout",
    )
    return bool(windows or kinds or any(text.get(name) not in (None, 0, 0.0, 1.0) for name in changed))


def _of_size(parameters: float) -> ModelShape:
    layers = 24 if parameters < 1e9 else 28 if parameters < 5e9 else 32
    embedding = min(parameters / 3, USUAL_VOCABULARY * 4096.0)
    hidden = int(embedding / USUAL_VOCABULARY)
    width = int((parameters - embedding) / layers / (4 * hidden))
    return ModelShape(
        parameters, hidden, layers, USUAL_VOCABULARY, width, max(256, hidden // 4), embedding, packs=True
    )
