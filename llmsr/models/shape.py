"""What a model's config.json tells without loading it: its sizes, and whether packed passes can read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3", "mistral"})  # that packed passes are tested on
USUAL_VOCABULARY = 151_936  # of models whose configuration is not at hand


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
