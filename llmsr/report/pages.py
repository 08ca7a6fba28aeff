"""The page of a run (report.html): what it found, how well that fits, and how the run went.

The template says what stands where; here are the figures and the few sentences that depend on a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmsr.problem.loading import Problem
from llmsr.report.chart import Point, Series, chart, pairs
from llmsr.report.display import is_exact
from llmsr.report.equation import Equation
from llmsr.report.front import RULES, PickedFront
from llmsr.report.history import NEW, REPEATED, History
from llmsr.report.markup import SPLIT_TONES, number, render, scientific

if TYPE_CHECKING:
    import pandas as pd

Figure = tuple[str, str, str]  # a title, a drawing, and what is said in small letters behind the title
CLOUD = 2500  # dots
CEILING = 1e6  # of the NMSE that is drawn
RESIDUAL_POINTS = 450  # of each cloud, at equal distances in the file
MAX_INPUTS = 6  # columns against which residuals are drawn
STRETCHES = 40  # of a run, whose shares of valid and new answers are drawn
REASONS = 12  # that are told
TONES = 6


def report_page(
    result: Mapping[str, Any],
    history: History,
    problem: Problem,
    settings: Mapping[str, Any],
    front: PickedFront,
    *,
    shown: int | None = None,
    live: bool = False,
) -> str:
    """The whole page of a run as text; `result` is what `result.json` says.

    `shown` is the place on the front of the equation that is looked at, by default the pick's; a `live` page
    asks its server for changes and links to every equation.
    """
    facts = ["training with GRPO" if "curve" in result else f"search: {settings.get('search', 'unknown')}"]
    if model := settings.get("model_path") or settings.get("api_model") or history.proposer:
        facts.append(f"model: {Path(model).name if Path(model).is_absolute() else model}")
    facts += [f"seed {settings['seed']}"] if settings.get("seed") is not None else []
    given = {"facts": facts, "counts": counted(result), "result": result, "settings": settings}
    if history.samples:
        given |= _course(history, list(problem.splits))
    equation = front.pick if shown is None else front.equations[shown]
    if equation is not None:
        given |= _findings(front, equation, result, history, problem)
    return render("run.html", equation=equation, problem=problem, history=history, live=live, **given)


def counted(result: Mapping[str, Any]) -> str:
    """What a page's lead says of a run's samples."""
    state = "" if result["finished"] else " The run was still going on when this page was written."
    distinct, valid, samples = result["distinct"], result["valid"], result["samples"]
    return f"{distinct:,} distinct equations among {valid:,} valid of {samples:,} samples.{state}"


# ---- what was found


def _findings(
    front: PickedFront, picked: Equation, result: Mapping[str, Any], history: History, problem: Problem
) -> dict[str, Any]:
    """The picked equation, the front, and how well the equation fits."""
    best = result["best"]
    fits, over_inputs = _fit_figures(picked, problem)
    return {
        "origin": _origin,
        "uncertain": picked.errors["constants"],
        "lowest": best if best["sample"] != picked.sample.number and not is_exact(result["pick"]) else None,
        "heading": "Best equation" if picked is front.pick else "An equation of the front",
        "lineage": list(history.lineage(picked.sample.number).itertuples()),
        "errors": result["front"][front.equations.index(picked)],
        "pick": front.pick,
        "members": list(zip(front.equations, front.lengths, strict=True)),
        "choices": [(r, told, front.equations[front.position(r)]) for r, told in RULES.items()],
        "front_figures": [
            ("Pareto front", _front_chart(front, picked), ""),
            ("All distinct equations", _cloud(history), "training error"),
        ],
        "fits": fits,
        "over_inputs": over_inputs,
        "residual_rows": RESIDUAL_POINTS,
    }


def _origin(equation: Equation) -> str:
    source = f"ample {equation.sample.number}"
    return f"Refined without the model from s{source}" if equation.is_refined else f"S{source}"


def _front_chart(front: PickedFront, picked: Equation) -> str:
    """Complexity against NMSE: a step for the training rows with a mark per equation, rings for the tests."""
    tests = [
        Series(split, [(e.complexity, v) for e in front.equations if (v := e.nmse.get(split)) is not None],
               SPLIT_TONES[split], "ring")
        for split in ("test_ood", "test_id")
    ]  # fmt: skip
    tips = [f"complexity {e.complexity} · {_origin(e)}\n{_told(e.nmse)}" for e in front.equations]
    points = [(float(e.complexity), e.nmse.get("train") or 0.0) for e in front.equations]
    place = front.equations.index(picked)
    series = [
        *(one for one in tests if one.points),
        Series("", points, 1, "step", faint=True),
        Series("train", points, 1, "mark", tips),
        Series("shown above", [points[place]], 5, "mark", [tips[place]]),
    ]
    return chart(series, "complexity", "NMSE", log_y=True, title="Pareto front")


def _told(nmse: Mapping[str, float | None]) -> str:
    return "\n".join(f"{s}: {'not finite' if v is None else number(v)}" for s, v in nmse.items())


def _cloud(history: History) -> str:
    """Every distinct equation as a dot, or as many of them as a page can hold."""
    records = history.records
    new = records[(records.kind == NEW) & records.nmse_train.notna()]
    new = new.iloc[:: max(1, -(-len(new) // CLOUD))]
    # where nothing is below the ceiling, what is least is drawn
    ceiling = max(CEILING, new.nmse_train[new.nmse_train > 0].min())
    series = Series("", pairs(new.complexity, new.nmse_train.clip(upper=ceiling)), 6, "dots")
    return chart([series], "complexity", "NMSE, train", log_y=True)


def _fit_figures(equation: Equation, problem: Problem) -> tuple[list[Figure], list[Figure]]:
    """Predicted and residual over true value on every split; and residuals over each input."""
    fits, residuals, over_inputs = [], [], []
    target = f"{equation.target} in the data"
    for name, split in problem.splits.items():
        predicted = equation.predict(split.with_group)
        lost = int(np.count_nonzero(~np.isfinite(predicted)))
        small = f"{len(split):,} rows" + (f", {lost:,} predictions not finite" if lost else "")
        rows = evenly(len(split), RESIDUAL_POINTS)
        inputs, true, said = split.with_group[rows], split.target[rows], predicted[rows]
        with np.errstate(all="ignore"):
            rest = said - true
        tone = SPLIT_TONES.get(name, TONES)

        def cloud(x: np.ndarray, y: np.ndarray, label: str, what: str, tone: int = tone, **more: Any) -> str:
            return chart([Series("", pairs(x, y), tone, "dots")], label, what, **more)

        fits.append((name, cloud(true, said, target, f"{equation.target} predicted", diagonal=True), small))
        residuals.append((f"residuals, {name}", cloud(true, rest, target, "residual", zero=True), ""))
        if name == "train":
            for index, column in enumerate(equation.labels[:MAX_INPUTS]):
                drawing = cloud(inputs[:, index], rest, column, "residual", zero=True)
                over_inputs.append((f"residuals over {column}, train", drawing, ""))
    return fits + residuals, over_inputs


def evenly(rows: int, most: int) -> np.ndarray:
    """At most so many rows at equal distances: a page stays small and shows drifts over the file."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(int))


