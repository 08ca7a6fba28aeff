"""Several runs side by side: their table, and pages over runs and over the problems of one training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmsr.errors import UserError
from llmsr.report.chart import Series, chart
from llmsr.report.front import SPLITS, Front, PickedFront
from llmsr.report.history import History
from llmsr.report.markup import is_secret, render
from llmsr.report.pages import TONES, Figure, best_so_far
from llmsr.report.runs import SEARCH, TRAINING, Recorded, find_runs, read_run
from llmsr.sample import Sample

if TYPE_CHECKING:
    import pandas as pd

OF_TRAINING = ("learning_rate", "batch_size", "rollout_n", "epochs")  # shown whether they differ or not
# settings that say where a run is or that have a column already
NOT_COMPARED = {"problem_name", "spec_path", "data_dir", "log_path", "output_dir", "run_id", "resume", "json",
                "seed", "search", "model_path", "api_model", "proposer", "trainer", "steps"}  # fmt: skip
ALIASES = {"train": "nmse_train", "id": "nmse_test_id", "ood": "nmse_test_ood"}  # short names of columns
SHOWN = ("run", "problem", "mode", "seed", "samples", "valid", "distinct", "nmse_train", "nmse_test_id",
         "nmse_test_ood", "complexity", "reward_last", "seconds", "cost", "asked", "equation")  # fmt: skip
IN_JSON = ("model", "tokens", "proposers", "reward_first", "sample")  # and not in a terminal's table
HEADS = {"nmse_train": "NMSE train", "nmse_test_id": "test_id", "nmse_test_ood": "test_ood",
         "complexity": "size", "reward_last": "reward"}  # fmt: skip
FIGURES = ("seed", "samples", "valid", "distinct", "nmse_train", "nmse_test_id", "nmse_test_ood",
           "complexity", "tokens", "seconds")  # fmt: skip


def run_row(run: Recorded) -> dict[str, Any]:
    """The run's line in a table: what it was, what it cost, and its pick's errors and equation.

    `seconds` is 0 where the records do not tell. The pick is the one that `show` shows; `equation` has its
    constants as short there, or with four digits where the problem's data cannot be read any more.
    """
    settings, history = run.settings, run.history
    answers = history.answers
    rewards = history.steps().reward.dropna().tolist()
    model = str(settings.get("model_path") or settings.get("api_model") or settings.get("proposer") or "")
    if not settings.get("model_path") and history.proposer not in ("", "policy"):
        model = history.proposer
    chosen, equation = _pick(run)
    evaluation = chosen.evaluation if chosen else None
    return {
        "run": run.name,
        "problem": run.problem_name,
        "mode": TRAINING if run.mode == TRAINING else str(settings.get("search") or SEARCH),
        "model": Path(model).name if len(model) > 30 else model,
        "seed": settings.get("seed"),
        "samples": history.samples,
        "valid": int(answers.valid.sum()),
        "distinct": int(answers.new.sum()),
        "tokens": history.tokens,
        "seconds": history.seconds,
        "cost": history.cost or None,
        "proposers": history.proposers,
        "asked": asked(history) if len(history.by_proposer) > 1 else None,
        "reward_first": rewards[0] if rewards else None,
        "reward_last": rewards[-1] if rewards else None,
        "sample": chosen.number if chosen else None,
        "complexity": evaluation.complexity if evaluation else None,
        **{f"nmse_{split}": evaluation.nmse.get(split) if evaluation else None for split in SPLITS},
        "equation": equation,
    }


def asked(history: History) -> str:
    """Who proposed: samples, tokens and, where it is known, money of each."""
    return "; ".join(
        f"{name} {told['samples']} samples {told['tokens']} tokens"
        + (f" {told['cost']:.3g}" if told["cost"] else "")
        for name, told in history.by_proposer.items()
    )


def _pick(run: Recorded) -> tuple[Sample | None, str]:
    """The sample that `show` picks and its equation; None where no sample is valid."""
    front = Front()
    for sample in run.samples:
        front.add(sample)
    if not front.members:
        return None, ""
    try:
        picked = PickedFront.of(front.members, run.problem()).pick
        assert picked is not None
        return picked.sample, picked.text()
    except UserError:
        # without the data the archive tells the lowest training error and its line
        chosen = front.members[-1]
        return chosen, chosen.evaluation.expression


def compared_runs(directories: Sequence[str | Path]) -> list[Recorded]:
    """The runs in these directories, in their order, once per problem; equal names become whole paths."""
    found = [replace(run, name=run.directory.name or str(run.directory))
             for directory in directories for run in read_run(directory)]  # fmt: skip
    names = [(run.name, run.problem_name) for run in found]
    return [
        replace(run, name=str(run.directory)) if names.count(name) > 1 else run
        for run, name in zip(found, names, strict=True)
    ]


# ---- the table


def runs_table(directory: str | Path, sort: str = "run") -> tuple[pd.DataFrame, list[str]]:
    """(DataFrame of all runs below a directory, a sentence for each one that cannot be read).

    Its rows are those of `run_row`, then the settings in which the runs differ. `sort` names a column,
    or `train`, `id` or `ood` for an error; ascending, and within each problem unless it is `run`.
    """
    base = Path(directory)
    runs, faults = [], []
    for path in find_runs(base):
        name = str(path.relative_to(base)) if path != base else path.name or str(path)
        try:
            runs += [replace(run, name=name) for run in read_run(path)]
        except UserError as error:
            faults.append(str(error))
    table = as_table(runs)
    column = ALIASES.get(sort, sort)
    if runs and column not in table:
        raise UserError(f"--sort {sort}: there is no such column; there are {', '.join(table.columns)}")
    if runs and column != "run":
        # numbers, then words, then nothing: a column may hold all of them
        keys = [
            (problem, cell is None, isinstance(cell, str), 0 if cell is None else cell)
            for problem, cell in zip(table["problem"], table[column], strict=True)
        ]
        table = table.iloc[sorted(range(len(keys)), key=keys.__getitem__)]
    return table, faults


def as_table(runs: Iterable[Recorded]) -> pd.DataFrame:
    """The rows of runs with those of their settings in which they differ, as a DataFrame."""
    import pandas as pd

    found = [(run_row(run), run.settings) for run in runs]
    shown = [name for name in differing([own for _, own in found]) if name not in NOT_COMPARED]
    if any(row["mode"] == TRAINING for row, _ in found):
        shown = [*OF_TRAINING, *(name for name in shown if name not in OF_TRAINING)]
    # objects: a whole number stays one in a column that other rows leave empty
    return pd.DataFrame([row | {name: own.get(name) for name in shown} for row, own in found], dtype=object)


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of settings in which runs that have them differ, in the order in which they are met."""
    # a setting that only some runs have (searches and trainings share few) does not differ for that
    names = dict.fromkeys(name for one in settings for name in one if not is_secret(name))
    return [name for name in names if len({str(one[name]) for one in settings if name in one}) > 1]


