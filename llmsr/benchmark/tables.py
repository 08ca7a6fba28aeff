"""What a benchmark says: tables as Markdown, CSV and JSON, and its pages, each a file that stands alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmsr.benchmark.measures import COSTS, SPLITS, THRESHOLDS
from llmsr.benchmark.plan import GRPO, PEER, SEARCH, Arm, Cell, Plan
from llmsr.benchmark.results import CEILING, Results, arm_records, course, middle, tests
from llmsr.benchmark.runner import DONE, CellDirectory, read_json
from llmsr.files import write_file
from llmsr.report.chart import Series, chart
from llmsr.report.markup import format_table, render
from llmsr.settings import ProposerConfig, SearchSettings

TONES = 6  # lines of one drawing
PLACES = 60  # of a curve, evenly spaced in the logarithm
AXES = {
    "samples": "LLM samples",
    "cpu_seconds": "CPU seconds",
    "tokens": "generated tokens",
    "gpu_seconds": "GPU seconds",
}
START_SECONDS = 7.0  # of CPU, until a run asks for its first sample
SAMPLE_SECONDS = {SEARCH: 0.09, GRPO: 0.23}  # of CPU for a sample, the embedded model's drawing included
KINDS = {SEARCH: "searches", GRPO: "training", PEER: "other programs"}
OF_A_RUN = ("problem", "arm", "seed", "samples", "valid", "distinct", "tokens", "fits", "cpu_seconds",
            "gpu_seconds", "seconds", "jobs", "peak_host_bytes", "peak_gpu_bytes")  # fmt: skip


class Table(NamedTuple):
    """A table of text: the names of its columns, and its rows."""

    head: list[str]
    rows: list[list[str]]


def write_pages(results: Results, output: Path) -> list[Path]:
    """Write tables, figures and the summary page into a benchmark's directory; their paths."""
    sections = [
        (problem, _figures(results, problem), problem_table(_of(results, problem)))
        for problem in results.problems
    ]
    files = {
        "summary.md": summary_markdown(results) + "\n",
        "results.csv": _csv(arm_records(results)),
        "runs.csv": _csv(run_records(results)),
        "curves.csv": _csv(curve_records(results)),
        "results.json": results_json(results),
        "index.html": render("benchmark.html", title=results.plan.title, sections=sections, **_said(results)),
    }
    for section in sections:
        page = render("benchmark.html", title=section[0], sections=[section])
        files[f"figures/{section[0].replace('/', '-')}.html"] = page
    for name, text in files.items():
        write_file(output / name, text)
    return [output / name for name in files]


# ---- texts


def summary_markdown(results: Results) -> str:
    """Everything that the tables say, as one Markdown document."""
    problems = []
    for problem in results.problems:
        notes = {m["note"]: None for arm in results.plan.arms for m in results.of(problem, arm.name)}
        problems.append((problem, problem_table(_of(results, problem)), list(filter(None, notes))))
    return render("summary.md", problems=problems, **_said(results)).rstrip("\n") + "\n"


def _said(results: Results) -> dict[str, Any]:
    """What the page and the summary say beside each problem's table."""
    return {
        "plan": results.plan,
        "state": state(results),
        "tests": test_table(results),
        "failures": results.failures,
    }


def state(results: Results) -> str:
    """How far the benchmark has come, in a sentence."""
    done, plan = sum(map(len, results.runs.values())), results.plan
    return (
        f"{len(plan.problems)} problems, {len(plan.arms)} arms, {len(plan.seeds)} seeds: {done} runs "
        f"finished, {len(results.failures)} failed, {results.missing} to do. Baseline: {plan.baseline}."
    )


