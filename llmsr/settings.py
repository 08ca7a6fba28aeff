"""Every setting that a search, a training or a prompt has: its default, its meaning and its bounds.

Flags, YAML files and the tables of docs/flags.md follow from these fields (`llmsr.config`). What the choices
of a setting do stands where it is done: a prompt's contexts in `context`, rewards in `reward`, advantages in
`grpo.advantage`. What belongs to a single verb stands with that verb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmsr.config import Checked, check_names, listed, names_or_none, option, parse_workers
from llmsr.errors import UserError

DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
PROPOSERS = ("auto", "skeleton-lm", "grammar", "openai", "transformers", "vllm", "local-engine", "replay")
CONTEXTS = ("scores", "constants", "residuals", "columns", "rows", "refusals")  # as prompts order them
FITTERS = ("best", "bfgs", "reference")
MEMORIES = ("none", "islands", "puct", "top")
REWARDS = ("neg_log_nmse", "neg_mse", "r2", "rank")
ADVANTAGES = ("grpo", "drgrpo", "entropic", "best_of_group", "rank", "max_at_k")
DASHBOARDS = ("tensorboard", "wandb")
LOGGERS = ("console", "file", *DASHBOARDS, "swanlab", "mlflow")  # of a training

# how far an answer is begun: (what the model writes behind the header, the texts that end it)
BEGINNINGS = {
    "return": ("    return", ("\n",)),
    "header": ("", ("\n```", "\ndef ", "\n\n")),
}
ANSWER_TOKENS = {"return": 128, "header": 256, "none": 512}
FREE_STOPS = ("\n```\n",)  # behind a code block, never at the fence that opens one


@dataclass(frozen=True)
class PromptSettings(Checked):
    """what a model is asked, in search and training alike"""

    context: str = option(
        "none",
        "what prompts tell beside the columns' meanings and earlier equations with their errors: none, or a "
        "comma list of " + ", ".join(CONTEXTS),
    )
    begin_answer: str = option(
        "return",
        "how far a chat model's answer is begun for it; return: one line behind `return`; header: a body of "
        "several lines, for larger models; none: not at all",
        choices=(*BEGINNINGS, "none"),
    )
    thinking: str = option(
        "off",
        "on: a reasoning model thinks before it answers, and what stands behind its thoughts counts",
        choices=("off", "on"),
    )
    thinking_tokens: int = option(
        4096, "tokens that thinking may take on top of an answer's, with --thinking on", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names_or_none("context", self.context, CONTEXTS)

    @property
    def answer_tokens(self) -> int:
        """Tokens that hardly any answer of this form exceeds, thoughts included."""
        return ANSWER_TOKENS[self.begin_answer] + (self.thinking_tokens if self.thinks else 0)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer of a chat model."""
        if self.thinks:
            return ()  # a stop would cut thoughts that hold code
        return BEGINNINGS[self.begin_answer][1] if self.begin_answer in BEGINNINGS else FREE_STOPS

    @property
    def thinks(self) -> bool:
        return self.thinking == "on"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of context that prompts tell, in the order in which they show them."""
        wanted = names_or_none("context", self.context, CONTEXTS)
        return tuple(kind for kind in CONTEXTS if kind in wanted)


@dataclass(frozen=True)
class ProblemSettings(Checked):
    """problem"""

    problem_name: str = option("oscillator1", "the problem's name: its folder below data_dir")
    spec_path: str | None = option(None, "spec file (default: specs/specification_<problem>_numpy.txt)")
    data_dir: str = option("data", "folder that holds <problem>/{train,test_id,test_ood}.csv")


@dataclass(frozen=True)
class FitSettings(ProblemSettings):
    """problem and fits"""

    fitter: str = option("best", "how constants are fitted", choices=FITTERS)
    fit_timeout: float = option(10.0, "seconds that one fit may take", above=0)
    workers: str = option("0", "processes that fit; 0: one per core; ray: on the cluster at RAY_ADDRESS")

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_workers(self.workers)


@dataclass(frozen=True)
class RunSettings(FitSettings):
    """problem and run"""

    log_path: str | None = option(None, "the run's directory (default: logs/<problem>/<run_id>)")
    run_id: str | None = option(None, "name of the run (default: <search>-seed<seed>)")
    resume: bool = option(False, "resume the run in log_path")
    sample_files: bool = option(True, "also write samples/samples_<n>.json, one per sample")
    logger: str = option("none", f"comma-separated: {', '.join(DASHBOARDS)}; or none")
    json: bool = option(False, "print the result as JSON")

    @property
    def dashboards(self) -> tuple[str, ...]:
        """The dashboards that are told of the run."""
        return names_or_none("logger", self.logger, DASHBOARDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        names_or_none("logger", self.logger, DASHBOARDS)


@dataclass(frozen=True)
class SearchSettings(PromptSettings):
    """evolutionary search"""

    budget: int = option(1000, "completions to ask the model for, in all", least=1)
    # decides every draw: equal seeds give equal archives on any number of workers
    seed: int = option(0, "seed of every random draw of the run", least=0)
    search: str = option(
        "islands",
        "islands: evolve populations apart; best_of_n: independent samples of one prompt; "
        "sequential_best_of_n: always improve on the best; puct: build on what led to the best and on what "
        "was seldom built upon; top: the best of different structure",
        choices=("islands", "best_of_n", "sequential_best_of_n", "puct", "top"),
    )
    samples_per_prompt: int = option(4, "completions per prompt", least=1)
    islands: int = option(10, "number of islands", least=1)
    functions_per_prompt: int = option(2, "earlier equations that a prompt shows", least=1)
    # LLM-SR's raw scores hardly tell a perfect equation from a constant; ranks do
    selection: str = option(
        "rank",
        "what an island prefers its members by: rank, quality (-log10 NMSE) or score (LLM-SR's raw -MSE)",
        choices=("rank", "quality", "score"),
    )
    selection_temperature: float = option(
        3.0, "ranks, or decades of NMSE, over which preference falls by e; score has its own", above=0
    )
    exploration: float = option(1.0, "puct: weight of what was seldom built upon; 0 is greedy", least=0)
    reset_every: int = option(
        1000, "samples after which the weaker half of the islands is refilled; 0: never", least=0
    )
    # a number of its own makes the archive independent of how many prompts a service takes
    lookahead: int = option(
        0,
        "prompts in flight, each drawn without the others' samples; 0: what the proposer serves, plus one",
        least=0,
    )
    refine: str = option(
        "run",
        "work without a model, by fits that the budget does not count: structure search before the first "
        "prompt, then refinement of new records of the run, or of each island; structure: that search alone",
        choices=("off", "structure", "run", "island"),
    )
    structure_seconds: float = option(
        30.0,
        "CPU seconds of structure search, at most; 0: none. With --refine off there is none either",
        least=0,
    )
    stop_at_floor: bool = option(
        True, "end the search once an equation's training error is what the format of the data allows"
    )
    refine_patience: int = option(
        50,
        "with --refine run: samples without a refinement after which an island's next record is refined too; "
        "0: never",
        least=0,
    )
    refine_fits: int = option(48, "equations fitted to refine one record, at most", least=1)
    refine_shown: bool = option(True, "let prompts show the best refinement of a record")

    @property
    def patience(self) -> int | None:
        """Samples without a refinement after which an island's record is refined; None: no number of them."""
        return 0 if self.refine == "island" else self.refine_patience or None


