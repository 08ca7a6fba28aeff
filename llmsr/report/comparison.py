"""Pages over several runs, side by side, and over the several problems of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.front import SPLITS, PickedFront
from llmsr.report.history import History, history_of
from llmsr.report.markup import escape, scientific
from llmsr.report.progress_curves import best_so_far
from llmsr.report.recorded_runs import Recorded, differing, read_run, row_of
from llmsr.report.run_page import counted, equation_markup

TONES = 6
NMSE_HEAD = (("NMSE train", "n"), ("test_id", "n"), ("test_ood", "n"))


@dataclass(frozen=True)
class Compared:
    """A run with its line of figures and how it went; `tone` is its colour."""

    run: Recorded
    row: Mapping[str, Any]
    history: History
    tone: int = 1

    @property
    def name(self) -> str:
        return self.row["run"]


def compare(directories: Sequence[str | Path]) -> list[Compared]:
    """The runs in these directories, in their order, once per problem; equal names become whole paths."""
    found = []
    for directory in directories:
        name = Path(directory).name or str(directory)
        for run in read_run(directory):
            found.append(Compared(run, row_of(run, name), history_of(run.samples)))
    names = [(c.name, c.row["problem"]) for c in found]
    return [
        replace(c, row={**c.row, "run": str(c.run.directory)}) if names.count(name) > 1 else c
        for c, name in zip(found, names, strict=True)
    ]


def comparison_page(compared: Sequence[Compared]) -> str:
    """The whole page as text: one section per problem, a colour per run."""
    problems = list(dict.fromkeys(c.row["problem"] for c in compared))
    parts = [markup.header("comparison", f"{len(compared)} runs", ", ".join(problems))]
    for problem in problems:
        runs = [c for c in compared if c.row["problem"] == problem]
        runs = [replace(c, tone=i % TONES + 1) for i, c in enumerate(runs)]
        parts.append(markup.section(problem, _figures_table(runs), "<br>", markup.grid(*_curves(runs))))
    parts.append(_settings(compared))
    return markup.page("Comparison of runs", "".join(parts))


def _figures_table(runs: Sequence[Compared]) -> str:
    head = [("run", ""), ("mode", ""), *((n, "n") for n in ("seed", "samples", "valid", "distinct")),
            *NMSE_HEAD, *((n, "n") for n in ("complexity", "tokens", "seconds"))]  # fmt: skip
    lines = []
    for c in runs:
        row = {name: "–" if value is None else value for name, value in c.row.items()}
        lines.append([
            f'<span class="key"><i class="swatch tone{c.tone}"></i>{escape(c.name)}</span>',
            escape(row["mode"]), str(row["seed"]),
            *(f"{row[name]:,}" for name in ("samples", "valid", "distinct")),
            *(scientific(c.row[f"nmse_{split}"]) for split in SPLITS),
            str(row["complexity"]), f"{row['tokens']:,}", f"{row['seconds']:.0f}" if row["seconds"] else "–",
        ])  # fmt: skip
    return markup.table(head, lines)


def _curves(runs: Sequence[Compared]) -> list[str]:
    """The figures of one problem: best errors over each axis, new equations, rewards."""
    figures = []
    wanted = [("train", over) for over in ("samples", "seconds", "tokens")]
    for split, over in [*wanted, ("test_id", "samples"), ("test_ood", "samples")]:
        if any(split in b.nmse for c in runs for b in c.history.best):
            title = "training rows" if split == "train" else split
            figures.append(
                markup.figure(f"NMSE of the best over {over}", _best_curves(runs, over, split), title)
            )
    figures.append(markup.figure("New equations", _new_curves(runs), "so far"))
    rewards = [Series(c.name, c.history.rewards(), c.tone) for c in runs if c.history.steps]
    if rewards:
        drawing = chart(rewards, "step", "reward", whole_x=True)
        figures.append(markup.figure("Mean reward of each step", drawing))
    return figures


def _best_curves(runs: Sequence[Compared], over: str, split: str) -> str:
    series = []
    for c in runs:
        end = getattr(c.history, over)
        points = best_so_far(c.history.best, over, end, split) if end else []
        tips = [f"{c.name}\n{over} {x:.0f}\nNMSE {y:.3g}" for x, y in points]
        series.append(Series(c.name, points, c.tone, "step", tips))
    end = max(getattr(c.history, over) for c in runs)
    return chart(series, over, f"NMSE, {split}", log_y=True, whole_x=over != "seconds", x_range=(0.0, end))


def _new_curves(runs: Sequence[Compared]) -> str:
    series = []
    for c in runs:
        points, known, before = [(0.0, 0.0)], 0.0, 0
        for samples, _, share in c.history.shares(60):
            known += share * (samples - before)
            before = samples
            points.append((float(samples), known))
        series.append(Series(c.name, points, c.tone))
    return chart(series, "samples", "distinct equations", whole_x=True)


def _settings(compared: Sequence[Compared]) -> str:
    """The settings in which the runs differ."""
    blank = dict.fromkeys((name for c in compared for name in c.run.settings), "–")
    settings = [blank | dict(c.run.settings) for c in compared]
    rows = [[escape(name), *(escape(one[name]) for one in settings)] for name in differing(settings)]
    if not rows:
        return markup.section("Settings", "<p>The runs have equal settings.</p>")
    head = [("setting", ""), *((c.name, "") for c in compared)]
    return markup.section("Settings that differ", markup.table(head, rows))


def problems_page(problems: Sequence[tuple[PickedFront, History, str, str]], whole: Mapping[str, Any]) -> str:
    """The page of a training over several problems.

    `problems` has each one's front, history, name and the address of its own page; `whole` is what
    `result.json` says of all.
    """
    names = ", ".join(name for _, _, name, _ in problems)
    rows, rewards, shares = [], [], []
    for tone, (front, history, name, address) in enumerate(problems, start=1):
        link = f'<a href="{escape(address)}">{escape(name)}</a>'
        best = front.pick
        nmse = [scientific(best.nmse.get(split) if best else None) for split in SPLITS]
        rows.append([link, equation_markup(best) if best else "none yet", *nmse])
        rewards.append(Series(name, history.rewards(), tone))
        valid = [(float(n), s.valid / s.samples) for n, s in sorted(history.steps.items())]
        shares.append(Series(name, valid, tone))
    drawings = [
        markup.figure("Reward", chart(rewards, "step", "mean reward", whole_x=True)),
        markup.figure("Valid answers", chart(shares, "step", "share", whole_x=True, y_range=(0.0, 1.0))),
    ]
    head = (("problem", ""), ("best equation", "wide"), *NMSE_HEAD)
    parts = [
        markup.header("training with GRPO on several problems", names, counted(whole)),
        markup.section("Best equations", markup.table(head, rows)),
        markup.section("Training", markup.grid(*drawings)),
    ]
    return markup.page(f"{names}: equations found", "".join(parts))