def format_runs(table: pd.DataFrame, width: int | None = None) -> str:
    """The table of runs for a terminal; columns that are empty throughout stay out, the equation is last."""
    records = table.to_dict("records")
    names = [name for name in SHOWN if any(record.get(name) is not None for record in records)]
    names[-1:-1] = [name for name in table.columns if name not in SHOWN and name not in IN_JSON]
    return render("runs.txt", names=names, heads=HEADS, rows=records, width=width).rstrip("\n")


# ---- the pages


def comparison_page(compared: Sequence[Recorded], *, live: bool = False) -> str:
    """The whole page as text: one section per problem, a colour per run; `live` as in `report_page`."""
    problems = []
    for problem in dict.fromkeys(run.problem_name for run in compared):
        runs = [run for run in compared if run.problem_name == problem]
        toned = [(place % TONES + 1, run) for place, run in enumerate(runs)]
        rows = [(tone, run_row(run)) for tone, run in toned]
        problems.append((problem, rows, _drawings(toned)))
    settings = [run.settings for run in compared]
    differ = [[name, *(one.get(name, "–") for one in settings)] for name in differing(settings)]
    return render(
        "comparison.html",
        problems=problems,
        heads={name: HEADS.get(name, name) if name != "complexity" else name for name in FIGURES},
        names=[run.name for run in compared],
        settings=differ,
        live=live,
    )


def _drawings(toned: Sequence[tuple[int, Recorded]]) -> list[Figure]:
    """The figures of one problem: best errors over each axis, new equations, rewards; a colour per run."""
    figures: list[Figure] = []
    wanted = [("train", over) for over in ("samples", "seconds", "tokens")]
    for split, over in [*wanted, ("test_id", "samples"), ("test_ood", "samples")]:
        series = []
        for tone, run in toned:
            end = float(getattr(run.history, over))
            points = best_so_far(run.history.best(), over, end, split) if end else []
            tips = [f"{run.name}\n{over} {x:.0f}\nNMSE {y:.3g}" for x, y in points]
            series.append(Series(run.name, points, tone, "step", tips))
        if split == "train" or any(one.points for one in series):
            last = max(float(getattr(run.history, over)) for _, run in toned)
            drawing = chart(series, over, f"NMSE, {split}", log_y=True, x_range=(0.0, last))
            small = "training rows" if split == "train" else split
            figures.append((f"NMSE of the best over {over}", drawing, small))
    known = []
    for tone, run in toned:
        answers = run.history.answers
        answers = answers.assign(known=answers.new.cumsum())
        known.append(Series.of(answers, "samples", "known", run.name, tone))
    figures.append(("New equations", chart(known, "samples", "distinct equations"), "so far"))
    rewards = [Series.of(run.history.steps(), "step", "reward", run.name, tone) for tone, run in toned]
    if any(one.points for one in rewards):
        figures.append(("Mean reward of each step", chart(rewards, "step", "reward"), ""))
    return figures