@dataclass(frozen=True)
class ProposerConfig(Checked):
    """Where completions come from."""

    proposer: str = option(
        "auto",
        "source of completions; auto: replay with --replay_path, openai with --use_api or --api_base, "
        "local-engine with --port, transformers with --model_path, otherwise the embedded skeleton-lm",
        choices=PROPOSERS,
    )
    use_api: bool = option(False, "ask a hosted model (proposer openai)")
    model_path: str | None = option(None, "model as a hub id or a local directory (transformers, vllm)")
    api_base: str | None = option(
        None, "URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    )
    api_model: str | None = option(None, "model name to ask the server for; not needed if it serves just one")
    api_mode: str = option(
        "auto",
        "how to ask: chat, completion (the bare prompt), or auto: chat where the model has a template",
        choices=("auto", "chat", "completion"),
    )
    port: int | None = option(None, "port of LLM-SR's local engine at 127.0.0.1")
    replay_path: str | None = option(None, 'JSONL file of completions to replay, lines {"completion": ...}')
    temperature: float = option(1.0, "sampling temperature; 0 is greedy", least=0)
    top_p: float = option(0.98, "share of probability that is sampled from, 0 to 1", above=0, most=1)
    max_tokens: int = option(512, "tokens per completion at most", above=0)
    timeout: float = option(120.0, "seconds to wait for an answer of a server", above=0)
    retries: int = option(5, "times that a failed request is sent again before its prompt fails", least=0)
    parallel_prompts: int | None = option(
        None, "prompts in flight at once (default: 8 for servers, 1 here)", least=1
    )
    device: str = option("auto", "where a local model runs: auto, cpu, cuda, cuda:1, mps")
    dtype: str = option("auto", "numbers of a local model: auto, float32, bfloat16, float16")
    gpu_memory_utilization: float = option(0.9, "share of a GPU's memory for a started vllm", above=0, most=1)
    vllm_args: str = option("", 'more arguments for `vllm serve`, for example "--max-model-len 4096"')
    # off, since a model's repository may hold any program
    trust_remote_code: bool = option(False, "run Python code that comes with a model that you trust")


@dataclass(frozen=True)
class GrpoConfig(PromptSettings):
    """training with --use_rl"""

    problem_name: str = option("oscillator1", "the problem, or several with commas, trained on together")
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
    batch_size: int | None = option(None, "prompts per step (default: 64; 8 for the embedded model)", above=0)
    learning_rate: float | None = option(
        None, "of AdamW (default: 1e-6; 3e-5 with --lora_rank; 5e-5 for the embedded model)", above=0
    )
    rollout_n: int | None = option(
        None, "answers per prompt, the group (default: 5; 12 for the embedded model)", least=2
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
    reward: str = option("neg_log_nmse", "shape of the reward, see docs/rewards.md", choices=REWARDS)
    complexity_weight: float = option(0.0, "reward that an equation of 100 operations loses", least=0, most=1)
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
    novelty: bool = option(False, "an equation that the run has seen before earns no more than a copy")
    kl_coef: float = option(
        0.0, "weight of the divergence from the starting model, held as a reference in bfloat16", least=0
    )
    memory: str = option(
        "none",
        "where the earlier equations of a prompt come from; none: fixed prompts; islands, puct, top: the "
        "run's own archive, chosen anew at each step as the search of that name does",
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
    gpu_memory_utilization: float | None = option(
        None, "share of a GPU's memory for vLLM (default: what its weights and a step's answers need)"
    )
    offload: bool | None = option(
        None, "weights and optimiser stay and step in host memory (default: where they do not fit the GPU)"
    )
    gradient_checkpointing: bool | None = option(
        None, "recompute activations (default: above 0.05e9 parameters)"
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
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization < 1:
            raise UserError(
                f"--gpu_memory_utilization must lie between 0 and 1, it is {self.gpu_memory_utilization}"
            )
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
        """The problems' names as one word that a path can hold."""
        return re.sub(r"[^\w.-]+", "_", "+".join(self.problems).replace("+", "_"))

    @property
    def loggers(self) -> tuple[str, ...]:
        return listed(self.logger)
