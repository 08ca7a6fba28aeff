"""Progress curves: best so far, valid and distinct shares, failures, islands, training steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.history import NEW, REPEATED, History, Improvement
from llmsr.report.markup import escape, number

STRETCHES = 40
REASONS = 12


def progress_sections(history: History) -> list[str]:
    """The sections of a run's page about how it went; none where there is no sample."""
    if not history.samples:
        return []
    sections = [_progress(history)]
    sections += [_steps(history)] if history.steps else []
    sections.append(_outcomes(history))
    sections += [_islands(history)] if len(history.islands) > 1 else []
    return sections


def best_so_far(
    best: Sequence[Improvement], over: str, end: float, split: str = "train"
) -> list[tuple[float, float]]:
    """(samples, seconds or tokens; NMSE of the best equation so far on a split), up to `end`."""
    points = [(float(getattr(b, over)), b.nmse.get(split)) for b in best]
    found = [(x, max(y, 1e-33)) for x, y in points if y is not None]
    if found and found[-1][0] < end:
        found.append((end, found[-1][1]))
    return found


def _progress(history: History) -> str:
    splits = [s for s in markup.SPLIT_TONES if any(s in b.nmse for b in history.best)]
    figures = []
    for over, label, end in (
        ("samples", "samples", history.samples),
        ("seconds", "seconds", history.seconds),
    ):
        if not end:
            continue
        series = []
        for split in reversed(splits):
            points = best_so_far(history.best, over, end, split)
            tips = []
            if split == "train":
                tips = [_tip(b) for b in history.best if b.nmse.get("train") is not None]
                tips += tips[-1:] * (len(points) - len(tips))
            series.append(Series(split, points, markup.SPLIT_TONES[split], "step", tips, split != "train"))
        if len(history.best_of_answers) != len(history.best):
            points = best_so_far(history.best_of_answers, over, end)
            series.append(Series("train, without refinements", points, 4, "step", faint=True))
        drawing = chart(series, label, "NMSE", log_y=True, x_range=(0.0, end), whole_x=over == "samples")
        figures.append(markup.figure(f"Best so far over {label}", drawing))
    shares = history.shares(STRETCHES)
    valid = [(float(n), v) for n, v, _ in shares]
    new = [(float(n), d) for n, _, d in shares]
    tips = [f"to sample {n}\nvalid {v:.0%}\nnew equations {d:.0%}" for n, v, d in shares]
    drawing = chart(
        [Series("valid", valid, 2, "line", tips), Series("new equations", new, 4, "line")],
        "samples", "share", x_range=(0.0, history.samples), y_range=(0.0, 1.0), whole_x=True,
    )  # fmt: skip
    figures.append(markup.figure("Valid and distinct", drawing, "share of each stretch of the run"))
    return markup.section(
        "Progress",
        markup.grid(*figures),
        hint="The best equation so far is the one of least training error; its errors on the other splits "
        "are only watched.",
    )


def _tip(best: Improvement) -> str:
    lines = [f"sample {best.number} · {best.seconds:.0f} s"]
    return "\n".join(
        lines + [f"{s}: {'not finite' if v is None else number(v)}" for s, v in best.nmse.items()]
    )


def _steps(history: History) -> str:
    steps = sorted(history.steps.items())
    rewards = history.rewards()
    tips = [
        f"step {n}: {s.samples} answers\nreward {s.mean_reward:.3f}\nvalid {s.valid / s.samples:.0%}, "
        f"new {s.new / s.samples:.0%}"
        for n, s in steps
        if s.mean_reward is not None
    ]
    figures = []
    if rewards:
        drawing = chart([Series("", rewards, 1, "line", tips)], "step", "mean reward", whole_x=True)
        figures.append(markup.figure("Reward", drawing, "mean over the step's answers"))
    valid = [(float(n), s.valid / s.samples) for n, s in steps]
    new = [(float(n), s.new / s.samples) for n, s in steps]
    shares = [Series("valid", valid, 2, "line"), Series("new equations", new, 4, "line")]
    drawing = chart(shares, "step", "share", whole_x=True, y_range=(0.0, 1.0))
    figures.append(markup.figure("Validity", drawing, "share of the step's answers"))
    best = [(float(n), max(s.best_nmse, 1e-33)) for n, s in steps if s.best_nmse is not None]
    drawing = chart([Series("", best, 3, "line")], "step", "NMSE, train", log_y=True, whole_x=True)
    figures.append(markup.figure("Best answer of each step", drawing))
    return markup.section("Training", markup.grid(*figures))


def _outcomes(history: History) -> str:
    counts = [
        ("new equation", history.kinds.count(NEW), 2),
        ("valid, known already", history.kinds.count(REPEATED), 4),
    ]
    by_status: Counter[str] = Counter()
    for (status, _), count in history.reasons.items():
        by_status[status] += count
    counts += [(status, count, 5) for status, count in by_status.most_common()]
    content = [markup.bars(counts, history.samples)]
    if history.reasons:
        rows = [
            (f"{count:,}", escape(status), escape(reason) or "–")
            for (status, reason), count in history.reasons.most_common(REASONS)
        ]
        head = (("count", "n"), ("kind", ""), ("reason", "wide"))
        more = len(history.reasons) - len(rows)
        title = "Reasons of refusals and failures" + (f" (the {REASONS} most frequent)" if more > 0 else "")
        content.append(markup.details(title, markup.table(head, rows)))
    return markup.section("What became of the samples", *content)


def _islands(history: History) -> str:
    series = []
    for island, records in sorted(history.islands.items()):
        points = [(float(n), max(v, 1e-33)) for n, v in records]
        series.append(Series("", points, island % 6 + 1, "step", faint=True))
    drawing = chart(
        series, "samples", "NMSE, train", log_y=True, whole_x=True, x_range=(0.0, history.samples)
    )
    rows = [
        (f"{island}", f"{len(records)}", f"{records[-1][0]:,}", markup.scientific(records[-1][1]))
        for island, records in sorted(history.islands.items())
    ]
    head = (("island", "n"), ("improvements", "n"), ("last at sample", "n"), ("best NMSE", "n"))
    return markup.section(
        "Islands",
        markup.grid(markup.figure("Best offspring of each island so far", drawing), markup.table(head, rows)),
    )