# ---- how it went


def best_so_far(best: pd.DataFrame, over: str, end: float, split: str = "train") -> list[Point]:
    """(samples, seconds or tokens; NMSE of the best equation so far on a split), up to `end`."""
    points = [*Series.of(best, over, f"nmse_{split}").points]
    return [*points, (end, points[-1][1])] if points and points[-1][0] < end else points


def _course(history: History, splits: Sequence[str]) -> dict[str, Any]:
    """Progress, outcomes, islands and, of a training, its steps."""
    reasons = history.reasons.most_common()
    statuses: Counter[str] = Counter()
    for (status, _), count in reasons:
        statuses[status] += count
    kinds = history.records.kind
    outcomes = [("new equation", int((kinds == NEW).sum()), 2),
                ("valid, known already", int((kinds == REPEATED).sum()), 4)]  # fmt: skip
    outcomes += [(status, count, 5) for status, count in statuses.most_common()]
    islands, steps = history.islands(), history.steps()
    series = [
        Series.of(best, "samples", "nmse_train", "", island % TONES + 1, "step", faint=True)
        for island, best in islands.items()
    ]
    drawing = chart(series, "samples", "NMSE, train", log_y=True, x_range=(0.0, history.samples))
    return {
        "progress": _progress(history, splits),
        "training": _steps(steps) if len(steps) else [],
        "outcomes": outcomes,
        "most": max(count for _, count, _ in outcomes) or 1,
        "reasons": [(f"{n:,}", status, reason or "–") for (status, reason), n in reasons[:REASONS]],
        "islands": [
            (island, len(best), f"{best.samples.iloc[-1]:,.0f}", scientific(best.nmse_train.iloc[-1]))
            for island, best in islands.items()
        ],
        "island_figures": [("Best offspring of each island so far", drawing, "")],
    }


