"""A benchmark as its YAML file describes it: arms, problems, seeds, and what all of them share.

docs/benchmark.md has an example. An arm's keys are flags of the public command line beside `title`, `budget`,
`timeout` and `against`, the arm that it is tested against instead of the baseline; they are checked here,
before anything runs. An arm with `use_rl` trains, one with `peer` is another program, others search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from llmsr.config import Checked, listed, option, read_yaml, resolve
from llmsr.errors import UserError
from llmsr.problem.loading import matching_names
from llmsr.settings import ProblemSettings

SEARCH, GRPO, PEER = "search", "grpo", "peer"
OWN_KEYS = ("title", "budget", "timeout", "against")
RESERVED = frozenset(
    {"problem_name", "spec_path", "data_dir", "log_path", "output_dir", "run_id", "seed", "resume", "json",
     "dry_run"}
)  # fmt: skip
KEPT = ("all", "archive", "measures")
PEERS = ("gplearn", "pyoperon", "pysr")  # run by benchmarks/peers.py


@dataclass(frozen=True)
class BenchmarkSettings(Checked):
    """benchmark"""

    flag = ""  # they stand in a file

    problems: str = option(
        "oscillator1", "names with commas; bench/NAME is one of specs/bench, FOLDER/* all of specs/FOLDER"
    )
    seeds: str = option("5", "how many seeds, counted from 0, or a list with commas")
    budget: int = option(1000, "LLM samples of every run, unless its arm says otherwise", least=1)
    baseline: str = option("islands", "the arm that the others are tested against, unless they name one")
    timeout: float = option(0.0, "seconds after which a run is ended and counts as failed; 0: never", least=0)
    keep: str = option(
        "archive",
        "what stays of a finished run beside its measures; archive: all but checkpoints",
        choices=KEPT,
    )
    title: str = option("Benchmark", "heading of the page")


@dataclass(frozen=True)
class PeerSettings(ProblemSettings):
    """another program"""

    log_path: str = option("logs/peer", "the run's directory")
    seed: int = option(0, "seed of the program's own random draws")
    peer: str = option("gplearn", "which program", choices=PEERS)
    cpu_seconds: float = option(300.0, "CPU seconds that it may take", above=0)
    population_size: int = option(1000, "individuals of a generation", least=10)


@dataclass(frozen=True)
class Arm:
    """One way to find equations. `flags` are those of its command line; `budget` is in LLM samples.

    `against` names the arm that it is tested against.
    """

    name: str
    kind: str
    title: str
    budget: int
    timeout: float
    against: str
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run: an arm on a problem with a seed."""

    problem: str
    arm: Arm
    seed: int

    @property
    def place(self) -> Path:
        """Its directory below the benchmark's."""
        return Path("cells") / self.name

    @property
    def name(self) -> str:
        """Such as oscillator1/islands/seed0."""
        return f"{self.problem.replace('/', '-')}/{self.arm.name}/seed{self.seed}"

    @property
    def asked(self) -> dict[str, Any]:
        """What tells this run from another, as plain data."""
        arm = self.arm
        return {"problem": self.problem, "arm": arm.name, "kind": arm.kind, "seed": self.seed,
                "budget": arm.budget, "flags": dict(arm.flags)}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All of a benchmark."""

    title: str
    problems: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    baseline: str
    keep: str

    @property
    def cells(self) -> list[Cell]:
        """The runs in their order, seed by seed over all arms."""
        # a benchmark that is stopped early has whole seeds rather than whole arms
        return [Cell(p, arm, seed) for seed in self.seeds for p in self.problems for arm in self.arms]

    def named(self, patterns: Sequence[str]) -> list[Cell]:
        """The cells that match patterns of names such as */islands/*; `UserError` for one without a cell."""
        cells = self.cells
        for pattern in patterns:
            if not any(fnmatchcase(cell.name, pattern) for cell in cells):
                raise UserError(f"no run matches {pattern!r}; they are named like {cells[0].name}")
        return [cell for cell in cells if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]


def read_plan(path: str | Path, settings_of: Mapping[str, tuple[type, ...]]) -> Plan:
    """The benchmark that a YAML file describes; `UserError` for whatever in it cannot be run.

    `settings_of` names the classes that know the flags of a search and of a training.
    """
    content = read_yaml(path)
    arms, shared = content.pop("arms", None), content.pop("shared", None) or {}
    # YAML lists and comma lists mean the same
    given = {k: "".join(f"{word}," for word in v) if isinstance(v, list) else v for k, v in content.items()}
    try:
        (settings,) = resolve(BenchmarkSettings, given=given)
        if not isinstance(arms, dict) or not arms:
            raise UserError("no arms; name at least one below `arms:`")
        if not isinstance(shared, dict) or not all(isinstance(v, dict) for v in shared.values()):
            raise UserError("`shared` must hold `search:` and `grpo:` with flags below them")
        if unknown := sorted(map(str, set(shared) - {SEARCH, GRPO})):
            raise UserError(f"`shared` knows search and grpo; not {unknown[0]!r}")
        made = tuple(
            _arm(str(name), flags or {}, shared, settings, settings_of) for name, flags in arms.items()
        )
        problems = tuple(p for word in _words(settings.problems, "problems") for p in matching_names([word]))
        seeds = _seeds(settings.seeds)
        # told here, since a run of hours would end in a table without its baseline
        asked = [("baseline", settings.baseline), *((f"arm {a.name}: against", a.against) for a in made)]
        names = [arm.name for arm in made]
        for what, named in asked:
            if named not in names:
                raise UserError(f"{what} {named!r} is no arm; there are: {', '.join(names)}")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Plan(settings.title, problems, made, seeds, settings.baseline, settings.keep)


def _arm(
    name: str,
    given: Any,
    shared: Mapping[str, Mapping[str, Any]],
    settings: BenchmarkSettings,
    settings_of: Mapping[str, tuple[type, ...]],
) -> Arm:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{name!r} cannot name an arm; use letters, digits, _ and -")
    if not isinstance(given, dict):
        raise UserError(f"arm {name} must hold flags such as `search: islands`, found {given!r}")
    flags = dict(given)
    own = {key: flags.pop(key) for key in OWN_KEYS if key in flags}
    training = flags.pop("use_rl", False)
    kind = PEER if "peer" in flags else GRPO if training else SEARCH
    flags = {**shared.get(kind, {}), **flags}
    # these differ from cell to cell, so an arm cannot have one value
    if reserved := RESERVED & flags.keys():
        raise UserError(f"arm {name}: {min(reserved)} is set by the benchmark")
    # the same classes that the command line reads: a flag that is unknown there is unknown here
    classes = (PeerSettings,) if kind == PEER else settings_of[kind]
    limits = {key: own.get(key, getattr(settings, key)) for key in ("budget", "timeout")}
    try:
        (limited,) = resolve(BenchmarkSettings, given=limits)
        resolve(*classes, given=flags if kind == PEER else {**flags, "budget": limited.budget})
    except UserError as error:
        raise UserError(f"arm {name}: {error}") from None
    title, against = str(own.get("title", name)), str(own.get("against", settings.baseline))
    return Arm(name, kind, title, limited.budget, limited.timeout, against, flags)


def _words(text: str, what: str) -> tuple[str, ...]:
    words = listed(text)
    if not words or len(set(words)) < len(words):
        raise UserError(f"{what} must name each one once; got {text!r}")
    return words


def _seeds(text: str) -> tuple[int, ...]:
    words = _words(str(text), "seeds")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(f"seeds must be whole numbers from 0; got {text!r}")
    if "," in text:
        return tuple(map(int, words))
    if int(text) < 1:
        raise UserError("seeds must be at least 1; a single seed k is written as a list, [k]")
    return tuple(range(int(text)))
