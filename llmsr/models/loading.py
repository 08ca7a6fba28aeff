"""Models and tokenizers from directories and the hub; what prevents it is one sentence."""

from __future__ import annotations

import os
import socket
import urllib.request
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmsr.errors import UserError, scrubbed
from llmsr.settings import ProposerConfig

HUB_SECONDS = 5.0
LARGE_PARAMETERS = 100_000_000


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
