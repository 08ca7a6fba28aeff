"""Completions from a model in this process: a hub id, a local directory, or the embedded skeleton-lm."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmsr.errors import UserError
from llmsr.proposers.proposer import (
    STOPS,
    Completion,
    ProposerConfig,
    ProposerFailure,
    chat_messages,
    cut_at_stops,
    scrubbed,
)

BATCH_PROMPTS = 8
HUB_SECONDS = 5.0
LARGE_PARAMETERS = 100_000_000
TAIL_TOKENS = 12  # enough for the longest of STOPS, one character a token


class TransformersModel:
    """Samples from a model that transformers loads, on CPU or GPU.

    Weights come from safetensors files only, and code that comes with a model is not run unless asked.
    Chat models get the prompt as a chat, base models the bare prompt; `api_mode` overrules that. On a
    CPU the same prompts and seeds give the same texts again, on the same machine with the same number
    of threads. `propose_many` decodes several prompts together, which costs less than one after the
    other; calls from several threads wait for one another.
    """

    parallel_prompts = 1

    def __init__(self, config: ProposerConfig, path: str, name: str | None = None) -> None:
        self.name = name or f"transformers:{Path(path).name if Path(path).exists() else path}"
        self.batch_prompts = config.parallel_prompts or BATCH_PROMPTS
        self._lock = threading.Lock()
        self._tokenizer, model = load_model(config, path)
        self._room = getattr(model.config, "max_position_embeddings", None) or 2**31
        self._chat = config.api_mode == "chat" or (config.api_mode == "auto" and is_chat(self._tokenizer))
        if config.api_mode == "chat" and not self._tokenizer.chat_template:
            raise UserError(f"{path} has no chat template: use --api_mode completion")
        self._ends_line: dict[int, bool] = {}
        self._max_tokens = config.max_tokens

        from llmsr.proposers.sampling import Sampler

        self._sampler = Sampler(
            model,
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            end_tokens=end_tokens(model, self._tokenizer),
            is_over=(lambda tokens: False) if self._chat else self._stops,
        )

    def propose(self, prompt: str, n: int, seed: int) -> list[Completion]:
        """n completions of a prompt."""
        return self.propose_many([prompt], n, [seed])[0]

    def propose_many(self, prompts: Sequence[str], n: int, seeds: Sequence[int]) -> list[list[Completion]]:
        """n completions of each prompt; `seeds[i]` alone decides over prompt i, but for rounding."""
        from llmsr.proposers.sampling import Prompt

        tokenised = [self._tokens(prompt) for prompt in prompts]
        longest = max(len(tokens) for tokens, _ in tokenised)
        room = self._room - longest
        if room < 16:
            raise ProposerFailure(
                "prompt_too_long",
                f"the prompt has {longest} tokens and {self.name} takes {self._room} in all",
            )
        asked = [
            Prompt(tokens, n, seed % 2**63, preface)
            for (tokens, preface), seed in zip(tokenised, seeds, strict=True)
        ]
        with self._lock:
            self._sampler.max_tokens = min(self._max_tokens, room)
            started = time.monotonic()
            sampled = self._sampler.sample(asked)
            seconds = (time.monotonic() - started) / (len(asked) * n)
        return [
            [Completion(self._text(one.tokens), len(one.tokens), one.reason, seconds) for one in samples]
            for samples in sampled
        ]

    def close(self) -> None:
        """Nothing to stop."""

    def _tokens(self, prompt: str) -> tuple[list[int], int]:
        """The prompt's tokens, and how many of them other prompts of the problem begin with too."""
        text = prompt
        if self._chat:
            text = self._tokenizer.apply_chat_template(
                chat_messages(prompt), add_generation_prompt=True, tokenize=False
            )
        fast = self._tokenizer.is_fast
        encoded = self._tokenizer(text, add_special_tokens=not self._chat, return_offsets_mapping=fast)
        tokens = list(encoded["input_ids"])
        if not fast:
            return tokens, 0
        boundary = preface_end(text)
        preface = sum(end <= boundary for _, end in encoded["offset_mapping"])
        return tokens, min(preface, len(tokens) - 1)

    def _text(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text if self._chat else cut_at_stops(text)

    def _stops(self, tokens: list[int]) -> bool:
        """Whether a raw completion has come to one of STOPS; looked for only behind a line end."""
        tail = tokens[-TAIL_TOKENS:]
        if not any(self._has_line_end(token) for token in tail):
            return False
        text = self._tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return any(text.find(stop, 1 if len(tokens) <= TAIL_TOKENS else 0) >= 0 for stop in STOPS)

    def _has_line_end(self, token: int) -> bool:
        known = self._ends_line.get(token)
        if known is None:
            known = self._ends_line[token] = "\n" in self._tokenizer.decode([token])
        return known


def preface_end(text: str) -> int:
    """Where what all prompts of a problem share ends: behind the first docstring of a function.

    Any value is right; this one saves most.
    """
    opening = text.find('"""', max(text.find("\ndef "), 0))
    closing = text.find('"""', opening + 3) if opening >= 0 else -1
    return closing + 3 if closing >= 0 else 0


def is_chat(tokenizer: Any) -> bool:
    """Whether a chat template adds anything to a message: one that does not belongs to a base model."""
    if not tokenizer.chat_template:
        return False
    said = [{"role": "user", "content": "A"}]
    text = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    return text.replace(tokenizer.bos_token or "\0", "").strip() != "A"


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids of all tokens that end an answer, as the model's configurations and its tokenizer name them."""
    values = [
        getattr(owner, "eos_token_id", None) for owner in (model.generation_config, model.config, tokenizer)
    ]
    lists = [value if isinstance(value, list | tuple) else [value] for value in values]
    return frozenset(end for ends in lists for end in ends if end is not None)


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
    shown = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        local = _is_at_hand(transformers, path)
        if not local:
            _meet_hub(path)
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


def _is_at_hand(transformers: Any, path: str) -> bool:
    """Whether the model lies in a directory or in the cache of earlier downloads."""
    if Path(path).expanduser().is_dir():
        return True
    return (
        transformers.utils.cached_file(
            path,
            "config.json",
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        is not None
    )


def _meet_hub(path: str) -> None:
    """UserError at once when the hub is out of reach; its own client would try for most of a minute."""
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
