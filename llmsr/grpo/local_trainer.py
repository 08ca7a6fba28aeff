"""GRPO in one process, on a CPU or one GPU: the loop that VERL runs on clusters, on a page.

A step: prompts in their seeded order, a group of answers to each, rewards, advantages within the group,
and one AdamW update of the clipped-free policy gradient (each answer is used once, by the policy that
wrote it, so the ratio of GRPO's objective is one) with the k3 estimate of the divergence from the starting
model. Tokens weigh alike, or by a constant (`llmsr.grpo.advantage.SUMMED`).
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import torch

from llmsr.errors import UserError
from llmsr.files import write_file
from llmsr.grpo.advantage import SUMMED, batch_advantages
from llmsr.grpo.dataset import Row, prompt_form, row_chat
from llmsr.grpo.export import BEST, last_step, saved_steps, set_aside
from llmsr.grpo.gpu_memory import CONTEXT, GIB
from llmsr.grpo.memory import LiveMemory
from llmsr.grpo.plan import SAVE_SECONDS, Plan
from llmsr.grpo.progress import StepMetrics
from llmsr.grpo.reward_function import RewardFunction, Score
from llmsr.grpo.settings import Settled
from llmsr.models.chat_template import ChatTemplate, end_tokens, stop_test
from llmsr.models.loading import load_model
from llmsr.models.log_probs import log_probabilities
from llmsr.models.packing import packed_tokens, split_passes
from llmsr.models.sampler import Drawing, Prompt, Sampler
from llmsr.settings import ProposerConfig

ANSWERS_TOGETHER = 256  # answers that are drawn at once
GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class Answer:
    """The tokens of one answer to the prompt of that index, its end token included where it has one."""

    tokens: list[int]
    prompt: int
    finished: bool


class LocalTrainer:
    """Trains `plan.model_path` on the rows of a parquet file, from the last checkpoint to the end."""

    def __init__(
        self,
        plan: Plan,
        rows: Sequence[Row],
        validation: Sequence[Row],
        reward_function: RewardFunction,
        on_step: Callable[[StepMetrics], None] = lambda metrics: None,
    ) -> None:
        self.plan = plan
        self.rows, self.validation = list(rows), list(validation)
        self.reward_function = reward_function
        self.on_step = on_step
        config = plan.config
        self.tokenizer, self.model = _base(config, plan.model_path)
        self.reference = None
        if config.kl_coef:
            self.reference = copy.deepcopy(self.model).to(torch.bfloat16).requires_grad_(False)
        self.template = ChatTemplate(self.tokenizer, config.chat_template)
        self.end_tokens = end_tokens(self.model, self.tokenizer)
        drawing = Drawing(config.temperature, config.max_response_length, self.end_tokens)
        stops = row_chat(self.rows[0]).stops if self.rows else ()
        if stops and not plan.tiny:
            drawing = replace(drawing, is_over=stop_test(self.tokenizer, stops))
        self.sampler = Sampler(self.model, drawing)
        self.weights = TrainedWeights(
            self.model, config.learning_rate, plan.memory is not None and plan.memory.offload
        )
        if not plan.tiny:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.memory = None
        if config.memory != "none":
            self.memory = LiveMemory(
                plan.run_dir, prompt_form(config, self.template, config.max_prompt_length)
            )
        self.step = self._resume() if config.resume else 0

    def train(self) -> None:
        """Every step that is left, with checkpoints and validations as planned."""
        config = self.plan.config
        metrics_path = self.plan.run_dir / "metrics" / "local.jsonl"
        metrics_path.parent.mkdir(parents=True, exist_ok=True)
        saved = time.monotonic()
        while self.step < self.plan.config.steps:
            self.step += 1
            metrics = self.one_step()
            last = self.step == self.plan.config.steps
            if config.test_freq and (last or self.step % config.test_freq == 0):
                reward = self.validate()
                with _written(self.plan.checkpoints / BEST):
                    set_aside(self.plan.checkpoints, self.step, reward, self._write_model)
                metrics = replace(metrics, extra={**metrics.extra, "validation": reward})
            with open(metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(metrics.__dict__) + "\n")
            every = config.save_freq or (self.plan.config.steps_per_epoch if self.plan.tiny else None)
            due = self.step % every == 0 if every else time.monotonic() - saved > SAVE_SECONDS
            if last or due:
                self.save()
                saved = time.monotonic()
            self.on_step(metrics)

    def one_step(self) -> StepMetrics:
        """Answers, rewards, one update."""
        config, started = self.plan.config, time.monotonic()
        rows = self.batch(self.step)
        prompts, answers = self.answers(rows, config.rollout_n, f"step {self.step}")
        drawn = time.monotonic()
        scores = self.scores(rows, answers)
        scored = time.monotonic()
        rewards = [float(score["score"]) for score in scores]
        # prompts that read the same are one group, however often the memory drew them
        groups = [tuple(prompts[answer.prompt].tokens) for answer in answers]
        advantages = batch_advantages(rewards, groups, config.advantage, config.k)
        extra = self.update(prompts, answers, torch.as_tensor(advantages, dtype=torch.float32))
        extra["cut"] = sum(not answer.finished for answer in answers) / len(answers)
        ended = time.monotonic()
        return StepMetrics(
            step=self.step,
            reward=sum(rewards) / len(rewards),
            seconds=ended - started,
            phases={"answers": drawn - started, "reward": scored - drawn, "update": ended - scored},
            extra=extra,
        )

    def batch(self, step: int) -> list[Row]:
        """The prompts of a step: every epoch has its own seeded order and uses no row twice.

        With a memory the rows say no more than which problem it is.
        """
        epoch, place = divmod(step - 1, self.plan.config.steps_per_epoch)
        order = list(range(len(self.rows)))
        Random(f"epoch {epoch} {self.plan.config.seed}").shuffle(order)
        size = self.plan.config.batch_size
        rows = [self.rows[i] for i in order[place * size : (place + 1) * size]]
        if self.memory is None:
            return rows
        first = (step - 1) * size
        self.memory.release(self.reward_function.again())
        return [self.memory.row(row, first + i) for i, row in enumerate(rows)]

    def answers(self, rows: Sequence[Row], n: int, occasion: str) -> tuple[list[Prompt], list[Answer]]:
        """The prompts' tokens and n answers to each; they depend on the seed, the occasion and the
        weights."""
        config = self.plan.config
        seeds = Random(f"{occasion} {config.seed}")
        encoded = [self.template.encode(row_chat(row, config.thinks)) for row in rows]
        prompts = [Prompt(tokens, n, seeds.getrandbits(62), preface) for tokens, preface in encoded]
        self.model.eval()
        self.sampler.forget()  # it read with the weights of the step before
        together = max(1, ANSWERS_TOGETHER // n)
        parts = (prompts[first : first + together] for first in range(0, len(prompts), together))
        drawn = chain.from_iterable(map(self.sampler.sample, parts))
        answers = [
            Answer(one.tokens if one.end is None else [*one.tokens, one.end], number, one.reason == "stop")
            for number, samples in enumerate(drawn)
            for one in samples
        ]
        return prompts, answers

    def scores(self, rows: Sequence[Row], answers: Sequence[Answer]) -> list[Score]:
        """The reward function's word on every answer."""
        begun = [
            self.reward_function.begin(
                self.tokenizer.decode(
                    answer.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
                ),
                rows[answer.prompt]["reward_model"]["ground_truth"],
                {**rows[answer.prompt]["extra_info"], "step": self.step},
                tokens=sum(token not in self.end_tokens for token in answer.tokens),
            )
            for answer in answers
        ]
        return [self.reward_function.finish(pending) for pending in begun]

    def update(
        self, prompts: Sequence[Prompt], answers: Sequence[Answer], advantages: torch.Tensor
    ) -> dict[str, float]:
        """One AdamW step on all answers; the mean entropy, divergence and gradient norm come back."""
        config = self.plan.config
        total = sum(len(answer.tokens) for answer in answers)
        # tokens weigh alike, or every answer is divided by the longest possible one
        padded = len(answers) * config.max_response_length
        weight = 1 / padded if config.advantage in SUMMED else 1 / max(total, 1)
        advantages = advantages.to(self.model.device)
        sums = torch.zeros(2, device=self.model.device)
        asked, written = [prompts[a.prompt].tokens for a in answers], [a.tokens for a in answers]
        passes = math.ceil(packed_tokens(asked, written) / self.plan.tokens_per_pass)
        self.model.train()
        self.weights.clear()
        for part in split_passes(asked, written, passes):
            sums += self._gradients(
                [asked[i] for i in part], [written[i] for i in part], advantages[part], weight
            )
        norm = self.weights.step()
        entropy, divergence = (sums / max(total, 1)).tolist()
        kl = {"kl": divergence} if self.reference else {}
        return {"entropy": entropy, **kl, "gradient": norm}

    def _gradients(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        advantages: torch.Tensor,
        weight: float,
    ) -> torch.Tensor:
        """Add the gradients of some answers; their (entropy, divergence) summed over tokens."""
        config = self.plan.config
        if not any(answers):
            return torch.zeros(2, device=self.model.device)
        told = log_probabilities(self.model, prompts, answers, config.temperature)
        objective = advantages[told.answers] * torch.exp(told.chosen - told.chosen.detach())
        divergence = torch.zeros_like(told.chosen)
        if self.reference is not None:
            with torch.no_grad():
                base = log_probabilities(self.reference, prompts, answers, config.temperature)
            gap = base.chosen - told.chosen
            divergence = torch.exp(gap) - gap - 1
            objective = objective - config.kl_coef * divergence
        (-objective.sum() * weight).backward()
        return torch.stack([told.entropy.sum(), divergence.detach().sum()])

    def validate(self) -> float:
        """The mean reward of one answer to each validation prompt."""
        _, answers = self.answers(self.validation, 1, f"validation {self.step}")
        scores = self.scores(self.validation, answers)
        return sum(float(score["score"]) for score in scores) / max(1, len(scores))

    def save(self) -> None:
        """A checkpoint as VERL lays it out: global_step_N/actor/huggingface and what resuming needs."""
        folder = self.plan.checkpoints / f"global_step_{self.step}"
        actor = folder / "actor"
        with _written(folder):
            self._write_model(actor)
            torch.save({"step": self.step, **self.weights.state()}, actor / "local_state.pt")
            write_file(self.plan.checkpoints / "latest_checkpointed_iteration.txt", str(self.step))
        keep = self.plan.config.keep_checkpoints
        for step in saved_steps(self.plan.checkpoints)[:-keep] if keep else []:
            shutil.rmtree(self.plan.checkpoints / f"global_step_{step}")

    def _write_model(self, actor: Path) -> None:
        self.model.save_pretrained(actor / "huggingface")
        self.tokenizer.save_pretrained(actor / "huggingface")

    def _resume(self) -> int:
        step = last_step(self.plan.checkpoints)
        if step is None:
            return 0
        actor = self.plan.checkpoints / f"global_step_{step}" / "actor"
        if not (actor / "local_state.pt").is_file():
            raise UserError(
                f"{actor} was not written by the local trainer; resume with the trainer that began the run"
            )
        from transformers import AutoModelForCausalLM

        saved = AutoModelForCausalLM.from_pretrained(
            actor / "huggingface",
            dtype=self.model.dtype,
            trust_remote_code=self.plan.config.trust_remote_code,
        )
        self.model.load_state_dict(saved.state_dict())
        state = torch.load(actor / "local_state.pt", weights_only=True)
        self.weights.load(state)
        return int(state["step"])


