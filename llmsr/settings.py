"""Every setting that rooms share: its default, its meaning and its bounds.

Flags, YAML files and the tables of docs/flags.md follow from these fields (`llmsr.config`). What the choices
of a setting do stands where it is done, such as a prompt's contexts in `context`. What belongs to training
alone is in `grpo.settings`, what belongs to a single verb stands with that verb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from llmsr.config import Checked, check_names, listed, names_or_none, option, parse_workers
from llmsr.declarations import Declarations
from llmsr.errors import UserError

PROPOSERS = ("auto", "skeleton-lm", "grammar", "openai", "transformers", "vllm", "local-engine", "replay")
CONTEXTS = ("scores", "constants", "residuals", "columns", "rows", "refusals")  # as prompts order them
UNITS = ("words", "penalty", "strict")
FITTERS = ("best", "bfgs", "reference")
DASHBOARDS = ("tensorboard", "wandb")

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
    guess: str = option(
        "",
        'equations to begin from, such as "a*exp(-b*t); 0.5*x^2", or a file with one a line; unknown names '
        "and decimal numbers are fitted, whole numbers stay",
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
class FitSettings(ProblemSettings, Declarations):
    """problem and fits"""

    fitter: str = option("best", "how constants are fitted", choices=FITTERS)
    fit_timeout: float = option(10.0, "seconds that one fit may take", above=0)
    units: str = option(
        "words",
        "what becomes of equations whose units do not agree; words: prompts tell of units and nothing is "
        "checked; penalty: they count as worse; strict: they are refused",
        choices=UNITS,
    )
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
    max_tokens_total: int = option(
        0,
        "generated tokens after which no further prompt is asked; 0: no limit. Prompts in flight are awaited",
        least=0,
    )
    max_cost: float = option(
        0.0, "money, in the unit of --prices, after which no further prompt is asked; 0: no limit", least=0
    )
    seconds: float = option(
        0.0,
        "seconds after which no further prompt is asked, and that structure search may take; 0: no limit",
        least=0,
    )
    stop_nmse: float = option(0.0, "NMSE on train at which the search ends; 0: none", least=0)
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
    turns: int = option(
        0,
        "replies in which a chat model may call tools before it answers: evaluate, describe, correlate, "
        "residual; what it lets be evaluated is a sample like its answer",
        least=0,
    )
    vision: bool = option(
        False, "show a vision model plots of the data, and of what the best equation of a prompt leaves of it"
    )
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
        f"source of completions: {', '.join(PROPOSERS)}; auto: replay with --replay_path, openai with "
        "--use_api or --api_base, local-engine with --port, transformers with --model_path, otherwise the "
        "embedded skeleton-lm. Behind a colon its model, of openai MODEL@URL. Of several, separated by "
        "commas, the one that finds improvements for less is asked more often",
    )
    prices: str = option(
        "", "what models cost, per million tokens of prompt and answer: MODEL=IN/OUT, separated by commas"
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("proposer", [one.partition(":")[0] for one in listed(self.proposer) or ("",)], PROPOSERS)

    @property
    def members(self) -> tuple[ProposerConfig, ...]:
        """A configuration for each proposer of the list, with what stands behind its colon in its place."""
        return tuple(map(self._member, listed(self.proposer)))

    def _member(self, entry: str) -> ProposerConfig:
        name, _, what = entry.partition(":")
        if not what:
            return replace(self, proposer=name)
        if name == "openai":
            asked = re.fullmatch(r"(?:(.+)@)?(https?://.+)|(.+)", what)
            assert asked is not None, "the last way takes anything"
            model, base = asked[1] or asked[3], asked[2] or self.api_base
            return replace(self, proposer=name, api_base=base, api_model=model)
        place = {"transformers": "model_path", "vllm": "model_path", "replay": "replay_path"}.get(name)
        if place is None:
            raise UserError(f"--proposer {name} takes no model behind its colon, got {entry!r}")
        given: dict[str, Any] = {"proposer": name, place: what}
        return replace(self, **given)
