"""One page over several runs: best error over samples, seconds and tokens, and a table of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.course import best_so_far
from llmsr.report.history import History, history_of
from llmsr.report.overview import Row, format_overview, row_of
from llmsr.report.recorded import Recorded, read_run
from llmsr.report.text import escape

TONES = 6


@dataclass(frozen=True)
class Compared:
    """A run with its line of figures and its course."""

    run: Recorded
    row: Row
    history: History


def compare(directories: Sequence[str | Path]) -> list[Compared]:
    """The runs in these directories, in their order, once per problem."""
    found = []
    for directory in directories:
        name = Path(directory).name or str(directory)
        for run in read_run(directory):
            found.append(Compared(run, row_of(run, name), history_of(run.samples)))
    return _with_own_names(found)


def _with_own_names(found: list[Compared]) -> list[Compared]:
    """Runs of equal folder name are told apart by their paths."""
    from dataclasses import replace

    names = [(c.row.directory, c.row.problem) for c in found]
    return [
        replace(c, row=replace(c.row, directory=str(c.run.directory))) if names.count(name) > 1 else c
        for c, name in zip(found, names, strict=True)
    ]


def format_comparison(compared: Sequence[Compared]) -> str:
    """The figures of all runs as a table."""
    return format_overview([c.row for c in compared])


def comparison_page(compared: Sequence[Compared]) -> str:
    """The whole page as text: one section per problem, a colour per run."""
    problems = list(dict.fromkeys(c.row.problem for c in compared))
    parts = [
        f"<header><p class='kicker'>comparison</p><h1>{len(compared)} runs</h1>"
        f"<p class='lead'>{escape(', '.join(problems))}</p></header>"
    ]
    for problem in problems:
        parts.append(_problem(problem, [c for c in compared if c.row.problem == problem]))
    parts.append(_settings(compared))
    return markup.page("Comparison of runs", "".join(parts))


def _problem(name: str, compared: Sequence[Compared]) -> str:
    figures = []
    for split, title in (("train", "training rows"), ("test_id", "test_id"), ("test_ood", "test_ood")):
        if not any(split in b.nmse for c in compared for b in c.history.best):
            continue
        for over in ("samples", "seconds", "tokens"):
            if split != "train" and over != "samples":
                continue
            figures.append(
                markup.figure(f"NMSE of the best over {over}", _curves(compared, over, split), title)
            )
    figures.append(markup.figure("New equations", _new(compared), "so far"))
    steps = [
        Series(c.row.directory, [(float(n), s.mean_reward) for n, s in sorted(c.history.steps.items())
                                 if s.mean_reward is not None], i % TONES + 1)
        for i, c in enumerate(compared)
        if c.history.steps
    ]  # fmt: skip
    if steps:
        figures.append(
            markup.figure("Mean reward of each step", chart(steps, "step", "reward", whole_x=True))
        )
    head = [("run", ""), ("mode", ""), ("seed", "n"), ("samples", "n"), ("valid", "n"), ("distinct", "n"),
            ("NMSE train", "n"), ("test_id", "n"), ("test_ood", "n"), ("complexity", "n"), ("tokens", "n"),
            ("seconds", "n")]  # fmt: skip
    rows = []
    for i, c in enumerate(compared):
        row = c.row
        rows.append([
            f'<span class="key"><i class="swatch tone{i % TONES + 1}"></i>{escape(row.directory)}</span>',
            escape(row.mode), "–" if row.seed is None else str(row.seed), f"{row.samples:,}",
            f"{row.valid:,}",
            f"{row.distinct:,}", *(markup.figures(row.nmse.get(s)) for s in ("train", "test_id", "test_ood")),
            "–" if row.complexity is None else str(row.complexity), f"{row.tokens:,}",
            f"{row.seconds:.0f}" if row.seconds else "–",
        ])  # fmt: skip
    return markup.section(name, markup.table(head, rows), "<br>", markup.grid(*figures))


def _curves(compared: Sequence[Compared], over: str, split: str) -> str:
    series = []
    for i, c in enumerate(compared):
        end = getattr(c.history, over)
        if end:
            points = best_so_far(c.history.best, over, end, split)
            tips = [f"{c.row.directory}\n{over} {x:.0f}\nNMSE {y:.3g}" for x, y in points]
            series.append(Series(c.row.directory, points, i % TONES + 1, "step", tips))
    end = max((getattr(c.history, over) for c in compared), default=0)
    label = f"NMSE, {split}"
    return chart(series, over, label, log_y=True, whole_x=over != "seconds", x_range=(0.0, end))


def _new(compared: Sequence[Compared]) -> str:
    series = []
    for i, c in enumerate(compared):
        points, known = [(0.0, 0.0)], 0.0
        before = 0
        for samples, _, share in c.history.shares(60):
            known += share * (samples - before)
            before = samples
            points.append((float(samples), known))
        series.append(Series(c.row.directory, points, i % TONES + 1, "line"))
    return chart(series, "samples", "distinct equations", whole_x=True)


def _settings(compared: Sequence[Compared]) -> str:
    """The settings in which the runs differ."""
    names = list(dict.fromkeys(key for c in compared for key in c.run.settings))
    rows = []
    for name in names:
        values = [str(c.run.settings.get(name, "–")) for c in compared]
        if len(set(values)) > 1 and not markup.is_secret(name):
            rows.append([escape(str(name)), *(escape(value) for value in values)])
    head = [("setting", ""), *((c.row.directory, "") for c in compared)]
    if not rows:
        return markup.section("Settings", "<p>The runs have equal settings.</p>")
    return markup.section("Settings that differ", markup.table(head, rows))
