"""The pages of a benchmark: one figure per problem and a summary, each a file that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmsr.benchmark.measures import SPLITS
from llmsr.benchmark.plan import GRPO, PEER, SEARCH, Arm, Plan
from llmsr.benchmark.results import Results, arm_records, course
from llmsr.benchmark.statistics import CEILING
from llmsr.benchmark.tables import (
    CLAIM_NOTE,
    NOTES,
    TEST_NOTE,
    claim_table,
    claim_title,
    curves_csv,
    memory_lines,
    problem_table,
    results_csv,
    results_json,
    runs_csv,
    state,
    summary_markdown,
    test_table,
)
from llmsr.files import write_file
from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.text import escape

TONES = 6  # lines of one drawing
PLACES = 60  # of a curve, evenly spaced in the logarithm
AXES = {
    "samples": "LLM samples",
    "cpu_seconds": "CPU seconds",
    "tokens": "generated tokens",
    "gpu_seconds": "GPU seconds",
}
KINDS = {SEARCH: "searches", GRPO: "training", PEER: "other programs"}


def write_pages(results: Results, output: Path) -> list[Path]:
    """Write tables, figures and the summary page into a benchmark's directory; their paths."""
    files = {
        "summary.md": summary_markdown(results) + "\n",
        "results.csv": results_csv(results),
        "runs.csv": runs_csv(results),
        "curves.csv": curves_csv(results),
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
    lead = f'<p class="lead">{escape(state(results))}</p>'
    parts = [f'<header><p class="kicker">benchmark</p><h1>{escape(plan.title)}</h1>{lead}</header>']
    parts += [
        problem_section(results, p) for p in plan.problems if any(results.of(p, a.name) for a in plan.arms)
    ]
    head, rows = test_table(results)
    if rows:
        parts.append(markup.section("Paired tests", _table(head, rows), hint=TEST_NOTE))
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
    for title, arms in _drawn_together(results.plan):
        for unit, label in AXES.items():
            for split in SPLITS if unit == "samples" else SPLITS[:1]:
                drawing = _curves(results, problem, arms, unit, split)
                if drawing:
                    heading = f"{title}: NMSE {split} over {label}"
                    figures.append(markup.figure(heading, drawing, "median of the seeds"))
    records = [r for r in arm_records(results) if r["problem"] == problem]
    return markup.section(problem, markup.grid(*figures), _table(*problem_table(records)))


def _drawn_together(plan: Plan) -> list[tuple[str, list[Arm]]]:
    """Arms that share a drawing: of one kind, as many as there are colours, and always the baseline first."""
    baseline = next(arm for arm in plan.arms if arm.name == plan.baseline)
    found = []
    for kind, title in KINDS.items():
        arms = [arm for arm in plan.arms if arm.kind == kind and arm is not baseline]
        for begin in range(0, len(arms), TONES - 1):
            found.append((title, [baseline, *arms[begin : begin + TONES - 1]]))
    return found or [(KINDS[baseline.kind], [baseline])]


def _curves(results: Results, problem: str, arms: Sequence[Arm], unit: str, split: str) -> str:
    """The median best-so-far curves over one axis; empty where none of the arms but the first has it."""
    series = []
    for tone, arm in enumerate(arms, start=1):
        runs = results.of(problem, arm.name)
        end = max((m[unit] or 0 for m in runs), default=0)
        if not end or (arm.kind == PEER and unit in ("samples", "tokens")):
            continue
        places = _places(min(1.0, end), end, unit in ("samples", "tokens"))
        found = zip(places, course(runs, unit, split, places), strict=True)
        points = [(x, max(y.median, 1e-33)) for x, y in found if y is not None and y.median < CEILING]
        tips = [f"{arm.title}\n{AXES[unit]} {x:.0f}\nNMSE {y:.2e}" for x, y in points]
        series.append(Series(arm.title, points, tone, "step", tips))
    if not any(s.points for s in series) or (len(arms) > 1 and not any(s.tone > 1 for s in series)):
        return ""
    return chart(series, AXES[unit], f"NMSE {split}", log_x=True, log_y=True)


def _places(low: float, high: float, whole: bool) -> list[float]:
    """Places evenly spaced in the logarithm, the last one at `high`."""
    ratio = (high / low) ** (1 / (PLACES - 1)) if high > low else 1.0
    found = [low * ratio**i for i in range(PLACES - 1)] + [high]
    return list(dict.fromkeys(float(round(x)) if whole else x for x in found))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markup.table(
        [(name, "" if i == 0 else "n") for i, name in enumerate(head)], [[escape(c) for c in r] for r in rows]
    )
