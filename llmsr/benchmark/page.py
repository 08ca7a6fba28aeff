"""The pages of a benchmark: one figure per problem and a summary, each a file that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmsr.benchmark.measures import SPLITS
from llmsr.benchmark.plan import PEER
from llmsr.benchmark.results import Results, arm_records, course
from llmsr.benchmark.tables import (
    CLAIM_NOTE,
    NOTES,
    TEST_NOTE,
    claim_table,
    claim_title,
    memory_lines,
    problem_table,
    results_csv,
    results_json,
    runs_csv,
    summary_markdown,
    test_table,
)
from llmsr.files import write_file
from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.text import escape

TONES = 6
PLACES = 60  # of a curve, evenly spaced in the logarithm
AXES = (
    ("samples", "LLM samples"),
    ("cpu_seconds", "CPU seconds"),
    ("tokens", "generated tokens"),
    ("gpu_seconds", "GPU seconds"),
)
TOTAL = {"samples": "samples", "cpu_seconds": "cpu_seconds", "tokens": "tokens", "gpu_seconds": "gpu_seconds"}


def write_pages(results: Results, output: Path) -> list[Path]:
    """Write tables, figures and the summary page into a benchmark's directory; their paths."""
    files = {
        "summary.md": summary_markdown(results) + "\n",
        "results.csv": results_csv(results),
        "runs.csv": runs_csv(results),
        "results.json": results_json(results),
        "index.html": summary_page(results),
    }
    for problem in results.plan.problems:
        if any(results.of(problem, arm.name) for arm in results.plan.arms):
            files[f"figures/{problem.replace('/', '-')}.html"] = markup.page(
                problem, problem_section(results, problem)
            )
    for name, text in files.items():
        write_file(output / name, text)
    return [output / name for name in files]


def summary_page(results: Results) -> str:
    """The whole comparison on one page."""
    plan = results.plan
    done = sum(map(len, results.runs.values()))
    parts = [
        f"<header><p class='kicker'>benchmark</p><h1>{escape(plan.title)}</h1><p "
        f"class='lead'>{len(plan.arms)} arms on "
        f"{len(plan.problems)} problems with {len(plan.seeds)} seeds: {done} runs finished, "
        f"{len(results.failures)} "
        f"failed, {results.missing} to do. Baseline: {escape(plan.baseline)}.</p></header>"
    ]
    parts += [
        problem_section(results, p) for p in plan.problems if any(results.of(p, a.name) for a in plan.arms)
    ]
    head, rows = test_table(results)
    if rows:
        parts.append(markup.section(f"Against {plan.baseline}", _table(head, rows), hint=TEST_NOTE))
    head, rows = claim_table(results)
    if rows:
        lines = "".join(f"<p>{escape(line)}</p>" for line in memory_lines(results))
        parts.append(markup.section(claim_title(results), _table(head, rows), lines, hint=CLAIM_NOTE))
    if results.failures:
        failed = _table(["run", "reason"], [[place, reason] for place, reason in results.failures])
        parts.append(markup.section("Failed runs", failed))
    parts.append("<footer>" + " ".join(map(escape, NOTES)) + "</footer>")
    return markup.page(plan.title, "".join(parts))


def problem_section(results: Results, problem: str) -> str:
    """One problem's figure, a line per arm, and its table."""
    figures = []
    for unit, label in AXES:
        for split in SPLITS:
            if split != "train" and unit != "samples":
                continue
            drawing = _curves(results, problem, unit, label, split)
            if drawing:
                figures.append(markup.figure(f"NMSE {split} over {label}", drawing, "median of the seeds"))
    records = [r for r in arm_records(results) if r["problem"] == problem]
    return markup.section(problem, markup.grid(*figures), _table(*problem_table(records)))


def _curves(results: Results, problem: str, unit: str, label: str, split: str) -> str:
    """The median best-so-far curves over one axis; empty where no arm has that axis."""
    series = []
    for place, arm in enumerate(results.plan.arms):
        runs = results.of(problem, arm.name)
        if not runs or (arm.kind == PEER and unit in ("samples", "tokens")):
            continue
        ends = [m[TOTAL[unit]] for m in runs if m[TOTAL[unit]]]
        if not ends:
            continue
        places = _places(min(1.0, max(ends)), max(ends), unit in ("samples", "tokens"))
        values = course(runs, unit, split, places)
        points = [(x, max(y, 1e-33)) for x, y in zip(places, values, strict=True) if y is not None]
        tips = [f"{arm.title}\n{label} {x:.0f}\nNMSE {y:.2e}" for x, y in points]
        series.append(Series(arm.title, points, place % TONES + 1, "step", tips, faint=place >= TONES))
    if not any(s.points for s in series):
        return ""
    return chart(series, label, f"NMSE {split}", log_x=True, log_y=True)


def _places(low: float, high: float, whole: bool) -> list[float]:
    """Places evenly spaced in the logarithm, the last one at `high`."""
    ratio = (high / low) ** (1 / (PLACES - 1)) if high > low else 1.0
    found = [low * ratio**i for i in range(PLACES - 1)] + [high]
    return list(dict.fromkeys(float(round(x)) if whole else x for x in found))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markup.table(
        [(name, "" if i == 0 else "n") for i, name in enumerate(head)], [[escape(c) for c in r] for r in rows]
    )
