"""The settings of a training with `--use_rl`: defaults, meanings and bounds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from llmsr.config import check_names, listed, option
from llmsr.declarations import Declarations
from llmsr.errors import UserError
from llmsr.reward import TERMS, reward_terms
from llmsr.settings import DASHBOARDS, FITTERS, UNITS, PromptSettings

DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
ADVANTAGES = ("grpo", "drgrpo", "entropic", "best_of_group", "rank", "max_at_k")
LOGGERS = ("console", "file", *DASHBOARDS, "swanlab", "mlflow")  # of a training
MOST_NAMED = 4  # problems in the name of a folder
MEMORIES = ("none", "islands", "puct", "top")


@dataclass(frozen=True)
class GrpoConfig(PromptSettings, Declarations):
    """training with --use_rl"""

    problem_name: str = option(
        "oscillator1",
        "the problem; several with commas, or a pattern such as 'folder/*', are trained on together",
    )
    spec_path: str | None = option(
        None, "spec file of a single problem (default: specs/specification_<problem>_numpy.txt)"
    )
    data_dir: str = option("data", "folder that holds <problem>/{train,test_id,test_ood}.csv")
    model_path: str | None = option(
        None,
        f"model to train, a hub id or a local directory (default: {DEFAULT_MODEL} on a GPU, the embedded "
        "skeleton-lm with the local trainer)",
    )
    trainer: str = option(
        "auto",
        "who trains; auto: local on a CPU and on one GPU that holds all of it, else verl",
        choices=("auto", "verl", "local"),
    )
    epochs: int = option(10, "passes over the prompts", above=0)
    # so that a training can be compared with a search at equal cost
    budget: int | None = option(
        None, "answers to train on in all, rounded up to whole steps; takes the place of --epochs", above=0
    )
    batch_size: int | None = option(None, "prompts per step (default: 20; 8 for the embedded model)", above=0)
    learning_rate: float | None = option(
        None, "of AdamW (default: 2e-6; 3e-5 with --lora_rank; 5e-5 for the embedded model)", above=0
    )
    rollout_n: int | None = option(
        None, "answers per prompt, the group (default: 8; 12 for the embedded model)", least=2
    )
    prompts: int | None = option(
        None, "training prompts, whole batches (default: 4 batches; 3 for the embedded model)", above=0
    )
    validation_prompts: int = option(16, "prompts that are only validated on", above=0)
    max_prompt_length: int | None = option(
        None,
        "tokens of a prompt at most, the answer's begun part included (default: 768; 1536 for the embedded "
        "model)",
        above=0,
    )
    max_response_length: int | None = option(
        None,
        "tokens of an answer at most (default: 128; 256 with --begin_answer header, 512 with none; with "
        "--thinking on --thinking_tokens more)",
        above=0,
    )
    temperature: float = option(1.0, "sampling temperature of the answers", above=0)
    reward: str = option(
        "neg_log_nmse",
        "what a valid equation is worth: "
        + ", ".join(TERMS)
        + ", a function of your own as module:function, "
        'or a sum such as "neg_log_nmse + 0.05*parsimony"; see docs/rewards.md',
    )
    advantage: str = option(
        "grpo",
        "how an answer is judged within its group; grpo: distance from the mean over the standard deviation; "
        "drgrpo: the distance; rank: by ranks; best_of_group: only the best counts; entropic: exponentially; "
        "max_at_k: by what it adds to the best of k",
        choices=ADVANTAGES,
    )
    k: int | None = option(
        None, "max_at_k: answers of which the best counts (default: half the group)", least=2
    )
    novelty: bool | None = option(
        None,
        "an equation that the run has seen before earns no more than a copy (default: true; false for the "
        "embedded model)",
    )
    kl_coef: float = option(
        0.0, "weight of the divergence from the starting model, held as a reference in bfloat16", least=0
    )
    memory: str | None = option(
        None,
        "where the earlier equations of a prompt come from; none: fixed prompts; islands, puct, top: the "
        "run's own archive, chosen anew at each step as the search of that name does (default: islands; "
        "none for the embedded model)",
        choices=MEMORIES,
    )
    exploration: float = option(1.0, "puct: weight of what was seldom built upon; 0 is greedy", least=0)
    warm_start: str | None = option(None, "directory of a run whose best equations the memory begins with")
    refine: str = option(
        "off",
        "refine new records without a model, by fits that the budget does not count",
        choices=("off", "run"),
    )
    refine_fits: int = option(48, "equations fitted to refine one record, at most", above=0)
    lora_rank: int = option(0, "rank of LoRA adapters (VERL); 0 trains all weights", least=0)
    gpus: int = option(1, "GPUs per node", above=0)
    nnodes: int = option(1, "nodes of the Ray cluster", above=0)
    tensor_parallel: int = option(1, "GPUs that share one vLLM engine", above=0)
    gpu_memory: float | None = option(None, "GiB of each GPU that the run may take (default: all)", above=0)
    offload: bool | None = option(
        None, "weights and optimiser stay and step in host memory (default: where they do not fit the GPU)"
    )
    attention: str = option(
        "auto",
        "attention of the training passes; packed: a prompt is read once for all its answers; auto: packed "
        "where the model's attention allows it, else sdpa",
        choices=("auto", "packed", "sdpa", "flash_attention_2", "eager"),
    )
    chat_template: str = option(
        "auto",
        "how a prompt is put to the model: model (its own chat template), plain (the bare text), auto "
        "(model where it has one)",
        choices=("auto", "model", "plain"),
    )
    fitter: str = option("best", "how constants are fitted", choices=FITTERS)
    units: str = option(
        "words",
        "what becomes of equations whose units do not agree; words: nothing; penalty: they are worth less; "
        "strict: they are refused",
        choices=UNITS,
    )
    # shorter than a search's: the whole step waits for its slowest answer
    fit_timeout: float = option(5.0, "seconds that one fit may take", above=0)
    workers: int = option(
        0, "processes that fit, per node; 0: one per core, with VERL all but two of them", least=0
    )
    output_dir: str | None = option(
        None, "the run's directory (default: a new one, llmsr_grpo_outputs/<problem>/runs/<number>)"
    )
    save_freq: int | None = option(
        None, "steps between checkpoints (default: ten minutes, and an epoch for the embedded model)", above=0
    )
    # a checkpoint is several times the model, and the best one is kept apart
    keep_checkpoints: int = option(2, "checkpoints to keep; 0: all", least=0)
    test_freq: int | None = option(None, "steps between validations; 0: never (default: one epoch)", least=0)
    stop_when_stuck: int = option(
        0, "end after so many steps in a row that teach nothing or have lost validity; 0: never", least=0
    )
    logger: str = option("console,file", f"comma-separated: {', '.join(LOGGERS)}")
    resume: bool = option(
        False,
        "go on from the last checkpoint of output_dir (default: the problem's newest unfinished run)",
    )
    seed: int = option(0, "seed of prompts, sampling and training order")
    device: str = option("auto", "where the local trainer computes", choices=("auto", "cpu", "cuda", "mps"))
    trust_remote_code: bool = option(False, "run Python code that comes with a model that you trust")
    dry_run: bool = option(False, "write all files, print configuration, command and arithmetic, and stop")
    json: bool = option(False, "print the result as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.problems:
            raise UserError("--problem_name is empty; name a problem, or several with commas")
        if len(set(self.problems)) != len(self.problems):
            raise UserError(f"--problem_name names a problem twice: {self.problem_name}")
        if self.spec_path and len(self.problems) > 1:
            raise UserError(
                "--spec_path belongs to a single problem; leave it out when --problem_name names several"
            )
        reward_terms(self.reward)
        # ranks need the group, which a reward does not see
        if self.reward == "rank" and self.advantage not in ("grpo", "rank"):
            raise UserError(f"--reward rank is --advantage rank; leave out --advantage {self.advantage}")
        if self.warm_start and self.memory == "none":
            raise UserError("--warm_start fills the memory; choose one with --memory islands, puct or top")
        check_names("logger", self.loggers, LOGGERS)

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems' names in the order given."""
        return listed(self.problem_name)

    @property
    def label(self) -> str:
        """The problems' names as one word that a path can hold; of many the first one and how many."""
        names = self.problems
        if len(names) > MOST_NAMED:
            names = (names[0], f"{len(names) - 1}_others")
        return re.sub(r"[^\w.-]+", "_", "_".join(names))

    @property
    def loggers(self) -> tuple[str, ...]:
        return listed(self.logger)


@dataclass(frozen=True)
class Settled(GrpoConfig):
    """Settings of which none is open, and the arithmetic of their batches."""

    batch_size: int = 1
    learning_rate: float = 1e-6
    rollout_n: int = 2
    prompts: int = 1
    max_prompt_length: int = 1
    max_response_length: int = 1
    memory: str = "none"
    novelty: bool = False
    test_freq: int = 0
    k: int = 2

    @property
    def n_gpus(self) -> int:
        return self.gpus * self.nnodes

    @property
    def longest(self) -> int:
        """Tokens of a prompt and its answer at most."""
        return self.max_prompt_length + self.max_response_length

    @property
    def answers_per_step(self) -> int:
        return self.batch_size * self.rollout_n

    @property
    def steps_per_epoch(self) -> int:
        return self.prompts // self.batch_size

    @property
    def steps(self) -> int:
        """All steps of the training."""
        steps = self.epochs * self.steps_per_epoch
        return steps if self.budget is None else min(steps, math.ceil(self.budget / self.answers_per_step))