def _progress(history: History, splits: Sequence[str]) -> list[Figure]:
    """The best equation's errors over samples and seconds, and the shares of valid and of new answers."""
    best, without = history.best(), history.best(refinements=False)
    tips = [
        f"sample {row.number:.0f} · {row.seconds:.0f} s\n"
        + _told({s: None if np.isnan(v := getattr(row, f"nmse_{s}")) else v for s in splits})
        for row in best.dropna(subset=["nmse_train"]).itertuples()
    ]
    figures = []
    for over, end in (("samples", history.samples), ("seconds", history.seconds)):
        if not end:
            continue
        series = []
        for split in reversed(splits):
            points = best_so_far(best, over, end, split)
            told = tips + tips[-1:] * (len(points) - len(tips)) if split == "train" else []
            series.append(Series(split, points, SPLIT_TONES[split], "step", told, split != "train"))
        if len(without) != len(best):
            points = best_so_far(without, over, end)
            series.append(Series("train, without refinements", points, 4, "step", faint=True))
        drawing = chart(series, over, "NMSE", log_y=True, x_range=(0.0, end))
        figures.append((f"Best so far over {over}", drawing, ""))
    shares = history.stretches(STRETCHES)
    tips = [
        f"to sample {row.samples:.0f}\nvalid {row.valid:.0%}\nnew equations {row.new:.0%}"
        for row in shares.itertuples()
    ]
    drawing = _shares_chart(shares, "samples", tips, x_range=(0.0, history.samples))
    return [*figures, ("Valid and distinct", drawing, "share of each stretch of the run")]


def _shares_chart(table: pd.DataFrame, over: str, tips: Sequence[str] = (), **more: Any) -> str:
    series = [
        Series.of(table, over, "valid", "valid", 2, "line", tips),
        Series.of(table, over, "new", "new equations", 4),
    ]
    return chart(series, over, "share", y_range=(0.0, 1.0), **more)


def _steps(steps: pd.DataFrame) -> list[Figure]:
    """A training's reward, shares of valid and of new answers, and best answer, step by step."""
    tips = [
        f"step {row.Index:.0f}: {row.answers} answers\nreward {row.reward:.3f}\n"
        f"valid {row.valid:.0%}, new {row.new:.0%}"
        for row in steps.dropna(subset=["reward"]).itertuples()
    ]
    reward = chart([Series.of(steps, "step", "reward", "", 1, "line", tips)], "step", "mean reward")
    best = chart([Series.of(steps, "step", "nmse_train", "", 3)], "step", "NMSE, train", log_y=True)
    return [
        *([("Reward", reward, "mean over the step's answers")] if tips else []),
        ("Validity", _shares_chart(steps, "step"), "share of the step's answers"),
        ("Best answer of each step", best, ""),
    ]


# ---- several problems


def problems_page(
    problems: Sequence[tuple[str, str, Equation | None, History]], whole: Mapping[str, Any]
) -> str:
    """The page of a training over several problems.

    `problems` has each one's name, the address of its own page, its pick and its history; `whole` is what
    `result.json` says of all.
    """
    rewards, shares = (
        [Series.of(history.steps(), "step", column, name, tone)
         for tone, (name, _, _, history) in enumerate(problems, start=1)]
        for column in ("reward", "valid")
    )  # fmt: skip
    return render(
        "problems.html",
        names=", ".join(name for name, *_ in problems),
        counts=counted(whole),
        problems=problems,
        drawings=[
            ("Reward", chart(rewards, "step", "mean reward"), ""),
            ("Valid answers", chart(shares, "step", "share", y_range=(0.0, 1.0)), ""),
        ],
    )
