"""A run over several problems: each has its own files, and these are the ones that are about all.

result.json  curve.csv  report.html      beside results/<problem>/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmsr.files import write_file
from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.learning import curve_csv, learning_curve
from llmsr.report.outputs import Outputs
from llmsr.report.page import equation_markup
from llmsr.report.text import escape


def write_several(
    directory: Path, runs: Sequence[Outputs], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Write the files about all problems of a run and hand back what `result.json` says.

    `results` are what the problems' own files say; their counts are summed, and nothing else is.
    """
    whole = overall(runs, results)
    write_file(directory / "result.json", json.dumps(whole, indent=2) + "\n")
    if whole["curve"]:
        write_file(directory / "curve.csv", curve_csv(whole["curve"]))
    write_file(directory / "report.html", _page(directory, runs, whole))
    return whole


def overall(runs: Sequence[Outputs], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The outcome of all problems together as plain data; `problems` holds each one's own."""
    counts = ("samples", "valid", "distinct", "tokens", "fits", "fit_seconds", "cpu_seconds")
    return {
        "problem": ",".join(result["problem"] for result in results),
        **{name: sum(result.get(name, 0) for result in results) for name in counts},
        "seconds": max(result.get("seconds", 0.0) for result in results),
        **{name: results[0].get(name) for name in ("mode", "trainer", "base_model")},
        "finished": all(result.get("finished") for result in results),
        "problems": list(results),
        "curve": learning_curve([run.history for run in runs]),
    }


def _page(directory: Path, runs: Sequence[Outputs], whole: Mapping[str, Any]) -> str:
    state = "" if whole["finished"] else " The run was still going on when this page was written."
    names = ", ".join(run.problem.name for run in runs)
    parts = [
        f'<header><p class="kicker">training with GRPO on several problems</p><h1>{escape(names)}</h1>'
        f'<p class="lead">{whole["distinct"]:,} distinct equations among {whole["valid"]:,} valid of '
        f"{whole['samples']:,} samples.{state}</p></header>"
    ]
    head = (
        ("problem", ""),
        ("best equation", "wide"),
        ("NMSE train", "n"),
        ("test_id", "n"),
        ("test_ood", "n"),
    )
    rows = []
    for run in runs:
        equations = run.equations()
        picked = run.picked(equations)
        page = (run.output / "report.html").relative_to(directory)
        link = f'<a href="{escape(page)}">{escape(run.problem.name)}</a>'
        if picked is None:
            rows.append([link, "none yet", "–", "–", "–"])
            continue
        best = equations[picked]
        nmse = best.sample.evaluation.nmse
        figures = [markup.figures(nmse.get(split)) for split in ("train", "test_id", "test_ood")]
        rows.append([link, equation_markup(best), *figures])
    parts.append(markup.section("Best equations", markup.table(head, rows)))
    rewards, shares = [], []
    for tone, run in enumerate(runs, start=1):
        steps = sorted(run.history.steps.items())
        found = [(float(n), s.mean_reward) for n, s in steps if s.mean_reward is not None]
        rewards.append(Series(run.problem.name, found, tone))
        shares.append(Series(run.problem.name, [(float(n), s.valid / s.samples) for n, s in steps], tone))
    drawings = [
        markup.figure("Reward", chart(rewards, "step", "mean reward", whole_x=True)),
        markup.figure("Valid answers", chart(shares, "step", "share", whole_x=True, y_range=(0.0, 1.0))),
    ]
    parts.append(markup.section("Training", markup.grid(*drawings)))
    return markup.page(f"{names}: equations found", "".join(parts))
