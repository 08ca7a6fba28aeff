"""A run read back from its directory: what it was asked, its problem and its samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmsr.archive import read_archive
from llmsr.config import read_yaml
from llmsr.errors import UserError
from llmsr.problem.loading import Problem, load_problem
from llmsr.run_directory import check_data
from llmsr.sample import VALIDATION, Sample

SEARCH, TRAINING = "search", "grpo"


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
    samples = [s for s in read_archive(directory) if s.proposer != VALIDATION]
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
