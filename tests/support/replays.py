"""Completions for tests, as a model would write them for a problem with columns x and v."""

import json
import random
from pathlib import Path

TERMS = [
    "params[{}] * x",
    "params[{}] * v",
    "params[{}] * x**3",
    "params[{}] * v**3",
    "params[{}] * np.sin(x)",
    "params[{}] * x * np.cos(x)",
    "params[{}] * x * v",
    "params[{}] * np.exp(-x**2)",
    "params[{}] * np.tanh(v)",
    "params[{}]",
]
FAULTY = ["", "I am sorry.", "    return x *", "    return np.gradient(v)", "    return params[0]"]


def completions(count: int, seed: int = 0) -> list[str]:
    """`count` completions, one in eight faulty, the rest sums of up to four terms."""
    generator = random.Random(seed)
    texts = []
    for _ in range(count):
        if generator.random() < 0.125:
            texts.append(generator.choice(FAULTY))
            continue
        terms = generator.sample(TERMS[:-1], generator.randint(1, 4))
        body = " + ".join(term.format(i) for i, term in enumerate(terms))
        texts.append(f"    return {body}\n")
    return texts


def write_replay(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"completion": text}) + "\n" for text in texts))
    return path
