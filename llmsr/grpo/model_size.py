"""How many parameters a model has, without loading it."""

from __future__ import annotations

import json
import re
from pathlib import Path


def model_parameters(model_path: str) -> float | None:
    """Parameters of a model: from its folder's config.json, else from a size in its name; None if neither."""
    folder = Path(model_path)
    if (folder / "config.json").is_file():
        try:
            return _count(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            return None
    size = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", Path(model_path).name)
    return float(size[1]) * (1e9 if size[2] in "bB" else 1e6) if size else None


def _count(config: dict) -> float:
    """Parameters of a dense decoder with gated feed-forward layers (Llama, Qwen, Mistral, ...)."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    kv = config.get("num_key_value_heads") or heads
    attention = hidden * head * (2 * heads + 2 * kv)
    embedding = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return embedding + layers * (attention + 3 * hidden * config["intermediate_size"])