class TrainedWeights:
    """AdamW on a model's weights; gradients of several passes are summed in float32.

    bfloat16 has eight bits of precision: a step of 1e-6 added to a weight of 0.02 would be lost. So where the
    model computes in bfloat16 the optimiser has float32 copies of its own, which are rounded into the model
    after each step. In float32 both are the same tensors. The copies and the optimiser's moments, 12 bytes a
    parameter, lie and step in host memory with `offload`, so that a GPU holds the model alone.
    """

    def __init__(self, model: Any, learning_rate: float, offload: bool = False) -> None:
        self._used = [p for p in model.parameters() if p.requires_grad]
        device = torch.device("cpu") if offload else model.device
        same = device == model.device and all(p.dtype == torch.float32 for p in self._used)
        self._masters = self._used
        if not same:
            copies = (p.detach().to(device, torch.float32) for p in self._used)
            self._masters = [copy.requires_grad_() for copy in copies]
            for place, p in enumerate(self._used):
                # during the pass, so that its bfloat16 gradients never lie there together
                p.register_post_accumulate_grad_hook(lambda _, place=place: self._sum_up(place))
        fused = offload or device.type == "cuda"
        self._optimizer = torch.optim.AdamW(self._masters, lr=learning_rate, weight_decay=0.01, fused=fused)

    def clear(self) -> None:
        """Forget the gradients."""
        for weights in (self._masters, self._used):
            for p in weights:
                p.grad = None

    def _sum_up(self, place: int) -> None:
        """Add a weight's gradient of a pass to the others, as soon as it is whole."""
        master, used = self._masters[place], self._used[place]
        gradient = used.grad.to(master.device).float()  # the narrow numbers travel
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        used.grad = None

    def step(self) -> float:
        """One step of AdamW with the gradients collected, clipped; their norm comes back.

        Nothing changes where the norm is not finite.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._masters, GRADIENT_CLIP)
        if torch.isfinite(norm):
            self._optimizer.step()
            self._round()
        return float(norm)

    def state(self) -> dict[str, Any]:
        """What resuming needs beside the model's own files."""
        masters = [] if self._masters is self._used else [p.detach() for p in self._masters]
        return {"optimizer": self._optimizer.state_dict(), "masters": masters}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`; the model itself was loaded already.

        A state of float32 weights has no copies of its own: those of the model are as exact as there are.
        """
        self._optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for master, saved in zip(self._masters, state.get("masters") or self._used, strict=True):
                master.copy_(saved)
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        if self._masters is not self._used:
            for used, master in zip(self._used, self._masters, strict=True):
                used.copy_(master.to(used.dtype))


def _base(config: Settled, model_path: str) -> tuple[Any, Any]:
    """The tokenizer and the model that training begins from."""
    # a GPU computes in bfloat16, see `TrainedWeights`; CPUs are as quick in float32
    dtype = "auto" if torch.cuda.is_available() and config.device != "cpu" else "float32"
    if config.gpu_memory and torch.cuda.is_available():
        # beyond it torch raises, as on a GPU of that size, so that a neighbour keeps its part
        allowed = (config.gpu_memory * GIB - CONTEXT) / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(max(allowed, 0.0), 1.0))
    return load_model(
        ProposerConfig(device=config.device, dtype=dtype, trust_remote_code=config.trust_remote_code),
        model_path,
    )


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turns what keeps a checkpoint from being written into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {folder}: {error.strerror}") from None
