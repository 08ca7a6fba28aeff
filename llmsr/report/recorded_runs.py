"""Runs read back from their directories, and the table over many of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsr.archive import read_archive
from llmsr.config import read_yaml
from llmsr.errors import UserError
from llmsr.problem.loading import Problem, load_problem
from llmsr.report.equation import Equation
from llmsr.report.front import SPLITS, Front, pick
from llmsr.report.history import history_of
from llmsr.report.markup import is_secret
from llmsr.report.terminal import format_table
from llmsr.run_directory import check_data
from llmsr.sample import VALIDATION, Sample, is_llm_sample

if TYPE_CHECKING:
    import pandas as pd

SEARCH, TRAINING = "search", "grpo"
DEEPEST = 6  # levels of folders that are looked through
OF_TRAINING = ("learning_rate", "batch_size", "rollout_n", "epochs")  # shown whether they differ or not
# settings that say where a run is or that have a column already
NOT_COMPARED = {"problem_name", "spec_path", "data_dir", "log_path", "output_dir", "run_id", "resume", "json",
                "seed", "search", "model_path", "api_model", "proposer", "trainer", "steps"}  # fmt: skip
ALIASES = {"train": "nmse_train", "id": "nmse_test_id", "ood": "nmse_test_ood"}  # short names of columns


@dataclass(frozen=True)
class Recorded:
    """One run over one problem. A training run over several problems is read as one of these for each.

    `directory` is the run's, `output` where its files go; `settings` are flat, names to values.
    """

    directory: Path
    output: Path
    mode: str
    settings: Mapping[str, Any]
    problem_name: str
    samples: list[Sample]

    def problem(self) -> Problem:
        """The problem with its data; for a training run as it was when the run began.

        `UserError` if the train rows have changed since: losses and constants would be of other data.
        """
        copied = self.directory / "problems" / self.problem_name / "specification.txt"
        if copied.is_file():
            return load_problem(self.problem_name, copied.resolve(), copied.resolve().parent.parent)
        spec_path = self.settings.get("spec_path")
        problem = load_problem(self.problem_name, spec_path, self.settings.get("data_dir") or "data")
        check_data(self.directory, problem)
        return problem


def is_run(directory: Path) -> bool:
    """Whether a directory holds the archive of a run."""
    return (directory / "archive").is_dir()


def read_run(directory: str | Path) -> list[Recorded]:
    """The run in a directory, once per problem; `UserError` where there is none or it cannot be read."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; name the directory of a run")
    if not is_run(directory):
        below = next((p.parent for p in sorted(directory.glob("*/archive")) if p.is_dir()), None)
        hint = f"; did you mean {below}?" if below else "; name the --log_path or --output_dir of a run"
        raise UserError(f"{directory} holds no run (it has no folder archive){hint}")
    mode, settings = read_settings(directory)
    samples = [s for s in read_archive(directory) if s.kind != VALIDATION]
    return by_problem(directory, mode, settings, samples)


def by_problem(
    directory: Path, mode: str, settings: Mapping[str, Any], samples: Sequence[Sample]
) -> list[Recorded]:
    """A run and its samples once per problem; of several, each has a folder of its own below `results`."""
    names = [name.strip() for name in str(settings.get("problem_name") or "").split(",") if name.strip()]
    if not names:
        raise UserError(f"{directory} does not tell its problem: neither config.yaml nor run.json names one")
    if len(names) == 1:
        return [Recorded(directory, directory, mode, settings, names[0], list(samples))]
    own: dict[str, list[Sample]] = {name: [] for name in names}
    for sample in samples:
        own.setdefault(sample.problem or names[0], []).append(sample)
    return [
        Recorded(directory, directory / "results" / name, mode, settings, name, found)
        for name, found in own.items()
    ]


def read_settings(directory: Path) -> tuple[str, dict[str, Any]]:
    """(mode, settings) of a run: from `config.yaml` of a search or `run.json` of a training."""
    record = directory / "run.json"
    if record.is_file():
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            settings = dict(content.get("settings") or {})
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{record} cannot be read ({error}); restore it or remove it") from None
        for key in ("trainer", "model_path", "answers_per_step", "steps"):
            if content.get(key) is not None:
                settings[key] = content[key]
        return TRAINING, settings
    if (directory / "config.yaml").is_file():
        settings = read_yaml(directory / "config.yaml")
        return (TRAINING if "rollout_n" in settings else SEARCH), settings
    raise UserError(f"{directory} has neither config.yaml nor run.json; the run cannot be told from them")


def find_runs(directory: str | Path) -> list[Path]:
    """The directories at or below this one that hold a run, sorted; `UserError` where there is none."""
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; name one that holds runs, such as logs")
    found = []
    for path, folders, _ in os.walk(directory):
        here = Path(path)
        if is_run(here):
            found.append(here)
        if is_run(here) or len(here.relative_to(directory).parts) >= DEEPEST:
            folders[:] = []
    if not found:
        raise UserError(
            f"there is no run below {directory}; name a directory such as logs or llmsr_grpo_outputs"
        )
    return sorted(found)