def estimate_text(plan: Plan, cells: Sequence[Cell], output: Path, jobs: int) -> str:
    """The matrix of a plan with what these cells of it have yet to spend, as a table and a sentence."""
    rows, left, tokens, total, most, unknown = [], 0, 0, 0.0, 0.0, 0
    for arm in plan.arms:
        own = [CellDirectory(cell, output / cell.place) for cell in plan.cells if cell.arm is arm]
        waiting = sum(d.cell in cells and d.state().get("status") != DONE for d in own)
        # runs of another budget say nothing of these
        measures = [m for d in own if (m := read_json(d.measures)) and m["budget"] == arm.budget]
        seconds = middle(m["cpu_seconds"] for m in measures)
        left, total = left + waiting, total + waiting * (seconds or 0.0)
        if seconds is None:
            unknown, most = unknown + waiting, most + waiting * _cpu_seconds(arm)
        if arm.flags.get("use_api") or arm.flags.get("api_base"):
            tokens += waiting * arm.budget * arm.flags.get("max_tokens", ProposerConfig.max_tokens)
        rows.append([arm.name, arm.kind, str(arm.budget) if arm.kind != PEER else "-", str(len(own)),
                     str(waiting), "-" if seconds is None else f"{seconds:,.0f}",
                     " ".join(f"{k}={v}" for k, v in arm.flags.items())[:90]])  # fmt: skip
    head = ["arm", "kind", "budget", "runs", "to do", "CPU s per run", "flags"]
    return (
        f"{len(plan.problems)} problems ({', '.join(plan.problems)}) x {len(plan.arms)} arms x "
        f"{len(plan.seeds)} seeds\n\n{format_table(head, rows, words=('flags',))}\n\n"
        f"{left} runs to do; by the finished runs of their arms about "
        f"{total / 3600:.1f} core hours, with --jobs {jobs} about {total / jobs / 3600:.1f} hours if as many "
        f"cores are free, and {unknown} runs of arms that have finished none, "
        f"about {most / 3600:.1f} core hours by what runs usually take; at most {tokens:,} tokens of answers "
        "are asked of servers"
    )


def _cpu_seconds(arm: Arm) -> float:
    """What a run of an arm usually takes at most, where none is finished; docs/benchmark.md has the rates."""
    if arm.kind == PEER:
        return float(arm.flags.get("cpu_seconds", 0.0))
    searched = arm.kind == SEARCH and arm.flags.get("refine") != "off"
    seconds = arm.flags.get("structure_seconds", SearchSettings.structure_seconds) if searched else 0.0
    return START_SECONDS + SAMPLE_SECONDS[arm.kind] * arm.budget + float(seconds)


# ---- tables


def _of(results: Results, problem: str) -> list[dict[str, Any]]:
    return [record for record in arm_records(results) if record["problem"] == problem]


def problem_table(records: Sequence[dict[str, Any]]) -> Table:
    """One problem's table, an arm a row."""
    splits = [s for s in SPLITS if any(f"nmse_{s}_median" in r for r in records)]
    names = {"train": "train", "test_id": "ID", "test_ood": "OOD"}
    shared = any(r["wall_shared"] for r in records)
    head = ["arm", "runs", "samples", "valid", "distinct", *(f"NMSE {names[s]}" for s in splits),
            *(f"samples to {t}" for t in THRESHOLDS), "match", "size", "fits", "CPU s", "GPU s",
            "wall s (* shared machine)" if shared else "wall s", "memory MB", "GPU MB"]  # fmt: skip
    rows = []
    for r in records:
        peer, gpu_bytes = r["kind"] == PEER, r["peak_gpu_bytes_median"]
        shares = [r[f"{name}_share_median"] for name in ("valid", "distinct")]
        rows.append([
            r["arm"], str(r["runs"]), "–" if peer else _count(r["samples_median"]),
            *("–" if peer or share is None else f"{share:.0%}" for share in shares),
            *(_nmse(r, split) for split in splits),
            *("–" if peer else _to_threshold(r, t) for t in THRESHOLDS),
            "–" if r["matches"] is None else f"{r['matches']}/{r['runs']}",
            *(_count(r[f"{name}_median"]) for name in ("complexity", "fits", "cpu_seconds", "gpu_seconds")),
            _count(r["seconds_median"]) + (" *" if r["wall_shared"] else ""),
            _count(r["peak_host_bytes_median"] / 1e6),
            _count(None if gpu_bytes is None else gpu_bytes / 1e6),
        ])  # fmt: skip
    return Table(head, rows)


def test_table(results: Results) -> Table:
    """The paired tests, an arm a row."""
    found = tests(results)
    head = ["arm", "against", "pairs"]
    for split in SPLITS:
        head += [f"{split}: decades", "better/worse", "p (Holm)"]
    rows = []
    for arm in results.plan.arms:
        ones = [found[split].get(arm.name) for split in SPLITS]
        if any(ones):
            rows.append([arm.name, arm.against, str(max(one.pairs for one in ones if one))])
        for one in ones if any(ones) else ():
            told = one and [f"{one.difference:+.2f}", f"{one.better}/{one.worse}", f"{one.p_holm:.3g}"]
            rows[-1] += told or ["–"] * 3
    return Table(head, rows)


