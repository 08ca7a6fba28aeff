"""What a search and its run are asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from llmsr.config import check_not_negative, check_positive, option
from llmsr.errors import UserError
from llmsr.prompt import PromptSettings
from llmsr.workers.pool import parse_workers

DASHBOARDS = ("tensorboard", "wandb")


def read_dashboards(text: str) -> tuple[str, ...]:
    """The names in a comma list, each once; "none" or nothing at all is none of them."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == ("none",):
        return ()
    for name in names:
        if name not in DASHBOARDS:
            raise UserError(f"--logger knows {', '.join(DASHBOARDS)} and none; not {name!r}")
    return names


@dataclass(frozen=True)
class FitSettings:
    """problem and fits"""

    problem_name: str = option("oscillator1", "the problem's name: its folder below data_dir")
    spec_path: str | None = option(None, "spec file (default: specs/specification_<problem>_numpy.txt)")
    data_dir: str = option("data", "folder that holds <problem>/{train,test_id,test_ood}.csv")
    fitter: str = option("best", "how constants are fitted", choices=("best", "bfgs", "reference"))
    fit_timeout: float = option(10.0, "seconds that one fit may take")
    workers: str = option("0", "processes that fit; 0: one per core; ray: on the cluster at RAY_ADDRESS")

    def __post_init__(self) -> None:
        check_positive("--fit_timeout", self.fit_timeout)
        parse_workers(self.workers)


@dataclass(frozen=True)
class RunSettings(FitSettings):
    """problem and run"""

    log_path: str | None = option(None, "the run's directory (default: logs/<problem>/<run_id>)")
    run_id: str | None = option(None, "name of the run (default: <search>-seed<seed>)")
    resume: bool = option(False, "resume the run in log_path")
    sample_files: bool = option(True, "also write samples/samples_<n>.json, one per sample")
    logger: str = option(
        "none", "comma-separated: " + ", ".join(DASHBOARDS) + "; or none (see docs/tutorial.md)"
    )
    json: bool = option(False, "print the result as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        read_dashboards(self.logger)


@dataclass(frozen=True)
class SearchSettings(PromptSettings):
    """evolutionary search"""

    budget: int = option(1000, "completions to ask the model for, in all")
    seed: int = option(0, "seed of every random draw of the run")
    search: str = option(
        "islands",
        "islands: evolve populations apart; best_of_n: independent samples of one prompt; "
        "sequential_best_of_n: always improve on the best; puct: build on what led to the best and on what "
        "was seldom built upon; top: the best of different structure",
        choices=("islands", "best_of_n", "sequential_best_of_n", "puct", "top"),
    )
    samples_per_prompt: int = option(4, "completions per prompt")
    islands: int = option(10, "number of islands")
    functions_per_prompt: int = option(2, "earlier equations that a prompt shows")
    selection: str = option(
        "rank",
        "what an island prefers its members by: rank, quality (-log10 NMSE) or score (LLM-SR's raw -MSE)",
        choices=("rank", "quality", "score"),
    )
    selection_temperature: float = option(
        3.0, "ranks, or decades of NMSE, over which preference falls by e; score has its own"
    )
    exploration: float = option(1.0, "puct: weight of what was seldom built upon; 0 is greedy")
    reset_every: int = option(
        1000, "samples after which the weaker half of the islands is refilled; 0: never"
    )
    lookahead: int = option(
        0,
        "prompts in flight, each drawn without the others' samples; 0: what the proposer serves, plus one",
    )

    refine: str = option(
        "run",
        "refine new records without a model, by fits that the budget does not count: records of the run, of "
        "each island, or off",
        choices=("off", "run", "island"),
    )
    refine_patience: int = option(
        50,
        "with --refine run: samples without a refinement after which an island's next record is refined too; "
        "0: never",
    )
    refine_fits: int = option(48, "equations fitted to refine one record, at most")
    refine_shown: bool = option(True, "let prompts show the best refinement of a record")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("budget", "samples_per_prompt", "islands", "functions_per_prompt", "refine_fits"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("reset_every", "lookahead", "seed", "refine_patience", "exploration"):
            check_not_negative(name, getattr(self, name))
        check_positive("selection_temperature", self.selection_temperature)

    @property
    def patience(self) -> int | None:
        """Samples without a refinement after which an island's record is refined; None: no number of them."""
        return 0 if self.refine == "island" else self.refine_patience or None
