"""report.html: one file that shows what a run found, how well it fits, and how the run went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmsr.problem.loading import Problem
from llmsr.report import fitted, markup
from llmsr.report.chart import Series, chart, number
from llmsr.report.course import course_sections
from llmsr.report.equation import Equation
from llmsr.report.files import equation_module
from llmsr.report.front import RULES, pick
from llmsr.report.history import History
from llmsr.report.mathml import to_mathml
from llmsr.report.recorded import TRAINING
from llmsr.report.terminal import is_exact
from llmsr.report.text import escape
from llmsr.sample import REFINE

CLOUD = 2500  # dots
CEILING = 1e6  # of the NMSE that is drawn
TYPESET_LIMIT = 250  # complexity up to which the front's table typesets an equation


def report_page(
    result: Mapping[str, Any],
    history: History,
    problem: Problem,
    settings: Mapping[str, Any],
    mode: str,
    equations: Sequence[Equation],
    picked: int | None,
) -> str:
    """The whole page as text."""
    parts = [_header(result, problem, settings, mode, history.proposer)]
    if picked is None:
        parts.append(
            markup.section("No valid equation yet", "<p>No sample could be fitted to the data so far.</p>")
        )
    else:
        best = equations[picked]
        parts.append(_best(best, result))
        parts.append(_front(equations, picked, history))
        parts.append(fitted.fit_section(best))
    parts += course_sections(history)
    parts.append(_cost(result, history, settings))
    parts.append(
        "<footer>NMSE: mean squared error over the variance of the target, on the rows named. "
        "Constants are fitted and equations picked on the training rows alone.</footer>"
    )
    return markup.page(f"{problem.name}: equations found", "".join(parts))


def _header(
    result: Mapping[str, Any], problem: Problem, settings: Mapping[str, Any], mode: str, proposer: str
) -> str:
    facts = ["training with GRPO" if mode == TRAINING else f"search: {settings.get('search', 'unknown')}"]
    model = settings.get("model_path") or settings.get("api_model") or proposer
    if model:
        facts.append(f"model: {Path(model).name if Path(model).is_absolute() else model}")
    if settings.get("seed") is not None:
        facts.append(f"seed {settings['seed']}")
    state = "" if result["finished"] else " The run was still going on when this page was written."
    columns = ", ".join(problem.spec.columns)
    note = f'<p class="note">{escape(problem.note)}</p>' if problem.note else ""
    distinct, valid, samples = result["distinct"], result["valid"], result["samples"]
    return (
        f'<header><p class="kicker">{escape(" · ".join(facts))}</p><h1>{escape(problem.name)}</h1>'
        f'<p class="lead">{escape(problem.target)} as a function of {escape(columns)}: {distinct:,} distinct '
        f"equations among {valid:,} valid of {samples:,} samples.{state}</p>{note}</header>"
    )


def equation_markup(equation: Equation, tidy: bool = True) -> str:
    """The equation typeset, wrapping between its terms where the line is full."""
    terms = to_mathml(equation.target, equation.tidy.expression, None)
    size = " long" if len(equation.tidy_text) > 90 else ""
    return f'<div class="equation{size}">{" ".join(terms)}</div>'


def _best(equation: Equation, result: Mapping[str, Any]) -> str:
    evaluation = equation.sample.evaluation
    about = (
        f"{_origin(equation)}, complexity {evaluation.complexity}. Constants are rounded as far "
        "as the training error allows (1 %, or 1e-10 of NMSE)"
    )
    dropped = equation.tidy.dropped
    if dropped:
        about += f"; {dropped} term{'s' * (dropped > 1)} without effect left out"
    tiles = [
        (markup.figures(value, "not finite"), f"NMSE {split}", markup.SPLIT_TONES.get(split))
        for split, value in evaluation.nmse.items()
    ]
    content = [equation_markup(equation), markup.tiles(tiles)]
    recognised = equation.tidy.recognised
    if recognised:
        offers = "; ".join(f"<b>{number(r.number)}</b> is near {escape(r.name)}" for r in recognised)
        content.append(
            f'<p>Perhaps: {offers}. <span class="lead">Offered because the training error allows it; '
            "nothing was replaced.</span></p>"
        )
    best = result["best"]
    if best and best["sample"] != equation.sample.number and not is_exact(result["pick"]):
        content.append(
            f'<p class="lead">The lowest training error has sample {best["sample"]} of complexity '
            f"{best['complexity']}: NMSE {markup.figures(best['nmse'].get('train'))}.</p>"
        )
    rows = [
        (f"<code>{escape(name)}</code>", markup.figures(value), f"<code>{value!r}</code>")
        for name, value in equation.constants.items()
    ]
    if rows:
        constants = markup.table((("constant", ""), ("about", "n"), ("all digits", "n")), rows)
        content.append(markup.details("Fitted constants", constants))
    content.append(markup.details("LaTeX", markup.source(equation.tidy_latex)))
    content.append(markup.details("Python", markup.source(equation_module(equation))))
    if equation.sympy:
        content.append(markup.details("sympy, all digits", markup.source(equation.sympy)))
    rounded = [
        (escape(split), markup.figures(value), markup.figures(equation.tidy_nmse.get(split)))
        for split, value in evaluation.nmse.items()
    ]
    compared = markup.table((("rows", ""), ("NMSE, all digits", "n"), ("NMSE, rounded", "n")), rounded)
    content.append(markup.details("What rounding costs", compared))
    return markup.section("Best equation", *content, hint=about + ".")


def _origin(equation: Equation) -> str:
    number = equation.sample.number
    return f"Refined without the model from sample {number}" if is_refined(equation) else f"Sample {number}"


def is_refined(equation: Equation) -> bool:
    """Whether the equation was made out of a sample by refinement."""
    return equation.sample.proposer == REFINE


def _front(equations: Sequence[Equation], picked: int, history: History) -> str:
    series = []
    for split, tone in (("test_ood", 3), ("test_id", 2)):
        points = [
            (float(e.sample.evaluation.complexity or 0), e.sample.evaluation.nmse[split])
            for e in equations
            if e.sample.evaluation.nmse.get(split) is not None
        ]
        if points:
            series.append(Series(split, points, tone, "rings"))  # type: ignore[arg-type]
    train = [(float(e.sample.evaluation.complexity or 0), _train(e)) for e in equations]
    tips = [
        f"complexity {e.sample.evaluation.complexity} · {_origin(e)}\n"
        + "\n".join(
            f"{s}: {'not finite' if v is None else number(v)}" for s, v in e.sample.evaluation.nmse.items()
        )
        for e in equations
    ]
    series.append(Series("", train, 1, "step", faint=True))
    series.append(Series("train", train, 1, "marks", tips))
    series.append(Series("pick", [train[picked]], 5, "marks", [tips[picked]]))
    drawing = chart(series, "complexity", "NMSE", log_y=True, whole_x=True, title="Pareto front")
    splits = [s for s in ("train", "test_id", "test_ood") if s in equations[0].problem.splits]
    head = [("complexity", "n"), ("equation", "wide"), ("score", "n"), *((f"NMSE {s}", "n") for s in splits)]
    rows = []
    for index, equation in enumerate(equations):
        evaluation = equation.sample.evaluation
        badge = '<span class="badge">pick</span>' if index == picked else ""
        badge += '<span class="badge refined">refined</span>' if is_refined(equation) else ""
        small = (evaluation.complexity or 0) <= TYPESET_LIMIT
        shown = equation_markup(equation) if small else f"<code>{escape(equation.tidy_text[:600])}</code>"
        nmse = [markup.figures(evaluation.nmse.get(s), "not finite") for s in splits]
        rows.append([f"{evaluation.complexity}{badge}", shown, number(round(equation.score, 3)), *nmse])
    return markup.section(
        "Accuracy against size",
        markup.grid(
            markup.figure("Pareto front", drawing),
            markup.figure("All distinct equations", _cloud(history), "training error"),
            _choices(equations),
        ),
        markup.table(head, rows, picked),
        hint="Equations that no smaller one beats on the training rows. The score is the gain in log error "
        "per unit of complexity; complexity counts operators, columns and constants.",
    )


def _cloud(history: History) -> str:
    """Every distinct equation as a dot, or as many of them as a page can hold."""
    stride = max(1, -(-len(history.sizes) // CLOUD))
    points = list(zip(history.sizes[::stride], history.errors[::stride], strict=True))
    low = min((e for _, e in points if e > 0), default=1e-3)
    points = [(size, min(max(error, 1e-33), max(CEILING, low))) for size, error in points]
    return chart([Series("", points, 6, "dots")], "complexity", "NMSE, train", log_y=True, whole_x=True)


def _choices(equations: Sequence[Equation]) -> str:
    """What each rule of selection would pick."""
    members = [e.sample for e in equations]
    counts = [len(e.expression.params) for e in equations]
    rows = len(equations[0].problem.train)
    told = {
        "best": "steepest gain among errors near the lowest",
        "accuracy": "the lowest training error",
        "simplest": "the smallest with up to 1.5 times the lowest",
        "aic": "Akaike: error against the number of constants",
        "mdl": "description length of residuals and equation",
    }
    lines = []
    for rule in RULES:
        sample = members[pick(members, rule, rows=rows, constants=counts)]
        lines.append(
            (
                f"<b>{rule}</b><br><small>{told[rule]}</small>",
                str(sample.evaluation.complexity),
                str(sample.number),
            )
        )
    return markup.table((("rule", ""), ("complexity", "n"), ("sample", "n")), lines)


def _train(equation: Equation) -> float:
    value = equation.sample.evaluation.nmse.get("train")
    return value if value else 1e-33  # a perfect zero has no logarithm


def _cost(result: Mapping[str, Any], history: History, settings: Mapping[str, Any]) -> str:
    entries = {
        "samples": f"{result['samples']:,}",
        "generated tokens": f"{result['tokens']:,}",
        "fits": f"{result['fits']:,} (equal equations are fitted once)",
        "wall time": duration(history.seconds) if history.seconds else "not recorded",
        "asking the model": duration(history.generation_seconds)
        if history.generation_seconds
        else "not recorded",
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
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