def _nmse(record: dict[str, Any], split: str) -> str:
    found: list[Any] = [record.get(f"nmse_{split}_{name}") for name in ("median", "min", "max")]
    if None in found:
        return "–"
    # 1.2e-5, as people write it
    shown = [f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+") for value in found]
    median, low, high = ("fails" if v >= 0.99 * CEILING else t for v, t in zip(found, shown, strict=True))
    return f"{median} [{low}, {high}]"


def _to_threshold(record: dict[str, Any], threshold: str) -> str:
    median, reached = record[f"samples_to_{threshold}_median"], record[f"reached_{threshold}"]
    told = _count(median) if median is not None else f"not in {_count(record['samples_median'])}"
    return f"{told} ({reached}/{record['runs']})"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


# ---- data


def results_json(results: Results) -> str:
    """Records, tests, ratios and failures as JSON."""
    content = {
        "title": results.plan.title,
        "baseline": results.plan.baseline,
        "missing": results.missing,
        "arms": arm_records(results),
        "tests": {split: {n: c._asdict() for n, c in of.items()} for split, of in tests(results).items()},
        "failures": [{"cell": place, "reason": reason} for place, reason in results.failures],
    }
    return json.dumps(content, indent=1) + "\n"


def run_records(results: Results) -> list[dict[str, Any]]:
    """One record per finished run."""
    records = []
    for m in (m for runs in results.runs.values() for m in runs):
        final = m["final"] or {"nmse": {}}
        record = {name: m[name] for name in OF_A_RUN}
        record |= {f"nmse_{split}": final["nmse"].get(split) for split in SPLITS}
        record |= {f"samples_to_{t}": (m["reached"][t] or {}).get("samples") for t in THRESHOLDS}
        records.append(record | {key: final.get(key) for key in ("complexity", "match", "equation")})
    return records


def curve_records(results: Results) -> list[dict[str, Any]]:
    """The best-so-far NMSE of each problem, arm and split at budgets of 1, 2, 5, 10, ... of every unit."""
    records = []
    for (problem, arm), runs in results.runs.items():
        for unit in COSTS:
            end = _end(runs, unit)
            places = [float(m * 10**e) for e in range(9) for m in (1, 2, 5) if m * 10**e < end]
            places += [float(end)] * (end > 0)
            for split in SPLITS:
                for place, found in zip(places, course(runs, unit, split, places), strict=True):
                    if found is not None:
                        nmse = {"median": found.median, "min": found.low, "max": found.high}
                        records.append(
                            {"problem": problem, "arm": arm, "unit": unit, "budget": place, "split": split,
                             "runs": len(runs)}
                            | {f"nmse_{name}": float(f"{value:.4g}") for name, value in nmse.items()}
                        )  # fmt: skip
    return records


def _end(runs: Sequence[dict[str, Any]], unit: str) -> float:
    return max((m[unit] or 0 for m in runs), default=0)


def _csv(records: Sequence[dict[str, Any]]) -> str:
    import pandas as pd

    # objects: a whole number stays one in a column that other records leave empty
    return pd.DataFrame(records, dtype=object).to_csv(index=False, lineterminator="\n")


# ---- figures


def _figures(results: Results, problem: str) -> list[tuple[str, str, str]]:
    """One problem's figures, a line per arm: over each cost for the training rows, over samples for all."""
    figures = []
    for title, arms in _drawn_together(results.plan):
        for unit, label in AXES.items():
            for split in SPLITS if unit == "samples" else SPLITS[:1]:
                if drawing := _curves(results, problem, arms, unit, split):
                    figures.append((f"{title}: NMSE {split} over {label}", drawing, "median of the seeds"))
    return figures


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
        end = _end(runs, unit)
        # another program has no samples of a model to be drawn over
        if not end or (arm.kind == PEER and unit in ("samples", "tokens")):
            continue
        # evenly spaced in the logarithm
        places = np.geomspace(min(1.0, end), end, PLACES)
        if unit in ("samples", "tokens"):
            places = np.unique(np.rint(places))
        found = zip(places.tolist(), course(runs, unit, split, places.tolist()), strict=True)
        points = [(x, y.median) for x, y in found if y is not None and y.median < CEILING]
        tips = [f"{arm.title}\n{AXES[unit]} {x:.0f}\nNMSE {y:.2e}" for x, y in points]
        series.append(Series(arm.title, points, tone, "step", tips))
    if not any(s.points for s in series) or (len(arms) > 1 and not any(s.tone > 1 for s in series)):
        return ""
    return chart(series, AXES[unit], f"NMSE {split}", log_x=True, log_y=True)
