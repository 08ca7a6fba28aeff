"""What a benchmark says: tables as Markdown, CSV and JSON, and its pages, each a file that stands alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmsr.benchmark.measures import COSTS, SPLITS, THRESHOLDS
from llmsr.benchmark.plan import GRPO, PEER, SEARCH, Arm, Plan
from llmsr.benchmark.results import Results, arm_records, claim, course, memory_ratio, tests, trained
from llmsr.benchmark.statistics import CEILING, Spread
from llmsr.files import write_file
from llmsr.report.chart import Series, chart
from llmsr.report.markup import render

Section = tuple[str, list[tuple[str, str, str]], tuple[list[str], list[list[str]]]]

NOTES = (
    "NMSE: mean squared error over the variance of the target, of the equation with the least training "
    "error (below 1e-26 the smallest); median over seeds, the range in brackets. A prediction that is "
    "not finite is a failure and "
    "counts as the largest error.",
    "LLM samples do not count refinements, whose fits are among the fits. CPU seconds are those of all "
    "processes of a run, training included; memory is the peak over time of the proportional set sizes of "
    "all its processes together.",
    "Samples to a threshold: the Kaplan-Meier median over seeds, runs that did not get there censored at "
    "what they spent; in brackets how many got there.",
    "Match: in the boxes of the train and of the test_ood inputs, the law's skeleton, refitted to what the "
    "equation predicts, follows it with NMSE below 1e-10, and the law itself below 1e-3 (numeric-symbolic).",
)
TEST_NOTE = (
    "Wilcoxon's signed-rank test on log10 NMSE over pairs of equal problem and seed, errors below 1e-10 "
    "taken as equal; p after Holm's correction over the arms. Difference: median in decades, "
    "below 0 is better."
)
TONES = 6  # lines of one drawing
PLACES = 60  # of a curve, evenly spaced in the logarithm
AXES = {
    "samples": "LLM samples",
    "cpu_seconds": "CPU seconds",
    "tokens": "generated tokens",
    "gpu_seconds": "GPU seconds",
}
KINDS = {SEARCH: "searches", GRPO: "training", PEER: "other programs"}


def summary_markdown(results: Results) -> str:
    """Everything that the tables say, as one Markdown document."""
    parts = [f"# {results.plan.title}", "", state(results), ""]
    for problem in results.plan.problems:
        records = [r for r in arm_records(results) if r["problem"] == problem]
        if records:
            parts += [f"## {problem}", "", *markdown_table(*problem_table(records)), ""]
            notes = {m["note"]: None for arm in results.plan.arms for m in results.of(problem, arm.name)}
            parts += [line for note in notes if note for line in (note, "")]
    parts += [*(f"- {note}" for note in NOTES), ""]
    head, rows = test_table(results)
    if rows:
        parts += ["## Paired tests", "", *markdown_table(head, rows), "", TEST_NOTE, ""]
    head, rows = claim_table(results)
    if rows:
        parts += [f"## {claim_title(results)}", "", *markdown_table(head, rows), "", claim_note(results), ""]
        parts += [*(f"- {line}" for line in memory_lines(results)), ""]
    if results.failures:
        parts += ["## Failed runs", "", *(f"- {place}: {reason}" for place, reason in results.failures), ""]
    return "\n".join(parts)


def claim_note(results: Results) -> str:
    """What the columns of the claim's table mean."""
    least = results.plan.claim.partition("-")[0] or "1"
    return (
        "Ratio: the baseline's restricted mean cost to the threshold over the arm's, geometric mean over "
        "problems, 95% bootstrap interval over seeds; above 1 the arm is quicker. Runs that did not "
        f"get there are censored. Supported: the interval lies at {least} or above; refuted: below {least}, "
        "and the baseline got there as often as the arm (else the ratio is a lower bound); open: all else."
    )


def claim_title(results: Results) -> str:
    claim = results.plan.claim
    told = f"{claim.replace('-', ' to ')} times faster" if claim else "faster"
    return f"Is training {told} than {results.plan.baseline}?"


def state(results: Results) -> str:
    """How far the benchmark has come, in a sentence."""
    done = sum(map(len, results.runs.values()))
    plan = results.plan
    return (
        f"{len(plan.problems)} problems, {len(plan.arms)} arms, {len(plan.seeds)} seeds: {done} runs "
        f"finished, "
        f"{len(results.failures)} failed, {results.missing} to do. Baseline: {plan.baseline}."
    )