def row_of(run: Recorded, name: str) -> dict[str, Any]:
    """A run's line in the table: what it was, what it cost, and its pick's errors and equation.

    `seconds` is 0 where the records do not tell. The pick is the one that `show` shows; `equation` has its
    constants as short there, or with four digits where the problem's data cannot be read any more.
    """
    settings, answers = run.settings, [s for s in run.samples if is_llm_sample(s)]
    valid = [s for s in answers if s.evaluation.ok]
    rewards = [s.mean_reward for _, s in sorted(history_of(run.samples).steps.items()) if s.rewarded]
    model = str(settings.get("model_path") or settings.get("api_model") or settings.get("proposer") or "")
    if not settings.get("model_path") and answers and answers[0].proposer not in ("", "policy"):
        model = answers[0].proposer
    chosen, equation = _pick(run)
    return {
        "run": name,
        "problem": run.problem_name,
        "mode": TRAINING if run.mode == TRAINING else str(settings.get("search") or SEARCH),
        "model": Path(model).name if len(model) > 30 else model,
        "seed": settings.get("seed"),
        "samples": len(answers),
        "valid": len(valid),
        "distinct": len({s.evaluation.canonical for s in valid}),
        "tokens": sum(s.tokens for s in run.samples),
        "seconds": max((s.elapsed for s in run.samples), default=0.0),
        "reward_first": rewards[0] if rewards else None,
        "reward_last": rewards[-1] if rewards else None,
        "sample": chosen.number if chosen else None,
        "complexity": chosen.evaluation.complexity if chosen else None,
        **{f"nmse_{split}": chosen.evaluation.nmse.get(split) if chosen else None for split in SPLITS},
        "equation": equation,
    }


def _pick(run: Recorded) -> tuple[Sample | None, str]:
    """The sample that `show` picks and its equation; None where no sample is valid."""
    front = Front()
    for sample in run.samples:
        front.add(sample)
    if not front.members:
        return None, ""
    try:
        problem = run.problem()
        chosen = front.members[pick(front.members, rows=len(problem.train))]
        return chosen, Equation.of(chosen, problem).text()
    except UserError:
        # the archive alone still tells errors and a line; of many rows the rule looks closest to the lowest
        chosen = front.members[pick(front.members, rows=10**9)]
        return chosen, chosen.evaluation.expression


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of settings in which runs that have them differ, in the order in which they are met."""
    # a setting that only some runs have (searches and trainings share few) does not differ for that
    names = dict.fromkeys(name for one in settings for name in one if not is_secret(name))
    return [name for name in names if len({str(one[name]) for one in settings if name in one}) > 1]


def runs_table(directory: str | Path, sort: str = "run") -> tuple[pd.DataFrame, list[str]]:
    """(DataFrame of all runs below a directory, a sentence for each one that cannot be read).

    Its rows are those of `row_of`, then the settings in which the runs differ. `sort` names a column, or
    `train`, `id` or `ood` for an error; ascending, and within each problem unless it is `run`.
    """
    base = Path(directory)
    runs, faults = [], []
    for path in find_runs(base):
        name = str(path.relative_to(base)) if path != base else path.name or str(path)
        try:
            runs += [(row_of(run, name), run.settings) for run in read_run(path)]
        except UserError as error:
            faults.append(str(error))
    table = as_table(runs)
    column = ALIASES.get(sort, sort)
    if runs and column not in table:
        raise UserError(f"--sort {sort}: there is no such column; there are {', '.join(table.columns)}")
    if runs and column != "run":
        keys = [
            (problem, _comparable(cell))
            for problem, cell in zip(table["problem"], table[column], strict=True)
        ]
        table = table.iloc[sorted(range(len(keys)), key=keys.__getitem__)]
    return table, faults


def as_table(runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> pd.DataFrame:
    """The rows of runs (`row_of`) with those of their settings in which they differ, as a DataFrame."""
    import pandas as pd

    shown = [name for name in differing([own for _, own in runs]) if name not in NOT_COMPARED]
    if any(row["mode"] == TRAINING for row, _ in runs):
        shown = [*OF_TRAINING, *(name for name in shown if name not in OF_TRAINING)]
    # objects: a whole number stays one in a column that other rows leave empty
    return pd.DataFrame(
        [{**row, **{name: own.get(name) for name in shown}} for row, own in runs], dtype=object
    )


def _comparable(cell: Any) -> tuple[int, Any]:
    """The cell as what any cell of its column can be compared with: numbers, then words, then nothing."""
    if cell is None:
        return 2, 0
    return (0, cell) if isinstance(cell, int | float) else (1, str(cell))


def format_runs(table: pd.DataFrame, width: int | None = None) -> str:
    """The table of runs for a terminal; columns that are empty throughout stay out, the equation is last."""
    records = table.to_dict("records")
    settings = [name for name in table.columns if name not in _SHOWN and name not in _UNSHOWN]
    names = [name for name in _SHOWN if any(record.get(name) is not None for record in records)]
    names[-1:-1] = settings
    rows = [[_cell(name, record) for name in names] for record in records]
    return format_table([_HEADS.get(name, name) for name in names], rows, width=width, words=("equation",))


_SHOWN = ("run", "problem", "mode", "seed", "samples", "valid", "distinct", "nmse_train", "nmse_test_id",
          "nmse_test_ood", "complexity", "reward_last", "seconds", "equation")  # fmt: skip
_UNSHOWN = ("model", "tokens", "reward_first", "sample")  # in JSON alone
_HEADS = {"nmse_train": "NMSE train", "nmse_test_id": "test_id", "nmse_test_ood": "test_ood",
          "complexity": "size", "reward_last": "reward"}  # fmt: skip


def _cell(name: str, row: Mapping[str, Any]) -> str:
    value = row[name]
    if name in ("valid", "distinct"):
        return f"{value / row['samples']:.0%}" if row["samples"] else "-"
    if name == "reward_last" and value is not None:
        return f"{row['reward_first']:.2f} to {value:.2f}"
    if name == "seconds":
        return f"{value:.0f}" if value else "-"
    if name.startswith("nmse_"):
        return "-" if value is None else f"{value:.2e}"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
