"""Trains skeleton-lm on documents that worker processes generate as it goes.

    python training/skeleton_lm/train.py OUTPUT_DIR --tokenizer DIR --seconds 540 --workers 15

Each document is one row, padded on the right, so that causal attention needs no mask; the loss is taken on
the bodies alone. The learning rate falls linearly to zero over the given seconds, so a run is not
reproducible to the bit; the model is exported every minute.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import sys
import threading
import time
from pathlib import Path
from random import Random

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

# one more than a multiple of 64: the last token is only a target
LENGTHS = (193, 257, 321, 385, 449, 577, 769)
CHUNK_TOKENS = 16384
WEIGHTS = (0.0, 0.5, 1.0)
END, PAD = 0, 1


def rows(rng: Random, tokenizer):
    """Without end: token ids and the weight code of each as a target, one document at a time."""
    from corpus import documents

    for heads, bodies, weights in documents(rng):
        pieces = [piece for pair in zip(heads, bodies, strict=True) for piece in pair]
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(pieces, add_special_tokens=False)]
        ids: list[int] = []
        codes: list[int] = []
        for i, piece in enumerate(encoded):
            ids += piece
            codes += [weights[i // 2] if i % 2 else 0] * len(piece)
        yield [*ids, END], [*codes, weights[-1]]


def generate(seed: int, tokenizer_path: str, chunks: multiprocessing.Queue) -> None:
    """A worker: chunks of rows of one length, ids above weight codes, for as long as someone takes them."""
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_file(tokenizer_path)
    waiting: dict[int, list] = {length: [] for length in LENGTHS}
    for ids, codes in rows(Random(seed), tokenizer):
        length = next((length for length in LENGTHS if len(ids) <= length), None)
        if length is None:
            continue
        waiting[length].append((ids, codes))
        if len(waiting[length]) == CHUNK_TOKENS // length:
            chunk = np.full((2, len(waiting[length]), length), PAD, dtype=np.uint16)
            chunk[1] = 0
            for row, (row_ids, row_codes) in enumerate(waiting[length]):
                chunk[0, row, : len(row_ids)] = row_ids
                chunk[1, row, : len(row_codes)] = row_codes
            waiting[length] = []
            chunks.put((length, chunk))


def batches(chunks, per_batch: int, ready: queue.Queue, device: str) -> None:
    """Joins chunks of one length from many workers into batches on the device."""
    import torch

    waiting: dict[int, list] = {length: [] for length in LENGTHS}
    used: list = []
    rng = Random(0)
    while True:
        if len(used) > 400 and chunks.empty():
            # the workers are slower than the device: an older batch is seen a second time
            ready.put(used.pop(rng.randrange(300)))
            continue
        length, chunk = chunks.get()
        waiting[length].append(chunk)
        if len(waiting[length]) == per_batch:
            batch = torch.from_numpy(np.concatenate(waiting[length], axis=1).astype(np.int32))
            waiting[length] = []
            if device == "cuda":
                batch = batch.pin_memory().to(device, non_blocking=True)
            ready.put(batch)
            used.append(batch)


class Muon:
    """Momentum whose steps are orthogonalised, for the matrices of the blocks; one stack per shape."""

    def __init__(self, weights: list, decay: float = 0.1, momentum: float = 0.95) -> None:
        import torch

        self.decay, self.momentum = decay, momentum
        self.groups: dict[tuple, list] = {}
        for weight in weights:
            self.groups.setdefault(tuple(weight.shape), []).append(weight)
        self.state = {s: torch.zeros(len(g), *s, device=g[0].device) for s, g in self.groups.items()}

    def step(self, rate: float) -> None:
        import torch

        with torch.no_grad():
            for shape, group in self.groups.items():
                self._step(torch, shape, group, rate)

    def _step(self, torch, shape: tuple, group: list, rate: float) -> None:
        gradient = torch.stack([weight.grad for weight in group])
        state = self.state[shape]
        state.lerp_(gradient, 1 - self.momentum)
        x = gradient.lerp_(state, self.momentum).bfloat16()
        tall = shape[0] > shape[1]
        x = x.mT if tall else x
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x = (x.mT if tall else x).float() * (0.2 * max(shape) ** 0.5)
        torch._foreach_mul_(group, 1 - rate * self.decay)
        torch._foreach_add_(group, list(x.unbind(0)), alpha=-rate)
        for weight in group:
            weight.grad = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder for the model, the tokenizer and log.jsonl")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder that tokenizer.py wrote")
    parser.add_argument("--seconds", type=float, default=540.0, help="length of the run after the start")
    parser.add_argument("--workers", type=int, default=15, help="processes that generate documents")
    parser.add_argument(
        "--batch_chunks", type=int, default=8, help=f"chunks of {CHUNK_TOKENS} tokens in a step"
    )
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    context = multiprocessing.get_context("fork")
    chunks = context.Queue(maxsize=512)
    path = str(arguments.tokenizer / "tokenizer.json")
    workers = []
    for number in range(arguments.workers):
        seed = arguments.seed * 1000 + number
        worker = context.Process(target=generate, args=(seed, path, chunks), daemon=True)
        worker.start()
        workers.append(worker)

    import torch
    from model import Llama, Shape, export

    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inner = 704 if arguments.hidden == 256 else arguments.hidden * 11 // 4
    shape = Shape(hidden=arguments.hidden, heads=arguments.hidden // 64, layers=arguments.layers, inner=inner)
    model = Llama(shape).to(device)
    matrices = [weight for name, weight in model.named_parameters() if "layers" in name and weight.ndim == 2]
    known = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(rest, lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.0)
    if device == "cuda":
        for block in model.layers:
            block.compile(dynamic=True)

    ready: queue.Queue = queue.Queue(maxsize=16)
    threading.Thread(
        target=batches, args=(chunks, arguments.batch_chunks, ready, device), daemon=True
    ).start()
    weight_of = torch.tensor(WEIGHTS, device=device)
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = (arguments.output / "log.jsonl").open("w")
    start = last = exported = time.monotonic()
    step = tokens = seen = 0
    waited = 0.0
    losses: list[torch.Tensor] = []
    while (elapsed := time.monotonic() - start) < arguments.seconds:
        before = time.monotonic()
        batch = ready.get(timeout=120)
        waited += time.monotonic() - before
        ids, codes = batch[0], batch[1]
        progress = elapsed / arguments.seconds
        rate = arguments.rate * min(1.0, (step + 1) / 100) * (1 - progress)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            hidden = model(ids[:, :-1])
            targets, weights = ids[:, 1:].flatten(), weight_of[codes[:, 1:]].flatten()
            where = weights.nonzero().squeeze(1)
            logits = hidden.flatten(0, 1)[where] @ model.embed_tokens.weight.T
        weights = weights[where]
        loss = weighted_loss(logits, targets[where].long(), weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step(rate)
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
        adam.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        step += 1
        tokens += ids.numel()
        seen += len(ids)
        if step in (1, 5, 20) or step % 100 == 0:
            now = time.monotonic()
            line = {
                "step": step,
                "seconds": round(now - start, 1),
                "loss": round(torch.stack(losses[-100:]).mean().item(), 4),
                "tokens": tokens,
                "documents": seen,
                "waited": round(waited, 1),
                "rate": round(rate, 6),
            }
            losses = losses[-100:]
            log.write(json.dumps(line) + "\n")
            log.flush()
            if step % 500 == 0 or now - last > 5:
                print(line, flush=True)
                last = now
            if now - exported > 60:
                export(model, arguments.output, END, PAD)
                exported = now
    export(model, arguments.output, END, PAD)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (arguments.output / name).write_text((arguments.tokenizer / name).read_text())
    print(
        {"step": step, "tokens": tokens, "documents": seen, "loss": torch.stack(losses).mean().item()},
        flush=True,
    )
    log.close()
    for worker in workers:
        worker.kill()
    os._exit(0)  # the loader thread still waits for its queue


def weighted_loss(logits, targets, weights):
    """The weighted mean of the cross entropies."""
    import torch.nn.functional as F

    return (F.cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / weights.sum()


if __name__ == "__main__":
    main()
