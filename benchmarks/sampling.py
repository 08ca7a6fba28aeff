"""Completions per CPU second of skeleton-lm: transformers' own `generate` beside ours, on one core.

OMP_NUM_THREADS=1 python benchmarks/sampling.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llmsr.problem.spec import load_spec  # noqa: E402
from llmsr.prompt import Prompt, Version, build_prompt  # noqa: E402
from llmsr.proposers.choice import make_proposer  # noqa: E402
from llmsr.settings import ProposerConfig  # noqa: E402

ROUNDS = 3
VERSIONS = [
    Version("return params[0] * x + params[1] * v + params[2]", -1.0),
    Version("linear = params[0] * x\nreturn linear + params[1] * np.sin(x) + params[2] * v**3", -0.5),
]


def show(name: str, samples: int, tokens: int, seconds: float) -> None:
    print(f"{name:32s} {samples / seconds:6.1f} samples/s {tokens / seconds:6.0f} tokens/s", flush=True)


def generate(prompt: str, n: int) -> None:
    """What `generate` does with n samples of one prompt."""
    path = ROOT / "llmsr" / "proposers" / "skeleton_lm"
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    inputs = tokenizer(prompt, return_tensors="pt")
    drawing = {"do_sample": True, "temperature": 0.8, "max_new_tokens": 512}
    samples = tokens = 0
    for turn in range(-1, ROUNDS):
        if turn == 0:
            samples, tokens, started = 0, 0, time.process_time()
        torch.manual_seed(turn)
        out = model.generate(**inputs, **drawing, num_return_sequences=n)
        written = out[:, inputs["input_ids"].shape[1] :]
        samples += n
        tokens += int((written != tokenizer.pad_token_id).sum())
    show(f"generate, 1 prompt x {n}", samples, tokens, time.process_time() - started)


def ours(prompt: str, prompts: int, n: int) -> None:
    proposer = make_proposer(ProposerConfig(proposer="skeleton-lm", device="cpu"))
    samples = tokens = 0
    for turn in range(-1, ROUNDS):
        if turn == 0:
            samples, tokens, started = 0, 0, time.process_time()
        seeds = [1000 + 100 * turn + i for i in range(prompts)]
        answers = proposer.propose_many([Prompt(prompt)] * prompts, n, seeds)
        samples += prompts * n
        tokens += sum(c.tokens for answer in answers for c in answer)
    show(f"ours, {prompts} prompts x {n}", samples, tokens, time.process_time() - started)


def main() -> None:
    torch.set_num_threads(1)
    prompt = build_prompt(load_spec(ROOT / "specs" / "specification_oscillator1_numpy.txt"), VERSIONS)
    for n in (4, 16):
        generate(prompt, n)
    for prompts, n in ((1, 4), (1, 16), (4, 4), (8, 4), (16, 4)):
        ours(prompt, prompts, n)


if __name__ == "__main__":
    main()
