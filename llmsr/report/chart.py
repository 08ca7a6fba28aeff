"""Charts as inline SVG: lines, steps and points on linear or logarithmic axes; no library, no script.

Colours are the page's style variables (--tone1, --tone2, ...), so that charts follow its light and dark
theme. A chart is as wide as its place; its text keeps its size because charts are drawn at the
width that they are shown at (about 360 pixels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmsr.report.markup import escape, number

Point = tuple[float, float]
Place = Callable[[Point], Point]
WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 12, 40
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
MAX_POINTS = 400  # of a line
SMALLEST, LARGEST = 1e-300, 1e300  # drawn on a logarithmic axis
MAX_ZONES = 60  # places of a line that tell their values when pointed at


@dataclass(frozen=True)
class Series:
    """Points of one name; `style` is line, step (a value holds until the next), dots, marks (large
    dots) or rings.

    `tips`: what each point says when pointed at. `tone` numbers the colour.
    """

    name: str
    points: Sequence[Point]
    tone: int = 1
    style: str = "line"
    tips: Sequence[str] = ()
    faint: bool = False

    @property
    def classes(self) -> str:
        return f"tone{self.tone}" + (" faint" if self.faint else "")


@dataclass(frozen=True)
class Axis:
    """An axis from data to 0..1, with the labels of its ticks."""

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        return ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)


def _linear_axis(values: Sequence[float], ticks: int, whole: bool) -> Axis:
    """An axis over the finite values, with labels at round numbers."""
    # clipped: the difference of two larger numbers would be infinite
    finite = [min(max(v, -LARGEST), LARGEST) for v in values if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = 0.5 * abs(high) or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, ticks - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999), 10 * power)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = [i * step for i in range(first, last + 1)] if last - first < 50 else []
    return Axis(low, high, False, tuple((mark, number(mark)) for mark in marks))


def _log_axis(values: Sequence[float], ticks: int) -> Axis:
    """An axis of whole decades over the finite positive values."""
    finite = [v for v in values if math.isfinite(v) and v > 0]
    low = math.floor(math.log10(min(finite, default=0.1)) + 1e-9)
    high = max(math.ceil(math.log10(max(finite, default=1.0)) - 1e-9), low + 1)
    step = max(1, -(-(high - low) // ticks))
    marks = [e for e in range(low, high + 1) if (high - e) % step == 0]
    labels = [f"{10.0**e:g}" if -3 <= e <= 4 else f"1e{e}" for e in marks]
    return Axis(low, high, True, tuple((10.0**e, label) for e, label in zip(marks, labels, strict=True)))


def chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    diagonal: bool = False,
    zero: bool = False,
    whole_x: bool = False,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    title: str = "",
) -> str:
    """An `<svg>` element of all series, or a sentence where there is no point to draw.

    `diagonal` draws the line y = x, `zero` the line y = 0; the ranges are widened, never narrowed.
    Points that are not finite, or not positive on a logarithmic axis, are left out.
    """
    kept = [_visible(s, log_x, log_y) for s in series]
    points = [p for s in kept for p in s.points]
    if not points:
        return '<p class="none">nothing to draw yet</p>'
    xs = [p[0] for p in points] + list(x_range or ())
    ys = [p[1] for p in points] + list(y_range or ()) + ([0.0] if zero else [])
    if diagonal:
        xs = ys = [*xs, *ys]
    x_axis = _log_axis(xs, 5) if log_x else _linear_axis(xs, 5, whole_x)
    y_axis = _log_axis(ys, 6) if log_y else _linear_axis(ys, 6, False)

    def place(point: Point) -> Point:
        x = LEFT + x_axis.at(point[0]) * PLOT_WIDTH
        return round(x, 1), round(TOP + (1 - y_axis.at(point[1])) * PLOT_HEIGHT, 1)

    parts = [_grid(x_axis, y_axis)]
    if diagonal:
        (a, b), (c, d) = place((x_axis.low, x_axis.low)), place((x_axis.high, x_axis.high))
        parts.append(f'<path class="rule" d="M{a} {b}L{c} {d}"/>')
    if zero:
        parts.append(f'<path class="rule" d="M{LEFT} {place((xs[0], 0.0))[1]}H{LEFT + PLOT_WIDTH}"/>')
    parts += [_drawn(s, place) for s in kept] + [_zones(s, place) for s in kept]
    labels = (
        f'<text class="label" x="{LEFT + PLOT_WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f'{escape(x_label)}</text><text class="label" '
        f'transform="translate(11 {TOP + PLOT_HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    name = escape(title or f"{y_label} over {x_label}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
        f"{''.join(parts)}{labels}</svg>{_legend(kept)}"
    )


def _legend(series: Sequence[Series]) -> str:
    """The names and colours of the series, where there is more than one."""
    named = [s for s in series if s.name]
    keys = [f'<span class="key"><i class="swatch tone{s.tone}"></i>{escape(s.name)}</span>' for s in named]
    return f'<div class="legend">{"".join(keys)}</div>' if len(keys) > 1 else ""


def _visible(series: Series, log_x: bool, log_y: bool) -> Series:
    """The series with the points that can be drawn, no more than a line can show."""

    def fits(value: float, log: bool) -> bool:
        return math.isfinite(value) and (value > 0 or not log)

    def drawn(value: float, log: bool) -> float:
        return min(max(value, SMALLEST), LARGEST) if log else value

    chosen = [i for i, (x, y) in enumerate(series.points) if fits(x, log_x) and fits(y, log_y)]
    if series.style in ("line", "step") and len(chosen) > MAX_POINTS:
        stride = len(chosen) / MAX_POINTS
        chosen = [*(chosen[int(i * stride)] for i in range(MAX_POINTS)), chosen[-1]]
    pairs = [series.points[i] for i in chosen]
    points = [(drawn(x, log_x), drawn(y, log_y)) for x, y in pairs]
    return replace(series, points=points, tips=[series.tips[i] for i in chosen] if series.tips else ())


def _grid(x_axis: Axis, y_axis: Axis) -> str:
    bottom, parts = TOP + PLOT_HEIGHT, []
    for value, label in y_axis.ticks:
        y = round(TOP + (1 - y_axis.at(value)) * PLOT_HEIGHT, 1)
        parts.append(f'<path class="grid" d="M{LEFT} {y}h{PLOT_WIDTH}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    for value, label in x_axis.ticks:
        x = round(LEFT + x_axis.at(value) * PLOT_WIDTH, 1)
        # the last label would stick out of the chart if it were centred
        anchor, shift = ("end", 6) if x > LEFT + PLOT_WIDTH - 8 else ("middle", 0)
        parts.append(f'<path class="tick" d="M{x} {bottom}v4"/>')
        parts.append(f'<text x="{x + shift}" y="{bottom + 16}" text-anchor="{anchor}">{label}</text>')
    return "".join(parts) + f'<path class="axis" d="M{LEFT} {bottom}h{PLOT_WIDTH}"/>'


def _drawn(series: Series, place: Place) -> str:
    placed = [place(p) for p in series.points]
    if not placed:
        return ""
    if series.style == "dots":
        # a line of no length with round ends is the shortest way to write a dot
        return f'<path class="dots {series.classes}" d="{"".join(f"M{x} {y}h0" for x, y in placed)}"/>'
    if series.style in ("marks", "rings"):
        tips = list(series.tips) or [""] * len(placed)
        kind, radius = ("mark", 4.5) if series.style == "marks" else ("ring", 3)
        return "".join(
            f'<circle class="{kind} {series.classes}" cx="{x}" cy="{y}" r="{radius}"{_tip(tip)}/>'
            for (x, y), tip in zip(placed, tips, strict=True)
        )
    step = series.style == "step"
    path = f"M{placed[0][0]} {placed[0][1]}"
    path += "".join(f"H{x}V{y}" if step else f"L{x} {y}" for x, y in placed[1:])
    if step:
        path += f"H{LEFT + PLOT_WIDTH}"
    elif len(placed) == 1:
        return f'<path class="dots {series.classes}" d="{path}h0"/>'
    return f'<path class="line {series.classes}" d="{path}"/>'


def _zones(series: Series, place: Place) -> str:
    """Invisible bands over a line, each telling the value that holds there."""
    if series.style not in ("line", "step") or not series.tips:
        return ""
    chosen = range(0, len(series.points), max(1, -(-len(series.points) // MAX_ZONES)))
    begins = [place(series.points[i])[0] for i in chosen]
    ends = [*begins[1:], LEFT + PLOT_WIDTH]
    return "".join(
        f'<rect class="zone" x="{x}" y="{TOP}" width="{max(round(end - x, 1), 1)}" height="{PLOT_HEIGHT}"'
        f"{_tip(series.tips[i])}/>"
        for i, x, end in zip(chosen, begins, ends, strict=True)
    )


def _tip(text: str) -> str:
    return f' data-tip="{escape(text)}"' if text else ""
