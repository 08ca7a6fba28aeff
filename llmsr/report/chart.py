"""Charts as inline SVG: lines, steps and points on linear or logarithmic axes; no library, no script.

Colours are the page's style variables (--tone1, --tone2, ...), so that charts follow its light and dark
theme. A chart is as wide as its place; its text keeps its size because charts are drawn at the
width that they are shown at (about 360 pixels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmsr.report.text import escape

Point = tuple[float, float]
WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 12, 40
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


@dataclass(frozen=True)
class Axis:
    """An axis from data to 0..1."""

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        if self.log:
            return (math.log10(value) - self.low) / (self.high - self.low)
        return (value - self.low) / (self.high - self.low)


def number(value: float) -> str:
    """A number as a label: 1500, 0.25, 1e-7."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def axis(values: Sequence[float], log: bool = False, ticks: int = 5, whole: bool = False) -> Axis:
    """An axis that holds the finite values, with labels at round numbers."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if log:
        return _log_axis(finite, ticks)
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if not math.isfinite(high - low):
        low, high = max(low, -1e300), min(high, 1e300)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = 0.5 * abs(high) or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, ticks - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999), 10 * power)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    marks = [i * step for i in range(first, last + 1)] if last - first < 50 else []
    return Axis(low, high, False, tuple((m, number(m)) for m in marks))


def _log_axis(finite: Sequence[float], ticks: int) -> Axis:
    low = math.floor(math.log10(min(finite, default=0.1)) + 1e-9)
    high = math.ceil(math.log10(max(finite, default=1.0)) - 1e-9)
    if high <= low:
        high = low + 1
    step = max(1, -(-(high - low) // ticks))
    marks = []
    for e in range(low, high + 1):
        if (high - e) % step == 0:
            label = f"{10.0**e:g}" if -3 <= e <= 4 else f"1e{e}"
            marks.append((10.0**e, label))
    return Axis(float(low), float(high), True, tuple(marks))


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
    height: int = HEIGHT,
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
    x_axis, y_axis = axis(xs, log_x, 5, whole_x), axis(ys, log_y, 6)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM

    def place(point: Point) -> Point:
        x = LEFT + x_axis.at(point[0]) * plot_width
        y = TOP + (1 - y_axis.at(point[1])) * plot_height
        return round(x, 1), round(y, 1)

    bottom, right = TOP + plot_height, LEFT + plot_width
    parts = [_grid(x_axis, y_axis, plot_width, plot_height, bottom)]
    if diagonal:
        a, b = place((x_axis.low, x_axis.low)), place((x_axis.high, x_axis.high))
        parts.append(f'<path class="rule" d="M{a[0]} {a[1]}L{b[0]} {b[1]}"/>')
    if zero:
        level = place((xs[0], 0.0))[1]
        parts.append(f'<path class="rule" d="M{LEFT} {level}H{right}"/>')
    for s in kept:
        parts.append(_drawn(s, place, right))
    for s in kept:
        parts.append(_zones(s, place, right, plot_height))
    middle = TOP + plot_height / 2
    labels = (
        f'<text class="label" x="{LEFT + plot_width / 2}" y="{height - 6}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="label" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    name = escape(title or f"{y_label} over {x_label}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">'
        f"{''.join(parts)}{labels}</svg>{legend(kept)}"
    )


def legend(series: Sequence[Series]) -> str:
    """The names and colours of the series, where there is more than one."""
    named = [s for s in series if s.name]
    if len(named) < 2:
        return ""
    keys = "".join(
        f'<span class="key"><i class="swatch tone{s.tone}"></i>{escape(s.name)}</span>' for s in named
    )
    return f'<div class="legend">{keys}</div>'


def _visible(series: Series, log_x: bool, log_y: bool) -> Series:
    chosen = [
        i
        for i, (x, y) in enumerate(series.points)
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)
    ]
    if series.style in ("line", "step") and len(chosen) > MAX_POINTS:
        stride = len(chosen) / MAX_POINTS
        last = chosen[-1]
        chosen = [*(chosen[int(i * stride)] for i in range(MAX_POINTS)), last]
    points = [series.points[i] for i in chosen]
    if log_y:
        points = [(x, min(max(y, SMALLEST), LARGEST)) for x, y in points]
    if log_x:
        points = [(min(max(x, SMALLEST), LARGEST), y) for x, y in points]
    tips = [series.tips[i] for i in chosen] if series.tips else []
    return Series(series.name, points, series.tone, series.style, tips, series.faint)


def _grid(x_axis: Axis, y_axis: Axis, width: int, height: int, bottom: float) -> str:
    parts = []
    for value, label in y_axis.ticks:
        y = round(TOP + (1 - y_axis.at(value)) * height, 1)
        parts.append(f'<path class="grid" d="M{LEFT} {y}h{width}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    for value, label in x_axis.ticks:
        x = round(LEFT + x_axis.at(value) * width, 1)
        anchor = "end" if x > LEFT + width - 8 else "middle"
        parts.append(f'<path class="tick" d="M{x} {bottom}v4"/>')
        place = x + (6 if anchor == "end" else 0)
        parts.append(f'<text x="{place}" y="{bottom + 16}" text-anchor="{anchor}">{label}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}h{width}"/>')
    return "".join(parts)


def _drawn(series: Series, place, right: float) -> str:  # type: ignore[no-untyped-def]
    placed = [place(p) for p in series.points]
    if not placed:
        return ""
    tone = f"tone{series.tone}" + (" faint" if series.faint else "")
    if series.style == "dots":
        # a line of no length with round ends is the shortest way to write a dot
        path = "".join(f"M{x} {y}h0" for x, y in placed)
        return f'<path class="dots {tone}" d="{path}"/>'
    if series.style in ("marks", "rings"):
        tips = list(series.tips) or [""] * len(placed)
        kind, radius = ("mark", 4.5) if series.style == "marks" else ("ring", 3)
        return "".join(
            f'<circle class="{kind} {tone}" cx="{x}" cy="{y}" r="{radius}"{_tip(tip)}/>'
            for (x, y), tip in zip(placed, tips, strict=True)
        )
    path = f"M{placed[0][0]} {placed[0][1]}"
    for x, y in placed[1:]:
        path += f"H{x}V{y}" if series.style == "step" else f"L{x} {y}"
    if series.style == "step":
        path += f"H{right}"
    single = "" if len(placed) > 1 or series.style == "step" else f'<path class="dots {tone}" d="{path}h0"/>'
    return f'<path class="line {tone}" d="{path}"/>{single}'


def _zones(series: Series, place, right: float, height: int) -> str:  # type: ignore[no-untyped-def]
    """Invisible bands over a line, each telling the value that holds there."""
    if series.style not in ("line", "step") or not series.tips:
        return ""
    stride = max(1, -(-len(series.points) // MAX_ZONES))
    chosen = list(range(0, len(series.points), stride))
    placed = [place(series.points[i])[0] for i in chosen]
    ends = [*placed[1:], right]
    return "".join(
        f'<rect class="zone" x="{x}" y="{TOP}" width="{max(round(end - x, 1), 1)}" height="{height}"'
        f"{_tip(series.tips[i])}/>"
        for i, x, end in zip(chosen, placed, ends, strict=True)
    )


def _tip(text: str) -> str:
    return f' data-tip="{escape(text)}"' if text else ""