def problem_table(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of one problem's table, an arm a row."""
    splits = [s for s in SPLITS if any(f"nmse_{s}_median" in r for r in records)]
    names = {"train": "train", "test_id": "ID", "test_ood": "OOD"}
    head = ["arm", "runs", "samples", "valid", "distinct", *(f"NMSE {names[s]}" for s in splits),
            *(f"samples to {t:g}" for t in THRESHOLDS), "match", "size", "fits", "CPU s", "GPU s", "wall s",
            "memory MB", "GPU MB"]  # fmt: skip
    rows = []
    for r in records:
        peer = r["kind"] == PEER
        rows.append([
            r["arm"], str(r["runs"]), "–" if peer else _count(r["samples_median"]),
            *("–" if peer else _share(r[f"{name}_share_median"]) for name in ("valid", "distinct")),
            *(_nmse(r, split) for split in splits),
            *("–" if peer else _to_threshold(r, f"{t:g}") for t in THRESHOLDS),
            "–" if r["matches"] is None else f"{r['matches']}/{r['runs']}",
            _count(r["complexity_median"]), _count(r["fits_median"]), _count(r["cpu_seconds_median"]),
            _count(r["gpu_seconds_median"]),
            _count(r["seconds_median"]) + (" *" if r["wall_shared"] else ""),
            _count(r["peak_host_bytes_median"] / 1e6), _mega(r["peak_gpu_bytes_median"]),
        ])  # fmt: skip
    if any(r["wall_shared"] for r in records):
        head[head.index("wall s")] = "wall s (* shared machine)"
    return head, rows


def test_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the paired tests, an arm a row."""
    found = tests(results)
    arms = [arm for arm in results.plan.arms if any(arm.name in of_split for of_split in found.values())]
    head = ["arm", "against", "pairs"]
    for split in SPLITS:
        head += [f"{split}: decades", "better/worse", "p (Holm)"]
    rows = []
    for arm in arms:
        name = arm.name
        row = [name, arm.against, str(max(of[name].pairs for of in found.values() if name in of))]
        for split in SPLITS:
            one = found[split].get(name)
            row += ["–"] * 3 if one is None else [
                f"{one.difference:+.2f}", f"{one.better}/{one.worse}", f"{one.p_holm:.3g}"
            ]  # fmt: skip
        rows.append(row)
    return head, rows


def claim_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the claim's ratios, one per trained arm, threshold and unit."""
    head = [
        "arm",
        "against",
        "NMSE",
        "counted in",
        "times quicker",
        "95% interval",
        "got there (arm, baseline)",
        "problems",
        f"{results.plan.claim} times" if results.plan.claim else "quicker",
    ]
    rows = []
    for entry in claim(results):
        ratio = entry.get("ratio")
        interval = entry.get("interval")
        reached = entry.get("reached")
        rows.append([
            entry["arm"], entry["against"], f"{entry['threshold']:g}", entry["unit"].replace("_", " "),
            f"{ratio:.2f}" if ratio is not None else "–",
            f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "–",
            f"{reached[0]}, {reached[1]} of {entry['runs']}" if reached else "none",
            str(entry.get("problems", 0)), entry["verdict"],
        ])  # fmt: skip
    return head, rows


def memory_lines(results: Results) -> list[str]:
    """A sentence per trained arm on its peak memory against its baseline's."""
    lines = []
    for arm in trained(results):
        for what, key in (("host", "peak_host_bytes"), ("GPU", "peak_gpu_bytes")):
            found = memory_ratio(results, arm, key)
            if found is not None:
                ratio, interval = found
                more = f" (95% interval {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
                lines.append(
                    f"{arm.name}: peak {what} memory is {ratio:.2f} times that of {arm.against}{more}."
                )
    return lines


def results_json(results: Results) -> str:
    """Records, tests, ratios and failures as JSON."""
    content = {
        "title": results.plan.title,
        "baseline": results.plan.baseline,
        "missing": results.missing,
        "arms": arm_records(results),
        "tests": {split: {n: asdict(c) for n, c in of.items()} for split, of in tests(results).items()},
        "claim": claim(results),
        "failures": [{"cell": place, "reason": reason} for place, reason in results.failures],
    }
    return json.dumps(content, indent=1) + "\n"


def results_csv(results: Results) -> str:
    """One line per problem and arm."""
    return _csv(arm_records(results))


def runs_csv(results: Results) -> str:
    """One line per finished run."""
    plain = ["problem", "arm", "seed", "samples", "valid", "distinct", "tokens", "fits", "cpu_seconds",
             "gpu_seconds", "seconds", "jobs", "peak_host_bytes", "peak_gpu_bytes"]  # fmt: skip
    records = []
    for m in (m for runs in results.runs.values() for m in runs):
        final = m["final"] or {"nmse": {}}
        record = {name: m[name] for name in plain}
        record |= {f"nmse_{split}": final["nmse"].get(split) for split in SPLITS}
        record |= {f"samples_to_{t:g}": (m["reached"][f"{t:g}"] or {}).get("samples") for t in THRESHOLDS}
        records.append(record | {key: final.get(key) for key in ("complexity", "match", "equation")})
    return _csv(records)


def curves_csv(results: Results) -> str:
    """The best-so-far NMSE of each problem, arm and split at budgets of 1, 2, 5, 10, ... of every unit."""
    records = []
    for problem in results.plan.problems:
        for arm in results.plan.arms:
            runs = results.of(problem, arm.name)
            for unit in COSTS:
                end = max((m[unit] or 0 for m in runs), default=0)
                places = budgets(end)
                for split in SPLITS:
                    for place, found in zip(places, course(runs, unit, split, places), strict=True):
                        if found is not None:
                            where = {"problem": problem, "arm": arm.name, "unit": unit, "budget": place}
                            records.append(where | {"split": split, "runs": len(runs)} | _nmse_cells(found))
    return _csv(records)


def _nmse_cells(found: Spread) -> dict[str, float]:
    values = {"median": found.median, "min": found.low, "max": found.high}
    return {f"nmse_{name}": float(f"{value:.4g}") for name, value in values.items()}


def budgets(end: float) -> list[float]:
    """1, 2, 5, 10, 20, 50, ... up to `end`, and `end` itself."""
    steps = [float(m * 10**e) for e in range(9) for m in (1, 2, 5) if m * 10**e < end]
    return [*steps, float(end)] if end > 0 else []


def _csv(records: Sequence[dict[str, Any]]) -> str:
    import pandas as pd

    return pd.DataFrame(records, dtype=object).to_csv(index=False, lineterminator="\n")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def short(value: float) -> str:
    """An NMSE in few characters; `fails` for one that is not finite."""
    return "fails" if value >= 0.99 * CEILING else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _nmse(record: dict[str, Any], split: str) -> str:
    median = record.get(f"nmse_{split}_median")
    if median is None:
        return "–"
    low, high = record[f"nmse_{split}_min"], record[f"nmse_{split}_max"]
    return f"{short(median)} [{short(low)}, {short(high)}]"


def _to_threshold(record: dict[str, Any], threshold: str) -> str:
    median, reached = record[f"samples_to_{threshold}_median"], record[f"reached_{threshold}"]
    told = _count(median) if median is not None else f"not in {_count(record['samples_median'])}"
    return f"{told} ({reached}/{record['runs']})"


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _mega(value: float | None) -> str:
    return _count(None if value is None else value / 1e6)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def write_pages(results: Results, output: Path) -> list[Path]:
    """Write tables, figures and the summary page into a benchmark's directory; their paths."""
    sections = [
        _problem_section(results, problem)
        for problem in results.plan.problems
        if any(results.of(problem, arm.name) for arm in results.plan.arms)
    ]
    files = {
        "summary.md": summary_markdown(results) + "\n",
        "results.csv": results_csv(results),
        "runs.csv": runs_csv(results),
        "curves.csv": curves_csv(results),
        "results.json": results_json(results),
        "index.html": _summary_page(results, sections),
    }
    for section in sections:
        page = render("benchmark.html", title=section[0], lead="", problems=[section], tables=[], notes=[])
        files[f"figures/{section[0].replace('/', '-')}.html"] = page
    for name, text in files.items():
        write_file(output / name, text)
    return [output / name for name in files]


def _summary_page(results: Results, sections: Sequence[Section]) -> str:
    """The whole comparison on one page."""
    failed = ["run", "reason"], [[place, reason] for place, reason in results.failures]
    return render(
        "benchmark.html",
        title=results.plan.title,
        lead=state(results),
        problems=sections,
        tables=[
            ("Paired tests", TEST_NOTE, test_table(results), ()),
            (claim_title(results), claim_note(results), claim_table(results), memory_lines(results)),
            ("Failed runs", "", failed, ()),
        ],
        notes=NOTES,
    )


def _problem_section(results: Results, problem: str) -> Section:
    """One problem's figures, a line per arm, and its table."""
    figures = []
    for title, arms in _drawn_together(results.plan):
        for unit, label in AXES.items():
            for split in SPLITS if unit == "samples" else SPLITS[:1]:
                if drawing := _curves(results, problem, arms, unit, split):
                    figures.append((f"{title}: NMSE {split} over {label}", drawing, "median of the seeds"))
    records = [r for r in arm_records(results) if r["problem"] == problem]
    return problem, figures, problem_table(records)


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
