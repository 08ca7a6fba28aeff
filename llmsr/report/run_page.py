"""report.html: one file that shows what a run found, how well it fits, and how the run went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmsr.problem.loading import Problem
from llmsr.report import markup
from llmsr.report.chart import Series, chart
from llmsr.report.equation import Equation
from llmsr.report.front import RULES, SPLITS, PickedFront
from llmsr.report.history import History
from llmsr.report.markup import escape, number, scientific
from llmsr.report.mathml import to_mathml
from llmsr.report.progress_curves import progress_sections
from llmsr.report.recorded_runs import TRAINING
from llmsr.report.terminal import is_exact

CLOUD = 2500  # dots
CEILING = 1e6  # of the NMSE that is drawn
TYPESET_LIMIT = 250  # complexity up to which the front's table typesets an equation
RESIDUAL_POINTS = 450  # of each cloud, at equal distances in the file
MAX_INPUTS = 6  # columns against which residuals are drawn


def report_page(
    result: Mapping[str, Any],
    history: History,
    problem: Problem,
    settings: Mapping[str, Any],
    mode: str,
    front: PickedFront,
) -> str:
    """The whole page as text; `result` is what `result.json` says."""
    parts = [_header(result, problem, settings, mode, history.proposer)]
    if front.pick is None:
        parts.append(
            markup.section("No valid equation yet", "<p>No sample could be fitted to the data so far.</p>")
        )
    else:
        parts += [
            _best(front.pick, result),
            _front(front, history, len(problem.train)),
            _residual_plots(front.pick, problem),
        ]
    parts += progress_sections(history)
    parts.append(_cost(result, history, settings))
    parts.append(
        "<footer>NMSE: mean squared error over the variance of the target, on the rows named. "
        "Constants are fitted and equations picked on the training rows alone.</footer>"
    )
    return markup.page(f"{problem.name}: equations found", "".join(parts))


def equation_markup(equation: Equation) -> str:
    """The simplified equation typeset, wrapping between its terms where the line is full."""
    terms = to_mathml(equation.target, equation.simplified.expression, None)
    size = " long" if len(equation.text()) > 90 else ""
    return f'<div class="equation{size}">{" ".join(terms)}</div>'


def counted(result: Mapping[str, Any]) -> str:
    """What a page's lead says of a run's samples."""
    state = "" if result["finished"] else " The run was still going on when this page was written."
    distinct, valid, samples = result["distinct"], result["valid"], result["samples"]
    return f"{distinct:,} distinct equations among {valid:,} valid of {samples:,} samples.{state}"


def _header(
    result: Mapping[str, Any], problem: Problem, settings: Mapping[str, Any], mode: str, proposer: str
) -> str:
    facts = ["training with GRPO" if mode == TRAINING else f"search: {settings.get('search', 'unknown')}"]
    model = settings.get("model_path") or settings.get("api_model") or proposer
    if model:
        facts.append(f"model: {Path(model).name if Path(model).is_absolute() else model}")
    if settings.get("seed") is not None:
        facts.append(f"seed {settings['seed']}")
    lead = f"{problem.target} as a function of {', '.join(problem.spec.columns)}: {counted(result)}"
    return markup.header(" · ".join(facts), problem.name, lead, problem.note)


def _best(equation: Equation, result: Mapping[str, Any]) -> str:
    about = (
        f"{_origin(equation)}, complexity {equation.complexity}. Constants are rounded as far "
        "as the training error allows (1 %, or 1e-10 of NMSE)"
    )
    dropped = equation.simplified.dropped
    if dropped:
        about += f"; {dropped} term{'s' * (dropped > 1)} without effect left out"
    tiles = [
        (scientific(value, "not finite"), f"NMSE {split}", markup.SPLIT_TONES.get(split))
        for split, value in equation.nmse.items()
    ]
    content = [equation_markup(equation), markup.tiles(tiles)]
    if equation.simplified.recognised:
        offers = "; ".join(
            f"<b>{number(r.number)}</b> is near {escape(r.name)}" for r in equation.simplified.recognised
        )
        content.append(
            f'<p>Perhaps: {offers}. <span class="lead">Offered because the training error allows it; '
            "nothing was replaced.</span></p>"
        )
    best = result["best"]
    if best and best["sample"] != equation.sample.number and not is_exact(result["pick"]):
        content.append(
            f'<p class="lead">The lowest training error has sample {best["sample"]} of complexity '
            f"{best['complexity']}: NMSE {scientific(best['nmse'].get('train'))}.</p>"
        )
    constants = [
        (f"<code>{escape(name)}</code>", scientific(value), f"<code>{value!r}</code>")
        for name, value in equation.constants.items()
    ]
    if constants:
        head = (("constant", ""), ("about", "n"), ("all digits", "n"))
        content.append(markup.details("Fitted constants", markup.table(head, constants)))
    content.append(markup.details("LaTeX", markup.source(equation.latex())))
    content.append(markup.details("Python", markup.source(equation.python())))
    if equation.exact_sympy:
        content.append(markup.details("sympy, all digits", markup.source(equation.exact_sympy)))
    compared = markup.table(
        (("rows", ""), ("NMSE, all digits", "n"), ("NMSE, rounded", "n")),
        [
            (escape(split), scientific(value), scientific(equation.simplified_nmse.get(split)))
            for split, value in equation.nmse.items()
        ],
    )
    content.append(markup.details("What rounding costs", compared))
    return markup.section("Best equation", *content, hint=about + ".")


def _origin(equation: Equation) -> str:
    source = f"ample {equation.sample.number}"
    return f"Refined without the model from s{source}" if equation.is_refined else f"S{source}"


def _front(front: PickedFront, history: History, rows: int) -> str:
    splits = [split for split in SPLITS if split in front.equations[0].nmse]
    return markup.section(
        "Accuracy against size",
        markup.grid(
            markup.figure("Pareto front", _front_plot(front)),
            markup.figure("All distinct equations", _cloud(history), "training error"),
            _choices(front, rows),
        ),
        markup.table(
            [
                ("complexity", "n"),
                ("equation", "wide"),
                ("score", "n"),
                *((f"NMSE {s}", "n") for s in splits),
            ],
            [_front_row(front, i, splits) for i in range(len(front.equations))],
            front.picked,
        ),
        hint="Equations that no smaller one beats on the training rows. The score is the gain in log error "
        "per unit of complexity; complexity counts operators, columns and constants.",
    )


def _front_plot(front: PickedFront) -> str:
    """Complexity against NMSE: a step for the training rows with a mark per equation, rings for the tests."""
    equations, picked = front.equations, front.picked or 0
    series = []
    for split in ("test_ood", "test_id"):
        points = [(float(e.complexity), value) for e in equations if (value := e.nmse.get(split)) is not None]
        if points:
            series.append(Series(split, points, markup.SPLIT_TONES[split], "rings"))
    # a perfect zero has no logarithm
    train = [(float(e.complexity), e.nmse.get("train") or 1e-33) for e in equations]
    tips = [
        f"complexity {e.complexity} · {_origin(e)}\n"
        + "\n".join(f"{s}: {'not finite' if v is None else number(v)}" for s, v in e.nmse.items())
        for e in equations
    ]
    series.append(Series("", train, 1, "step", faint=True))
    series.append(Series("train", train, 1, "marks", tips))
    series.append(Series("pick", [train[picked]], 5, "marks", [tips[picked]]))
    return chart(series, "complexity", "NMSE", log_y=True, whole_x=True, title="Pareto front")


def _front_row(front: PickedFront, index: int, splits: list[str]) -> list[str]:
    equation = front.equations[index]
    badge = '<span class="badge">pick</span>' if index == front.picked else ""
    badge += '<span class="badge refined">refined</span>' if equation.is_refined else ""
    small = equation.complexity <= TYPESET_LIMIT
    shown = equation_markup(equation) if small else f"<code>{escape(equation.text()[:600])}</code>"
    nmse = [scientific(equation.nmse.get(split), "not finite") for split in splits]
    return [f"{equation.complexity}{badge}", shown, number(round(front.scores[index], 3)), *nmse]


def _cloud(history: History) -> str:
    """Every distinct equation as a dot, or as many of them as a page can hold."""
    stride = max(1, -(-len(history.sizes) // CLOUD))
    points = list(zip(history.sizes[::stride], history.errors[::stride], strict=True))
    low = min((e for _, e in points if e > 0), default=1e-3)
    points = [(size, min(max(error, 1e-33), max(CEILING, low))) for size, error in points]
    return chart([Series("", points, 6, "dots")], "complexity", "NMSE, train", log_y=True, whole_x=True)


def _choices(front: PickedFront, rows: int) -> str:
    """What each rule of selection would pick."""
    lines = []
    for rule, told in RULES.items():
        chosen = front.equations[front.position(rule, 0.5, rows)]
        name = f"<b>{rule}</b><br><small>{told}</small>"
        lines.append((name, str(chosen.complexity), str(chosen.sample.number)))
    return markup.table((("rule", ""), ("complexity", "n"), ("sample", "n")), lines)


def _residual_plots(equation: Equation, problem: Problem) -> str:
    """Predicted and residual over true value on every split, and residuals over each input."""
    target = f"{equation.target} in the data"
    fits, residuals, over_inputs = [], [], []
    for name, split in problem.splits.items():
        tone = markup.SPLIT_TONES.get(name, 6)
        predicted = equation.predict(split.inputs)
        lost = int(np.count_nonzero(~np.isfinite(predicted)))
        small = f"{len(split):,} rows" + (f", {lost:,} predictions not finite" if lost else "")
        rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), RESIDUAL_POINTS)).astype(int))
        with np.errstate(all="ignore"):
            rest = predicted - split.target
        cloud = [Series("", _pairs(split.target[rows], predicted[rows]), tone, "dots")]
        fits.append(
            markup.figure(name, chart(cloud, target, f"{equation.target} predicted", diagonal=True), small)
        )
        cloud = [Series("", _pairs(split.target[rows], rest[rows]), tone, "dots")]
        residuals.append(markup.figure(f"residuals, {name}", chart(cloud, target, "residual", zero=True)))
        if name != "train":
            continue
        for index, column in enumerate(equation.labels[:MAX_INPUTS]):
            cloud = [Series("", _pairs(split.inputs[rows, index], rest[rows]), 1, "dots")]
            drawing = chart(cloud, column, "residual", zero=True)
            over_inputs.append(markup.figure(f"residuals over {column}, train", drawing))
    return markup.section(
        "Fit",
        markup.grid(*fits, *residuals),
        markup.details("Residuals over each input", markup.grid(*over_inputs)),
        hint=f"Up to {RESIDUAL_POINTS} rows of each split, at equal distances in the file. The residual is "
        "predicted minus true; a pattern in it is law that the equation misses.",
    )


def _pairs(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _cost(result: Mapping[str, Any], history: History, settings: Mapping[str, Any]) -> str:
    def told(seconds: float) -> str:
        return duration(seconds) if seconds else "not recorded"

    entries = {
        "samples": f"{result['samples']:,}",
        "generated tokens": f"{result['tokens']:,}",
        "fits": f"{result['fits']:,} (equal equations are fitted once)",
        "wall time": told(history.seconds),
        "asking the model": told(history.generation_seconds),
        "fitting": f"{duration(history.fit_seconds)} ({duration(history.cpu_seconds)} of CPU)",
    }
    if result["refinements"]:
        fits = f"{result['refinements']:,} equations, {history.refinement_fits:,} fits, no samples"
        entries["refinements"] = fits
    if result["failed_prompts"]:
        entries["failed prompts"] = f"{result['failed_prompts']:,}"
    if history.deadlines:
        entries["fits cut at their deadline"] = f"{history.deadlines:,}"
    return markup.section(
        "Cost and configuration",
        markup.definitions(entries),
        markup.details("All settings", markup.settings_list(settings)),
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them: 4.2 s, 12 min 5 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
