"""The tokenizer of skeleton-lm: byte-level BPE over pieces that keep identifiers and `params[i]` whole.

    python training/skeleton_lm/tokenizer.py OUTPUT_DIR [--documents N] [--vocabulary N]

An identifier is cut off from what surrounds it, so that a name has the same tokens in the header and in the
body; line breaks stand alone, so that a prompt and its completion meet between two tokens.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from random import Random

END, PAD = "<|end|>", "<|pad|>"
PIECES = "|".join(
    (
        r"\n+",
        r"(?: {4})+(?:return |Args|Returns?|def )?",
        r"\w+\[\d+\]",
        r"(?:np|torch)\.[a-z0-9]+\(",
        r": (?:np\.ndarray|torch\.Tensor)(?:, )?",
        r" ?(?:\*\*|->|[-+*/=<>]) ?",
        r" ?[A-Za-z_][A-Za-z_0-9]*",
        r"\d+(?:\.\d+)?",
        r"[)\]]+",
        r"[^\w\s)\]*/+=<>-]+ ?",
        r"\s",
        r".",
    )
)
# the messages' contents as they stand, so that a chat request is the raw prompt; instructions are for others
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['content'] }}{% endif %}{% endfor %}"
)


def train(texts: list[str], vocabulary: int):
    """A trained `tokenizers.Tokenizer` with the end token as number 0 and the padding token as number 1."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer, folder: Path, length: int) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers and vLLM read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    from corpus import documents, text_of

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--documents", type=int, default=20000, help="documents to learn the merges from")
    parser.add_argument("--vocabulary", type=int, default=2048, help="number of tokens")
    arguments = parser.parse_args()
    texts = [
        text_of(heads, bodies) for heads, bodies, _ in islice(documents(Random(-1)), arguments.documents)
    ]
    save(train(texts, arguments.vocabulary), arguments.output, 2048)


if __name__ == "__main__":
    main()
